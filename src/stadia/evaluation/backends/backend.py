"""The interface of a backend, and the check that one is installed. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.evaluation.backends import BACKENDS, PRECISIONS
from stadia.evaluation.onnx_graph import OnnxGraph, check_installed

TORCH, ONNXRUNTIME = "torch", "onnxruntime"
"""The backends of a checkpoint, which torch runs without an export, and of an exported file."""

EXPORT_PACKAGES = "onnx", "onnxscript", "onnxruntime"
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


def check_backend(choice: BackendChoice, *, is_exported: bool = False) -> None:
    """Raise ConfigError for an unknown backend or precision, a missing package, and a precision that it cannot run.

    is_exported: the network is a file already, which needs no packages to export it, and no torch.
    """
    name, precision = choice.backend, choice.precision
    PRECISIONS.check(precision)
    backend: type[Backend] = BACKENDS.load(name)
    if precision not in backend.precisions:
        able = [other for other in BACKENDS if precision in BACKENDS.load(other).precisions]
        raise ConfigError(
            "--precision",
            found=f"{precision} with the backend '{name}'",
            expected=" or ".join(backend.precisions),
            fix=f"add --backend {able[-1]}",
        )
    if backend.extra:
        check_installed(*(() if is_exported else EXPORT_PACKAGES), *backend.packages, extra=backend.extra)
