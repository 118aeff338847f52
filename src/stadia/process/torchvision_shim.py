"""Make timm, lightning and torchmetrics importable fast, and with a torchvision whose library does not load.

Import this module before them. A package index may pair a CPU build of torch with a CUDA build of torchvision.
"""

import inspect
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


def _load_compiled_part() -> bool:
    spec = find_spec("torchvision")  # finds the folder; does not run torchvision
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in sorted(Path(folder).glob("_C*.so")) + sorted(Path(folder).glob("_C*.pyd")):
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except OSError:
                continue
            return True
    return False


def declare_missing_operators() -> list[str]:
    """Declare the missing operators that torchvision expects; return their names."""
    if _load_compiled_part():
        return []
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
    for name in missing:
        torch.library.define(f"torchvision::{name}", _SCHEMA)
    return missing


_disable_now = torch.compiler.disable


def _disable_at_first_call(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    if fn is None and "torch._dynamo" not in sys.modules:
        return partial(_disable_at_first_call, recursive=recursive, reason=reason)
    if not inspect.isfunction(fn) or "torch._dynamo" in sys.modules:
        return _disable_now(fn, recursive, reason=reason)  # type: ignore[no-untyped-call]
    return torch._disable_dynamo(fn, recursive)  # type: ignore[attr-defined]


def defer_packages(packages: Mapping[str, Mapping[str, str]]) -> None:
    """Register packages whose submodules import as usual, and whose own code runs at the first use of an attribute.

    packages: name -> attributes that are given in advance, such as `__version__`. Parents come first.
    """
    for name, attributes in packages.items():
        if name in sys.modules or (spec := find_spec(name)) is None or spec.loader is None:
            continue
        module: Any = module_from_spec(spec)
        vars(module).update(attributes, __getattr__=_Loader(module))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


class _Loader:
    """The `__getattr__` of a deferred package: imports a submodule, or runs the package once."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # the import system's attributes, which it also works without
            raise AttributeError(attribute)
        child = f"{self.module.__name__}.{attribute}"
        if child in sys.modules or find_spec(child) is not None:  # `from package import module`
            return import_module(child)
        if vars(self.module).get("__getattr__") is self:
            del self.module.__getattr__
            self.module.__spec__.loader.exec_module(self.module)
        return getattr(self.module, attribute)


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
