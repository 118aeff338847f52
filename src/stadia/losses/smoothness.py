"""Depth may step where the picture does, and should be smooth elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor


def edge_aware_smoothness(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Mean absolute slope of the inverse depth, relative to its mean and weighted down at edges of the picture.

    mean |dx d*| exp(-|dx I|) + mean |dy d*| exp(-|dy I|), with d* = d / mean(d) for each sample, so that it does not depend
    on the unit or scale of depth and cannot be lowered by shrinking it.

    Args:
        inverse_depth: (B, 1, H, W), positive.
        image: (B, 3, H, W) of the same size.

    Returns: a scalar.
    Source: Monodepth2 (arXiv 1806.01260), eq. 3; the normalisation is of Wang et al. (arXiv 1712.00175).
    """
    relative = inverse_depth / inverse_depth.mean(dim=(2, 3), keepdim=True)
    slope_x, slope_y = (relative.diff(dim=dim).abs() for dim in (3, 2))
    with torch.no_grad():
        flat_x, flat_y = (torch.exp(-image.diff(dim=dim).abs().mean(dim=1, keepdim=True)) for dim in (3, 2))
    return (slope_x * flat_x).mean() + (slope_y * flat_y).mean()
