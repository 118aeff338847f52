"""The heights of objects that stand on the road: of a silhouette along the road's normal, and of a box that faces the
camera.

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
    """How far the visible points of objects reach from the road's plane, (M,) each, along its normal, in the unit of
    the depth.

    top: height of the highest point above the plane.
    bottom: of the lowest: above 0 where the object's foot is hidden, below 0 where its points sink into the road.
    Both are NaN for an object without depth, or in an image without a plane.
    """

    top: Tensor
    bottom: Tensor

    @property
    def height(self) -> Tensor:
        """(M,) from the plane to the top; from the lowest point where that lies below the plane."""
        return self.top - self.bottom.clamp(max=0)


def silhouettes(depth_m: Tensor, camera: Camera, plane: Tensor, objects: Segments, *, trim: float = 0.0) -> Silhouettes:
    """The silhouettes of all objects of a batch, measured along the road's normal: no pitch, roll or turn of an object
    is in them.

    Args:
        depth_m: (B, 1, H, W) z in any unit; 0 or not finite = none.
        camera: K (3, 3) or (B, 3, 3).
        plane: (B, 4) the road in the camera's frame, unit normal towards the camera (`RoadPixels.plane`,
            `fit_plane_robust`).
        objects: of (B, H, W), `segments_of`.
        trim: the share of an object's points that is left out at each end. 0 (lowest and highest point) is unbiased and
            moved by noise; 0.02 is steady against the noise of single pixels and finds objects about 2 % too low.

    What hides an object's foot or side does not change its height, what hides its top does. Measured with true depth:
    scale 0.5 % too large, 2 % beyond 30 m, since the highest pixel lies below the edge. Differentiable with respect to
    depth and plane.
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
    """The height D h / f_y of what is h pixels high at depth D, in the unit of the depth; all three broadcast.

    Right for a box that is wholly visible, whose top face is not, seen by a camera that does not roll. D is the depth
    of the upright edge
    that is h high: the nearest one. Turned around, a known height H is at depth H f_y / h. With h from first to last
        row and the nearest
    depth of a mask, the scale of ray-cast cars comes out 2.8 % too large with a level camera, 2 % too small at 3
    degrees of roll, 6 % at 5.
    """
    return depth_m * height_px / fy
