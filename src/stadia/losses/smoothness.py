"""Edge-aware smoothness of depth, with one function for each definition of "smooth".

Examples:
    >>> ramp, image = torch.tensor([[[[1.0, 2.0, 3.0]] * 3]]), torch.zeros(1, 3, 3, 3)
    >>> edge_aware_smoothness(ramp, image).item(), edge_aware_smoothness(10 * ramp, image).item()  # no unit
    (0.5, 0.5)
    >>> edge_aware_slope(ramp, image).item(), edge_aware_curvature(ramp, image).item()  # a plane does not bend
    (1.0, 0.0)
    >>> round(edge_aware_log_slope(ramp, image).item(), 4)
    0.5493
"""

import torch
from torch import Tensor


def edge_aware_smoothness(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Return the mean absolute slope of inverse depth divided by its mean, a scalar. Image edges weigh less.

    The value is mean |dx d*| exp(-|dx I|) + mean |dy d*| exp(-|dy I|), with d* = d / mean(d) per sample (Monodepth2,
    arXiv 1806.01260, eq. 3; normalization of arXiv 1712.00175).

    inverse_depth: (B, 1, H, W), positive.
    image: (B, 3, H, W).
    """
    relative = inverse_depth / inverse_depth.mean(dim=(2, 3), keepdim=True)
    return edge_aware_slope(relative, image)


def edge_aware_slope(values: Tensor, image: Tensor) -> Tensor:
    """Return mean |dx v| exp(-|dx I|) + mean |dy v| exp(-|dy I|) of values v (B, 1, H, W), a scalar.

    The result depends on the unit of the values and rewards larger depth (D3VO, arXiv 2003.01060; Monodepth, arXiv
    1609.03677, eq. 3).

    image: (B, 3, H, W).
    """
    slope_x, slope_y = (values.diff(dim=dim).abs() for dim in (3, 2))
    with torch.no_grad():
        flat_x, flat_y = (torch.exp(-image.diff(dim=dim).abs().mean(dim=1, keepdim=True)) for dim in (3, 2))
    return (slope_x * flat_x).mean() + (slope_y * flat_y).mean()


def edge_aware_log_slope(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Return `edge_aware_slope` of the log of inverse depth (B, 1, H, W), a scalar that does not depend on the unit.

    image: (B, 3, H, W).
    """
    return edge_aware_slope(inverse_depth.log(), image)


def edge_aware_curvature(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Return the mean absolute second difference of inverse depth over its mean, a scalar. Image edges weigh less.

    Planes cost nothing, because their inverse depth is linear in the image (after SfMLearner, arXiv 1704.07813).

    inverse_depth: (B, 1, H, W), positive, with H and W at least 3.
    image: (B, 3, H, W).
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
