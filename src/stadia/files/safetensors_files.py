"""Write tensors in the format safetensors, through a stream.

The package's own `save_file` writes a temporary file of its own name beside the given path and renames it (0.8.0). A
process that is killed leaves that file, and the lock of `core.files.atomic_write` is one of another file then.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from torch import Tensor

_ALIGNMENT = 8
_KINDS = {"float": "F", "bfloat": "BF", "int": "I", "uint": "U"}
"""Kinds of numbers of torch and of the format; the bits follow."""


def write_safetensors(stream: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts. Memory holds one tensor that is not contiguous at most, as a copy.

    stream: at its start.  tensors: on the CPU, of any shape; tied ones are written twice.

    Raises TypeError for a type other than integers, floats of 16 bits or more and bool, and on a machine with the most
    significant byte first.

    Examples:
        >>> import io, safetensors.torch, torch
        >>> stream = io.BytesIO()
        >>> write_safetensors(stream, {"w": torch.ones(2)}, {"made": "here"})
        >>> safetensors.torch.load(stream.getvalue())
        {'w': tensor([1., 1.])}
    """
    if sys.byteorder != "little":
        raise TypeError("safetensors has the least significant byte first, and this machine the most significant")
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # each value at its alignment
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _name_type(tensor), "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    stream.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        if tensors[name].numel():
            stream.write(view_bytes(tensors[name]))


def view_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor on the CPU that is not empty, row by row; a copy only where it is not contiguous."""
    import torch

    values: memoryview = tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy().data
    return values


def _name_type(tensor: Tensor) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    kind = name.rstrip("0123456789")
    if name == "bool":
        return "BOOL"
    if kind not in _KINDS:
        raise TypeError(f"a tensor of {tensor.dtype}, which is not written")
    return _KINDS[kind] + name.removeprefix(kind)
