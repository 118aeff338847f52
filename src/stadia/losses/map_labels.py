"""What a map adds to the self-supervised loss: points with depth, and a mask of what stands."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Targets

MAX_LOG_ERROR = 1.0
"""Errors of ln z above it have a constant gradient that is bounded: a wrong point does not move a network far."""


@dataclass(frozen=True, slots=True)
class MapLabels:
    """Labels of a batch.

    point_depth: (B, 1, H, W) z in the unit of the motion, 0 = none; None without points.
    static: (B, 1, H, W) bool, false on what trains nothing; None where all trains.
    """

    point_depth: Tensor | None
    static: Tensor | None

    @classmethod
    def of_targets(cls, targets: Targets) -> MapLabels:
        """Return the labels of a batch's targets."""
        return cls(targets.point_depth, None if targets.static is None else targets.static > 0)

    def mask(self, residual: Tensor) -> Tensor:
        """Return a residual (B, 1, h, w) of any size that is 0 where something moves."""
        if self.static is None:
            return residual
        stands = functional.interpolate(self.static.to(residual.dtype), residual.shape[-2:], mode="nearest-exact")
        return residual * stands


def point_depth_loss(inverse_depth: Tensor, point_depth: Tensor) -> Tensor:
    """Return the mean of smooth L1 of ln z at the points; 0 without any.

    Args:
        inverse_depth: (B, 1, H, W).
        point_depth: (B, 1, H, W) z in its unit, 0 = none.

    Examples:
        >>> point_depth_loss(torch.full((1, 1, 2, 2), 0.5), torch.tensor([[[[2.0, 0], [0, 0]]]])).item()
        0.0
    """
    known = point_depth > 0
    error = torch.log(inverse_depth) + torch.log(torch.where(known, point_depth, 1 / inverse_depth.detach()))
    robust = functional.smooth_l1_loss(error, torch.zeros_like(error), beta=MAX_LOG_ERROR, reduction="none")
    return torch.where(known, robust, torch.zeros_like(robust)).sum() / known.sum().clamp(min=1)
