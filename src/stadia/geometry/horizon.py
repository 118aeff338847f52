"""The horizon: where planes parallel to the road vanish, as a line of the image.

A horizon is (a, b, c) with a^2 + b^2 = 1. Then a x + b y + c is a pixel's perpendicular distance to it in pixels,
positive above (where rays leave the road) and negative below. A level camera with cy = 96: (0, -1, 96).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.geometry.camera import Camera, at_pixels, inverse_intrinsics


def horizon_of(normal: Tensor, camera: Camera) -> Tensor:
    """Return the horizon (..., 3) of planes with unit normal (..., 3) towards the camera: K^-T n, scaled to pixels.

    camera.K is (3, 3) or has the normal's leading axes. A vertical optical axis has no horizon: NaN.
    Differentiable. Hartley and Zisserman, Multiple View Geometry, 2nd ed., section 8.6.3.
    """
    inverse = inverse_intrinsics(camera.K).to(normal.dtype)
    line = (inverse * normal[..., :, None]).sum(-2)  # element by element: a matrix product could be rounded
    length = line[..., :2].norm(dim=-1, keepdim=True)
    return torch.where(length > 0, line / length.where(length > 0, 1.0), torch.nan)


def normal_of(horizon: Tensor, camera: Camera) -> Tensor:
    """Return the unit normal (..., 3) towards the camera of planes that vanish in a horizon (..., 3): K^T l. Inverse of
    `horizon_of`.
    """
    return F.normalize((camera.K.to(horizon.dtype) * horizon[..., :, None]).sum(-2), dim=-1)


def above_horizon(horizon: Tensor, pixels: Tensor) -> Tensor:
    """Return distances (..., N) in pixels of points (..., N, 2), x, y, to the horizon (..., 3), positive above it."""
    return (horizon[..., None, :2] * pixels).sum(-1) + horizon[..., None, 2]


def above_horizon_map(horizon: Tensor, height: int, width: int) -> Tensor:
    """Return distances (..., 1, height, width) of every pixel to horizons (..., 3), positive above."""
    return at_pixels(horizon[..., None, :], height, width)
