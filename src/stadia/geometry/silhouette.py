"""The heights of objects on the road: of a silhouette along the road's normal, and of a box that faces the camera.

A known height over the height found here is the scale of the depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.geometry.camera import NEAR, Camera, backproject
from stadia.geometry.segments import Segments, segment_quantiles


@dataclass(frozen=True, slots=True)
class Silhouettes:
    """Extent of the visible points of objects along the road's normal, (M,) each, in the unit of the depth.

    top: height of the highest point above the plane.
    bottom: of the lowest: above 0 where the object's foot is hidden, below 0 where its points lie below the road.
    Both are NaN for an object without depth, or in an image without a plane.
    """

    top: Tensor
    bottom: Tensor

    @property
    def height(self) -> Tensor:
        """Return (M,) from the plane to the top; from the lowest point where that lies below the plane."""
        return self.top - self.bottom.clamp(max=0)


def silhouettes(depth_m: Tensor, camera: Camera, plane: Tensor, objects: Segments, *, trim: float = 0.0) -> Silhouettes:
    """Return the silhouettes of all objects, measured along the road's normal, so without the objects' pitch, roll and
    yaw.

    Args:
        depth_m: (B, 1, H, W) z in any unit; 0 or not finite = none.
        camera: K (3, 3) or (B, 3, 3).
        plane: (B, 4) the road in the camera's frame, unit normal towards the camera (`RoadPixels.plane`,
            `fit_plane_robust`).
        objects: of (B, H, W), `segments_of`.
        trim: the share of an object's points that is left out at each end. 0 (lowest and highest point) is unbiased and
            sensitive to noise; 0.02 is robust to noise of single pixels and about 2 % too low.

    A hidden foot or side does not change an object's height, a hidden top does. Measured with true depth: scale 0.5 %
    too large, 2 % beyond 30 m, since the highest pixel lies below the edge. Differentiable in depth and plane.
    Metric scale from camera height and silhouettes: FUMET, arXiv 2312.04530.
    """
    known = (depth_m > NEAR) & depth_m.isfinite()
    points = backproject(torch.where(known, depth_m, torch.zeros_like(depth_m)), camera)
    above = (plane[:, :3, None, None] * points).sum(1, keepdim=True) + plane[:, 3, None, None, None]
    shown = objects.of(known)[:, 0]
    bottom, top = segment_quantiles(
        objects.of(above)[shown, 0], objects.segment[shown], objects.count, (trim, 1 - trim)
    )
    return Silhouettes(top, bottom)


def box_height(height_px: Tensor, depth_m: Tensor, fy: Tensor) -> Tensor:
    """Return the height D h / f_y of h pixels at depth D, in the unit of the depth; all three broadcast.

    It holds for a box that is wholly visible without its top face, and a camera that does not roll. D is the depth of
    the upright edge that is h high: the nearest one. Conversely, a known height H is at depth H f_y / h. With h from
    first to last row and a mask's nearest depth, the scale of ray-cast cars is 2.8 % too large with a level camera. It
    is 2 % too small at 3 degrees of roll, and 6 % at 5.
    """
    return depth_m * height_px / fy
