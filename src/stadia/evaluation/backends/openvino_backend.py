"""The backend `openvino`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, summarize_exception
from stadia.evaluation.onnx_graph import OnnxGraph


class OpenvinoBackend:
    """OpenVINO on the processor: images of a batch run side by side, each on some of the cores."""

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "openvino")
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
                one = np.ascontiguousarray(image[number : number + 1], np.float32)
                self._queue.start_async({self.interface.input: one}, output[number])
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
