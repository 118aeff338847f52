"""A network with loaded weights, for sessions."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stadia.core.errors import StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.backends import check_backend
from stadia.files.json_files import read_json
from stadia.files.paths import expand_home
from stadia.files.run_facts import RUN_FILE
from stadia.models import DEFAULT_NETWORK
from stadia.models.published_networks import HUB
from stadia.predict.options import PredictOptions, requested_size
from stadia.recipes.base.config import NETWORK_RECIPE

if TYPE_CHECKING:
    from stadia.core.types import Predictor
    from stadia.diagnostics.prediction_checks import TrainingRecord
    from stadia.evaluation.frame_preparation import Frame, PredictedFrame
    from stadia.evaluation.io.predictions_record import Provenance
    from stadia.predict.inputs import PredictionInput
    from stadia.recipes.base.training_overlap import TrainedInput
    from stadia.training.checkpoint import Checkpoint
    from stadia.training.recipe import AnyRecipe


MAX_FITTED = 8
"""An opened network keeps this many image sizes."""


@dataclass(eq=False, repr=False)
class LoadedNetwork:
    """A trained or published network.

    name: as the user typed it.
    checkpoint: of a run, or of a network without a run.
    max_pixels: of its images, if no training chose their size; None keeps each image's size.
    """

    name: str
    checkpoint: Checkpoint
    max_pixels: int | None = None
    _fitted: dict[tuple[int, int], LoadedNetwork] = field(default_factory=dict)
    """The same network for other image sizes."""
    _fitting: threading.Lock = field(default_factory=threading.Lock)
    """Held while `_fitted` is read and changed, because threads of the page share a network."""
    _running: dict[Any, Predictor] = field(default_factory=dict)
    """Predictors in another backend or precision, by their options, because exporting takes seconds."""

    predicts_motion: ClassVar[bool] = True
    writes_clouds: ClassVar[bool] = True
    can_predict_focal: ClassVar[bool] = True
    is_exported: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @classmethod
    def of_recipe(cls, recipe: AnyRecipe, checkpoint: Checkpoint) -> Self:
        """Return the network of a recipe that has the weights of the checkpoint."""
        network = cls(str(checkpoint.path), checkpoint)
        network.recipe = recipe
        return network

    @cached_property
    def recipe(self) -> AnyRecipe:
        """Return the recipe with its weights, in evaluation mode. Raises CheckpointError if they do not fit."""
        from stadia.recipes.base.build_recipe import load_recipe

        return load_recipe(self.checkpoint)

    @property
    def depth_scale(self) -> DepthScale:
        """Return the scale of its depth."""
        recipe: Any = self.recipe
        return DepthScale(recipe.depth_scale)

    @property
    def licence(self) -> str:
        """Return the licence of its weights; "" if unknown."""
        return self.checkpoint.licence

    @property
    def label(self) -> str:
        """Return the last part of its name, without folders."""
        return self.name if self.name.startswith(HUB) else Path(self.name).name

    @property
    def has_own_size(self) -> bool:
        """Return whether a training chose its image size."""
        return self.checkpoint.header.recipe != NETWORK_RECIPE

    @property
    def trained_with(self) -> Mapping[str, Any]:
        """Return the configuration of its training; without one, its settings."""
        return self.checkpoint.header.config

    @property
    def run_folder(self) -> Path | None:
        """Return the folder of the run that trained it, or None."""
        folder = self.checkpoint.run_folder
        return folder if (folder / RUN_FILE).is_file() else None

    @cached_property
    def relative_error(self) -> float | None:
        """Return AbsRel of its validation, or of `base` on real samples, or None."""
        from stadia.models.depth.base_network import REAL_ERROR

        if self.name == DEFAULT_NETWORK:
            return REAL_ERROR
        return None if self.run_folder is None else _read_relative_error(self.run_folder)

    def fit(self, height: int, width: int) -> LoadedNetwork:
        """Return the network for an image size; a trained one keeps its own size."""
        from stadia.recipes.base.network_checkpoint import NetworkCheckpoint

        if not isinstance(self.checkpoint, NetworkCheckpoint):
            return self
        if self.max_pixels is not None:
            height, width = fit_size(height, width, self.max_pixels)
        with self._fitting:
            if (height, width) not in self._fitted:
                if len(self._fitted) >= MAX_FITTED:
                    self._fitted.pop(next(iter(self._fitted)))
                self._fitted[height, width] = LoadedNetwork(self.name, self.checkpoint.resized(height, width))
            return self._fitted[height, width]

    def fit_source(self, source: Path, data: Mapping[str, Any]) -> LoadedNetwork:
        """Return the network for the images of an input, opened with `data`."""
        from stadia.predict.inputs import read_input_size

        return self if self.has_own_size else self.fit(*read_input_size(source, data))

    def make_predictor(self, options: PredictOptions | None = None) -> Predictor:
        """Return the predictor of images in torch. Raises CheckpointError if the recipe predicts no depth."""
        from stadia.recipes.base.build_recipe import make_predictor

        options = options or PredictOptions()
        check_backend(options.backend_choice)
        size = requested_size(options.size, self.trained_with)
        return make_predictor(self.recipe, self.checkpoint.path, size, flip=options.flip)

    def stream_frames(
        self, predictor: Predictor, frames: Iterator[Frame], options: PredictOptions
    ) -> Iterator[PredictedFrame]:
        """Predict frames, and chain their motions to a path."""
        from stadia.evaluation import MOTIONS
        from stadia.evaluation.predict_frames import stream_predictions

        return stream_predictions(predictor, frames, MOTIONS.load(options.motion or "aligned"))

    def run_backend(
        self, predictor: Predictor, options: PredictOptions, open_inputs: Callable[[], list[PredictionInput]]
    ) -> Predictor:
        """Return the predictor in the backend and precision of the options."""
        from stadia.predict.backend import open_backend

        choice = options.backend_choice
        if choice.is_default:
            return predictor
        key = choice, predictor.height, predictor.width, options.flip
        if key not in self._running:
            self._running[key] = open_backend(self.checkpoint, predictor, choice, open_inputs)
        return self._running[key]

    def make_provenance(self, options: PredictOptions) -> Provenance:
        """Return the network and its options for predictions.json."""
        from stadia.evaluation.io.predictions_record import Provenance

        choice = options.backend_choice
        size = requested_size(options.size, self.trained_with)
        provenance = Provenance.from_checkpoint(self.checkpoint, options.motion or "aligned", size)
        used = {"flip": options.flip, "steady": options.steady, "backend": choice.backend}
        return provenance.model_copy(update={**used, "precision": choice.precision})

    def read_training(self, given: PredictionInput) -> tuple[TrainingRecord, TrainedInput]:
        """Return the record of its training, and the frames of the input that trained it."""
        from stadia.predict.verdict import read_training_record
        from stadia.recipes.base.training_overlap import TrainingOverlap

        trained = TrainingOverlap.find_input(
            self.checkpoint.run_folder,
            recording=given.recording,
            indices=given.indices,
            video_hash=given.video_hash,
            names=given.names,
        )
        return read_training_record(self.checkpoint, of_trained=bool(trained.names)), trained

    def list_used_options(self, options: PredictOptions) -> Collection[str]:
        """Return the options that have an effect."""
        return {one.name for one in fields(options)} - {"background"}

    def describe_kind(self) -> str:
        """Return the network's kind, for the error about an unused option."""
        return f"recipe '{self.checkpoint.header.recipe}'"

    def require_weights(self) -> None:
        """Raise CheckpointError for an exported network, which torch cannot run."""

    def list_limits(self, counts: Sequence[int | None]) -> Sequence[str]:
        """Return notes about its limits with recordings of so many frames."""
        return ()

    def complete_data_options(self, source: Path, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return how to open an input, with the stride and camera of the training."""
        from stadia.predict.inputs import add_training_options

        return add_training_options(self.checkpoint, source, data)


def fit_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of the same shape with at most `max_pixels`."""
    factor = min(1.0, math.sqrt(max_pixels / (height * width)))
    return max(round(height * factor), 1), max(round(width * factor), 1)


def _read_relative_error(run: Path) -> float | None:
    for path in sorted(expand_home(run).glob("scores/val*.json")):
        if "mean-depth" in path.name:
            continue
        try:
            score = read_json(path)
        except (StadiaError, OSError):
            continue
        metrics = score.get("metrics") if isinstance(score, Mapping) else None
        value = metrics.get("abs_rel") if isinstance(metrics, Mapping) else None
        if isinstance(value, float) and 0 <= value < math.inf:
            return value
    return None
