"""The ground under the camera: normals, the road's plane, the camera's height above it.

A plane is (nx, ny, nz, d): unit normal towards the camera, and n . X + d = 0 for its points X in the camera's frame. So
n . X + d is a point's height above the plane, and d > 0 is the camera's. A level camera 1.65 m above a flat road: (0, -1, 0, 1.65).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import GeometryError
from stadia.geometry.align import masked_median
from stadia.geometry.camera import NEAR, Camera, backproject


def normals(depth_m: Tensor, camera: Camera) -> Tensor:
    """Unit normals (B, 3, H, W) towards the camera, from depth (B, 1, H, W) at the eight neighbours; 0 where one is none.

    The sum of the cross products of neighbours a quarter turn apart is that of the two axial differences plus that of the
    two diagonal ones (Xue et al., Toward hierarchical self-supervised monocular absolute depth estimation, IROS 2020).
    Exact on planes, at the picture's edges too, where differences are one-sided.
    """
    points = F.pad(backproject(depth_m, camera), (1, 1, 1, 1), mode="replicate")

    def neighbour(dx: int, dy: int) -> Tensor:
        return points[..., 1 + dy : points.shape[-2] - 1 + dy, 1 + dx : points.shape[-1] - 1 + dx]

    axial = torch.linalg.cross(neighbour(1, 0) - neighbour(-1, 0), neighbour(0, 1) - neighbour(0, -1), dim=-3)
    diagonal = torch.linalg.cross(neighbour(1, 1) - neighbour(-1, -1), neighbour(-1, 1) - neighbour(1, -1), dim=-3)
    known = F.pad((depth_m > NEAR).to(depth_m.dtype), (1, 1, 1, 1), value=1)
    known = -F.max_pool2d(-known, kernel_size=3, stride=1) > 0
    total = torch.where(known, axial + diagonal, torch.zeros_like(axial))
    away = (total * neighbour(0, 0)).sum(-3, keepdim=True) > 0
    return F.normalize(torch.where(away, -total, total), dim=-3)


def _facing(normal: Tensor, point: Tensor) -> Tensor:
    """The plane (..., 4) through a point (..., 3) with unit normal (..., 3), turned towards the camera."""
    d = -(normal * point).sum(-1, keepdim=True)
    plane = torch.cat((normal, d), -1)
    return torch.where(d < 0, -plane, plane)


def height_above(plane: Tensor, points: Tensor) -> Tensor:
    """Heights (..., N) of points (..., N, 3) above the plane (..., 4), on the camera's side of it positive."""
    return (points * plane[..., None, :3]).sum(-1) + plane[..., None, 3]


def fit_plane(points: Tensor, weights: Tensor | None = None) -> Tensor:
    """The plane (..., 4) nearest to points (..., N, 3) in the sense of (weighted) squared distances across it.

    weights (..., N), not negative; 0 leaves a point out. Raises GeometryError for fewer than 3 points.
    """
    if points.shape[-1] != 3 or points.shape[-2] < 3:
        raise GeometryError("plane", found=f"points {tuple(points.shape)}", expected="(..., N, 3), N at least 3", cure="pass more points")
    weights = torch.ones_like(points[..., 0]) if weights is None else weights.to(points.dtype)
    share = (weights / weights.sum(-1, keepdim=True))[..., None]
    centre = (share * points).sum(-2)
    offset = points - centre[..., None, :]
    covariance = torch.stack([(share * offset[..., i : i + 1] * offset).sum(-2) for i in range(3)], -2)
    return _facing(torch.linalg.eigh(covariance).eigenvectors[..., 0], centre)  # of the smallest eigenvalue


def fit_plane_robust(points: Tensor, known: Tensor | None = None, *, tolerance: float = 0.03, trials: int = 128, seed: int = 0) -> Tensor:
    """The plane (..., 4) that most points (..., N, 3) lie on: RANSAC, then least squares over those that do.

    Args:
        points: (..., N, 3) in any unit.
        known: (..., N) bool, the points to use; NaN comes back where there are fewer than 3.
        tolerance: a point lies on the plane when it is nearer to it than this share of the camera's own height.
        trials: planes through three random points, scored on at most 2048 random points.
        seed: the same points and seed give the same plane.

    Only the last least squares carries a gradient. Fischler and Bolles, CACM 24(6), 1981.
    """
    batch, count = points.shape[:-2], points.shape[-2]
    flat = points.reshape(-1, count, 3)
    usable = torch.ones_like(flat[..., 0], dtype=torch.bool) if known is None else known.reshape(-1, count)
    enough = usable.sum(-1) >= 3
    usable = usable | ~enough[:, None]  # a plane through anything there, which is not returned
    with torch.no_grad():
        generator = torch.Generator(device=points.device).manual_seed(seed)
        drawn = torch.multinomial(usable.float(), 3 * trials + min(count, 2048), replacement=True, generator=generator)
        picked = flat.gather(1, drawn[..., None].expand(-1, -1, 3))
        a, b, c = picked[:, : 3 * trials].reshape(-1, trials, 3, 3).unbind(-2)
        planes = _facing(F.normalize(torch.linalg.cross(b - a, c - a), dim=-1), a)
        jury = picked[:, None, 3 * trials :]
        votes = (height_above(planes, jury).abs() < tolerance * planes[..., 3:]).sum(-1)
        plane = planes.gather(1, votes.argmax(-1)[:, None, None].expand(-1, -1, 4))[:, 0]
    for _ in range(2):
        on_plane = usable & (height_above(plane.detach(), flat).abs() < tolerance * plane[:, 3:].detach())
        # Fewer than 3 on the plane (points all alike): take every usable one.
        plane = fit_plane(flat, torch.where(on_plane.sum(-1, keepdim=True) >= 3, on_plane, usable))
    return torch.where(enough[:, None], plane, torch.full_like(plane, torch.nan)).reshape(*batch, 4)


@dataclass(frozen=True, slots=True)
class CameraHeight:
    """The camera's height above the road (B,), in the unit of the depth, measured in two ways; NaN where there is no road.

    by_plane: distance to one plane through the road: unmoved by noise of single pixels, wrong where the grade changes.
    by_median: median over the road of each pixel's distance to its own tangent plane: right on grades and beside kerbs, low
        where single pixels are noisy. The two differing by more than a few percent is a warning in itself.
    """

    by_plane: Tensor
    by_median: Tensor


def camera_height(depth_m: Tensor, camera: Camera, road_mask: Tensor) -> CameraHeight:
    """Camera height from depth (B, 1, H, W) and a road mask (B, 1, H, W) bool. Differentiable with respect to depth."""
    if road_mask.shape != depth_m.shape or road_mask.dtype != torch.bool:
        raise GeometryError(
            "road mask",
            found=f"{tuple(road_mask.shape)} of {road_mask.dtype}",
            expected=f"{tuple(depth_m.shape)} of torch.bool, as the depth",
            cure="pass mask == ROAD at the depth's size",
        )
    depth_m = torch.where(depth_m > NEAR, depth_m, torch.zeros_like(depth_m))
    points, normal = backproject(depth_m, camera), normals(depth_m, camera)
    heights = -(normal * points).sum(-3).flatten(1)
    road = (road_mask & (depth_m > NEAR)).flatten(1)
    has_normal = (normal != 0).any(-3).flatten(1)
    plane = fit_plane_robust(points.flatten(2).transpose(1, 2), road)
    return CameraHeight(by_plane=plane[:, 3], by_median=masked_median(heights, road & has_normal))
