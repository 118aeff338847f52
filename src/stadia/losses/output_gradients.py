"""The gradient of the loss with respect to each output of the networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stadia.core.types import is_temporal


class OutputGradients:
    """Measure the gradients of one backward: call `attach` before the forward, `collect` after the backward.

    Outputs are the fields of the dataclass that a network returns (`core.types.Prediction`), or a tensor.
    """

    def __init__(self) -> None:
        self._outputs: list[tuple[str, Tensor]] = []
        self._hooks: list[RemovableHandle] = []

    def attach(self, recipe: nn.Module) -> None:
        """Keep the outputs of the networks of a recipe: its children with trainable weights."""
        networks = [child for child in recipe.children() if any(p.requires_grad for p in child.parameters())]
        self._hooks = [network.register_forward_hook(self._keep) for network in networks]

    def _keep(self, network: nn.Module, arguments: Any, output: Any) -> None:
        for name, value in _named_tensors(output):
            value.retain_grad()
            self._outputs.append((name, value))

    def collect(self, source_names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return the sum of |d loss / d value| of each output, () each. Waits for no device.

        To first order the loss falls by it if every value moves by one unit. It depends on neither the size of the
        batch nor of a map. An output that the loss does not use (brightness that is held) has 0.

        Of transforms (B, N, 4, 4) between neighbors in time: `translation` (per unit of length) and `rotation` (per
        radian, axes of the source). Of brightness: `gain` and `offset`.

        source_names: N names, where there are sources.
        """
        outputs, self._outputs = self._outputs, []
        while self._hooks:
            self._hooks.pop().remove()
        temporal = [i for i, name in enumerate(source_names) if is_temporal(name)]
        found: dict[str, Tensor] = {}
        for name, value in outputs:
            gradient = torch.zeros_like(value) if value.grad is None else value.grad.detach()
            for quantity, part in _parts(name, value.detach(), gradient, temporal):
                size = part.abs().sum().float()
                found[quantity] = found[quantity] + size if quantity in found else size
        return found


def _named_tensors(output: Any, name: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors with a gradient, named by the field of the dataclass, numbered in a sequence."""
    if isinstance(output, Tensor):
        if output.requires_grad:
            yield name, output
    elif is_dataclass(output):
        for field in fields(output):
            yield from _named_tensors(getattr(output, field.name), field.name)
    elif isinstance(output, tuple | list):
        for number, one in enumerate(output):
            yield from _named_tensors(one, f"{name}/{number}")


def _parts(name: str, value: Tensor, gradient: Tensor, temporal: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Split the gradient of a field of `Prediction` into its quantities."""
    if name == "T_source_target":
        if temporal:
            yield "translation", gradient[:, temporal, :3, 3]
            yield "rotation", compute_rotation_gradient(value[:, temporal, :3, :3], gradient[:, temporal, :3, :3])
    elif name == "brightness":
        yield "gain", gradient[..., 0]
        yield "offset", gradient[..., 1]
    else:
        yield name, gradient


def compute_rotation_gradient(R: Tensor, gradient: Tensor) -> Tensor:
    """Return (..., 3) d loss / d w at w = 0 of exp(w) R, from R (..., 3, 3) and d loss / d R (..., 3, 3)."""
    turning = gradient @ R.transpose(-1, -2)
    return torch.stack([turning[..., j, i] - turning[..., i, j] for i, j in ((1, 2), (2, 0), (0, 1))], dim=-1)
