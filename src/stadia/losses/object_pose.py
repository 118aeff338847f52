"""Losses of object position and size: direction to the center, log depth, size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def center_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Compute smooth L1 of the direction to the center, (..., 2) x, y to (...) (Peng et al., "PVNet", CVPR 2019).

    true: unit vectors (`geometry.center.directions_to`). The prediction is not normalized: its length is trained to 1,
    and the opposite direction still has a gradient.
    """
    dtype = torch.promote_types(predicted.dtype, torch.float32)
    return F.smooth_l1_loss(predicted.to(dtype), true.to(dtype), reduction="none").sum(-1)


def log_depth_error(log_depth: Tensor, true_m: Tensor) -> Tensor:
    """Compute |log_depth - ln z_true|, (...); 0 where true_m is 0 = none, so exclude it from means."""
    known = true_m > 0
    return (log_depth - true_m.where(known, 1.0).log()).abs().where(known, 0.0)


def size_error(size_m: Tensor, true_m: Tensor) -> Tensor:
    """Average |size - size_true| over x, y, z, divided by the true diagonal, (..., 3) to (...).

    true_m: with a diagonal above 0. Predicted sizes may have any sign.
    """
    return (size_m - true_m).abs().mean(-1) / torch.linalg.vector_norm(true_m, dim=-1)
