"""Depth may step where the image does, and should be smooth elsewhere: one function for each thing that "smooth" can
mean.
"""

from __future__ import annotations

import torch
from torch import Tensor


def edge_aware_smoothness(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Mean absolute slope of the inverse depth, relative to its mean and weighted down at edges of the image.

    mean |dx d*| exp(-|dx I|) + mean |dy d*| exp(-|dy I|), with d* = d / mean(d) for each sample, so that it does not
    depend on the unit or scale of depth and cannot be lowered by shrinking it.

    Args:
        inverse_depth: (B, 1, H, W), positive.
        image: (B, 3, H, W) of the same size.

    Returns: a scalar.
    Source: Monodepth2 (arXiv 1806.01260), eq. 3; the normalization is of Wang et al. (arXiv 1712.00175).
    """
    relative = inverse_depth / inverse_depth.mean(dim=(2, 3), keepdim=True)
    return slope_off_edges(relative, image)


def slope_off_edges(values: Tensor, image: Tensor) -> Tensor:
    """The slope itself, mean |dx v| exp(-|dx I|) + mean |dy v| exp(-|dy I|), of inverse depth as it is.

    It depends on depth's unit, and pays for pushing everything away: inverse depth twice as small is twice as smooth.
    It is what D3VO (arXiv 2003.01060, supplement) and Monodepth (arXiv 1609.03677, eq. 3) write, but a mean where D3VO
    writes a sum: summed over pixels it would outweigh the residual a hundred times, and depth goes flat.

    Args:
        values: (B, 1, H, W).
        image: (B, 3, H, W).
    """
    slope_x, slope_y = (values.diff(dim=dim).abs() for dim in (3, 2))
    with torch.no_grad():
        flat_x, flat_y = (torch.exp(-image.diff(dim=dim).abs().mean(dim=1, keepdim=True)) for dim in (3, 2))
    return (slope_x * flat_x).mean() + (slope_y * flat_y).mean()


def log_slope_off_edges(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """The slope of log inverse depth (or of log depth, which is as steep): near and far are smoothed alike, whatever
    the unit.

    Relative to the mean a step of a tenth costs less far away, where inverse depth is small; here it costs the same
    everywhere.

    Args:
        inverse_depth: (B, 1, H, W), positive.
        image: (B, 3, H, W).
    """
    return slope_off_edges(inverse_depth.log(), image)


def bend_off_edges(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Mean absolute second difference along x and along y, relative to the mean and weighted down at edges: planes cost
    nothing.

    The inverse depth of a plane is linear in the image, so that road and walls are free to slant; the first difference
    pulls them towards facing the camera. An edge between a pixel and either of its neighbors counts.

    Args:
        inverse_depth: (B, 1, H, W), positive; H, W at least 3.
        image: (B, 3, H, W).

    Source: SfMLearner (Zhou et al., arXiv 1704.07813) takes second differences, of depth and without the weights.
    """
    relative = inverse_depth / inverse_depth.mean(dim=(2, 3), keepdim=True)
    total = relative.new_zeros(())
    for dim in (3, 2):
        with torch.no_grad():
            step = image.diff(dim=dim).abs().mean(dim=1, keepdim=True)
            size = step.shape[dim] - 1
            flat = torch.exp(-torch.maximum(step.narrow(dim, 0, size), step.narrow(dim, 1, size)))
        total = total + (relative.diff(n=2, dim=dim).abs() * flat).mean()
    return total
