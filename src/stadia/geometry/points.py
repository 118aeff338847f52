"""Point clouds from depth maps."""

from __future__ import annotations

from torch import Tensor

from stadia.geometry.camera import NEAR, Camera, backproject
from stadia.geometry.se3 import transform


def point_cloud(depth_m: Tensor, camera: Camera, T_world_camera: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return every pixel as a point, row by row.

    Args:
        depth_m: (..., 1, H, W) z in metres; 0 = none.
        camera: K (3, 3) or with the depth's leading axes.
        T_world_camera: (..., 4, 4) camera-to-world; without it the points stay in the camera's frame.

    Returns:
        points (..., H W, 3) in metres, and known (..., H W) bool, False where depth is none. Their colors are
        `image.flatten(-2).transpose(-1, -2)`.
    """
    points = backproject(depth_m, camera).flatten(-2).transpose(-1, -2)
    known = (depth_m > NEAR).flatten(-3)
    return (points if T_world_camera is None else transform(T_world_camera.to(points.dtype), points)), known
