"""Check and run exported ONNX networks. Imports no torch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator

from stadia import __version__
from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError, summarize_exception
from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.data.frame_preparation import Frame, PredictedFrame, PreparedFrame, TrainingLens, run_ahead
from stadia.evaluation.predictions_folder import Provenance
from stadia.geometry.cameras import IMAGE_CROPS, relative_focal
from stadia.io.input_files import check_input_file
from stadia.predict.onnx_session import open_onnx_file

UNITS: Mapping[DepthScale, str] = {
    DepthScale.METRES: "1/m",
    DepthScale.UP_TO_SCALE: "1/depth, up to one unknown scale",
    DepthScale.AFFINE_INVERSE: "1/depth, up to an unknown scale and shift",
    DepthScale.AFFINE_DEPTH: "-depth, up to an unknown scale and shift",
}

MAX_STRIDE = 256
Side = Annotated[int, Field(ge=1, le=8192)]


class TrainingCamera(StrictModel):
    """Describe the camera of the training images, if a network was trained with a single camera.

    K: (3, 3) intrinsics in pixels of images of `size`.
    size: (height, width) of its images in pixels.
    """

    K: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    size: tuple[Annotated[int, Field(ge=1, le=1 << 16)], Annotated[int, Field(ge=1, le=1 << 16)]]

    @field_validator("K")
    @classmethod
    def _check_focal_lengths(cls, K: Any) -> Any:
        if not min(K[0][0], K[1][1]) > 0:
            raise ValueError(f"fx {K[0][0]:g} and fy {K[1][1]:g} are not above 0")
        return K


class ExportDescription(StrictModel):
    """Description of an exported network, stored as texts in ONNX's metadata_props.

    input, unit: form of the graph's `image`, and unit of its `inverse_depth`.
    height, width: size of the training images.
    crop: row of `geometry.cameras.IMAGE_CROPS` that they showed.
    stride: other sizes are multiples of it.
    focal: fx / width of the training cameras; for another one inverse depth is divided by the ratio of the two.
    canonical_focal: sqrt(fx fy / (height width)) of a canonical camera (Metric3D), instead of `focal`.
    licence: licence of the published weights.
    scale_from: origin of the metres in its training.
    camera: camera of the training, for images without a camera; None if it had several.
    verdict, verdict_codes: verdict of its run, and codes of the findings behind it.
    stadia: the version that exported it.
    """

    format: Literal["stadia-depth"] = "stadia-depth"
    version: int = Field(default=1, ge=1, le=1)
    input: str = "(B, 3, H, W) float32 RGB in [0, 1], not normalized"
    unit: str
    depth_scale: DepthScale
    recipe: str
    config_hash: str
    checkpoint: str
    height: Side
    width: Side
    crop: str
    stride: Annotated[int, Field(ge=1, le=MAX_STRIDE)]
    focal: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    canonical_focal: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    licence: Annotated[str, Field(max_length=200)] = ""
    scale_from: Annotated[str, Field(max_length=1000)] = ""
    camera: TrainingCamera | None = None
    verdict: Verdict | None = None
    verdict_codes: Annotated[str, Field(pattern=r"^([A-Z]\d\d(, [A-Z]\d\d)*)?$", max_length=200)] = ""
    stadia: str = __version__

    @field_validator("camera", mode="before")
    @classmethod
    def _parse_camera(cls, value: Any) -> Any:
        """Accept the text of `texts`."""
        return TrainingCamera.model_validate_json(value) if isinstance(value, str) else value

    @classmethod
    def from_provenance(cls, provenance: Provenance, depth_scale: DepthScale, **values: Any) -> Self:
        """Build it from a provenance and the fields from `height` to `canonical_focal`."""
        made_by = provenance.model_dump(include={"recipe", "config_hash", "checkpoint", "licence"})
        return cls(depth_scale=depth_scale, unit=UNITS[depth_scale], **made_by, **values)

    def texts(self) -> dict[str, str]:
        """Return all known fields as text."""
        texts = {name: str(value) for name, value in self if name != "camera" and value is not None}
        return texts if self.camera is None else {**texts, "camera": self.camera.model_dump_json()}

    def describe_verdict(self) -> str:
        """Return the verdict with the codes of its findings."""
        return f"{self.verdict or ''}" + f" ({self.verdict_codes})" * bool(self.verdict and self.verdict_codes)

    @classmethod
    def read(cls, path: Path, texts: Mapping[str, str]) -> Self:
        """Read it from a file's metadata. Raise DataError for another program's file."""
        if texts.get("format") != cls.model_fields["format"].default:
            fix = "run it with onnxruntime, and score its maps with `stadia evaluate --depth`"
            expected = "one that `stadia export` wrote"
            raise DataError(path, found="an ONNX file without stadia's description", expected=expected, fix=fix)
        try:
            described = cls.model_validate({name: texts[name] for name in cls.model_fields if name in texts})
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))} in its metadata: {first['msg']}"
            raise DataError(path, found=problem, expected="what `stadia export` writes", fix=EXPORT_AGAIN) from error
        if described.crop not in IMAGE_CROPS:
            expected = f"one of {', '.join(IMAGE_CROPS)}"
            raise DataError(path, found=f"the crop '{described.crop}'", expected=expected, fix="update stadia")
        return described


# -- the graph

EXPECTED = "an ONNX file that `stadia export` wrote"
EXPORT_AGAIN = "export the network again: stadia export RUN --out FILE"

MIN_OPSET = 13
_MAX_BYTES = 1 << 31  # limit of a protobuf
_MAX_NODES = 4000  # networks have about a thousand; onnxruntime takes a minute to open 10,000


@dataclass(frozen=True, slots=True)
class GraphInterface:
    """The input (B, channels, H, W) float32 of a graph, and its output (B, values), or a map (B, 1, H, W)."""

    input: str
    channels: int
    output: str
    values: int | None = None

    def output_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the output of one image of this size, without B."""
        return (1, height, width) if self.values is None else (self.values,)


DEPTH = GraphInterface("image", 3, "inverse_depth")  # RGB in [0, 1] to inverse depth
MOTION = GraphInterface("image_pair", 6, "motion", 6)  # two images in temporal order to what `PoseNet.transform` takes


def check_installed(*packages: str, extra: str = "depth") -> None:
    """Raise ConfigError if a package of an extra is missing."""
    if missing := [package for package in packages if find_spec(package) is None]:
        expected, fix = f"the extra '{extra}'", f"pip install 'stadia[{extra}]'"
        raise ConfigError(missing[0], found="no such package", expected=expected, fix=fix)


class OnnxSession:
    """An ONNX file that onnxruntime runs: on a GPU if its build supports one, otherwise on the processor.

    path: a file without a fault, see `find_fault`.
    input, output: names of the tensors.
    threads: number of cores; None for all.

    Raises DataError if onnxruntime cannot open the file.
    """

    def __init__(self, path: Path, input: str, output: str, *, threads: int | None = None) -> None:
        self.path, self._input, self._output = path, input, output
        try:
            # Folding computes products of weights while the file is opened.
            self._session = open_onnx_file(path, threads=threads, disabled_optimizers=("ConstantFolding",))
        except Exception as error:  # onnxruntime's errors have no common base class
            raise make_graph_error(path, "a file that onnxruntime cannot load", error) from error
        self.texts: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        tensors = (*self._session.get_inputs(), *self._session.get_outputs())
        self.tensors = [(tensor.name, list(tensor.shape), tensor.type) for tensor in tensors]

    def run(self, image: NDArray[np.float32], expected: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the output of shape `expected` of images (B, channels, H, W). Raises DataError for another shape."""
        try:
            output = np.asarray(self._session.run([self._output], {self._input: image})[0], np.float32)
        except Exception as error:
            failure = f"a graph that fails at {image.shape[3]}x{image.shape[2]}"
            raise make_graph_error(self.path, failure, error) from error
        if output.shape != expected:
            found = f"an output of shape {output.shape} for images of shape {image.shape}"
            raise DataError(self.path, found=found, expected=f"shape {expected}", fix=EXPORT_AGAIN)
        return output


def make_graph_error(path: Path, failure: str, error: Exception) -> DataError:
    """Return the error of a graph that a runtime cannot open or run."""
    found = f"{failure} ({summarize_exception(error)[:200]})"
    return DataError(path, found=found, expected=EXPECTED, fix="copy it again, or export it again")


class OnnxGraph:
    """A graph that onnxruntime runs: on a GPU if its build supports one, otherwise on all cores.

    interface: required input and output, see `check_interface`.
    threads: number of cores; None for all.
    texts: the file's metadata.

    Raises ConfigError if onnx or onnxruntime is missing, DataError for a damaged file, and for a graph that may run
    without end or read other files.
    """

    def __init__(self, path: Path, interface: GraphInterface, *, threads: int | None = None) -> None:
        self.path, self.interface = Path(path), interface
        check_installed("onnx", "onnxruntime")
        if fault := find_fault(self.path):
            raise DataError(self.path, found=fault, expected=EXPECTED, fix=EXPORT_AGAIN)
        self._session = OnnxSession(self.path, interface.input, interface.output, threads=threads)
        self.texts, self._tensors = self._session.texts, self._session.tensors

    @property
    def only_size(self) -> tuple[int, int] | None:
        """(height, width) of a graph for one size, otherwise None."""
        height, width = self._tensors[0][1][2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def check_interface(self) -> None:
        """Raise DataError for another input or output."""
        wanted = self.interface
        sides = [(name, len(shape), kind) for name, shape, kind in self._tensors]
        dimensions = 1 + len(wanted.output_shape(1, 1))
        expected = [(wanted.input, 4, "tensor(float)"), (wanted.output, dimensions, "tensor(float)")]
        if sides != expected:
            raise DataError(self.path, found=f"a graph with {sides}", expected=f"{expected}", fix=EXPORT_AGAIN)
        channels = [shape[1] for _, shape, _ in self._tensors]
        if channels != [wanted.channels, wanted.values or 1]:
            found = f"a graph from {channels[0]} to {channels[1]} channels"
            expected_channels = f"one from {wanted.channels} to {wanted.values or 1}"
            raise DataError(self.path, found=found, expected=expected_channels, fix=EXPORT_AGAIN)

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W)."""
        if len(image) > 1 and self._tensors[0][1][0] == 1:  # a graph for one image at a time
            return np.concatenate([self.run(one) for one in np.split(image, len(image))])
        return self._session.run(image, (len(image), *self.interface.output_shape(*image.shape[-2:])))


def find_fault(path: Path, min_opset: int = MIN_OPSET) -> str:
    """Return why no runtime may open a file: it may run without end (loops, branches), or read other files."""
    import onnx

    check_input_file(path, expected=EXPECTED, max_bytes=_MAX_BYTES)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        found, fix = f"a damaged file ({summarize_exception(error)})", "copy it again, or export it again"
        raise DataError(path, found=found, expected=EXPECTED, fix=fix) from error
    graph = model.graph
    if model.functions:
        return "a graph with functions"
    if len(graph.node) > _MAX_NODES:
        return f"{len(graph.node)} operations, more than {_MAX_NODES}"
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            return f"an operation of '{node.domain}'"
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return "an operation with a graph of its own"
    if graph.sparse_initializer:
        return "sparse weights"
    if any(tensor.external_data for tensor in graph.initializer):
        return "weights in another file"
    opset = max((imported.version for imported in model.opset_import if not imported.domain), default=0)
    return f"a graph of opset {opset}" if opset < min_opset else ""


class ExportedNetwork:
    """A depth network that onnxruntime runs, like `core.types.Predictor`.

    size: (height, width) of its input; the training size by default.
    threads: number of cores; None for all.
    only_size: (height, width) of a file for one size.  about: the file's description.

    Raises ConfigError if onnxruntime is missing or the size does not fit, DataError for a damaged or foreign file.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None = None, *, threads: int | None = None) -> None:
        self.graph = OnnxGraph(path, DEPTH, threads=threads)
        self.path = self.graph.path
        self.about = ExportDescription.read(self.path, self.graph.texts)
        self.graph.check_interface()
        self.only_size = self.graph.only_size
        self.depth_scale, self.crop = self.about.depth_scale, self.about.crop
        self.height, self.width = size or self.only_size or (self.about.height, self.about.width)
        self._check_size(self.height, self.width)

    def inverse_depth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict (B, 3, H, W) float32 RGB in [0, 1] to (B, 1, H, W), in unit and focal length of `about`."""
        self._check_size(*image.shape[-2:])
        return self.graph.run(image)

    def provenance(self, size: tuple[int, int] | None = None) -> Provenance:
        """Return the provenance for predictions.json.

        size: size of the network's input, if it is not the training size.
        """
        made_by = self.about.model_dump(include={"recipe", "config_hash", "licence"})
        checkpoint = f"{self.about.checkpoint}, as {self.path.name}"
        return Provenance(**made_by, checkpoint=checkpoint, motion="none", requested_size=size)

    def _check_size(self, height: int, width: int) -> None:
        stride = self.about.stride
        if self.only_size is not None and self.only_size != (height, width):
            fix = "take this size, or export it again without one"
            expected = f"{self.only_size[1]}x{self.only_size[0]}"
            raise ConfigError(f"image size for {self.path.name}", found=f"{width}x{height}", expected=expected, fix=fix)
        if height % stride or width % stride:
            near = f"{max(round(width / stride), 2) * stride}x{max(round(height / stride), 2) * stride}"
            fix = f"take {near}"
            expected = f"multiples of {stride}"
            raise ConfigError(f"image size for {self.path.name}", found=f"{width}x{height}", expected=expected, fix=fix)


def stream_exported_predictions(
    network: ExportedNetwork,
    frames: Iterable[Frame],
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> Iterator[PredictedFrame]:
    """Predict depth frame by frame, without motion.

    run: replaces `network.inverse_depth`.
    """
    run = run or network.inverse_depth
    canonical = network.about.canonical_focal
    lens = TrainingLens(network.about.focal or 0.0, "depth is scaled by it")
    for shown in run_ahead(PreparedFrame.prepare(network, frame) for frame in frames):
        inverse_depth = run(shown.image[None])[0, 0]
        if canonical is None:
            ratio = lens.ratio(shown.K, network.height, network.width)
        else:
            ratio = relative_focal(shown.K, network.height, network.width) / canonical
        yield shown.predicted(network.depth_scale, inverse_depth / np.float32(ratio), None)
