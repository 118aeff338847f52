"""Convert between depth, inverse depth and points; 0 means unknown."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import GeometryError
from stadia.core.types import Camera
from stadia.geometry.camera import backproject
from stadia.geometry.numpy_camera import NEAR
from stadia.geometry.se3 import transform


def depth_from_inverse(inverse_depth: Tensor) -> Tensor:
    """Convert 1/m to metres; 0 (unknown) stays 0, with gradient 0.

    Examples:
        >>> depth_from_inverse(torch.tensor([0.0, 0.25])).tolist()  # 0 = none
        [0.0, 4.0]
    """
    known = inverse_depth > NEAR
    safe = torch.where(known, inverse_depth, torch.ones_like(inverse_depth))
    return torch.where(known, 1 / safe, torch.zeros_like(inverse_depth))


def inverse_from_depth(depth_m: Tensor) -> Tensor:
    """Convert metres to 1/m; 0 (unknown) stays 0.

    Examples:
        >>> inverse_from_depth(torch.tensor([0.0, 4.0])).tolist()  # 0 = none
        [0.0, 0.25]
    """
    return depth_from_inverse(depth_m)


def resize_map(values: Tensor, height: int, width: int) -> Tensor:
    """Resize a dense map (B, C, H, W) bilinearly, outer edges on outer edges.

    Do not resize sparse depth, whose zeros would mix in, or disparity in pixels, whose values scale with the width.

    Examples:
        >>> resize_map(torch.tensor([[[[1.0, 3.0]]]]), 1, 4).tolist()
        [[[[1.0, 1.5, 2.5, 3.0]]]]
    """
    return F.interpolate(values, size=(height, width), mode="bilinear", align_corners=False)


def _check_range(min_depth_m: float, max_depth_m: float) -> None:
    if not 0 < min_depth_m < max_depth_m:
        found, fix = f"{min_depth_m} to {max_depth_m} m", "pass metres, the nearer first"
        raise GeometryError("depth range", found=found, expected="0 < min < max", fix=fix)


def sigmoid_to_inverse_depth(logit: Tensor, min_depth_m: float, max_depth_m: float) -> Tensor:
    """Return 1/max + (1/min - 1/max) sigmoid(logit), in 1/m (Monodepth2, arXiv 1806.01260, section 3.3).

    Examples:
        >>> round(1 / sigmoid_to_inverse_depth(torch.tensor(0.0), 0.1, 100).item(), 2)  # metres
        0.2
    """
    _check_range(min_depth_m, max_depth_m)
    return 1 / max_depth_m + (1 / min_depth_m - 1 / max_depth_m) * torch.sigmoid(logit)


def init_depth_bias(init_depth_m: float, min_depth_m: float, max_depth_m: float) -> float:
    """Return the logit of init_depth_m under `sigmoid_to_inverse_depth`, for a depth head's first bias.

    Examples:
        >>> bias = init_depth_bias(20, 0.1, 100)
        >>> round(1 / sigmoid_to_inverse_depth(torch.tensor(bias), 0.1, 100).item(), 2)
        20.0
    """
    _check_range(min_depth_m, max_depth_m)
    if not min_depth_m < init_depth_m < max_depth_m:
        found, expected = f"{init_depth_m} m", f"between {min_depth_m} and {max_depth_m} m"
        raise GeometryError("start depth", found=found, expected=expected, fix="pass a depth inside the range")
    share = (1 / init_depth_m - 1 / max_depth_m) / (1 / min_depth_m - 1 / max_depth_m)
    return math.log(share / (1 - share))


def softplus_to_inverse_depth(logit: Tensor, min_depth_m: float) -> Tensor:
    """Return 1 / (min_depth_m + softplus(logit)), in 1/m: depth without an upper limit.

    Examples:
        >>> round(1 / softplus_to_inverse_depth(torch.tensor(1000.0), 0.5).item(), 1)
        1000.5
    """
    return 1 / (min_depth_m + F.softplus(logit))


def init_softplus_bias(init_depth_m: float, min_depth_m: float) -> float:
    """Return the logit of init_depth_m under `softplus_to_inverse_depth`.

    Examples:
        >>> bias = init_softplus_bias(20, 0.5)
        >>> round(1 / softplus_to_inverse_depth(torch.tensor(bias), 0.5).item(), 3)
        20.0
    """
    _check_range(min_depth_m, init_depth_m)
    beyond = init_depth_m - min_depth_m
    return beyond + math.log(-math.expm1(-beyond))


def depth_to_points(depth_m: Tensor, camera: Camera, T_world_camera: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return every pixel as a point (..., H W, 3), row by row, and whether its depth is known (..., H W).

    depth_m: (..., 1, H, W) z in metres; 0 = none.
    T_world_camera: (..., 4, 4) camera-to-world; None: points stay in the camera's frame.

    Examples:
        >>> from stadia.geometry.camera import intrinsics
        >>> cam = intrinsics(1, 1, 0, 0, height=1, width=2)
        >>> points, known = depth_to_points(torch.tensor([[[2.0, 0.0]]]), cam)
        >>> (points[0].tolist(), known.tolist())
        ([0.0, 0.0, 2.0], [True, False])
    """
    points = backproject(depth_m, camera).flatten(-2).transpose(-1, -2)
    known = (depth_m > NEAR).flatten(-3)
    return (points if T_world_camera is None else transform(T_world_camera.to(points.dtype), points)), known
