"""Open a network once, and predict any number of inputs with it.

    network = open_network("base")                      # a name, a run, a checkpoint, model.onnx, "module:Class"
    photo = network.predict("photo.jpg")
    for frame in network.stream("drive.mp4"): ...

`stadia predict`, `odometry`, `evaluate`, `check --network`, `adapt`, batches and the app open networks here. A
`Session` is one network with one input.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.predict.exported_file import ExportedFile
from stadia.predict.inputs import PredictionInput, make_image_input
from stadia.predict.loaded_network import LoadedNetwork
from stadia.predict.options import EvaluateOptions, PredictOptions, parse_source_options
from stadia.predict.prediction import Prediction
from stadia.predict.session import Session, open_sessions
from stadia.predict.tasks import Evaluation, evaluate_network, find_task


def open_network(network: str | Path, settings: Sequence[str] = (), *, max_pixels: int | None = None) -> Network:
    """Open a network that predicts.

    A run or a checkpoint is read, and its weights are loaded when they are needed.

    Args:
        network: a run's folder or a checkpoint, a name of `stadia list networks`, hf:ORG/NAME[@REVISION], a folder of
            transformers, a model.onnx of `stadia export`, or module:Class of your own.
        settings: keys of a network without a run, `network.KEY=VALUE`.
        max_pixels: of its images, if no training chose their size; None takes each image as it is.

    Raises CheckpointError and ConfigError for anything else.

    Examples:
        >>> open_network("base").depth_scale
        <DepthScale.METRES: 'metres'>
    """
    if Path(network).suffix.lower() == ".onnx":
        return Network(ExportedFile(Path(network)))
    from stadia.recipes.base.network_checkpoint import open_network_checkpoint

    return Network(LoadedNetwork(str(network), open_network_checkpoint(network, settings=settings), max_pixels))


@dataclass(frozen=True)
class Network:
    """A network that predicts: trained, published, exported, or your own.

    loaded: its weights.
    """

    loaded: LoadedNetwork

    @property
    def name(self) -> str:
        """Return its name, as it was opened."""
        return self.loaded.name

    @property
    def depth_scale(self) -> DepthScale:
        """Return what its depth means: metres, or up to scale, or up to scale and shift."""
        return self.loaded.depth_scale

    @property
    def licence(self) -> str:
        """Return the licence of its weights; "" where none is known."""
        return self.loaded.licence

    def predict(
        self,
        image: str | Path | NDArray[np.uint8],
        *,
        K: NDArray[np.floating] | None = None,
        fov_deg: float | None = None,
        scale_from: Sequence[str] = (),
        options: PredictOptions | None = None,
    ) -> Prediction:
        """Predict one image.

        Args:
            image: a file, or an array (H, W, 3) uint8 RGB.
            K: (3, 3) of the image, pixels.
            fov_deg: its horizontal field of view, degrees, instead of K. Without both, the camera of a file is the one
                beside it or in its EXIF, else an assumed one, and the verdict states that.
            scale_from: known lengths that set the scale, as of `stadia predict --scale-from`: "height=1.5".
            options: further options, as of `stadia predict`.

        Raises ConfigError for more than one image, and the errors of opening and predicting it.

        Examples:
            >>> image = np.zeros((96, 128, 3), np.uint8)
            >>> photo = open_network("base").predict(image, fov_deg=60)
            >>> photo.depth.shape, photo.K[0, 0].round(1)
            ((96, 128), np.float64(110.9))
        """
        options = replace(options or PredictOptions(), scale_from=tuple(scale_from))
        if isinstance(image, np.ndarray):
            session = self.open_input(make_image_input(image, K=K, fov_deg=fov_deg), options)
        else:
            sessions = self.open(image, replace(options, data={**_describe_camera(K, fov_deg), **options.data}))
            session = sessions[0]
            if len(sessions) > 1 or session.input.count != 1:
                found, fix = "more than one image", "use Network.stream, which yields each frame"
                raise ConfigError(image, found=found, expected="one image", fix=fix)
        (predicted,) = session.frames()
        return Prediction(predicted, session)

    def stream(
        self,
        source: str | Path,
        *,
        every: int = 1,
        scale_from: Sequence[str] = (),
        options: PredictOptions | None = None,
    ) -> Iterator[Prediction]:
        """Predict the frames of a video, a folder of images or a data set, one by one.

        Args:
            source: of the frames.
            every: predict each n-th frame.
            scale_from: as of `predict`.
            options: further options, as of `stadia predict`.

        Yields a prediction for each frame, with its pose (`T_world_camera`) if the path reaches it.
        Raises the errors of opening the input.
        """
        chosen = replace(options or PredictOptions(), every=every, scale_from=tuple(scale_from))
        for session in self.open(source, chosen):
            for predicted in session.frames():
                yield Prediction(predicted, session)

    def open(self, source: str | Path, options: PredictOptions | None = None) -> Sequence[Session]:
        """Open an image, a folder, a video or a data set: a session for each recording in it.

        Raises the errors of opening the input, and ConfigError for options that the network does not use.
        """
        if self.loaded.is_exported:  # without torch, which the task of a recipe imports
            return open_sessions(self.loaded, Path(source), options or PredictOptions())
        return find_task(self.loaded).open(Path(source), options or PredictOptions())

    def open_input(
        self, given: PredictionInput, options: PredictOptions | None = None, *, source: Path | None = None
    ) -> Session:
        """Return the session of an input that is open: images in memory, or frames of the caller.

        source: the path of the input, beside which a map may lie.
        """
        options, loaded = options or PredictOptions(), self.loaded
        if not loaded.has_own_size and given.intrinsics is not None:
            loaded = loaded.fit(given.intrinsics.height, given.intrinsics.width)
        return Session(loaded, given, options, loaded.make_predictor(options), source=source)


def _describe_camera(K: NDArray[np.floating] | None, fov_deg: float | None) -> dict[str, Any]:
    """Return `data` options for a camera that is given."""
    if K is not None:
        rows = [[float(value) for value in row] for row in np.asarray(K)]
        return parse_source_options([f"data.camera.K={rows}"])
    return {} if fov_deg is None else parse_source_options([f"data.camera.horizontal_fov_deg={fov_deg}"])


def evaluate(
    network: Network | str | Path,
    data: str | Path,
    *,
    protocol: str = "metric",
    out: str | Path | None = None,
    options: EvaluateOptions | None = None,
) -> Evaluation:
    """Predict labeled data with a network, and score depth and path.

    Args:
        network: opened, or its name.
        data: recordings with ground truth, or the labeled data of a recipe.
        protocol: of depth, a name of `stadia list protocols`.
        out: folder for the predictions; by default the run of the network, or a temporary one without a run.
        options: further options, as of `stadia evaluate`.

    Returns the scores (`summary`), and the files that hold them. Raises the errors of opening network and data.
    """
    opened = network if isinstance(network, Network) else open_network(network)
    chosen = replace(options or EvaluateOptions(), protocol=protocol)
    if out is None and opened.loaded.run_folder is None:
        with tempfile.TemporaryDirectory() as folder:
            return replace(
                evaluate_network(opened.loaded, Path(data), chosen, out=Path(folder) / "predicted"), files=()
            )
    return evaluate_network(opened.loaded, Path(data), chosen, out=None if out is None else Path(out))
