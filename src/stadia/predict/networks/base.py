"""The depth network of the package, `base`: one ONNX file with its weights, which ONNX Runtime runs."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import Camera, DepthScale, PredictedMaps
from stadia.geometry.cameras import relative_focal
from stadia.io.array_files import read_npz
from stadia.io.input_files import parse_json
from stadia.io.kept_rates import find_rates
from stadia.predict import TRAIN_FLOOR
from stadia.predict.backends import ONNXRUNTIME, OPENVINO
from stadia.predict.networks import DEFAULT_NETWORK, NETWORK_RECIPE
from stadia.predict.onnx_session import open_onnx_file
from stadia.predict.predict_frames import average_mirrored

BASE_FILE = Path(__file__).with_name("base.onnx")
"""The network. It maps `image` (B, 3, H, W), RGB in [0, 1], sides multiples of 32, to `inverse_depth` (B, 1, H, W) in
1/m of a camera of `CANONICAL_FOCAL`, `log_uncertainty` (B, 1, H, W) and `features` (B, C).

Its initializers have the names and values of the network's weights in PyTorch, as float16
(experiments/base_onnx.py).
"""

FAMILIAR_FILE = Path(__file__).with_name("base_familiar.npz")
"""File with the regression of `measure_strangeness`: it recognizes photos like the ones in the metric evaluation.

It was fitted to mean encoder features of such photos and of other images (experiments/familiar_photos.py).
"""

LICENCE = "Apache-2.0"

MAPS = ("inverse_depth", "log_uncertainty")
"""Outputs of the network that are maps."""

RUNTIMES = (ONNXRUNTIME, OPENVINO)
"""Backends that run the file without PyTorch."""

MIN_OPENVINO_FRAMES = 24
"""OpenVINO takes a second to open the network. From this number of frames on it can save more."""

MIN_GAIN = 1.2
"""OpenVINO is chosen if it is this many times as fast as ONNX Runtime."""

TIMED_RUNS = 4
"""Number of images by which each runtime is measured; the first one prepares."""

CANONICAL_FOCAL = 0.5
"""sqrt(fx fy / (height width)) of the camera whose depth the network predicts in metres."""

SIZE_MULTIPLE = 32
"""Sides of the network's images are multiples of this number of pixels."""

TRAINED_PIXELS = 384 * 288
"""Number of pixels of the network's training images. It predicts best if its input has about as many pixels."""

STANDARD_LIMIT = 4.0
"""Encoder features, minus their mean and divided by their standard deviation, are clamped to this absolute value."""

REAL_ERROR = 0.25
"""Mean relative error of the predicted depth in metres, without alignment, over real datasets.

docs/reference/base-network.md lists the datasets.
"""

INTERVAL_IN_METRES = 4.0
"""Factor on the predicted standard deviation of ln z, so that 90 % of the pixels have their true depth within it.

It holds for depth in metres as the network predicts it.
"""

INTERVAL_WITH_A_LENGTH = 1.9
"""The same factor if a known length gave the scale."""


def find_depth_interval(
    depth_m: NDArray[np.floating], log_uncertainty: NDArray[np.floating], spread: float = INTERVAL_IN_METRES
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the lower and upper ends, (H, W) each, of the 90 % interval of each pixel's depth, in the unit of the
    depth.

    depth_m: (H, W) predicted depth.
    log_uncertainty: (H, W) logarithm of the predicted uncertainty of ln z.
    spread: factor on the uncertainty: `INTERVAL_IN_METRES`, or `INTERVAL_WITH_A_LENGTH` if a known length scaled the
        depth. Both were measured on real recordings (docs/reference/base-network.md).

    Example:
        >>> near, far = find_depth_interval(np.array([[2.0]]), np.log([[0.1]]))
        >>> float(near[0, 0].round(2)), float(far[0, 0].round(2))
        (1.34, 2.98)
    """
    factor = np.exp(spread * np.exp(log_uncertainty))
    return depth_m / factor, depth_m * factor


def compute_network_size(height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) at which the network runs on an image: multiples of 32 with about `TRAINED_PIXELS`
    pixels, and the image's aspect ratio within the limits of the multiples.

    height, width: size of the image in pixels.

    Example:
        >>> compute_network_size(480, 640)
        (288, 384)
    """
    factor = math.sqrt(TRAINED_PIXELS / (height * width))
    rows, columns = (max(round(round(side * factor) / SIZE_MULTIPLE), 1) for side in (height, width))
    return rows * SIZE_MULTIPLE, columns * SIZE_MULTIPLE


def measure_strangeness(features: NDArray[np.floating], file: Path = FAMILIAR_FILE) -> NDArray[np.float64]:
    """Return a score (B,) that is above 0 for images unlike the photos that the error in metres was measured on.

    The score is a kernel ridge regression to 1 for paintings, maps, drone images and the like, and to -1 for photos
    of rooms, streets and people (docs/reference/base-network.md).

    features: (B, C) mean encoder features of the images, the output `features` of the network.
    file: the regression.
    """
    known = {name: values.astype(np.float64) for name, values in read_npz(file).items()}
    standard = ((features - known["mean"]) / known["spread"]).clip(-STANDARD_LIMIT, STANDARD_LIMIT)
    difference = (standard @ known["axes"].T)[:, None] - known["points"]
    return np.exp(-np.square(difference).sum(2) / known["width"]) @ known["weights"]


class BaseSession:
    """The opened ONNX file.

    Raises MissingFloorError if onnxruntime is not installed.
    """

    def __init__(self) -> None:
        self._session = open_onnx_file(BASE_FILE)
        import onnxruntime

        self._needed_only = onnxruntime.RunOptions()
        self._needed_only.only_execute_path_to_fetches = True
        self.texts: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, image: NDArray[np.float32], *outputs: str) -> list[NDArray[np.float32]]:
        """Return the named outputs for images (B, 3, H, W)."""
        return self._session.run(list(outputs), {"image": np.ascontiguousarray(image, np.float32)}, self._needed_only)


@functools.cache
def open_session() -> BaseSession:
    """Open the ONNX file once in this process."""
    return BaseSession()


class OpenvinoSession:
    """The same ONNX file as OpenVINO runs it on the processor, for images of one size.

    height, width: size of the network's images, multiples of 32.
    """

    def __init__(self, height: int, width: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(BASE_FILE)
        model.reshape({"image": [1, 3, height, width]})
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        self._request: Any = core.compile_model(model, "CPU", hints).create_infer_request()

    def run(self, image: NDArray[np.float32], *outputs: str) -> list[NDArray[np.float32]]:
        """Return the named outputs for images (B, 3, H, W)."""
        found: list[list[NDArray[np.float32]]] = []
        for number in range(len(image)):
            self._request.infer({"image": np.ascontiguousarray(image[number : number + 1], np.float32)})
            found.append([self._request.get_tensor(name).data.copy() for name in outputs])
        return [np.concatenate(maps) for maps in zip(*found, strict=True)]


@functools.lru_cache(maxsize=2)
def open_openvino_session(height: int, width: int) -> OpenvinoSession:
    """Open the ONNX file in OpenVINO once for a size."""
    return OpenvinoSession(height, width)


def choose_runtime(height: int, width: int, count: int | None) -> str:
    """Return the backend that predicts an input soonest: "onnxruntime", or "openvino" if it is installed and faster.

    Both are measured once on a processor, in less than 2 s.

    height, width: size of the network's images, multiples of 32.
    count: number of frames of the input; None if unknown.
    """
    import onnxruntime

    is_long = count is None or count >= MIN_OPENVINO_FRAMES
    if not is_long or find_spec("openvino") is None or onnxruntime.get_device() != "CPU":
        return ONNXRUNTIME
    versions = {name: metadata.version(name) for name in RUNTIMES}
    about = {"network": BASE_FILE.stat().st_size, "size": [height, width], **versions}
    seconds = find_rates("base", about, lambda: _time_runtimes(height, width))
    return OPENVINO if seconds[OPENVINO] * MIN_GAIN < seconds[ONNXRUNTIME] else ONNXRUNTIME


def _time_runtimes(height: int, width: int) -> dict[str, float]:
    """Return the seconds of an image by each runtime. They take turns, and the fastest time of each counts."""
    sessions: dict[str, BaseSession | OpenvinoSession] = {
        ONNXRUNTIME: open_session(),
        OPENVINO: open_openvino_session(height, width),
    }
    image = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    seconds = dict.fromkeys(sessions, math.inf)
    for _ in range(TIMED_RUNS):
        for name, session in sessions.items():
            start_s = time.perf_counter()
            session.run(image, *MAPS)
            seconds[name] = min(seconds[name], time.perf_counter() - start_s)
    return seconds


class BasePredictor:
    """Predict the depth of images with `base` by ONNX Runtime or OpenVINO, as `core.types.MapsPredictor`.

    height, width: size of the network's images, multiples of 32.
    flip: average maps with the mirrored image's (`average_mirrored`).
    backend: "onnxruntime" or "openvino".
    """

    depth_scale = DepthScale.METRES
    crop = "none"

    def __init__(self, height: int, width: int, *, flip: bool = False, backend: str = ONNXRUNTIME) -> None:
        self.height, self.width, self.flip, self.backend_name = height, width, flip, backend
        is_openvino = backend == OPENVINO
        self.session: BaseSession | OpenvinoSession = (
            open_openvino_session(height, width) if is_openvino else open_session()
        )
        self._photo: tuple[NDArray[np.float32], list[NDArray[np.float32]]] | None = None

    def find_features(self, image: NDArray[np.float32], *, is_photo: bool = False) -> NDArray[np.float32]:
        """Return the mean encoder features (B, C) of images (B, 3, H, W).

        is_photo: whether the same images are predicted next, so that the network runs once for both.
        """
        if not is_photo:
            return self.session.run(image, "features")[0]
        features, *maps = self.session.run(image, "features", *MAPS)
        self._photo = image, maps
        return features

    def inverse_depth(self, image: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        """Return inverse depth (B, 1, H, W) in 1/m of images (B, 3, H, W)."""
        return self.maps(image, camera).inverse_depth

    def maps(self, image: NDArray[np.float32], camera: Camera) -> PredictedMaps:
        """Return inverse depth in 1/m and log uncertainty of images (B, 3, H, W)."""
        return average_mirrored(self._predict, image, camera) if self.flip else self._predict(image, camera)

    def _predict(self, image: NDArray[np.float32], camera: Camera) -> PredictedMaps:
        is_known = self._photo is not None and np.array_equal(self._photo[0], image)
        maps = self._photo[1] if self._photo is not None and is_known else self.session.run(image, *MAPS)
        inverse_depth, log_uncertainty = maps
        ratio = relative_focal(camera.K, camera.height, camera.width) / CANONICAL_FOCAL
        scaled = inverse_depth / ratio.reshape(-1, 1, 1, 1).astype(np.float32)
        return PredictedMaps(scaled, log_uncertainty=log_uncertainty)

    def T_next_now(self, now: Any, camera: Camera, following: Any, next_camera: Camera) -> None:
        """Return None: the network predicts no motion."""


@dataclass(frozen=True)
class BaseHeader:
    """What `base` has in place of the header of a checkpoint.

    config: its settings, and the size of its images.
    """

    config: Mapping[str, Any]
    recipe: str = NETWORK_RECIPE
    step: int = 0
    scale_from: str = ""
    licence: str = ""


@dataclass(frozen=True)
class BaseCheckpoint:
    """`base` for images of one size, in place of a checkpoint.

    height, width: size of the network's images.
    """

    height: int = 288
    width: int = 384

    path = Path(DEFAULT_NETWORK)
    run_folder = path / "no-run"
    licence = LICENCE
    title = "base tf_efficientnet_lite2"

    @property
    def header(self) -> BaseHeader:
        """Return the settings of the network."""
        data = {"height": self.height, "width": self.width}
        model = parse_json(BASE_FILE, open_session().texts["config"], "the configuration of the network")
        return BaseHeader({"data": data, "model": model})

    def resized(self, height: int, width: int) -> BaseCheckpoint:
        """Return the network for images of another size."""
        return BaseCheckpoint(*compute_network_size(height, width))

    def buffer(self, name: str) -> tuple[float, ...]:
        """Return the values of a small tensor: `focal` is 0, because depth fits any camera."""
        return (0.0,) if name == "focal" else ()

    def open_in_torch(self) -> Any:
        """Return the same network as PyTorch runs it. Raises MissingFloorError if PyTorch is not installed."""
        checkpoint = TRAIN_FLOOR.load("open_network")(DEFAULT_NETWORK)
        return checkpoint.resized(self.height, self.width)

    @property
    def built_recipe(self) -> Any:
        """Return the network's recipe in PyTorch."""
        return self.open_in_torch().built_recipe
