"""Declare the operators of torchvision if its compiled library was built for another torch.

Import this module before timm, transformers or peft, which all import torchvision. PyPI's torchvision for
Linux is a CUDA build: its library does not load next to the CPU build of torch, and `import torchvision` then raises
"operator torchvision::nms does not exist". Nothing in stadia calls these operators, so a declaration is enough.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


def declare_missing_operators() -> list[str]:
    """Declare the operators that `import torchvision` needs and that no library provides; return their names."""
    if _load_library():
        return []
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
    for name in missing:
        torch.library.define(f"torchvision::{name}", _SCHEMA)
    return missing


def _load_library() -> bool:
    """Load the compiled library as torchvision does; return whether it fits this torch."""
    spec = find_spec("torchvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in (*Path(folder).glob("_C*.so"), *Path(folder).glob("_C*.pyd")):
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except OSError:
                continue
            return True
    return False


declare_missing_operators()
