"""The gradient of the loss with respect to each output of the networks, for logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stadia.core.types import is_temporal


class OutputGradients:
    """Gradients of one backward pass: call `watch` before the forward pass and `sizes` after the backward pass.

    The outputs are those that a recipe can name: the fields of a dataclass such as `Prediction`, or a tensor.
    """

    def __init__(self) -> None:
        self._outputs: list[tuple[str, Tensor]] = []
        self._hooks: list[RemovableHandle] = []

    def watch(self, recipe: nn.Module) -> None:
        """Keep the next outputs of its networks, the children that can learn."""
        networks = [child for child in recipe.children() if any(p.requires_grad for p in child.parameters())]
        self._hooks = [network.register_forward_hook(self._keep) for network in networks]

    def _keep(self, network: nn.Module, arguments: Any, output: Any) -> None:
        for name, value in _named(output):
            value.retain_grad()
            self._outputs.append((name, value))

    def sizes(self, source_names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return the sum of |d loss / d value| of each quantity, (): how far the loss falls, to first order, per unit.

        So it depends on neither the batch's nor a map's size. An output without a gradient (brightness that is held)
        has 0. Nothing is read from the device.

        Of transforms, (B, N, 4, 4) and those of neighbors in time alone: `translation` (by their unit of length) and
        `rotation` (by radians, of the source's axes). Of brightness: `gain` and `offset`.

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


def _named(output: Any, name: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an output that have a gradient, by field of the dataclass and by number in a tuple."""
    if isinstance(output, Tensor):
        if output.requires_grad:
            yield name, output
    elif is_dataclass(output):
        for field in fields(output):
            yield from _named(getattr(output, field.name), field.name)
    elif isinstance(output, tuple | list):
        for number, one in enumerate(output):
            yield from _named(one, f"{name}/{number}")


def _parts(name: str, value: Tensor, gradient: Tensor, temporal: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Yield the quantities of a field of `Prediction`; any other field is one quantity."""
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
    """Return d loss / d w (..., 3) at w = 0 of exp(w) R, from R and d loss / d R, (..., 3, 3) each."""
    turning = gradient @ R.transpose(-1, -2)
    return torch.stack([turning[..., j, i] - turning[..., i, j] for i, j in ((1, 2), (2, 0), (0, 1))], dim=-1)
