"""`Recipe`, the base class of every recipe, and `TrainingData`, what it trains on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol

from rich.console import Console
from typing_extensions import TypeVar

from stadia.core.errors import CheckpointError
from stadia.core.types import Batch, InputsT, Predictor, TargetsT, TrackProgress
from stadia.datasets.frame_store import ReportProgress
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.loss_checks.loss_case import LossCase
from stadia.recipes.base.config import RecipeConfig
from stadia.recipes.base.requests import EvaluateRequest, PredictRequest
from stadia.training.batches import BatchLoader, EpochLoader
from stadia.training.run_folder import Run
from stadia.training.task import Task


class TrainingData(Protocol):
    """Data of a training (`recipes.base.video_data.VideoData` for video).

    train, val: loaders of batches; val is None without validation data.
    facts: identity of the data for run.json; a resumed run must have the same.
    """

    @property
    def train(self) -> EpochLoader: ...
    @property
    def val(self) -> BatchLoader | None: ...
    @property
    def facts(self) -> dict[str, object]: ...

    def findings(self) -> list[Finding]:
        """Return the findings of the checks that run before training."""
        ...


ConfigT = TypeVar("ConfigT", bound=RecipeConfig)
DataT = TypeVar("DataT", bound=TrainingData)


class Recipe(Task[InputsT, TargetsT], Generic[ConfigT, DataT, InputsT, TargetsT]):
    """A training task that opens its own data and predicts, evaluates and scores after training.

    `Recipe[MyConfig, MyData]` trains on batches of video; `Recipe[MyConfig, MyData, MyInputs, MyTargets]` on its own.
    A recipe also defines what `Task` requires: `recipe`, `best_metrics`, `step`, `validate`, `images`.

    supports_stages: whether `training.batches` may train it at several sizes (`data.height`, `data.width`).
    compatible_recipes: other recipes whose checkpoints `start_from` accepts, because the networks are the same.
    data_buffers: buffers that hold statistics of the training data; `start_from` does not load them.

    Args:
        config: with every "auto" resolved, as `prepare` returns it.
    """

    supports_stages: ClassVar[bool] = False
    compatible_recipes: ClassVar[tuple[str, ...]] = ()
    data_buffers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config.optimizer, config.schedule)
        self.config = config

    @classmethod
    def prepare(cls, config: ConfigT, console: Console) -> tuple[ConfigT, DataT]:
        """Open the data; return the configuration with every "auto" resolved, and the data.

        Mistakes (such as an unknown encoder) are refused before any image is decoded. Raises DataError, ConfigError.
        """
        raise NotImplementedError(f"{cls.__name__} opens no data")

    @classmethod
    def check_init_weights(cls, config: ConfigT) -> None:
        """Raise CheckpointError if the initial weights are not available. Not called on resume."""

    def save_data_stats(self, data: DataT) -> None:
        """Keep statistics of the training data in buffers for prediction. Called before training."""

    @property
    def run_metadata(self) -> Mapping[str, object]:
        """Return facts for run.json when the training starts."""
        return {}

    @property
    def depth_range_m(self) -> tuple[float, float] | None:
        """Return the nearest and farthest depth, in metres or in the unit of `depth_scale`; None if unbounded."""
        return None

    def loss_cases(self, batch: Batch[InputsT, TargetsT]) -> Mapping[str, LossCase]:
        """Return its losses by name, each on a scene with known ground truth, for the loss checks. Default: none.

        batch: a batch of the training, for its sources.
        """
        return {}

    def predictor(self, size: tuple[int, int] | None = None) -> Predictor | None:
        """Return a predictor of depth and motion; None if the recipe predicts no depth.

        size: (height, width) of the network; default: the training's. Raises ConfigError for an unsupported size.
        """
        return None

    def predict(self, request: PredictRequest, track: TrackProgress) -> Iterator[str]:
        """Predict an input into a new folder; yield lines for people, notes start with "note: ".

        Raises CheckpointError if the recipe predicts nothing.
        """
        raise self._unsupported(request.checkpoint, "predicts nothing of an image")

    def evaluate(
        self, request: EvaluateRequest, run: Path, track: TrackProgress, progress: ReportProgress
    ) -> tuple[dict[str, Any], list[Path]]:
        """Score predictions on a labeled data set (`stadia evaluate CHECKPOINT DATA`).

        Args:
            run: folder of the run that the checkpoint is of.
            progress: called while images are decoded.

        Returns the summary to print, with its "notes", and the written files. Raises CheckpointError.
        """
        raise self._unsupported(request.checkpoint, "scores nothing")

    def _unsupported(self, checkpoint: Path, what: str) -> CheckpointError:
        return CheckpointError(
            checkpoint,
            found=f"a checkpoint of '{self.recipe}', which {what}",
            expected="a recipe that does",
            fix="pass another checkpoint",
        )

    def score(self, data: DataT, run: Run, console: Console) -> None:
        """Predict and score the validation data into the run's folder.

        Called after training, with the best weights, in evaluation mode and without gradients.
        """


AnyRecipe = Recipe[Any, Any, Any, Any]
