"""Fit the road plane, and measure the heights of the camera and of objects above it.

A plane is (nx, ny, nz, d): the unit normal n towards the camera and the offset d, with n . X + d = 0 for points X of
the plane in the camera's frame. n . X + d is the height of a point X above the plane. d > 0 is the camera height. A
level camera 1.65 m above a road has the plane (0, -1, 0, 1.65).

The functions take arrays of NumPy or tensors of torch and return the same kind. Only RANSAC takes NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stadia.core.types import Array, Camera
from stadia.geometry.align import masked_median
from stadia.geometry.cameras import NEAR, backproject
from stadia.geometry.poses import normalize
from stadia.geometry.segments import Segments, segment_quantiles

_TRIALS = 128  # planes of RANSAC
_TESTED = 2048  # largest number of points on which RANSAC evaluates a plane
_ROUNDS = 5  # rounds of reweighting


def normals_from_depth(depth_m: Array, camera: Camera) -> Array:
    """Return unit normals (B, 3, H, W) towards the camera, from depth (B, 1, H, W) at a pixel's eight neighbors.

    A normal is 0 if depth is unknown at the pixel or a neighbor. It adds the cross products of axial and of diagonal
    differences (Xue et al., IROS 2020), which is exact on planes.
    """
    xp = array_namespace(depth_m)
    points = _repeat_edges(backproject(depth_m, camera))

    def neighbor(dx: int, dy: int) -> Array:
        return points[..., 1 + dy : points.shape[-2] - 1 + dy, 1 + dx : points.shape[-1] - 1 + dx]

    axial = xp.linalg.cross(neighbor(1, 0) - neighbor(-1, 0), neighbor(0, 1) - neighbor(0, -1), axis=-3)
    diagonal = xp.linalg.cross(neighbor(1, 1) - neighbor(-1, -1), neighbor(-1, 1) - neighbor(1, -1), axis=-3)
    total = xp.where(erode_mask(depth_m > NEAR), axial + diagonal, xp.zeros_like(axial))
    away = (total * neighbor(0, 0)).sum(-3)[..., None, :, :] > 0
    return normalize(xp.where(away, -total, total), axis=-3)


def _repeat_edges(maps: Array) -> Array:
    """Return maps (..., H, W) with one more row and column on each side, which repeat the edges."""
    xp = array_namespace(maps)
    higher = xp.concat((maps[..., :1, :], maps, maps[..., -1:, :]), axis=-2)
    return xp.concat((higher[..., :1], higher, higher[..., -1:]), axis=-1)


def erode_mask(mask: Array) -> Array:
    """Return a mask (..., H, W) bool without the pixels that have a neighbor outside it, among eight.

    The mask of a road is eroded because its border pixels have normals of curbs and cars. Pixels beyond the image's
    border count as inside.

    Examples:
        >>> int(erode_mask(np.ones((1, 1, 3, 3), bool)).sum())
        9
    """
    wide = _repeat_edges(mask)
    of_rows = wide[..., :-2, :] & wide[..., 1:-1, :] & wide[..., 2:, :]
    return of_rows[..., :-2] & of_rows[..., 1:-1] & of_rows[..., 2:]


def _oriented_plane(normal: Array, point: Array) -> Array:
    xp = array_namespace(normal)
    plane = xp.concat((normal, -(normal * point).sum(-1)[..., None]), axis=-1)
    return xp.where(plane[..., 3:] < 0, -plane, plane)


def height_above_plane(plane: Array, points: Array) -> Array:
    """Return the heights (..., N) of points (..., N, 3) above the plane (..., 4), positive on the camera's side."""
    return (points * plane[..., None, :3]).sum(-1) + plane[..., None, 3]


def fit_plane(points: Array, weights: Array | None = None) -> Array:
    """Return the least-squares plane (..., 4) of points (..., N, 3).

    weights: (..., N) weights of the points; a weight of 0 leaves a point out. None weighs all points equally.
    """
    xp = array_namespace(points)
    weights = xp.ones_like(points[..., 0]) if weights is None else xp.astype(weights, points.dtype)
    share = (weights / weights.sum(-1)[..., None])[..., None]
    center = (share * points).sum(-2)
    offset = points - center[..., None, :]
    covariance = xp.stack([(share * offset[..., i : i + 1] * offset).sum(-2) for i in range(3)], axis=-2)
    return _oriented_plane(xp.linalg.eigh(covariance)[1][..., 0], center)  # the smallest eigenvalue's


def fit_plane_ransac(points: NDArray[np.floating], *, tolerance: float = 0.03) -> NDArray[np.floating]:
    """Return the plane (4,) with the most inliers, refined by least squares; NaN for fewer than 3 points.

    points: (N, 3) points in any unit.
    tolerance: largest distance of an inlier from the plane, as a share of the camera height.

    128 planes are evaluated on at most 2048 random points, with a fixed seed (Fischler and Bolles, CACM 24(6), 1981).
    """
    if len(points) < 3:
        return np.full(4, np.nan, points.dtype)
    random = np.random.default_rng(0)
    a, b, c = points[random.integers(len(points), size=(3, _TRIALS))]
    tested = points[random.integers(len(points), size=min(len(points), _TESTED))]
    planes = _oriented_plane(normalize(np.linalg.cross(b - a, c - a)), a)
    votes = (abs(height_above_plane(planes, tested)) < tolerance * planes[:, 3:]).sum(-1)
    plane = planes[votes.argmax()]
    for _ in range(2):
        on_plane = abs(height_above_plane(plane, points)) < tolerance * plane[3]
        # Fewer than 3 points are on the plane if all points are equal: take every one.
        plane = fit_plane(points[on_plane] if on_plane.sum() >= 3 else points)
    return plane


@dataclass(frozen=True, slots=True)
class RoadPixelHeights(Generic[Array]):
    """Camera heights and normals that each road pixel implies through its own tangent plane.

    camera_height: (B, 1, H, W) height -n . X in the unit of depth. It is not negative, and 0 outside `valid`.
    valid: (B, 1, H, W) bool, true for road pixels with depth and normal. It is false throughout an image with too
        little road.
    normal: (B, 3) mean unit normal towards the camera; NaN in an image with too little road.
    median_height: (B,) median of `camera_height`; NaN in an image with too little road.
    """

    camera_height: Array
    valid: Array
    normal: Array
    median_height: Array

    @property
    def plane(self) -> Array:
        """Return the road plane (B, 4) with the mean normal and the median camera height."""
        xp = array_namespace(self.normal)
        return xp.concat((self.normal, self.median_height[:, None]), axis=-1)


def road_pixel_heights(
    depth_m: Array, camera: Camera, road_mask: Any, *, min_road_share: float = 0.01
) -> RoadPixelHeights[Array]:
    """Return the camera heights and normals that the road pixels imply (Xue et al., IROS 2020).

    The result is differentiable with respect to depth.

    depth_m: (B, 1, H, W) z in any unit; 0 or a value that is not finite means unknown.
    camera: its K is (3, 3) or (B, 3, 3).
    road_mask: (B, 1, H, W) bool mask of the road.
    min_road_share: images whose share of road pixels is smaller are not used.
    """
    xp, depth_m = array_namespace(depth_m), _known_depth(depth_m)
    normal, points = normals_from_depth(depth_m, camera), backproject(depth_m, camera)
    valid = road_mask & (normal != 0).any(-3)[..., None, :, :]
    height, width = depth_m.shape[-2:]
    count = valid.reshape(len(valid), -1).sum(-1)
    valid = valid & (count > min_road_share * height * width)[:, None, None, None]
    camera_height = -(normal * points).sum(-3)[..., None, :, :]
    camera_height = xp.where(valid, camera_height, xp.zeros_like(camera_height))
    mean = normalize((normal * valid).sum((-2, -1)))
    flat = valid.reshape(len(valid), -1)
    mean = xp.where(flat.any(-1)[:, None], mean, xp.full_like(mean, xp.nan))
    return RoadPixelHeights(camera_height, valid, mean, masked_median(camera_height.reshape(len(valid), -1), flat))


def fit_inverse_depth_plane(depth_m: Array, camera: Camera, road_mask: Any) -> Array:
    """Return the plane (B, 4) fitted to the inverse depth of the road, which is linear in pixel coordinates.

    The fit solves 1 / z = -n . K^-1 (x, y, 1) / d by least squares and reweights it five times. The weights are
    Cauchy's, with 1.48 times the median residual as scale. Near pixels weigh more than in `fit_plane`. The plane is NaN
    without road. Takes the same arguments as `road_pixel_heights`.
    """
    xp, depth_m = array_namespace(depth_m), _known_depth(depth_m)
    known = (road_mask & (depth_m > 0)).reshape(len(depth_m), -1)
    enough = known.sum(1) >= 3
    rays = backproject(xp.ones_like(depth_m), camera).reshape(len(depth_m), 3, -1).mT
    inverse = 1 / depth_m.reshape(len(depth_m), -1).clip(min=NEAR)
    inverse = xp.where(known, inverse, xp.zeros_like(inverse))
    start = xp.astype(known | ~enough[:, None], depth_m.dtype)  # a plane without enough pixels is not returned
    weight = start
    for _ in range(_ROUNDS):
        normal_over_d = _fit_linear_in_rays(rays, inverse, weight)
        residual = abs((rays * normal_over_d[:, None]).sum(-1) - inverse)
        middle = masked_median(residual, known)[:, None]
        width = 2 * 1.48 * xp.where(xp.isnan(middle), xp.ones_like(middle), middle)
        weight = start / (1 + (residual / width.clip(min=float(xp.finfo(residual.dtype).eps))) ** 2)
    length = xp.linalg.vector_norm(normal_over_d, axis=-1, keepdims=True)
    plane = xp.concat((-normal_over_d, xp.ones_like(length)), axis=-1) / length
    return xp.where(enough[:, None], plane, xp.full_like(plane, xp.nan))


def _fit_linear_in_rays(rays: Array, values: Array, weight: Array) -> Array:
    """Return the q (B, 3) whose products q . ray fit values (B, N) best, by weighted least squares; rays (B, N, 3) have
    z = 1.
    """
    xp = array_namespace(rays)
    share = (weight / weight.sum(1)[:, None])[..., None]
    center, middle = (share * rays).sum(1), (share[..., 0] * values).sum(1)
    across = (rays - center[:, None])[..., :2]
    moments = (share * across).mT
    slope = xp.linalg.pinv(moments @ across, hermitian=True) @ (moments @ (values - middle[:, None])[..., None])
    slope = slope[..., 0]
    return xp.concat((slope, (middle - (slope * center[:, :2]).sum(-1))[:, None]), axis=-1)


def _known_depth(depth_m: Array) -> Array:
    xp = array_namespace(depth_m)
    return xp.where((depth_m > NEAR) & xp.isfinite(depth_m), depth_m, xp.zeros_like(depth_m))


# -- heights of objects on the road: known height / found height = scale of the depth


@dataclass(frozen=True, slots=True)
class Silhouettes(Generic[Array]):
    """The extent of the visible points of M objects along the road's normal, in the unit of depth.

    top: (M,) height of the highest point above the road plane.
    bottom: (M,) height of the lowest point; it is above 0 if the object's foot is hidden.

    Both are NaN if depth or plane is missing.
    """

    top: Array
    bottom: Array

    @property
    def height(self) -> Array:
        """Return the height (M,) from the road plane, or from a lowest point below it, to the top of each object."""
        return self.top - self.bottom.clip(max=0)


def measure_silhouettes(
    depth_m: Array, camera: Camera, plane: Array, objects: Segments[Array], *, trim: float = 0.0
) -> Silhouettes[Array]:
    """Return the silhouettes of M objects, differentiable in depth and plane (FUMET, arXiv 2312.04530).

    depth_m: (B, 1, H, W) z in any unit; 0 or a value that is not finite means unknown.
    camera: its K is (3, 3) or (B, 3, 3).
    plane: (B, 4) the road plane in the camera's frame.
    objects: pixels of the M objects.
    trim: share of an object's points that is left out at its top and at its bottom.
    """
    depth_m = _known_depth(depth_m)
    points = backproject(depth_m, camera)
    above = (plane[:, :3, None, None] * points).sum(1)[:, None] + plane[:, 3, None, None, None]
    shown = objects.gather(depth_m > 0)[:, 0]
    heights = objects.gather(above)[shown, 0]
    bottom, top = segment_quantiles(heights, objects.segment[shown], objects.count, (trim, 1 - trim))
    return Silhouettes(top, bottom)


def height_from_box(height_px: Array, depth_m: Array, fy: Array) -> Array:
    """Return the height D * h / f_y of objects whose boxes are h pixels high at depth D, in the unit of depth.

    The box must not show the object's top face, and the camera must not roll.

    height_px, depth_m, fy: shapes that broadcast, for example (M,) each; depth_m is the depth of the object's upright
        edge.
    """
    return depth_m * height_px / fy
