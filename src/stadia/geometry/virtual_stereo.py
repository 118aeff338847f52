"""Virtual stereo: compare a point's depth in one image with its predicted depth in the rig's other camera.

Yang, Wang, Stueckler and Cremers, Deep virtual stereo odometry, ECCV 2018, eq. 8 and 9; D3VO, arXiv 2003.01060, eq. 14
and 15.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.geometry.camera import NEAR
from stadia.geometry.direct_points import Points, read, seen_from
from stadia.geometry.se3 import inverse


@dataclass(frozen=True, slots=True)
class VirtualStereo:
    """Predicted depth of a window's frames in their right camera.

    inverse_depth_right: (F, H, W) in the right camera's pixels, which has the frame's own K.
    T_right_left: (4, 4) float64 of the rig, in the unit of depth.
    """

    inverse_depth_right: Tensor
    T_right_left: Tensor


@dataclass(frozen=True, slots=True)
class StereoResiduals:
    """Residuals of points. value, slope in the inverse depth: (P, 8).  seen: (P,) bool, visible in both cameras."""

    value: Tensor
    slope: Tensor
    seen: Tensor


def stereo_residuals(gray: Tensor, K: Tensor, points: Points, stereo: VirtualStereo) -> StereoResiduals:
    """Return I[p''] - I[p]: the point's depth maps the host's pixel p to p' in the right camera; depth predicted there
    maps back to p''.

    Both depths agree where p'' = p, which fixes the scale by the rig's baseline, independent of the path.

    Args:
        gray: (F, H, W).  K: (F, 3, 3).
    """
    K, to_right = K[points.host], stereo.T_right_left.expand(len(points), 4, 4)
    to_left = inverse(to_right)
    right, x, y, nearness, in_front = seen_from(to_right, points.ray, points.inverse_depth[:, None] * points.relief, K)
    predicted, along_x, along_y, inside = read(stereo.inverse_depth_right, points.host, right)
    ray = torch.stack((x, y, torch.ones_like(x)), -1)
    left, *there, in_front_again = seen_from(to_left, ray, predicted, K)
    value, slope_x, slope_y, inside_again = read(gray, points.host, left)

    R, t = to_left[..., :3, :3].to(ray), to_left[:, None, :3, 3].to(ray)
    ray_moves = _project_motion(to_right[:, None, :3, 3].to(ray), x, y, nearness)
    right_moves = ray_moves @ K[..., :2, :2].mT.to(ray)
    depth_moves = along_x * right_moves[..., 0] + along_y * right_moves[..., 1]
    point_moves = torch.nn.functional.pad(ray_moves, (0, 1)) @ R.mT + depth_moves[..., None] * t
    left_moves = _project_motion(point_moves, *there) @ K[..., :2, :2].mT.to(ray)
    slope = (slope_x * left_moves[..., 0] + slope_y * left_moves[..., 1]) * points.relief
    return StereoResiduals(value - points.value, slope, (inside & in_front & inside_again & in_front_again).all(-1))


def _project_motion(moves: Tensor, x: Tensor, y: Tensor, nearness: Tensor) -> Tensor:
    """Return the motion (..., 2) of x and y at z = 1 of a point (x, y, 1) nearness that moves by (..., 3)."""
    nearer = torch.where(nearness > NEAR, 1 / nearness, torch.zeros_like(nearness))
    return torch.stack((moves[..., 0] - x * moves[..., 2], moves[..., 1] - y * moves[..., 2]), -1) * nearer[..., None]
