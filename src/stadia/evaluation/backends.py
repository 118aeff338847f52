"""Runtimes that run a depth network for `stadia predict --backend`, and their precisions. Imports no torch."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.core.registry import Registry
from stadia.evaluation.exported_network import DEPTH, ExportedNetwork, OnnxGraph, check_installed
from stadia.evaluation.graph_process import GraphProcess

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
        "float32": "stadia.evaluation.backends:keep_float32",
        "bf16": "stadia.evaluation.backends:keep_float32",
        "int8": "stadia.evaluation.backends:quantize_int8",
    },
)

TORCH = "torch"  # runs a checkpoint without an export
ONNXRUNTIME = "onnxruntime"  # runs an exported file without torch
EXPORT_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class BackendChoice:
    """Rows of BACKENDS and PRECISIONS."""

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

    @property
    def motion_precision(self) -> str:
        """The precision of the pose network, which is never int8."""
        return "bf16" if self.precision == "bf16" else "float32"


class Backend(Protocol):
    """Runs the graph of an exported network: packages that it imports, their extra, and rows of PRECISIONS."""

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
    extra: ClassVar[str] = "onnx"
    precisions: ClassVar[tuple[str, ...]] = ("float32", "int8")

    def __init__(self, graph: OnnxGraph, size: tuple[int, int], precision: str = "float32") -> None:
        self.graph = graph

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W)."""
        return self.graph.run(image)


class OpenvinoBackend:
    """OpenVINO on the processor: images of a batch run in parallel."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "openvino")
    extra: ClassVar[str] = "openvino"
    precisions: ClassVar[tuple[str, ...]] = ("float32", "bf16", "int8")

    def __init__(self, graph: OnnxGraph, size: tuple[int, int], precision: str = "float32") -> None:
        interface = graph.interface
        self.output_shape = interface.output_shape(*size)
        self._process = GraphProcess(
            graph.path,
            (interface.input, interface.output),
            "openvino",
            precision=precision,
            shape=[1, interface.channels, *size],
            output_shape=self.output_shape,
        )

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output (B, ...) of images (B, channels, H, W)."""
        return self._process.run(image, (len(image), *self.output_shape))


def check_backend(choice: BackendChoice, *, is_exported: bool = False) -> None:
    """Raise ConfigError for an unknown backend or precision, a missing package, and a precision that it cannot run."""
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


OPERATIONS = ("Conv",)  # that compute in int8
FLOAT32_SHARES = (0.0, 0.25, 0.5)  # shares of the first convolutions in float32; the smallest within MAX_DIFFERENCE
MAX_DIFFERENCE = 0.015  # median relative difference from float32; .0125 costs 0.3 % of AbsRel, .0196 2.3 %

_COMPARED = 8  # images on which the shares are compared


def keep_float32(source: Path, out: Path, images: Sequence[NDArray[np.float32]]) -> None:
    """Copy an exported network: its weights stay float32."""
    copyfile(source, out)


def quantize_int8(source: Path, out: Path, images: Sequence[NDArray[np.float32]]) -> None:
    """Write an exported network whose convolutions compute in int8, except the last one and some of the first.

    out: new ONNX file. images: (3, H, W) float32 RGB in [0, 1] like the images that it will predict.
    """
    check_installed("onnx", "onnxruntime")
    compared = np.stack(images[:: max(len(images) // _COMPARED, 1)])
    network = ExportedNetwork(source)
    for image in images:  # in its own process, before the calibration runs the same graph in this one
        network.inverse_depth(image[None])
    expected = network.inverse_depth(compared)
    for share in FLOAT32_SHARES:
        _quantize(source, out, images, _list_first_and_last(source, share))
        if median_relative_difference(ExportedNetwork(out).inverse_depth(compared), expected) <= MAX_DIFFERENCE:
            return


def _list_first_and_last(source: Path, share: float) -> list[str]:
    """Return the names of the first convolution, of a share of the following ones, and of the last one."""
    import onnx

    names = [node.name for node in onnx.load(source).graph.node if node.op_type in OPERATIONS]
    return [*names[: max(round(share * len(names)), 1)], names[-1]]


def _quantize(source: Path, out: Path, images: Sequence[NDArray[np.float32]], excluded: list[str]) -> None:
    from onnxruntime import quantization

    class CalibrationImages(quantization.CalibrationDataReader):
        """Passes the images on, one by one."""

        def __init__(self) -> None:
            self.images: Iterator[NDArray[np.float32]] = iter(images)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            """Return the next calibration image by the name of the input; None at the end."""
            image = next(self.images, None)
            return None if image is None else {DEPTH.input: image[None]}

    settings: dict[str, Any] = {"op_types_to_quantize": list(OPERATIONS), "nodes_to_exclude": excluded}
    with _quiet_root_logger():
        quantization.quantize_static(
            str(source),
            str(out),
            CalibrationImages(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            **settings,
        )


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, root.disabled = root.disabled, True
    try:
        yield
    finally:
        root.disabled = before


def median_relative_difference(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Return the median over all elements of |found - expected| / |expected|, for arrays of the same shape.

    The denominator is at least a hundredth of the largest |expected|.
    """
    floor = np.abs(expected).max() / 100
    return float(np.median(np.abs(found - expected) / np.maximum(np.abs(expected), floor)))
