"""Open ONNX files with ONNX Runtime, which then reports nothing to its makers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from stadia.core.floors import name_missing_floor

_FATAL = 4  # level of ONNX Runtime's log; errors are raised as well


@name_missing_floor()
def open_onnx_file(path: Path, *, threads: int | None = None, disabled_optimizers: tuple[str, ...] = ()) -> Any:
    """Return the `onnxruntime.InferenceSession` of a file: on a GPU if ONNX Runtime supports one, else on the CPU.

    The builds of ONNX Runtime report the devices of the machine and the time of runs to Microsoft, and write an
    identifier into the user's cache. This turns both off, unless ORT_DISABLE_TELEMETRY is set to another value.

    threads: number of cores; None for all.
    disabled_optimizers: changes of the graph that are not made.

    Raises MissingFloorError if onnxruntime is not installed, and errors of ONNX Runtime, which have no common class.

    Source: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _FATAL
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    return onnxruntime.InferenceSession(
        str(path), options, providers=providers, disabled_optimizers=list(disabled_optimizers)
    )
