"""Open a network once and predict any number of inputs with it: `open_network` and `Network`. Does not import
PyTorch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import CheckpointError, ConfigError, StadiaError
from stadia.core.floors import name_missing_floor
from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.data.config import CameraConfig, parse_source_options
from stadia.data.frame_preparation import Frame, PredictedFrame, PreparedFrame
from stadia.data.video.input_camera import is_own_video
from stadia.evaluation.predictions_folder import Provenance
from stadia.geometry.cameras import check_K
from stadia.io.input_files import check_input_file, expand_home, read_json
from stadia.io.run_facts import RUN_FILE, check_network_exists
from stadia.judge.depth import TrainingRecord
from stadia.predict import DEPTH_RECIPES, TASKS, TRAIN_FLOOR
from stadia.predict.backends import BACKENDS, ONNXRUNTIME, TORCH, BackendChoice, check_backend
from stadia.predict.exported_network import ExportDescription, ExportedNetwork, stream_exported_predictions
from stadia.predict.inputs import (
    PredictionInput,
    add_training_options,
    describe_panorama,
    make_image_input,
    read_input_size,
)
from stadia.predict.networks import DEFAULT_NETWORK, NETWORK_RECIPE
from stadia.predict.networks.base import (
    BASE_FILE,
    REAL_ERROR,
    RUNTIMES,
    SIZE_MULTIPLE,
    BaseCheckpoint,
    BasePredictor,
    choose_runtime,
    measure_strangeness,
    open_session,
)
from stadia.predict.networks.published_networks import HUB, is_network_name, refuse_misspelt_network
from stadia.predict.options import PredictOptions, parse_size, refuse_unused, requested_size
from stadia.predict.prediction import Prediction
from stadia.predict.run import Session, open_sessions
from stadia.predict.training_overlap import TrainedInput, TrainingOverlap

if TYPE_CHECKING:
    from stadia.core.types import Predictor
    from stadia.geometry.cameras import FocalEstimate

MAX_FITTED = 8
"""Number of image sizes whose opened networks are kept."""


MAX_FOCAL_FRAMES = 8
"""Number of first frames of an input whose focal length a network predicts."""


@name_missing_floor()
def open_network(network: str | Path, settings: Sequence[str] = (), *, max_pixels: int | None = None) -> Network:
    """Open a network for prediction. The weights are loaded at the first prediction.

    network: one of: the folder of a run or a checkpoint; a name of `stadia list networks`; hf:ORG/NAME[@REVISION]; a
        folder of the package transformers; a model.onnx of `stadia export`; your own module:Class.
    settings: `network.KEY=VALUE` texts that configure a network without a run.
    max_pixels: largest number of pixels of the network's input, if no training chose its size; None keeps the size of
        each image.

    Raises CheckpointError if the network is missing or damaged, and ConfigError for wrong settings.

    Examples:
        >>> open_network("base").depth_scale
        <DepthScale.METRES: 'metres'>
    """
    _refuse_others("network", network, (str, Path), "a name, a run's folder, a file, or module:Class")
    if Path(network).suffix.lower() == ".onnx":
        if settings:
            raise ConfigError(settings[0], found="used together with an exported network", expected="no settings")
        return ExportedFile(Path(network))
    if str(network) == DEFAULT_NETWORK and not settings and is_network_name(DEFAULT_NETWORK):
        return BaseNetwork(DEFAULT_NETWORK, BaseCheckpoint(), max_pixels)
    if not is_network_name(str(network)):
        refuse_misspelt_network(str(network))
        check_network_exists(Path(network))
    return Network(str(network), TRAIN_FLOOR.load("open_network")(network, settings=settings), max_pixels)


@dataclass(eq=False, repr=False)
class Network:
    """A network for prediction: trained in a run, published, or your own. `open_network` returns it.

    The subclass `ExportedFile` holds an exported network.

    name: the name as the user typed it.
    checkpoint: the checkpoint of a run; for a published network, a checkpoint without a run; for `base`, a
        `BaseCheckpoint`.
    max_pixels: largest number of pixels of the network's input, if no training chose its size; None keeps the size of
        each image.
    """

    name: str
    checkpoint: Any
    max_pixels: int | None = None
    _fitted: dict[tuple[int, int], Network] = field(default_factory=dict)
    """The same network for other image sizes."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while `_fitted` changes, because the page predicts in several threads."""
    _running: dict[Any, Predictor] = field(default_factory=dict)
    """Predictors in another backend or precision, by their options, because exporting takes seconds."""

    predicts_motion: ClassVar[bool] = True
    writes_clouds: ClassVar[bool] = True
    can_predict_focal: ClassVar[bool] = True
    is_exported: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @classmethod
    def of_recipe(cls, recipe: Any, checkpoint: Any) -> Self:
        """Create the network of a recipe that is in memory with the weights of a checkpoint.

        recipe: the recipe.
        checkpoint: its checkpoint.
        """
        network = cls(str(checkpoint.path), checkpoint)
        network.recipe = recipe
        return network

    @cached_property
    def recipe(self) -> Any:
        """Return the recipe (the network with its training's code) with its weights, in evaluation mode.

        Raises CheckpointError if the weights do not fit.
        """
        if (built := self.checkpoint.built_recipe) is not None:
            return built
        return TRAIN_FLOOR.load("load_recipe")(self.checkpoint)

    @property
    def depth_scale(self) -> DepthScale:
        """Return the kind of scale of its depth: metres, up to scale, or up to scale and shift."""
        return DepthScale(self.recipe.depth_scale)

    @property
    def licence(self) -> str:
        """Return the licence of its weights; "" if unknown."""
        return self.checkpoint.licence

    @property
    def label(self) -> str:
        """Return a short name: the last part of `name`, without folders."""
        return self.name if self.name.startswith(HUB) else Path(self.name).name

    @property
    def has_own_size(self) -> bool:
        """Return whether a training chose the size of its images."""
        return self.checkpoint.header.recipe != NETWORK_RECIPE

    @property
    def predicts_depth(self) -> bool:
        """Return whether it predicts depth; a network of another task, such as object poses, does not."""
        return self.is_exported or not self.has_own_size or self.checkpoint.header.recipe in DEPTH_RECIPES

    @property
    def trained_with(self) -> Mapping[str, Any]:
        """Return the configuration of its training; for a network without a training, its settings."""
        return self.checkpoint.header.config

    @property
    def run_folder(self) -> Path | None:
        """Return the folder of the run that trained it; None for a network without a run."""
        folder = self.checkpoint.run_folder
        return folder if (folder / RUN_FILE).is_file() else None

    @cached_property
    def relative_error(self) -> float | None:
        """Return its relative depth error AbsRel on its validation data; None if unknown."""
        return None if self.run_folder is None else _read_relative_error(self.run_folder)

    def predict(
        self,
        image: str | Path | NDArray[np.uint8],
        *,
        K: NDArray[np.floating] | None = None,
        fov_deg: float | None = None,
        scale_from: str | Sequence[str] | None = None,
        options: PredictOptions | None = None,
    ) -> Prediction:
        """Predict the depth of one image.

        image: an image file, or an array (H, W, 3) uint8 RGB.
        K: (3, 3) intrinsics of the image, pixels.
        fov_deg: horizontal field of view, degrees, instead of K. Without both, the camera of a file comes from a camera
            file next to it or from its EXIF data; otherwise a camera is assumed, and the verdict mentions it.
        scale_from: known lengths that set the metric scale, as in `stadia predict --scale-from`, such as "height=1.5"
            (camera height in metres).
        options: further options of `stadia predict`.

        Returns the prediction: depth, intrinsics, verdict and scale. Raises ConfigError for more than one image, and
        StadiaError if the image cannot be opened or predicted.

        Examples:
            >>> image = np.zeros((96, 128, 3), np.uint8)
            >>> photo = open_network("base").predict(image, fov_deg=60)
            >>> photo.depth.shape, photo.K[0, 0].round(1)
            ((96, 128), np.float64(110.9))
        """
        chosen = _merge_options(options, scale_from=scale_from)
        if isinstance(image, np.ndarray):
            if chosen.data:
                fix = "pass K or fov_deg"
                raise ConfigError("options.data", found="used together with an array", expected="none", fix=fix)
            session = self.open_input(make_image_input(image, K=K, fov_deg=fov_deg), chosen)
        else:
            session, *more = self.open(image, _add_camera(chosen, K, fov_deg))
            if more or session.count != 1:
                found, fix = "more than one image", "use Network.stream"
                raise ConfigError(image, found=found, expected="one image", fix=fix)
        (predicted,) = session.frames()
        return Prediction(predicted, session)

    def stream(
        self,
        source: str | Path,
        *,
        K: NDArray[np.floating] | None = None,
        fov_deg: float | None = None,
        every: int | None = None,
        scale_from: str | Sequence[str] | None = None,
        options: PredictOptions | None = None,
    ) -> Iterator[Prediction]:
        """Predict the frames of a video, a folder of images or a dataset, one by one.

        source: the input. It is opened at once, not at the first frame.
        K: (3, 3) intrinsics of the frames, pixels.
        fov_deg: horizontal field of view, degrees, instead of K. Without both, the camera comes from a camera file next
            to the input or from its metadata; otherwise a camera is assumed, and the verdict mentions it.
        every: predict each n-th frame; None predicts all.
        scale_from: known lengths that set the metric scale, as in `stadia predict --scale-from`, such as "height=1.5"
            (camera height in metres).
        options: further options of `stadia predict`.

        Yields a prediction for each frame. Its `T_world_camera` is the pose, or None for a frame outside the camera
        trajectory.

        Raises StadiaError if the input cannot be opened.
        """
        chosen = _add_camera(_merge_options(options, scale_from=scale_from, every=every), K, fov_deg)
        sessions = self.open(source, chosen)
        return (Prediction(predicted, session) for session in sessions for predicted in session.frames())

    def open(self, source: str | Path, options: PredictOptions | None = None) -> Sequence[Session]:
        """Open an image, a folder, a video or a dataset for prediction.

        source: path of the input.
        options: options of the prediction; None takes the defaults.

        Returns one session for each recording. Raises ConfigError for unused options or a network that predicts no
        depth, and StadiaError if the input cannot be opened.
        """
        return self.require_depth(self.open_any(source, options))

    def require_depth(self, sessions: Sequence[Any]) -> Sequence[Session]:
        """Return sessions unchanged. Raises ConfigError if they predict something else than depth."""
        if not all(isinstance(session, Session) for session in sessions):
            found, fix = f"a network of '{self.checkpoint.header.recipe}'", "use `open_any`, or `stadia predict`"
            raise ConfigError(self.name, found=found, expected="a network that predicts depth", fix=fix)
        return sessions

    def open_any(self, source: str | Path, options: PredictOptions | None = None) -> Sequence[Any]:
        """Open an input as `open` does, but also for a network of another task than depth, which has sessions of its
        own kind.
        """
        _refuse_others("image", source, (str, Path), "a path, or an array (H, W, 3) uint8: numpy.asarray(image)")
        options = options or PredictOptions()
        if self.predicts_depth:
            if origin := describe_panorama(expand_home(source), options.data):
                from stadia.predict.panorama import open_panorama

                return [open_panorama(self, expand_home(source), options, origin)]
            return open_sessions(self, Path(source), options)
        recipe = self.recipe.recipe  # raises CheckpointError if no recipe has this name
        if recipe not in TASKS:
            found, fix = f"a checkpoint of '{recipe}', which predicts nothing of an image", "pass another checkpoint"
            raise CheckpointError(self.checkpoint.path, found=found, expected="a recipe that does", fix=fix)
        return TASKS.load(recipe)(self).open(Path(source), options)

    def open_input(
        self, given: PredictionInput, options: PredictOptions | None = None, *, source: Path | None = None
    ) -> Session:
        """Return the session of an input that is already open, such as images in memory or your own frames.

        given: the input.
        options: options of the prediction; None takes the defaults.
        source: path of the input if a map may be next to it; else None.
        """
        options, network = options or PredictOptions(), self
        refuse_unused(options, self.list_used_options(options), self.describe_kind())
        if not self.has_own_size and given.intrinsics is not None:
            network = self.fit(given.intrinsics.height, given.intrinsics.width)
        return Session(network, given, options, network.make_predictor(options), source=source)

    # -- what a session needs of its network

    def fit(self, height: int, width: int) -> Network:
        """Return the network for images of (height, width); a trained network keeps its own size. Several threads may
        call it.
        """
        if not hasattr(self.checkpoint, "resized"):
            return self
        if self.max_pixels is not None:
            height, width = fit_size(height, width, self.max_pixels)
        with self._lock:
            if (height, width) not in self._fitted:
                if len(self._fitted) >= MAX_FITTED:
                    self._fitted.pop(next(iter(self._fitted)))
                self._fitted[height, width] = type(self)(self.name, self.checkpoint.resized(height, width))
            return self._fitted[height, width]

    def fit_source(self, source: Path, data: Mapping[str, Any]) -> Network:
        """Return the network for the image size of an input.

        source: the input.
        data: options for opening it.
        """
        return self if self.has_own_size else self.fit(*read_input_size(source, data))

    def open_in_torch(self) -> Network:
        """Return the network as PyTorch runs it: this one, unless another library runs it.

        Raises MissingFloorError if PyTorch is not installed.
        """
        return self

    def load_weights(self) -> None:
        """Load the weights now; otherwise the first prediction loads them."""
        assert self.recipe

    def count_weight_bytes(self) -> int | None:
        """Return the size of the weights in bytes; None if unknown."""
        parameters = getattr(self.recipe, "parameters", None)
        return sum(one.numel() * one.element_size() for one in parameters()) if parameters else None

    def make_predictor(self, options: PredictOptions | None = None) -> Predictor:
        """Create the predictor of images in PyTorch.

        options: options of the prediction, such as another image size; None takes the defaults.

        Raises CheckpointError if the network predicts no depth.
        """
        options = options or PredictOptions()
        options.check_backend()
        size = requested_size(options.size, self.trained_with)
        return TRAIN_FLOOR.load("make_predictor")(self.recipe, self.checkpoint.path, size, flip=options.flip)

    def stream_frames(
        self, predictor: Predictor, frames: Iterator[Frame], options: PredictOptions, *, in_threads: bool = True
    ) -> Iterator[PredictedFrame]:
        """Predict frames one by one, and chain the motions between them to a camera trajectory.

        predictor: predictor of this network.
        frames: the frames.
        options: options of the prediction.
        in_threads: whether reading and predicting run in several threads.
        """
        from stadia.predict.predict_frames import load_motion, stream_predictions

        return stream_predictions(predictor, frames, load_motion(options.motion), in_threads=in_threads)

    def measure_strangeness(self, predictor: Predictor, frames: Iterable[Frame]) -> float | None:
        """Return the median score of frames. It is above 0 if they are unlike the photos that the metres of the network
        `base` were measured on.

        predictor: predictor of this network.
        frames: frames spread over the input.

        Returns None for any other network, or without frames.
        """
        return None

    def find_focals(self, predictor: Predictor, frames: Iterable[Frame]) -> list[FocalEstimate]:
        """Return the median focal length that the network predicts for the first frames; an empty list if it predicts
        none.
        """
        from stadia.geometry.cameras import FocalEstimate

        focals = TRAIN_FLOOR.load("find_focals")(self.recipe, predictor, islice(frames, MAX_FOCAL_FRAMES))
        return [FocalEstimate(float(np.median(focals)), "the network")] if focals else []

    def run_backend(
        self,
        predictor: Predictor,
        options: PredictOptions,
        open_inputs: Callable[[], list[PredictionInput]],
        count: int | None = None,
    ) -> Predictor:
        """Return a predictor in the backend and precision of the options.

        predictor: the predictor in PyTorch and float32.
        options: options of the prediction.
        open_inputs: opens the inputs; another precision is compared with float32 on them.
        count: number of frames of the input; None if unknown.
        """
        if options.has_default_backend:
            return predictor
        choice = options.backend_choice
        key = choice, predictor.height, predictor.width, options.flip
        if key not in self._running:
            self._running[key] = TRAIN_FLOOR.load("open_backend")(self.checkpoint, predictor, choice, open_inputs)
        return self._running[key]

    def make_provenance(self, options: PredictOptions) -> Provenance:
        """Return what predictions.json records about the network and its options."""
        from stadia.evaluation.predictions_folder import Provenance
        from stadia.predict.predict_frames import find_default_motion

        size = requested_size(options.size, self.trained_with)
        provenance = Provenance.from_checkpoint(self.checkpoint, options.motion or find_default_motion(), size)
        used = {"flip": options.flip, "steady": options.smooth, "backend": options.backend or TORCH}
        return provenance.model_copy(update={**used, "precision": options.precision})

    def read_training(self, given: PredictionInput) -> tuple[TrainingRecord, TrainedInput]:
        """Return the record of its training, and which frames of an input were used in that training."""
        from stadia.predict.verdict import read_training_record

        if not self.has_own_size:
            return read_training_record(self.checkpoint), TrainedInput()
        trained = TrainingOverlap.find_input(
            self.checkpoint.run_folder,
            recording=given.recording,
            indices=given.indices,
            video_hash=given.video_hash,
            names=given.names,
        )
        return read_training_record(self.checkpoint, of_trained=bool(trained.names)), trained

    def list_used_options(self, options: PredictOptions) -> Collection[str]:
        """Return the names of the prediction options that have an effect with this network."""
        return {one.name for one in fields(options)} - {"background"}

    def describe_kind(self) -> str:
        """Return words for the kind of network; the error about an unused option contains them."""
        return f"recipe '{self.checkpoint.header.recipe}'"

    def require_weights(self) -> None:
        """Raise CheckpointError for an exported network, which PyTorch cannot run."""

    def list_limits(self, counts: Sequence[int | None]) -> Sequence[str]:
        """Return notes about what the network cannot do.

        counts: number of frames of each recording; None if unknown.
        """
        return ()

    def complete_data_options(self, source: Path, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options for opening an input, completed by the frame stride and the camera of the training.

        source: the input.
        data: options that the user gave.
        """
        return add_training_options(self.checkpoint, source, data)


# -- the network of the package


class BaseNetwork(Network):
    """The network `base`, which ONNX Runtime or OpenVINO runs. PyTorch runs it if the options choose it or another
    precision.
    """

    predicts_motion = True
    can_predict_focal = False
    relative_error = REAL_ERROR
    depth_scale = DepthScale.METRES

    @cached_property
    def _in_torch(self) -> Network:
        return Network(self.name, self.checkpoint.open_in_torch(), self.max_pixels)

    def open_in_torch(self) -> Network:
        return self._in_torch

    def load_weights(self) -> None:
        BasePredictor(self.checkpoint.height, self.checkpoint.width)

    def count_weight_bytes(self) -> int:
        return BASE_FILE.stat().st_size

    def make_predictor(self, options: PredictOptions | None = None) -> Predictor:
        """Create the predictor of images by ONNX Runtime, or by what the options choose.

        Raises MissingFloorError if that is not installed, ConfigError for an image size that does not fit.
        """
        options = options or PredictOptions()
        if not _runs_without_torch(options):
            return self.open_in_torch().make_predictor(options)
        size = requested_size(options.size, self.trained_with) or (self.checkpoint.height, self.checkpoint.width)
        if size[0] % SIZE_MULTIPLE or size[1] % SIZE_MULTIPLE:
            found, expected = f"{size[1]}x{size[0]}", f"multiples of {SIZE_MULTIPLE}"
            raise ConfigError("--size", found=found, expected=expected, fix="round both sides")
        options.check_backend(is_exported=True)
        return BasePredictor(*size, flip=options.flip, backend=options.backend or ONNXRUNTIME)

    def measure_strangeness(self, predictor: Predictor, frames: Iterable[Frame]) -> float | None:
        first = list(islice(frames, 2))
        scores = []
        for frame in chain(first, frames):
            image = PreparedFrame.prepare(predictor, frame).image[None]
            if isinstance(predictor, BasePredictor):
                features = predictor.find_features(image, is_photo=len(first) == 1)
            else:
                (features,) = open_session().run(image, "features")
            scores.append(float(measure_strangeness(features)[0]))
        return float(np.median(scores)) if scores else None

    def run_backend(
        self,
        predictor: Any,
        options: PredictOptions,
        open_inputs: Callable[[], list[PredictionInput]],
        count: int | None = None,
    ) -> Predictor:
        if not _runs_without_torch(options):
            return self.open_in_torch().run_backend(predictor, options, open_inputs)
        if options.backend is not None:
            return predictor
        backend = choose_runtime(predictor.height, predictor.width, count)
        if backend == predictor.backend_name:
            return predictor
        return BasePredictor(predictor.height, predictor.width, flip=options.flip, backend=backend)

    def make_provenance(self, options: PredictOptions) -> Provenance:
        provenance = super().make_provenance(options)
        backend = options.backend or (ONNXRUNTIME if _runs_without_torch(options) else TORCH)
        return provenance.model_copy(update={"backend": backend})


def _runs_without_torch(options: PredictOptions) -> bool:
    return options.backend in (None, *RUNTIMES) and options.precision == "float32"


# -- an exported network, model.onnx

USED_OPTIONS = ("data", "every", "size", "video", "backend")


class ExportedFile(Network):
    """A network in a file that `stadia export` wrote (model.onnx); it predicts depth only.

    file: the file.
    """

    predicts_motion = False
    writes_clouds = False
    can_predict_focal = False
    is_exported = True
    has_own_size = True
    run_folder = None
    relative_error = None

    def __init__(self, file: Path) -> None:
        self.name, self.file, self.max_pixels = str(file), file, None
        check_input_file(file, expected="a model.onnx of `stadia export`", max_bytes=1 << 31)
        self._opened: ExportedNetwork | None = None

    def make_predictor(self, options: PredictOptions | None = None) -> Any:
        """Open the file for an image size and a backend; returns its graph."""
        options = options or PredictOptions()
        backend = options.backend or ONNXRUNTIME
        check_backend(BackendChoice(backend), is_exported=True)
        self._opened = _Graph(self.file, None if options.size is None else parse_size(options.size), backend)
        return self._opened

    @property
    def about(self) -> ExportDescription:
        """Return the description that is stored in the file."""
        if self._opened is None:
            self._opened = ExportedNetwork(self.file)
        return self._opened.about

    @property
    def depth_scale(self) -> DepthScale:
        return self.about.depth_scale

    @property
    def licence(self) -> str:
        return self.about.licence

    @property
    def trained_with(self) -> Mapping[str, Any]:
        return {"data": self.about.model_dump(include={"height", "width"})}

    def stream_frames(
        self, predictor: Any, frames: Iterator[Frame], options: PredictOptions, *, in_threads: bool = True
    ) -> Iterator[PredictedFrame]:
        return stream_exported_predictions(predictor, frames, predictor.backend.run)

    def run_backend(
        self,
        predictor: Any,
        options: PredictOptions,
        open_inputs: Callable[[], list[PredictionInput]],
        count: int | None = None,
    ) -> Any:
        return predictor

    def make_provenance(self, options: PredictOptions) -> Provenance:
        assert self._opened is not None
        provenance = self._opened.provenance(requested_size(options.size, self.trained_with))
        return provenance.model_copy(update={"backend": options.backend or ONNXRUNTIME})

    def read_training(self, given: PredictionInput) -> tuple[TrainingRecord, TrainedInput]:
        codes = self.about.verdict_codes.split(", ") if self.about.verdict == Verdict.UNUSABLE else []
        focal = tuple(filter(None, (self.about.focal,)))
        return TrainingRecord(focal=focal, recorded_codes=tuple(filter(None, codes))), TrainedInput()

    def list_used_options(self, options: PredictOptions) -> Collection[str]:
        return USED_OPTIONS

    def describe_kind(self) -> str:
        return "an exported network"

    def require_weights(self) -> None:
        TRAIN_FLOOR.load("open_checkpoint")(self.file)  # its error names the commands that take this file

    def list_limits(self, counts: Sequence[int | None]) -> Sequence[str]:
        no_path = "no path, " if any(count != 1 for count in counts) else ""
        notes = [f"an exported network predicts depth only: {no_path}no point cloud"]
        if self.about.verdict is not None:
            notes.append(f"verdict of its run at the export: {self.about.describe_verdict()}")
        return notes

    def complete_data_options(self, source: Path, data: Mapping[str, Any]) -> dict[str, Any]:
        known = self.about.camera
        camera = None if known is None else CameraConfig(K=known.K, size=known.size)
        own = is_own_video(source, data.get("format", "auto"))
        # If no path is computed, all frames count.
        return {**({"stride": 1} if own else {}), "trained_camera": camera, **data}


class _Graph(ExportedNetwork):
    def __init__(self, file: Path, size: tuple[int, int] | None, backend: str) -> None:
        super().__init__(file, size)
        self.backend = BACKENDS.load(backend)(self.graph, (self.height, self.width))


# -- options and images


def _refuse_others(where: str, given: object, kinds: tuple[type, ...], expected: str) -> None:
    if not isinstance(given, kinds):
        raise ConfigError(where, found=f"a {type(given).__name__}", expected=expected)


def _merge_options(
    options: PredictOptions | None, *, scale_from: str | Sequence[str] | None, every: int | None = None
) -> PredictOptions:
    given: dict[str, Any] = {}
    if scale_from is not None:
        given["scale_from"] = (scale_from,) if isinstance(scale_from, str) else tuple(scale_from)
    if every is not None:
        given["every"] = every
    _refuse_others("options", options, (PredictOptions, type(None)), "stadia.PredictOptions(every=2)")
    return replace(options or PredictOptions(), **given)


def _add_camera(options: PredictOptions, K: NDArray[np.floating] | None, fov_deg: float | None) -> PredictOptions:
    if K is None and fov_deg is None:
        return options
    if (K is not None and fov_deg is not None) or "camera" in options.data:
        found = "two of K, fov_deg and options.data['camera']"
        raise ConfigError("camera", found=found, expected="one of them")
    if K is not None:
        rows = check_K("K", np.asarray(K, np.float64)).tolist()
        camera = parse_source_options([f"data.camera.K={rows}"])
    else:
        camera = parse_source_options([f"data.camera.horizontal_fov_deg={fov_deg}"])
    return replace(options, data={**options.data, **camera})


def fit_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of the same aspect ratio with at most `max_pixels` pixels."""
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
