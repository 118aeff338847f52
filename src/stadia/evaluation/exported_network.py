"""Run an exported ONNX depth network. Imports no torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator

from stadia import __version__
from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError
from stadia.core.input_files import name_parser_errors, open_input
from stadia.core.registry import check_file_keys
from stadia.core.types import DepthScale
from stadia.evaluation.background import run_ahead
from stadia.evaluation.frame_preparation import Frame, PredictedFrame, PreparedFrame, TrainingLens
from stadia.evaluation.io.predictions_folder import Provenance
from stadia.geometry.numpy_camera import IMAGE_CROPS

IMAGE, INVERSE_DEPTH = "image", "inverse_depth"  # names of the input and the output of an exported network
UNITS: Mapping[DepthScale, str] = {
    DepthScale.METRES: "1/m",
    DepthScale.UP_TO_SCALE: "1/depth, up to one unknown scale",
    DepthScale.AFFINE_INVERSE: "1/depth, up to an unknown scale and shift",
}

MIN_OPSET = 13
_EXPECTED = "an ONNX file that `stadia export` wrote"
_MAX_BYTES = 1 << 31  # a protobuf has no more
_NUMBER, _MESSAGE = 0, 2  # kinds of fields in a protobuf
_OPSET_IMPORT, _GRAPH, _FUNCTIONS = (8, _MESSAGE), (7, _MESSAGE), (25, _MESSAGE)  # fields of onnx.proto: of a model,
_NODE, _INITIALIZER, _SPARSE = (1, _MESSAGE), (5, _MESSAGE), (15, _MESSAGE)  # a graph,
_OPERATION, _ATTRIBUTE, _DOMAIN = (4, _MESSAGE), (5, _MESSAGE), (7, _MESSAGE)  # a node,
_SUBGRAPHS = ((6, _MESSAGE), (11, _MESSAGE))  # an attribute,
_DATA_TYPE, _EXTERNAL = (2, _NUMBER), (13, _MESSAGE)  # and a tensor
_FLOATS = (1, 10, 11, 16)  # float, float16, double, bfloat16
_OPERATIONS = (
    "Abs Add And AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvTranspose DepthToSpace"
    " DequantizeLinear Div Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool"
    " Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization"
    " LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Min Mish Mod Mul Neg Not Or"
    " Pad Pow PRelu Range Reciprocal QuantizeLinear ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"
    " Relu Reshape Resize Selu Shape Sigmoid Size Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Tanh"
    " Tile Transpose Unsqueeze Where"
)
"""Operations of networks: arithmetic of tensors. None is a loop, a branch, a random number or a text."""
_MAX_ARENA_BYTES = 3 << 29
"""1.5 GiB of intermediate results. Weights are not among them: the file bounds those."""
_MAX_NODES = 4000  # the networks have at most about a thousand; onnxruntime takes a minute to open 10,000
_FATAL = 4  # level of onnxruntime's log
_CHECK_S = 30.0  # of the check's predictions: milliseconds for images of four strides, seconds for a file of one size

MAX_STRIDE = 256
Side = Annotated[int, Field(ge=1, le=8192)]


class TrainingCamera(StrictModel):
    """The one camera that trained a network: K (3, 3) in pixels, and size (height, width) of its images."""

    K: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    size: tuple[Annotated[int, Field(ge=1, le=1 << 16)], Annotated[int, Field(ge=1, le=1 << 16)]]

    @field_validator("K")
    @classmethod
    def _check_focal_lengths(cls, K: Any) -> Any:
        if not min(K[0][0], K[1][1]) > 0:
            raise ValueError(f"fx {K[0][0]:g} and fy {K[1][1]:g} are not above 0")
        return K


class ExportDescription(StrictModel):
    """Description of an exported network, stored as texts in ONNX's metadata_props. It replaces the checkpoint.

    input, unit: of the graph's `image` and `inverse_depth`, as text.
    recipe, config_hash, checkpoint: as in predictions.json.
    height, width: of the training images.
    crop: row of `geometry.numpy_camera.IMAGE_CROPS`, the part of an image that they showed.
    stride: other sizes are multiples of it, in a .pt2 three times it or more.
    focal: fx / width of the training cameras; for another one inverse depth is divided by the ratio of the two.
    camera: of the training, for images of which none is given, as JSON; none where it had several or is not known.
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
    focal: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    camera: TrainingCamera | None = None
    stadia: str = __version__

    @field_validator("camera", mode="before")
    @classmethod
    def _parse_camera(cls, value: Any) -> Any:
        """Accept the text that `texts` writes."""
        return TrainingCamera.model_validate_json(value) if isinstance(value, str) else value

    @classmethod
    def from_provenance(cls, provenance: Provenance, depth_scale: DepthScale, **values: Any) -> Self:
        """Build it from a provenance; `values` are the fields from `height` to `focal`."""
        made_by = provenance.model_dump(include={"recipe", "config_hash", "checkpoint"})
        return cls(depth_scale=depth_scale, unit=UNITS[depth_scale], **made_by, **values)

    def texts(self) -> dict[str, str]:
        """Return all fields as text, without a camera where there is none."""
        texts = {name: str(value) for name, value in self if name != "camera"}
        return texts if self.camera is None else {**texts, "camera": self.camera.model_dump_json()}

    @classmethod
    def read(cls, path: Path, texts: Mapping[str, str]) -> Self:
        """Read it from a file's metadata, which may have other entries. Raise DataError where it is not stadia's."""
        if texts.get("format") != cls.model_fields["format"].default:
            fix = "run it by onnxruntime itself, and score its maps by `stadia evaluate --depth`"
            expected = "one that `stadia export` wrote"
            raise DataError(path, found="an ONNX file without stadia's description", expected=expected, fix=fix)
        check_file_keys(path, texts)
        try:
            described = cls.model_validate({name: texts[name] for name in cls.model_fields if name in texts})
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))} in its metadata: {first['msg']}"
            raise DataError(
                path, found=problem, expected="what `stadia export` writes", fix="export it again"
            ) from error
        if described.crop not in IMAGE_CROPS:
            expected = f"one of {', '.join(IMAGE_CROPS)}"
            raise DataError(path, found=f"the crop '{described.crop}'", expected=expected, fix="update stadia")
        return described


def check_installed(*packages: str, extra: str = "onnx") -> None:
    """Raise ConfigError where a package of an extra is missing."""
    if missing := [package for package in packages if find_spec(package) is None]:
        expected, fix = f"the extra '{extra}'", f"pip install 'stadia[{extra}]'"
        raise ConfigError(missing[0], found="no such package", expected=expected, fix=fix)


class ExportedNetwork:
    """A depth network that onnxruntime runs: on a GPU if its build supports one, else on all cores.

    size: (height, width) of its input; the training size by default.
    threads: number of cores; None takes all.

    only_size: (height, width) of a file that is for one size; else None.

    `depth_scale`, `height`, `width` and `crop` are as of `core.types.Predictor`; `about` is the file's description.
    Raises ConfigError where onnxruntime is missing or the size does not fit, DataError for a damaged or foreign file.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None = None, *, threads: int | None = None) -> None:
        self.path = Path(path)
        _check_operations(self.path)
        self._session = _open_session(self.path, threads)
        self.about = ExportDescription.read(self.path, self._session.get_modelmeta().custom_metadata_map)
        self._check_graph()
        _check_weights(self.path)
        height, width = self._session.get_inputs()[0].shape[2:]
        self.only_size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        self._check_prediction()
        self.depth_scale, self.crop = self.about.depth_scale, self.about.crop
        self.height, self.width = size or self.only_size or (self.about.height, self.about.width)
        self._check_size(self.height, self.width)

    def inverse_depth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict (B, 3, H, W) float32 RGB in [0, 1] to (B, 1, H, W), in the unit of `about`, at its focal length.

        Raises ConfigError where the sides are no multiples of the stride.
        """
        return self._run(image, None)

    def _run(self, image: NDArray[np.float32], options: Any) -> NDArray[np.float32]:
        """Return `inverse_depth`; `options` is None or an onnxruntime.RunOptions."""
        self._check_size(*image.shape[-2:])
        try:
            (output,) = self._session.run([INVERSE_DEPTH], {IMAGE: np.ascontiguousarray(image, np.float32)}, options)
        except Exception as error:  # its errors have no common base class
            found = f"a graph that fails at {image.shape[3]}x{image.shape[2]} ({str(error)[:200]})"
            raise DataError(self.path, found=found, expected=_EXPECTED, fix="export it again") from error
        expected = (len(image), 1, *image.shape[-2:])
        if not isinstance(output, np.ndarray) or output.shape != expected:
            found = f"an output of shape {getattr(output, 'shape', None)} for images of shape {image.shape}"
            raise DataError(self.path, found=found, expected=f"shape {expected}", fix="export it again")
        return np.asarray(output, np.float32)

    def provenance(self, size: tuple[int, int] | None = None) -> Provenance:
        """Return the provenance for predictions.json; `size` where it is not the training size."""
        made_by = self.about.model_dump(include={"recipe", "config_hash"})
        checkpoint = f"{self.about.checkpoint}, as {self.path.name}"
        return Provenance(**made_by, checkpoint=checkpoint, motion="none", requested_size=size)

    def _check_graph(self) -> None:
        tensors = (*self._session.get_inputs(), *self._session.get_outputs())
        sides = [(tensor.name, len(tensor.shape), tensor.type) for tensor in tensors]
        expected = [(IMAGE, 4, "tensor(float)"), (INVERSE_DEPTH, 4, "tensor(float)")]
        if sides != expected:
            raise DataError(self.path, found=f"a graph with {sides}", expected=f"{expected}", fix="export it again")
        channels = [tensor.shape[1] for tensor in tensors]
        if channels != [3, 1]:
            found, wanted = f"a graph from {channels[0]} to {channels[1]} channels", "one from 3 to 1"
            raise DataError(self.path, found=found, expected=wanted, fix="export it again")

    def _check_prediction(self) -> None:
        """Run two images of noise, soon: a network predicts something finite, and not the same for both."""
        from onnxruntime import RunOptions

        size, options = self.only_size or (4 * self.about.stride,) * 2, RunOptions()
        options.log_severity_level = _FATAL
        timer = threading.Timer(_CHECK_S, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        random = np.random.default_rng(0)
        try:
            first, second = (self._run(random.random((1, 3, *size), np.float32), options) for _ in range(2))
        finally:
            timer.cancel()
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            found = "a graph that predicts values that are not finite"
        elif np.array_equal(first, second):
            found = "a graph whose prediction does not depend on the image"
        else:
            return
        raise DataError(self.path, found=found, expected=_EXPECTED, fix="export it again")

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


def _open_session(path: Path, threads: int | None) -> Any:
    """Return an onnxruntime.InferenceSession of a file that `_check_operations` passed."""
    check_installed("onnxruntime")
    import onnxruntime

    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _FATAL  # errors are raised as well
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    try:
        # Folding computes products of weights while the file is opened, without a limit of time.
        return onnxruntime.InferenceSession(
            str(path), options, providers=providers, disabled_optimizers=["ConstantFolding"]
        )
    except Exception as error:  # its errors have no common base class
        fix = "copy it again, or export it again"
        found = f"a file that onnxruntime cannot load ({str(error)[:200]})"
        raise DataError(path, found=found, expected=_EXPECTED, fix=fix) from error


@cache
def _limit_memory() -> None:
    """Limit the memory of all sessions of the process together, but for their weights."""
    import onnxruntime

    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_asked = 1  # arena_extend_strategy: no doubling
    arena = onnxruntime.OrtArenaCfg({"max_mem": _MAX_ARENA_BYTES, "arena_extend_strategy": as_asked})
    onnxruntime.create_and_register_allocator(memory, arena)


_Field = tuple[int, int]
"""Number and kind of a field in a protobuf."""


def _check_operations(path: Path) -> None:
    """Raise DataError for a graph that may run without end or read other files, before onnxruntime opens it.

    It has functions, subgraphs, or operations that are not in `_OPERATIONS`, or weights in another file.
    """
    fault, nodes = "", 0
    with _open_model(path) as (stream, size):
        for field, end in _list_fields(stream, size):
            if field == _FUNCTIONS:
                fault = fault or "a graph with functions"
            for part, part_end in _list_fields(stream, end) if field == _GRAPH else ():
                if part == _NODE:
                    nodes += 1
                    fault = fault or _find_node_fault(stream, part_end)
                elif part == _SPARSE:
                    fault = fault or "sparse weights"
                elif part == _INITIALIZER and _EXTERNAL in dict(_list_fields(stream, part_end)):
                    fault = fault or "weights in another file"
    if nodes > _MAX_NODES:
        fault = f"{nodes} operations, where {_MAX_NODES} are accepted"
    if fault:
        raise DataError(path, found=fault, expected=_EXPECTED, fix="export it again")


def _find_node_fault(stream: BinaryIO, end: int) -> str:
    for field, value in _list_fields(stream, end):
        if field in (_OPERATION, _DOMAIN):
            name = stream.read(min(max(value - stream.tell(), 0), 64)).decode("utf-8", "replace")
            if field == _DOMAIN and name not in ("", "ai.onnx"):
                return f"an operation of '{name}'"
            if field == _OPERATION and name not in _OPERATIONS.split():
                return f"the operation '{name}'"
        elif field == _ATTRIBUTE and any(part in _SUBGRAPHS for part, _ in _list_fields(stream, value)):
            return "an operation with a graph of its own"
    return ""


def _check_weights(path: Path) -> None:
    """Raise DataError for a graph of an old opset, or without weights: one that only moves its input around."""
    opset, has_weights = 0, False
    with _open_model(path) as (stream, size):
        for field, end in _list_fields(stream, size):
            if field == _OPSET_IMPORT:
                values = dict(_list_fields(stream, end))
                if values.get((1, _MESSAGE), 0) == 0:  # the domain of ONNX itself has no name
                    opset = values.get((2, _NUMBER), 0)
            for part, part_end in _list_fields(stream, end) if field == _GRAPH else ():
                if part == _INITIALIZER:
                    has_weights |= dict(_list_fields(stream, part_end)).get(_DATA_TYPE) in _FLOATS
    if opset < MIN_OPSET:
        expected = f"opset {MIN_OPSET} or newer"
        raise DataError(path, found=f"a graph of opset {opset}", expected=expected, fix="export it again")
    if not has_weights:
        raise DataError(path, found="a graph without weights", expected=_EXPECTED, fix="export it again")


@contextmanager
def _open_model(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a ModelProto of onnx.proto, whose fields are listed with their lengths and not read."""
    with (
        open_input(path, expected=_EXPECTED, max_bytes=_MAX_BYTES) as stream,
        name_parser_errors(path, expected=_EXPECTED),
    ):
        yield stream, os.fstat(stream.fileno()).st_size


def _list_fields(stream: BinaryIO, end: int) -> Iterator[tuple[_Field, int]]:
    """Yield (field, value) of a protobuf message up to `end`: of a whole number its value, of other fields their end.

    The stream then stands at the field's content. The end of an empty field is 0. Raises ValueError for anything else.
    """
    while stream.tell() < end:
        key = _read_varint(stream)
        kind = key & 7
        if key >> 32:  # some parsers leave the upper half out, and read another field
            raise ValueError(f"a field of number {key >> 3}")
        if kind == _NUMBER:
            yield (key >> 3, kind), _read_varint(stream)
            continue
        if kind not in (1, _MESSAGE, 5):
            raise ValueError(f"a field of type {kind}")
        length = _read_varint(stream) if kind == _MESSAGE else {1: 8, 5: 4}[kind]
        after = stream.tell() + length
        if after > end:
            raise ValueError("a field that is cut off")
        yield (key >> 3, kind), after if length else 0
        stream.seek(after)


def _read_varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        (byte,) = stream.read(1)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a number of more than 64 bits")


def stream_exported_predictions(
    network: ExportedNetwork,
    frames: Iterable[Frame],
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> Iterator[PredictedFrame]:
    """Predict depth frame by frame, at any focal length; without motion.

    run: predicts (B, 3, H, W) to (B, 1, H, W); `network.inverse_depth` by default.
    """
    run = run or network.inverse_depth
    lens = TrainingLens(network.about.focal, "depth is scaled by it")
    for shown in run_ahead(PreparedFrame.prepare(network, frame) for frame in frames):
        inverse_depth = run(shown.image[None])[0, 0]
        ratio = lens.ratio(shown.K, network.height, network.width)
        yield shown.predicted(network.depth_scale, inverse_depth / np.float32(ratio), None)
