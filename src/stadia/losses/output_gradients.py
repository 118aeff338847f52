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
    """Of one backward: `watch` before the forward, `sizes` after the backward. Between them the gradients of the
    answers are kept.

    The answers are what the networks give that stand in a recipe by a name of their own: the fields of a dataclass
    (core's `Prediction`), or a tensor.
    """

    def __init__(self) -> None:
        self._answers: list[tuple[str, Tensor]] = []
        self._hooks: list[RemovableHandle] = []

    def watch(self, recipe: nn.Module) -> None:
        """Keep what its networks, the children that can learn, are about to say."""
        networks = [child for child in recipe.children() if any(p.requires_grad for p in child.parameters())]
        self._hooks = [network.register_forward_hook(self._keep) for network in networks]

    def _keep(self, network: nn.Module, arguments: Any, answer: Any) -> None:
        for name, value in _named(answer):
            value.retain_grad()
            self._answers.append((name, value))

    def sizes(self, source_names: Sequence[str] = ()) -> dict[str, Tensor]:
        """The sum of |d loss / d value| of each quantity, () each: by how much the loss would fall, to first order, if
        every value moved by one unit in its favor. So it depends on neither the batch's nor a map's size. What nothing
        asks of (brightness that is held) has 0. Nothing is read from the device.

        Of transforms, (B, N, 4, 4) and those of neighbors in time alone: `translation` (by their unit of length) and
        `rotation` (by radians, of the source's axes). Of brightness: `gain` and `offset`.

        source_names: N names, where there are sources.
        """
        answers, self._answers = self._answers, []
        while self._hooks:
            self._hooks.pop().remove()
        temporal = [i for i, name in enumerate(source_names) if is_temporal(name)]
        found: dict[str, Tensor] = {}
        for name, value in answers:
            gradient = torch.zeros_like(value) if value.grad is None else value.grad.detach()
            for quantity, part in _parts(name, value.detach(), gradient, temporal):
                size = part.abs().sum().float()
                found[quantity] = found[quantity] + size if quantity in found else size
        return found


def _named(answer: Any, name: str = "output") -> Iterator[tuple[str, Tensor]]:
    """The tensors of an answer that have a gradient: by the dataclass's fields, and by their number where there are
    several.
    """
    if isinstance(answer, Tensor):
        if answer.requires_grad:
            yield name, answer
    elif is_dataclass(answer):
        for field in fields(answer):
            yield from _named(getattr(answer, field.name), field.name)
    elif isinstance(answer, tuple | list):
        for number, one in enumerate(answer):
            yield from _named(one, f"{name}/{number}")


def _parts(name: str, value: Tensor, gradient: Tensor, temporal: list[int]) -> Iterator[tuple[str, Tensor]]:
    """What stands behind a field of `Prediction`; any other is itself."""
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
    """(..., 3, 3) twice to (..., 3): d loss / d w at w = 0 of exp(w) R, from d loss / d R of its nine numbers by
    themselves.
    """
    turning = gradient @ R.transpose(-1, -2)
    return torch.stack([turning[..., j, i] - turning[..., i, j] for i, j in ((1, 2), (2, 0), (0, 1))], dim=-1)
