"""Runtimes that run a depth network for `stadia predict --backend`, and their precisions. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, summarize_exception
from stadia.core.registry import Registry
from stadia.evaluation.exported_network import OnnxGraph, check_installed

BACKENDS = Registry(
    "backend",
    {
        "torch": "stadia.evaluation.backends:TorchBackend",
        "onnxruntime": "stadia.evaluation.backends:OnnxruntimeBackend",
        "openvino": "stadia.evaluation.backends:OpenvinoBackend",
    },
)

PRECISIONS = Registry(
    "precision",
    {
        "float32": "stadia.evaluation.quantization:keep_float32",
        "bf16": "stadia.evaluation.quantization:keep_float32",
        "int8": "stadia.evaluation.quantization:quantize_int8",
    },
)

TORCH = "torch"
"""The backend of a checkpoint, which torch runs without an export."""

ONNXRUNTIME = "onnxruntime"
"""The backend of an exported file, which needs no torch."""

EXPORT_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What exports a checkpoint, and compares the file with it."""


@dataclass(frozen=True)
class BackendChoice:
    """Rows of BACKENDS and PRECISIONS."""

    backend: str = TORCH
    precision: str = "float32"

    @property
    def is_torch(self) -> bool:
        """Return whether the checkpoint runs by itself."""
        return self.backend == TORCH

    @property
    def is_default(self) -> bool:
        """Return whether the checkpoint runs by itself, as it is."""
        return self == BackendChoice()


class Backend(Protocol):
    """Runs the graph of an exported network, which is checked already, in a precision.

    packages: that it imports to run an exported network.
    extra: of pyproject.toml, which installs them, and what exports a checkpoint.
    precisions: rows of PRECISIONS that it runs.
    """

    packages: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]

    def __init__(self, graph: OnnxGraph, size: tuple[int, int], precision: str = "float32") -> None:
        """Prepare a graph for images of one size (height, width)."""

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W), by the graph's interface."""
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
    """ONNX Runtime, on the GPU where its build has one, else on all cores."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = "onnx"
    precisions: ClassVar[tuple[str, ...]] = ("float32", "int8")

    def __init__(self, graph: OnnxGraph, size: tuple[int, int], precision: str = "float32") -> None:
        self.graph = graph

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W)."""
        return self.graph.run(image)


class OpenvinoBackend:
    """OpenVINO on the processor: images of a batch run side by side, each on some of the cores."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "openvino")
    extra: ClassVar[str] = "openvino"
    precisions: ClassVar[tuple[str, ...]] = ("float32", "bf16", "int8")

    def __init__(self, graph: OnnxGraph, size: tuple[int, int], precision: str = "float32") -> None:
        import openvino

        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        self.path, self.size, self.interface = graph.path, size, graph.interface
        try:
            core = openvino.Core()
            model = core.read_model(graph.path)
            model.reshape({self.interface.input: [1, self.interface.channels, *size]})
            self._queue: Any = openvino.AsyncInferQueue(core.compile_model(model, "CPU", settings))
        except Exception as error:  # its errors have no common base class
            raise self._fail(error) from error
        self._queue.set_callback(self._copy_output)

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W)."""
        output = np.empty((len(image), *self.interface.output_shape(*self.size)), np.float32)
        try:
            for number in range(len(image)):
                single = np.ascontiguousarray(image[number : number + 1], np.float32)
                self._queue.start_async({self.interface.input: single}, output[number])
            self._queue.wait_all()
        except Exception as error:
            raise self._fail(error) from error
        return output

    def _fail(self, error: Exception) -> DataError:
        found = f"a graph that OpenVINO cannot run at {self.size[1]}x{self.size[0]} ({summarize_exception(error)})"
        expected, fix = "a network that it runs", "choose --backend onnxruntime"
        return DataError(self.path, found=found, expected=expected, fix=fix)

    def _copy_output(self, request: Any, output: NDArray[np.float32]) -> None:
        """Copy the result of a request (1, ...) into `output` (...), before the request is used again."""
        output[...] = request.get_tensor(self.interface.output).data[0]


def check_backend(choice: BackendChoice, *, is_exported: bool = False) -> None:
    """Raise ConfigError for an unknown backend or precision, a missing package, and a precision that it cannot run.

    is_exported: the network is a file already, which needs no packages to export it, and no torch.
    """
    name, precision = choice.backend, choice.precision
    PRECISIONS.check(precision)
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
        check_installed(*(() if is_exported else EXPORT_PACKAGES), *backend.packages, extra=backend.extra)
