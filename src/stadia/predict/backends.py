"""Runtimes that run a depth network for `stadia predict --backend`, and their precisions. Imports no torch."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.core.registry import Registry
from stadia.predict.exported_network import OnnxGraph, check_installed, make_graph_error

BACKENDS = Registry(
    "backend",
    {
        "torch": "stadia.predict.backends:TorchBackend",
        "onnxruntime": "stadia.predict.backends:OnnxruntimeBackend",
        "openvino": "stadia.predict.backends:OpenvinoBackend",
    },
)

PRECISIONS = ("float32", "bf16")
"""Number formats of a network's computation. Each backend lists the formats that it can run."""

TORCH = "torch"  # runs a checkpoint without an export
ONNXRUNTIME = "onnxruntime"  # runs an exported file without torch
OPENVINO = "openvino"
EXPORT_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class BackendChoice:
    """Choose the runtime of a network and the number format of its computation.

    backend: key of BACKENDS: "torch", "onnxruntime" or "openvino".
    precision: one of PRECISIONS: "float32" or "bf16".
    """

    backend: str = TORCH
    precision: str = "float32"

    @property
    def is_torch(self) -> bool:
        """Whether torch runs the checkpoint."""
        return self.backend == TORCH

    @property
    def is_default(self) -> bool:
        """Whether torch runs the checkpoint in float32."""
        return self == BackendChoice()


class Backend(Protocol):
    """Runs the graph of an exported network: packages that it imports, their extra, and precisions that it runs."""

    packages: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]

    def __init__(self, graph: OnnxGraph, size: tuple[int, int], precision: str = "float32") -> None:
        """Prepare a graph for images of one size (height, width)."""

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) for images (B, channels, H, W), as the graph's interface describes."""
        ...


class TorchBackend:
    """PyTorch, the default for a checkpoint. It runs no exported file."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = ""
    precisions: ClassVar[tuple[str, ...]] = ("float32", "bf16")

    def __init__(self, graph: OnnxGraph, size: tuple[int, int], precision: str = "float32") -> None:
        found, expected = f"torch for {graph.path.name}", "onnxruntime or openvino for an ONNX file"
        raise ConfigError("--backend", found=found, expected=expected, fix="leave it out, or pass the checkpoint")

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Never called."""
        raise NotImplementedError


class OnnxruntimeBackend:
    """ONNX Runtime, on a GPU if its build supports one, otherwise on all cores."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = "depth"
    precisions: ClassVar[tuple[str, ...]] = ("float32",)

    def __init__(self, graph: OnnxGraph, size: tuple[int, int], precision: str = "float32") -> None:
        self.graph = graph

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W)."""
        return self.graph.run(image)


class OpenvinoBackend:
    """OpenVINO on the processor: images of a batch run in parallel."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "openvino")
    extra: ClassVar[str] = "openvino"
    precisions: ClassVar[tuple[str, ...]] = ("float32", "bf16")

    def __init__(self, graph: OnnxGraph, size: tuple[int, int], precision: str = "float32") -> None:
        import openvino

        self.path, self.interface = graph.path, graph.interface
        self.output_shape = graph.interface.output_shape(*size)
        numbers = "bf16" if precision == "bf16" else "f32"
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": numbers}
        try:
            core = openvino.Core()
            model = core.read_model(graph.path)
            model.reshape({graph.interface.input: [1, graph.interface.channels, *size]})
            self._queue: Any = openvino.AsyncInferQueue(core.compile_model(model, "CPU", hints))
        except Exception as error:  # openvino's errors have no common base class
            raise make_graph_error(graph.path, "a file that openvino cannot load", error) from error
        self._queue.set_callback(self._copy_output)

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W)."""
        output = np.empty((len(image), *self.output_shape), np.float32)
        try:
            for number in range(len(image)):
                one = np.ascontiguousarray(image[number : number + 1])
                self._queue.start_async({self.interface.input: one}, output[number])
            self._queue.wait_all()
        except Exception as error:
            raise make_graph_error(self.path, "a graph that openvino cannot run", error) from error
        return output

    def _copy_output(self, request: Any, output: NDArray[np.float32]) -> None:
        """Copy the result of a request (1, ...) into `output` (...), before the request is used again."""
        output[...] = request.get_tensor(self.interface.output).data[0]


def check_backend(choice: BackendChoice, *, is_exported: bool = False) -> None:
    """Raise ConfigError for an unknown backend or precision, a missing package, and a precision that it cannot run."""
    name, precision = choice.backend, choice.precision
    if precision not in PRECISIONS:
        raise ConfigError("--precision", found=f"'{precision}'", expected=f"one of {', '.join(PRECISIONS)}")
    backend: type[Backend] = BACKENDS.load(name)
    if precision not in backend.precisions:
        able = [able for able in BACKENDS if precision in BACKENDS.load(able).precisions]
        raise ConfigError(
            "--precision",
            found=f"{precision} with the backend '{name}'",
            expected=" or ".join(backend.precisions),
            fix=f"add --backend {able[-1]}",
        )
    if backend.extra:
        if not is_exported:
            check_installed(*EXPORT_PACKAGES, extra="onnx")
        check_installed(*backend.packages, extra=backend.extra)


def median_relative_difference(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Return the median over all elements of |found - expected| / |expected|, without unit.

    The denominator is at least a hundredth of the largest |expected|, so that values near 0 do not dominate.

    found: array of any shape.
    expected: array of the same shape with which it is compared.
    """
    floor = np.abs(expected).max() / 100
    return float(np.median(np.abs(found - expected) / np.maximum(np.abs(expected), floor)))
