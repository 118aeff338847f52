"""Tensors are written as the package safetensors reads them, and in its order."""

from __future__ import annotations

import io
import json

import pytest
import safetensors.torch
import torch
from torch import Tensor

from stadia.files.safetensors_files import write_safetensors

BITS = {"float": (16, 32, 64), "bfloat": (16,), "int": (8, 16, 32, 64), "uint": (8, 16, 32, 64)}
TYPES = ["bool", *(f"{kind}{bits}" for kind, all_bits in BITS.items() for bits in all_bits)]


def write(tensors: dict[str, Tensor], **texts: str) -> bytes:
    stream = io.BytesIO()
    write_safetensors(stream, tensors, texts)
    return stream.getvalue()


def read_header(data: bytes) -> dict[str, object]:
    header: dict[str, object] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def test_every_type_is_read_by_the_package_as_written() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 100, (3, 5), generator=generator)
    tensors = {name: values.to(getattr(torch, name)) for name in TYPES}
    data = write(tensors, made="hier, überall")
    found = safetensors.torch.load(data)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert read_header(data)["__metadata__"] == {"made": "hier, überall"}


def test_the_layout_is_that_of_the_package() -> None:
    tensors = {"b": torch.ones(3, dtype=torch.int8), "a": torch.zeros(2), "c": torch.ones(1, dtype=torch.float64)}
    ours, theirs = write(tensors, text="x"), safetensors.torch.save(tensors, {"text": "x"})
    assert read_header(ours) == read_header(theirs)
    assert ours[-19:] == theirs[-19:]
    assert int.from_bytes(ours[:8], "little") % 8 == 0


def test_any_shape_and_memory() -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        "transposed": shared.T,
        "tied": shared,
        "part": shared[:, 1],
        "trained": torch.nn.Parameter(torch.ones(2)),
    }
    found = safetensors.torch.load(write(tensors))
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor.detach()), name


@pytest.mark.parametrize("name", ["complex64", "float8_e4m3fn"])
def test_another_type_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        write({"w": torch.zeros(1).to(getattr(torch, name))})
