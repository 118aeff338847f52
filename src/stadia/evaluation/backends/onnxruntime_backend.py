"""The backend `onnxruntime`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stadia.evaluation.exported_network import ExportedNetwork


class OnnxruntimeBackend:
    """ONNX Runtime, on the GPU where its build has one, else on all cores."""

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    extra: ClassVar[str] = "onnx"
    precisions: ClassVar[tuple[str, ...]] = ("float32", "int8")

    def __init__(self, network: ExportedNetwork, precision: str = "float32") -> None:
        self.network = network

    def inverse_depth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict (B, 3, H, W) to (B, 1, H, W)."""
        return self.network.inverse_depth(image)
