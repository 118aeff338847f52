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
    """Convert inverse depth in 1/m to depth in metres, of any shape. Unknown values, 0, stay 0 and have gradient 0.

    Examples:
        >>> depth_from_inverse(torch.tensor([0.0, 0.25])).tolist()  # 0 = none
        [0.0, 4.0]
    """
    known = inverse_depth > NEAR
    safe = torch.where(known, inverse_depth, torch.ones_like(inverse_depth))
    return torch.where(known, 1 / safe, torch.zeros_like(inverse_depth))


def inverse_from_depth(depth_m: Tensor) -> Tensor:
    """Convert depth in metres to inverse depth in 1/m, of any shape. Unknown values, 0, stay 0.

    Examples:
        >>> inverse_from_depth(torch.tensor([0.0, 4.0])).tolist()  # 0 = none
        [0.0, 0.25]
    """
    return depth_from_inverse(depth_m)


def resize_map(values: Tensor, height: int, width: int) -> Tensor:
    """Resize a dense map (B, C, H, W) bilinearly, so that the outer edges of both sizes coincide.

    Do not resize sparse depth, because its zeros would be mixed in. Do not resize disparity in pixels, because its
    values scale with the width.

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
    """Return the inverse depth 1/max + (1/min - 1/max) * sigmoid(logit) in 1/m, with the shape of the logit.

    The logit may have any shape. Source: Monodepth2, arXiv 1806.01260, section 3.3.

    Examples:
        >>> round(1 / sigmoid_to_inverse_depth(torch.tensor(0.0), 0.1, 100).item(), 2)  # metres
        0.2
    """
    _check_range(min_depth_m, max_depth_m)
    return 1 / max_depth_m + (1 / min_depth_m - 1 / max_depth_m) * torch.sigmoid(logit)


def init_depth_bias(init_depth_m: float, min_depth_m: float, max_depth_m: float) -> float:
    """Return the logit for which `sigmoid_to_inverse_depth` gives depth init_depth_m: the initial bias of a depth head.

    Raises GeometryError unless min_depth_m < init_depth_m < max_depth_m.

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
    """Return the inverse depth 1 / (min_depth_m + softplus(logit)) in 1/m, with the shape of the logit.

    The logit may have any shape. This depth has no upper limit.

    Examples:
        >>> round(1 / softplus_to_inverse_depth(torch.tensor(1000.0), 0.5).item(), 1)
        1000.5
    """
    return 1 / (min_depth_m + F.softplus(logit))


def init_softplus_bias(init_depth_m: float, min_depth_m: float) -> float:
    """Return the logit for which `softplus_to_inverse_depth` gives depth init_depth_m.

    Examples:
        >>> bias = init_softplus_bias(20, 0.5)
        >>> round(1 / softplus_to_inverse_depth(torch.tensor(bias), 0.5).item(), 3)
        20.0
    """
    _check_range(min_depth_m, init_depth_m)
    beyond = init_depth_m - min_depth_m
    return beyond + math.log(-math.expm1(-beyond))


def depth_to_points(depth_m: Tensor, camera: Camera, T_world_camera: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the point of every pixel (..., H W, 3), row by row, and a mask (..., H W) of the pixels with known depth.

    depth_m: (..., 1, H, W) z in metres; 0 means unknown.
    camera: its K is (3, 3), or has the leading axes of depth.
    T_world_camera: (..., 4, 4) camera-to-world poses; None leaves the points in the camera's frame.

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
