"""Make timm, lightning and torchmetrics importable fast, and beside a torchvision whose compiled library does not load.

A package index may pair a CPU build of torch with a CUDA build of torchvision. Then `import torchvision` fails with
"operator torchvision::nms does not exist", because it registers shape functions for two undeclared operators. Declaring
their schemas is enough: nothing in stadia calls them.
Import this module before the first import of timm, lightning or torchmetrics.

All three then load without the packages around what they need (see `process.lazy_packages`): starting a command takes
1.5 to 3 s less.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from stadia.process.lazy_packages import defer_packages

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


def _load_compiled_part() -> bool:
    """Return whether torchvision's own library can be loaded; a second load by torchvision is harmless."""
    spec = importlib.util.find_spec("torchvision")  # finds the folder; does not run torchvision
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in sorted(Path(folder).glob("_C*.so")) + sorted(Path(folder).glob("_C*.pyd")):
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except OSError:
                continue
            return True
    return False


def declare_missing_operators() -> list[str]:
    """Declare the operators that torchvision expects and nobody declared; return the names declared by this call."""
    if _load_compiled_part():
        return []
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
    for name in missing:
        torch.library.define(f"torchvision::{name}", _SCHEMA)
    return missing


_disable_now = torch.compiler.disable


def _disable_at_first_call(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Return what `torch.compiler.disable` returns, without its import of the compiler, which takes a second.

    timm decorates functions by it that few programs call. Modules, classes and all else are passed to torch's own.
    """
    if fn is None and "torch._dynamo" not in sys.modules:
        return partial(_disable_at_first_call, recursive=recursive, reason=reason)
    if not inspect.isfunction(fn) or "torch._dynamo" in sys.modules:
        return _disable_now(fn, recursive, reason=reason)  # type: ignore[no-untyped-call]
    return torch._disable_dynamo(fn, recursive)  # type: ignore[attr-defined]


def defer_torch_packages() -> None:
    """Defer the packages that timm and Lightning Fabric import for few of their parts, and torch's compiler."""
    version: dict[str, str] = {}
    with suppress(metadata.PackageNotFoundError):
        version["__version__"] = metadata.version("torchmetrics")  # Lightning compares it
    names = ("torchvision", "torchvision.ops", "torchvision.models", "lightning")
    defer_packages({**{name: {} for name in names}, "torchmetrics": version})
    torch.compiler.disable = _disable_at_first_call


declare_missing_operators()
defer_torch_packages()
