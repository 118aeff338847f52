"""The backend `torch`: a checkpoint runs by itself."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.evaluation.onnx_graph import OnnxGraph


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
