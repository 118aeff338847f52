"""Run the graph of an ONNX file by onnxruntime. It is checked before: it may come from somebody else.

Imports no torch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.files.input_files import name_parser_errors, open_input

MIN_OPSET = 13
EXPECTED = "an ONNX file that `stadia export` wrote"
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
    " DequantizeLinear Div Einsum Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool"
    " GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization"
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
_CHECK_S = 30.0  # of a run that checks it: milliseconds for images of four strides, seconds for a file of one size


@dataclass(frozen=True, slots=True)
class GraphInterface:
    """The input (B, channels, H, W) float32 of a graph, and its output.

    values: of each image, so that the output is (B, values); None for a map (B, 1, H, W).
    """

    input: str
    channels: int
    output: str
    values: int | None = None

    def output_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the output of one image of this size, without B."""
        return (1, height, width) if self.values is None else (self.values,)


DEPTH = GraphInterface("image", 3, "inverse_depth")
"""RGB in [0, 1] to inverse depth."""

MOTION = GraphInterface("image_pair", 6, "motion", 6)
"""Two images in temporal order to what `PoseNet.transform` takes."""


def check_installed(*packages: str, extra: str = "onnx") -> None:
    """Raise ConfigError where a package of an extra is missing."""
    if missing := [package for package in packages if find_spec(package) is None]:
        expected, fix = f"the extra '{extra}'", f"pip install 'stadia[{extra}]'"
        raise ConfigError(missing[0], found="no such package", expected=expected, fix=fix)


class OnnxGraph:
    """A graph that onnxruntime runs: on a GPU if its build supports one, else on all cores.

    interface: which input and output it must have; `check_interface` checks it.
    threads: number of cores; None takes all.

    texts: the file's metadata.

    Raises ConfigError where onnxruntime is missing, DataError for a damaged file, and for a graph that may run without
    end or read other files.
    """

    def __init__(self, path: Path, interface: GraphInterface, *, threads: int | None = None) -> None:
        self.path, self.interface = Path(path), interface
        _check_operations(self.path)
        self._session = _open_session(self.path, threads)
        self.texts: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    @property
    def only_size(self) -> tuple[int, int] | None:
        """Return (height, width) of a graph that is for one size; else None."""
        height, width = self._session.get_inputs()[0].shape[2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def check_interface(self) -> None:
        """Raise DataError for another input or output, an old opset, and a graph without weights."""
        tensors, wanted = (*self._session.get_inputs(), *self._session.get_outputs()), self.interface
        sides = [(tensor.name, len(tensor.shape), tensor.type) for tensor in tensors]
        dimensions = 1 + len(wanted.output_shape(1, 1))
        expected = [(wanted.input, 4, "tensor(float)"), (wanted.output, dimensions, "tensor(float)")]
        if sides != expected:
            raise DataError(self.path, found=f"a graph with {sides}", expected=f"{expected}", fix="export it again")
        channels = [tensor.shape[1] for tensor in tensors]
        if channels != [wanted.channels, wanted.values or 1]:
            found = f"a graph from {channels[0]} to {channels[1]} channels"
            expected_channels = f"one from {wanted.channels} to {wanted.values or 1}"
            raise DataError(self.path, found=found, expected=expected_channels, fix="export it again")
        _check_weights(self.path)

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W)."""
        return self._run(image, None)

    def run_in_time(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `run`; raise DataError where it takes too long for a network."""
        from onnxruntime import RunOptions

        options = RunOptions()
        options.log_severity_level = _FATAL
        timer = threading.Timer(_CHECK_S, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            return self._run(image, options)
        finally:
            timer.cancel()

    def _run(self, image: NDArray[np.float32], options: Any) -> NDArray[np.float32]:
        names, inputs = [self.interface.output], {self.interface.input: np.ascontiguousarray(image, np.float32)}
        try:
            (output,) = self._session.run(names, inputs, options)
        except Exception as error:  # its errors have no common base class
            found = f"a graph that fails at {image.shape[3]}x{image.shape[2]} ({str(error)[:200]})"
            raise DataError(self.path, found=found, expected=EXPECTED, fix="export it again") from error
        expected = (len(image), *self.interface.output_shape(*image.shape[-2:]))
        if not isinstance(output, np.ndarray) or output.shape != expected:
            found = f"an output of shape {getattr(output, 'shape', None)} for images of shape {image.shape}"
            raise DataError(self.path, found=found, expected=f"shape {expected}", fix="export it again")
        return np.asarray(output, np.float32)


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
        raise DataError(path, found=found, expected=EXPECTED, fix=fix) from error


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
        raise DataError(path, found=fault, expected=EXPECTED, fix="export it again")


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
        raise DataError(path, found="a graph without weights", expected=EXPECTED, fix="export it again")


@contextmanager
def _open_model(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a ModelProto of onnx.proto, whose fields are listed with their lengths and not read."""
    with (
        open_input(path, expected=EXPECTED, max_bytes=_MAX_BYTES) as stream,
        name_parser_errors(path, expected=EXPECTED),
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
