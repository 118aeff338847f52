"""Losses of where an object is and how large: the direction of its center at each pixel, the logarithm of its depth,
its size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def center_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Smooth L1 of the direction to the center at each pixel, (..., 2) x, y to (...) (Peng et al., "PVNet", CVPR 2019).

    true: unit vectors (`geometry.center.directions_to`). The prediction is taken as it is: its length is pulled to 1 as
        well, and the
    opposite direction still has a slope.
    """
    dtype = torch.promote_types(predicted.dtype, torch.float32)
    return F.smooth_l1_loss(predicted.to(dtype), true.to(dtype), reduction="none").sum(-1)


def log_depth_error(log_depth: Tensor, true_m: Tensor) -> Tensor:
    """|log_depth - ln z_true|, (...): a tenth too far costs the same at every distance. 0 where true_m is 0 = none;
    mask it out.
    """
    known = true_m > 0
    return (log_depth - true_m.where(known, 1.0).log()).abs().where(known, 0.0)


def size_error(size_m: Tensor, true_m: Tensor) -> Tensor:
    """Mean over x, y, z of |size - size_true| by the true diagonal, (..., 3) to (...): a small object counts as much as
    a large one.

    true_m: a diagonal above 0. The sizes predicted may be of any sign.
    """
    return (size_m - true_m).abs().mean(-1) / torch.linalg.vector_norm(true_m, dim=-1)
