"""Run the graph of an ONNX file by onnxruntime. It is checked before: it may come from somebody else.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, summarize_exception
from stadia.files.input_files import check_input_file

MIN_OPSET = 13
EXPECTED = "an ONNX file that `stadia export` wrote"
_MAX_BYTES = 1 << 31  # a protobuf has no more
_MAX_ARENA_BYTES = 3 << 29
"""1.5 GiB of intermediate results. Weights are not among them: the file bounds those."""
_MAX_NODES = 4000  # the networks have at most about a thousand; onnxruntime takes a minute to open 10,000
_FATAL = 4  # level of onnxruntime's log


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

    Raises ConfigError where onnx or onnxruntime is missing, DataError for a damaged file, and for a graph that may run
    without end or read other files.
    """

    def __init__(self, path: Path, interface: GraphInterface, *, threads: int | None = None) -> None:
        self.path, self.interface = Path(path), interface
        check_installed("onnx", "onnxruntime")
        if fault := _find_fault(self.path):
            raise DataError(self.path, found=fault, expected=EXPECTED, fix="export it again")
        self._session = _open_session(self.path, threads)
        self.texts: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    @property
    def only_size(self) -> tuple[int, int] | None:
        """Return (height, width) of a graph that is for one size; else None."""
        height, width = self._session.get_inputs()[0].shape[2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def check_interface(self) -> None:
        """Raise DataError for another input or output."""
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

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W)."""
        inputs = {self.interface.input: np.ascontiguousarray(image, np.float32)}
        try:
            (output,) = self._session.run([self.interface.output], inputs)
        except Exception as error:  # its errors have no common base class
            found = f"a graph that fails at {image.shape[3]}x{image.shape[2]} ({str(error)[:200]})"
            raise DataError(self.path, found=found, expected=EXPECTED, fix="export it again") from error
        expected = (len(image), *self.interface.output_shape(*image.shape[-2:]))
        if not isinstance(output, np.ndarray) or output.shape != expected:
            found = f"an output of shape {getattr(output, 'shape', None)} for images of shape {image.shape}"
            raise DataError(self.path, found=found, expected=f"shape {expected}", fix="export it again")
        return np.asarray(output, np.float32)


def _open_session(path: Path, threads: int | None) -> Any:
    """Return an onnxruntime.InferenceSession of a file without a fault."""
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


def _find_fault(path: Path) -> str:
    """Return why a file is not opened by a runtime: it may run without end, or read other files; else "".

    Loops and branches are operations with a graph of their own.
    """
    import onnx

    check_input_file(path, expected=EXPECTED, max_bytes=_MAX_BYTES)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf, whose errors have no common base class with others
        found, fix = f"a damaged file ({summarize_exception(error)})", "copy it again, or export it again"
        raise DataError(path, found=found, expected=EXPECTED, fix=fix) from error
    graph = model.graph
    if model.functions:
        return "a graph with functions"
    if len(graph.node) > _MAX_NODES:
        return f"{len(graph.node)} operations, where {_MAX_NODES} are accepted"
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
    return f"a graph of opset {opset}" if opset < MIN_OPSET else ""
