"""Runtimes that run an exported depth network for `stadia predict --backend`, and their precisions."""

from __future__ import annotations

from stadia.core.registry import Registry

BACKENDS = Registry(
    "backend",
    {
        "torch": "stadia.evaluation.backends.torch_backend:TorchBackend",
        "onnxruntime": "stadia.evaluation.backends.onnxruntime_backend:OnnxruntimeBackend",
        "openvino": "stadia.evaluation.backends.openvino_backend:OpenvinoBackend",
    },
)

PRECISIONS = Registry(
    "precision",
    {
        "float32": "stadia.evaluation.backends.quantization:keep_float32",
        "bf16": "stadia.evaluation.backends.quantization:keep_float32",
        "int8": "stadia.evaluation.backends.quantization:quantize_int8",
    },
)
