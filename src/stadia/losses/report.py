"""The result of every loss: the total, its terms, and maps for plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LossReport:
    """The loss of one batch.

    total: scalar, differentiable.
    terms: detached weighted scalars by name, which add up to `total`.
    maps: detached images of the finest scale. A photometric loss has "residual" (B, 1, H, W): the pixel's contribution,
        unweighted; "winner" (B, 1, H, W) integer: i < N for warped source i, N + i where unwarped source i is better,
        -1 if no warped source sees the pixel; "unwarped" (B, 1, H, W): "residual" without depth and motion; "warped"
        (B, 3, H, W): the warped source most similar to the target at each pixel, 0 if none sees it.
    least: lower bound of each weighted term; unbounded terms (logarithms) are left out. Checked in training
        (`training.loss_laws`).
    seen: detached scalars that are only logged.
    """

    total: Tensor
    terms: dict[str, Tensor]
    maps: dict[str, Tensor]
    least: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, Tensor] = field(default_factory=dict)
