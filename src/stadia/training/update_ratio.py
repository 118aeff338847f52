"""How far an update moves the weights, relative to their size: about a thousandth where a training is healthy, whatever
the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

SAMPLED = 4096
"""Values of each weight that are looked at, evenly over it: a copy of all of them would be memory that the next batch
wants.
"""


class UpdateRatio:
    """|update| / |weight| of one update: `before` it, then `after` it.

    Weights with two axes or more are asked: biases and normalizations start at 0 or 1, and say little by their size.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[nn.Parameter, Tensor]] = []

    def before(self, parameters: Iterable[nn.Parameter]) -> None:
        """Keep a sample of the weights that have a gradient."""
        self._kept = [(p, sample(p).clone()) for p in parameters if p.ndim > 1 and p.grad is not None]

    def after(self) -> Tensor | None:
        """(), the ratio over all samples together; None where nothing was kept. Nothing is read from the device."""
        kept, self._kept = self._kept, []
        if not kept:
            return None
        moved = torch.stack([(sample(p) - was).float().norm() for p, was in kept]).norm()
        return moved / torch.stack([was.float().norm() for _, was in kept]).norm().clamp(
            min=torch.finfo(torch.float32).tiny
        )


def sample(weight: Tensor) -> Tensor:
    """(n,) about SAMPLED of its values, where it has more.

    Their distance has no divisor in common with their number, or a 3x3 kernel might be looked at in one of its corners
    alone.
    """
    flat = weight.detach().flatten()
    distance = max(flat.numel() // SAMPLED, 1)
    while math.gcd(distance, flat.numel()) > 1:
        distance -= 1
    return flat[::distance]
