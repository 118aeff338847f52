"""Open a network once and predict any number of inputs with it: `open_network`, `Network`, `evaluate`."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.datasets.recordings import check_K
from stadia.predict.exported_file import ExportedFile
from stadia.predict.inputs import PredictionInput, make_image_input
from stadia.predict.loaded_network import LoadedNetwork
from stadia.predict.options import EvaluateOptions, PredictOptions, parse_source_options, refuse_unused
from stadia.predict.prediction import Prediction
from stadia.predict.session import Session, open_sessions
from stadia.predict.tasks import Evaluation, evaluate_network, find_task


def open_network(network: str | Path, settings: Sequence[str] = (), *, max_pixels: int | None = None) -> "Network":
    """Open a network that predicts; its weights are loaded on demand.

    network: a run's folder or a checkpoint, a name of `stadia list networks`, hf:ORG/NAME[@REVISION], a folder of
        transformers, a model.onnx of `stadia export`, or your own module:Class.
    settings: `network.KEY=VALUE` for a network without a run.
    max_pixels: of its images, if no training chose their size; None keeps each image's size.

    Raises CheckpointError and ConfigError.

    Examples:
        >>> open_network("base").depth_scale
        <DepthScale.METRES: 'metres'>
    """
    _refuse_others("network", network, (str, Path), "a name, a run's folder, a file, or module:Class")
    if Path(network).suffix.lower() == ".onnx":
        if settings:
            raise ConfigError(settings[0], found="used together with an exported network", expected="no settings")
        return Network(ExportedFile(Path(network)))
    from stadia.recipes.base.network_checkpoint import open_network_checkpoint

    return Network(LoadedNetwork(str(network), open_network_checkpoint(network, settings=settings), max_pixels))


@dataclass(frozen=True, repr=False)
class Network:
    """A network that predicts: trained, published, exported, or your own."""

    loaded: LoadedNetwork

    def __repr__(self) -> str:
        return f"Network({self.name!r})"

    @property
    def name(self) -> str:
        """Return its name, as you opened it."""
        return self.loaded.name

    @property
    def depth_scale(self) -> DepthScale:
        """Return the scale of its depth: metres, or up to scale, or up to scale and shift."""
        return self.loaded.depth_scale

    @property
    def licence(self) -> str:
        """Return the licence of its weights; "" if unknown."""
        return self.loaded.licence

    def predict(
        self,
        image: str | Path | NDArray[np.uint8],
        *,
        K: NDArray[np.floating] | None = None,
        fov_deg: float | None = None,
        scale_from: str | Sequence[str] | None = None,
        options: PredictOptions | None = None,
    ) -> Prediction:
        """Predict one image.

        image: a file, or an array (H, W, 3) uint8 RGB.
        K: (3, 3) of the image, pixels.
        fov_deg: horizontal field of view, degrees, instead of K. Without both, a file's camera comes from a camera
            file next to it, its EXIF, or an assumption, which the verdict mentions.
        scale_from: known lengths that set the scale, as in `stadia predict --scale-from`: "height=1.5".
        options: further options of `stadia predict`.

        Raises ConfigError for more than one image, and the errors of opening and predicting it.

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
        """Predict the frames of a video, a folder of images or a data set, one by one.

        source: opened at once.
        K, fov_deg, scale_from, options: as in `predict`.
        every: predict each n-th frame.

        Yields a prediction for each frame, with `T_world_camera` if the path reaches it.
        Raises the errors of opening the input.
        """
        chosen = _add_camera(_merge_options(options, scale_from=scale_from, every=every), K, fov_deg)
        sessions = self.open(source, chosen)
        return (Prediction(predicted, session) for session in sessions for predicted in session.frames())

    def open(self, source: str | Path, options: PredictOptions | None = None) -> Sequence[Session]:
        """Open an image, a folder, a video or a data set: one session for each recording.

        Raises ConfigError for unused options or a network that predicts no depth, and the errors of opening the input.
        """
        sessions = self.open_any(source, options)
        if not all(isinstance(session, Session) for session in sessions):
            found, fix = f"a network of '{self.loaded.checkpoint.header.recipe}'", "use `open_any`, or `stadia predict`"
            raise ConfigError(self.name, found=found, expected="a network that predicts depth", fix=fix)
        return sessions

    def open_any(self, source: str | Path, options: PredictOptions | None = None) -> Sequence[Any]:
        """Open an input like `open`, also for a network of another task, with its own sessions."""
        _refuse_others("image", source, (str, Path), "a path, or an array (H, W, 3) uint8: numpy.asarray(image)")
        options = options or PredictOptions()
        if self.loaded.is_exported:  # without a task, whose imports need torch
            return open_sessions(self.loaded, Path(source), options)
        return find_task(self.loaded).open(Path(source), options)

    def open_input(
        self, given: PredictionInput, options: PredictOptions | None = None, *, source: Path | None = None
    ) -> Session:
        """Return the session of an open input: images in memory, or your own frames.

        source: path of the input, if a map may be next to it.
        """
        options, loaded = options or PredictOptions(), self.loaded
        refuse_unused(options, loaded.list_used_options(options), loaded.describe_kind())
        if not loaded.has_own_size and given.intrinsics is not None:
            loaded = loaded.fit(given.intrinsics.height, given.intrinsics.width)
        return Session(loaded, given, options, loaded.make_predictor(options), source=source)


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
    merged = replace(options or PredictOptions(), **given)
    if merged.every < 1:
        raise ConfigError("every", found=merged.every, expected="1 or more")
    return merged


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


def evaluate(
    network: Network | str | Path,
    data: str | Path,
    *,
    protocol: str | None = None,
    out: str | Path | None = None,
    options: EvaluateOptions | None = None,
) -> Evaluation:
    """Predict labeled data with a network, and score depth and path.

    network: opened, or its name.
    data: recordings with ground truth, or labeled data of another task.
    protocol: a name of `stadia list protocols`; metric by default.
    out: folder for the predictions; by default the network's run, or a temporary folder.
    options: further options of `stadia evaluate`.

    Returns the scores (`summary`) and their files. Raises the errors of opening network and data.
    """
    opened = network if isinstance(network, Network) else open_network(network)
    chosen = options or EvaluateOptions()
    chosen = chosen if protocol is None else replace(chosen, protocol=protocol)
    if out is None and opened.loaded.run_folder is None:
        with tempfile.TemporaryDirectory() as folder:
            return replace(
                evaluate_network(opened.loaded, Path(data), chosen, out=Path(folder) / "predicted"), files=()
            )
    return evaluate_network(opened.loaded, Path(data), chosen, out=None if out is None else Path(out))
