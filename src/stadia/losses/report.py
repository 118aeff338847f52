"""What every loss gives back: the number to minimize, what it is made of, and maps to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LossReport:
    """A loss of one batch.

    total: scalar, differentiable.
    terms: by name, weighted as they enter; they add up to `total`. Detached scalars.
    maps: detached images of the finest scale. A photometric loss gives
        "residual" (B, 1, H, W): what the pixel contributes, before weights;
        "winner" (B, 1, H, W) integer: i < N for warped source i, N + i where unwarped source i explains the pixel
        better, -1 where no warped source sees it;
        "unwarped" (B, 1, H, W): what "residual" would be without depth and motion;
        "warped" (B, 3, H, W): of all warped sources the one nearest to the target at that pixel, 0 where none sees it.
    least: by name, the smallest value that a term can have, weighted as it enters; one that has none (a logarithm's) is
        left out. It is asked for while a run trains (`training.loss_laws`).
    seen: by name, detached scalars that enter nothing, to be logged beside the terms.
    """

    total: Tensor
    terms: dict[str, Tensor]
    maps: dict[str, Tensor]
    least: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, Tensor] = field(default_factory=dict)
