"""Fit the road plane, and measure the heights of the camera and of objects above it.

A plane is (nx, ny, nz, d): the unit normal n towards the camera and the offset d, with n . X + d = 0 for points X of
the plane in the camera's frame. n . X + d is the height of a point X above the plane. d > 0 is the camera height. A
level camera 1.65 m above a road has the plane (0, -1, 0, 1.65).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.differentiable.view_synthesis import backproject
from stadia.geometry.align import masked_median
from stadia.geometry.cameras import NEAR
from stadia.geometry.segments import Segments, segment_quantiles

_TRIALS = 128  # planes of RANSAC
_ROUNDS = 5  # rounds of reweighting


def normals_from_depth(depth_m: Tensor, camera: Camera) -> Tensor:
    """Return unit normals (B, 3, H, W) towards the camera, from depth (B, 1, H, W) at a pixel's eight neighbors.

    A normal is 0 if depth is unknown at the pixel or a neighbor. It adds the cross products of axial and of diagonal
    differences (Xue et al., IROS 2020), which is exact on planes.
    """
    points = F.pad(backproject(depth_m, camera), (1, 1, 1, 1), mode="replicate")

    def neighbor(dx: int, dy: int) -> Tensor:
        return points[..., 1 + dy : points.shape[-2] - 1 + dy, 1 + dx : points.shape[-1] - 1 + dx]

    axial = torch.linalg.cross(neighbor(1, 0) - neighbor(-1, 0), neighbor(0, 1) - neighbor(0, -1), dim=-3)
    diagonal = torch.linalg.cross(neighbor(1, 1) - neighbor(-1, -1), neighbor(-1, 1) - neighbor(1, -1), dim=-3)
    known = F.pad((depth_m > NEAR).to(depth_m.dtype), (1, 1, 1, 1), value=1)
    known = -F.max_pool2d(-known, kernel_size=3, stride=1) > 0
    total = torch.where(known, axial + diagonal, torch.zeros_like(axial))
    away = (total * neighbor(0, 0)).sum(-3, keepdim=True) > 0
    return F.normalize(torch.where(away, -total, total), dim=-3)


def _oriented_plane(normal: Tensor, point: Tensor) -> Tensor:
    d = -(normal * point).sum(-1, keepdim=True)
    plane = torch.cat((normal, d), -1)
    return torch.where(d < 0, -plane, plane)


def height_above_plane(plane: Tensor, points: Tensor) -> Tensor:
    """Return the heights (..., N) of points (..., N, 3) above the plane (..., 4), positive on the camera's side."""
    return (points * plane[..., None, :3]).sum(-1) + plane[..., None, 3]


def fit_plane(points: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the least-squares plane (..., 4) of points (..., N, 3).

    weights: (..., N) weights of the points; a weight of 0 leaves a point out. None weighs all points equally.
    """
    weights = torch.ones_like(points[..., 0]) if weights is None else weights.to(points.dtype)
    share = (weights / weights.sum(-1, keepdim=True))[..., None]
    center = (share * points).sum(-2)
    offset = points - center[..., None, :]
    covariance = torch.stack([(share * offset[..., i : i + 1] * offset).sum(-2) for i in range(3)], -2)
    return _oriented_plane(torch.linalg.eigh(covariance).eigenvectors[..., 0], center)  # the smallest eigenvalue's


def fit_plane_ransac(points: Tensor, known: Tensor | None = None, *, tolerance: float = 0.03) -> Tensor:
    """Return the plane (..., 4) with the most inliers, refined by least squares. The refinement carries a gradient.

    points: (..., N, 3) points in any unit.
    known: (..., N) bool mask of the points to use. The plane is NaN if fewer than 3 are left.
    tolerance: largest distance of an inlier from the plane, as a share of the camera height.

    128 planes are evaluated on at most 2048 random points, with a fixed seed (Fischler and Bolles, CACM 24(6), 1981).
    """
    batch, count = points.shape[:-2], points.shape[-2]
    flat = points.reshape(-1, count, 3)
    usable = torch.ones_like(flat[..., 0], dtype=torch.bool) if known is None else known.reshape(-1, count)
    enough = usable.sum(-1) >= 3
    usable = usable | ~enough[:, None]  # this plane is not returned
    with torch.no_grad():
        generator = torch.Generator(device=points.device).manual_seed(0)
        drawn = torch.multinomial(usable.float(), 3 * _TRIALS + min(count, 2048), replacement=True, generator=generator)
        picked = flat.gather(1, drawn[..., None].expand(-1, -1, 3))
        a, b, c = picked[:, : 3 * _TRIALS].reshape(-1, _TRIALS, 3, 3).unbind(-2)
        planes = _oriented_plane(F.normalize(torch.linalg.cross(b - a, c - a), dim=-1), a)
        tested = picked[:, None, 3 * _TRIALS :]
        votes = (height_above_plane(planes, tested).abs() < tolerance * planes[..., 3:]).sum(-1)
        plane = planes.gather(1, votes.argmax(-1)[:, None, None].expand(-1, -1, 4))[:, 0]
    for _ in range(2):
        on_plane = usable & (height_above_plane(plane.detach(), flat).abs() < tolerance * plane[:, 3:].detach())
        # Fewer than 3 points are on the plane if all points are equal: take every usable one.
        plane = fit_plane(flat, torch.where(on_plane.sum(-1, keepdim=True) >= 3, on_plane, usable))
    return torch.where(enough[:, None], plane, torch.full_like(plane, torch.nan)).reshape(*batch, 4)


@dataclass(frozen=True, slots=True)
class RoadPixelHeights:
    """Camera heights and normals that each road pixel implies through its own tangent plane.

    camera_height: (B, 1, H, W) height -n . X in the unit of depth. It is not negative, and 0 outside `valid`.
    valid: (B, 1, H, W) bool, true for road pixels with depth and normal. It is false throughout an image with too
        little road.
    normal: (B, 3) mean unit normal towards the camera; NaN in an image with too little road.
    median_height: (B,) median of `camera_height`; NaN in an image with too little road.
    """

    camera_height: Tensor
    valid: Tensor
    normal: Tensor
    median_height: Tensor

    @property
    def plane(self) -> Tensor:
        """Return the road plane (B, 4) with the mean normal and the median camera height."""
        return torch.cat((self.normal, self.median_height[:, None]), -1)


def road_pixel_heights(
    depth_m: Tensor, camera: Camera, road_mask: Tensor, *, min_road_share: float = 0.01
) -> RoadPixelHeights:
    """Return the camera heights and normals that the road pixels imply (Xue et al., IROS 2020).

    The result is differentiable with respect to depth.

    depth_m: (B, 1, H, W) z in any unit; 0 or a value that is not finite means unknown.
    camera: its K is (3, 3) or (B, 3, 3).
    road_mask: (B, 1, H, W) bool mask of the road.
    min_road_share: images whose share of road pixels is smaller are not used.
    """
    depth_m = _known_depth(depth_m)
    normal, points = normals_from_depth(depth_m, camera), backproject(depth_m, camera)
    valid = road_mask & (normal != 0).any(-3, keepdim=True)
    valid = valid & (valid.flatten(1).float().mean(-1) > min_road_share)[:, None, None, None]
    height = torch.where(valid, -(normal * points).sum(-3, keepdim=True), 0.0)
    mean = F.normalize((normal * valid).sum((-2, -1)), dim=-1)
    mean = torch.where(valid.flatten(1).any(-1, keepdim=True), mean, torch.nan)
    return RoadPixelHeights(height, valid, mean, masked_median(height.flatten(1), valid.flatten(1)))


def fit_inverse_depth_plane(depth_m: Tensor, camera: Camera, road_mask: Tensor) -> Tensor:
    """Return the plane (B, 4) fitted to the inverse depth of the road, which is linear in pixel coordinates.

    The fit solves 1 / z = -n . K^-1 (x, y, 1) / d by least squares and reweights it five times. The weights are
    Cauchy's, with 1.48 times the median residual as scale. Near pixels weigh more than in `fit_plane`. The plane is NaN
    without road. Takes the same arguments as `road_pixel_heights`.
    """
    depth_m = _known_depth(depth_m)
    known = (road_mask & (depth_m > 0)).flatten(1)
    enough = known.sum(1) >= 3
    rays = backproject(torch.ones_like(depth_m), camera).flatten(2).transpose(1, 2)
    inverse = torch.where(known, 1 / depth_m.flatten(1).clamp(min=NEAR), 0.0)
    usable = torch.where(enough[:, None], known, True)  # this plane is not returned
    weight = start = usable.to(depth_m.dtype)
    for _ in range(_ROUNDS):
        normal_over_d = _fit_linear_in_rays(rays, inverse, weight)
        residual = ((rays * normal_over_d[:, None]).sum(-1) - inverse).abs()
        width = 2 * 1.48 * masked_median(residual, known)[:, None].nan_to_num(1.0)
        weight = start / (1 + (residual / width.clamp(min=torch.finfo(residual.dtype).eps)).square())
    length = normal_over_d.norm(dim=-1, keepdim=True)
    plane = torch.cat((-normal_over_d, torch.ones_like(length)), -1) / length
    return plane.where(enough[:, None], torch.nan)


def _fit_linear_in_rays(rays: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Return the q (B, 3) whose products q . ray fit values (B, N) best, by weighted least squares; rays (B, N, 3) have
    z = 1.
    """
    share = (weight / weight.sum(1, keepdim=True))[..., None]
    center, middle = (share * rays).sum(1), (share[..., 0] * values).sum(1)
    across = (rays - center[:, None])[..., :2]
    moments = (share * across).transpose(1, 2)
    slope = torch.linalg.pinv(moments @ across, hermitian=True) @ (moments @ (values - middle[:, None])[..., None])
    slope = slope[..., 0]
    return torch.cat((slope, (middle - (slope * center[:, :2]).sum(-1))[:, None]), -1)


def _known_depth(depth_m: Tensor) -> Tensor:
    return torch.where((depth_m > NEAR) & depth_m.isfinite(), depth_m, torch.zeros_like(depth_m))


# -- heights of objects on the road: known height / found height = scale of the depth


@dataclass(frozen=True, slots=True)
class Silhouettes:
    """The extent of the visible points of M objects along the road's normal, in the unit of depth.

    top: (M,) height of the highest point above the road plane.
    bottom: (M,) height of the lowest point; it is above 0 if the object's foot is hidden.

    Both are NaN if depth or plane is missing.
    """

    top: Tensor
    bottom: Tensor

    @property
    def height(self) -> Tensor:
        """Return the height (M,) from the road plane, or from a lowest point below it, to the top of each object."""
        return self.top - self.bottom.clamp(max=0)


def measure_silhouettes(
    depth_m: Tensor, camera: Camera, plane: Tensor, objects: Segments, *, trim: float = 0.0
) -> Silhouettes:
    """Return the silhouettes of M objects, differentiable in depth and plane (FUMET, arXiv 2312.04530).

    depth_m: (B, 1, H, W) z in any unit; 0 or a value that is not finite means unknown.
    camera: its K is (3, 3) or (B, 3, 3).
    plane: (B, 4) the road plane in the camera's frame.
    objects: pixels of the M objects.
    trim: share of an object's points that is left out at its top and at its bottom.
    """
    depth_m = _known_depth(depth_m)
    points = backproject(depth_m, camera)
    above = (plane[:, :3, None, None] * points).sum(1, keepdim=True) + plane[:, 3, None, None, None]
    shown = objects.gather(depth_m > 0)[:, 0]
    heights = objects.gather(above)[shown, 0]
    bottom, top = segment_quantiles(heights, objects.segment[shown], objects.count, (trim, 1 - trim))
    return Silhouettes(top, bottom)


def height_from_box(height_px: Tensor, depth_m: Tensor, fy: Tensor) -> Tensor:
    """Return the height D * h / f_y of objects whose boxes are h pixels high at depth D, in the unit of depth.

    The box must not show the object's top face, and the camera must not roll.

    height_px, depth_m, fy: shapes that broadcast, for example (M,) each; depth_m is the depth of the object's upright
        edge.
    """
    return depth_m * height_px / fy
