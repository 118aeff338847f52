"""The horizon of planes parallel to the road, and heights relative to it.

A horizon is a line (a, b, c) with a^2 + b^2 = 1. The value a x + b y + c is the distance of a pixel (x, y) to it in
pixels, positive above the horizon. A level camera with cy = 96 has the horizon (0, -1, 96).

The functions take arrays of NumPy or tensors of torch and return the same kind. Only RANSAC takes NumPy alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.core.types import Array, Camera
from stadia.geometry.cameras import apply_to_pixels, inverse_intrinsics
from stadia.geometry.poses import normalize
from stadia.geometry.segments import Segments, segment_quantiles

Floats = NDArray[np.float64]


def horizon_from_normal(normal: Array, camera: Camera) -> Array:
    """Return the horizon (..., 3) of planes with unit normal n (..., 3) towards the camera: K^-T n, scaled to pixels.

    The result is NaN if the optical axis is vertical. Source: Hartley and Zisserman, Multiple View Geometry, 2nd ed.,
    section 8.6.3.

    camera: its K is (3, 3), or has the leading axes of the normal.
    """
    xp = array_namespace(normal)
    inverse = xp.astype(inverse_intrinsics(camera.K), normal.dtype, copy=False)
    line = (inverse * normal[..., :, None]).sum(-2)  # element by element, since a matrix product could be rounded
    length = xp.linalg.vector_norm(line[..., :2], axis=-1, keepdims=True)
    safe = xp.where(length > 0, length, xp.ones_like(length))
    return xp.where(length > 0, line / safe, xp.full_like(line, xp.nan))


def normal_from_horizon(horizon: Array, camera: Camera) -> Array:
    """Return the unit normal (..., 3) towards the camera of planes with the horizon l (..., 3): K^T l, normalized."""
    K = array_namespace(horizon).astype(camera.K, horizon.dtype, copy=False)
    return normalize((K * horizon[..., :, None]).sum(-2))


def distance_above_horizon(horizon: Array, pixels: Array) -> Array:
    """Return the distances (..., N) in pixels of points (..., N, 2) to the horizon (..., 3), positive above it."""
    return (horizon[..., None, :2] * pixels).sum(-1) + horizon[..., None, 2]


def distance_above_horizon_map(horizon: Array, height: int, width: int) -> Array:
    """Return the distances (..., 1, height, width) in pixels of every pixel to horizons (..., 3), positive above."""
    return apply_to_pixels(horizon[..., None, :], height, width)


# -- find the vanishing point of straight edges along a road: a point of the horizon

_STEEP_DEG, _FLAT_DEG = 80.0, 8.0  # upright edges and edges across the road do not lead along it
_VOTE_DEG = 1.5  # largest angle between an edge and the line from its middle to the point
_PAIRS, _VANISHING_REFITS = 1000, 8


def find_vanishing_point(
    segments: Floats, center: Floats, reach_px: float, *, generator: np.random.Generator
) -> tuple[Floats, float] | None:
    """Return the point (2,) where the most edge length meets, and the share of this length, by RANSAC; or None.

    An edge votes with 1 - (angle / 1.5 deg)^2. A candidate's weight falls with its distance in rows from the center,
    because roofs and stairs have vanishing points too. This fall is a Gaussian with a standard deviation of a third of
    the reach.

    segments: (N, 4) edges x0, y0, x1, y1 in pixels.
    center: (2,) the principal point.
    reach_px: largest distance in rows from the center. In columns it is twice as much, because roads turn.
    generator: a random generator that draws the samples.
    """
    along = segments[:, 2:] - segments[:, :2]
    length = np.linalg.norm(along, axis=-1)
    slope_deg = np.degrees(np.arctan2(abs(along[:, 1]), abs(along[:, 0])))
    leads = (slope_deg > _FLAT_DEG) & (slope_deg < _STEEP_DEG) & (length > 0)
    segments, along, length = segments[leads], along[leads], length[leads]
    if len(segments) < 3:
        return None
    middle = (segments[:, 2:] + segments[:, :2]) / 2
    normal = np.stack((-along[:, 1], along[:, 0]), -1) / length[:, None]
    lines = np.concatenate((normal, -(normal * middle).sum(-1, keepdims=True)), -1)
    # The two smallest of such draws are a sample without replacement whose probabilities are the lengths.
    chance = generator.exponential(size=(_PAIRS, len(length))) / length
    pairs = chance.argpartition(1, axis=1)[:, :2]
    meets = np.cross(lines[pairs[:, 0]], lines[pairs[:, 1]])
    points = meets[:, :2] / np.where(abs(meets[:, 2:]) > 1e-9, meets[:, 2:], np.nan)
    offset = abs(points - center)
    points = points[(offset[:, 0] < 2 * reach_px) & (offset[:, 1] < reach_px)]
    if not len(points):
        return None
    likely = np.exp(-(((points[:, 1] - center[1]) / (reach_px / 3)) ** 2) / 2)
    votes = (_count_votes(points, middle, normal) * length).sum(-1) * likely
    best = points[votes.argmax()]
    # This is a least-squares fit of distances between the point and the edges' lines, as angles.
    for _ in range(_VANISHING_REFITS):
        agree = _count_votes(best[None], middle, normal)[0]
        if (agree > 0).sum() < 3:
            return None
        weight = np.sqrt(agree * length) / np.linalg.norm(best - middle, axis=-1).clip(min=1)
        best = np.linalg.lstsq(weight[:, None] * normal, -weight * lines[:, 2], rcond=None)[0]
    agree = _count_votes(best[None], middle, normal)[0] > 0
    return best, float(length[agree].sum() / length.sum())


def _count_votes(points: Floats, middle: Floats, normal: Floats) -> Floats:
    """Return the vote (P, N) of each line for each point: 1 if exact, 0 beyond _VOTE_DEG."""
    offset = points[:, None] - middle
    across = abs((offset * normal).sum(-1)) / np.linalg.norm(offset, axis=-1).clip(min=1e-9)
    return (1 - (across / math.sin(math.radians(_VOTE_DEG))) ** 2).clip(min=0)


# -- horizon and camera height from boxes of objects
#
# The line through the feet of two objects of one height, and the line through their tops, meet on the horizon. For
# unequal heights, the cross ratio of foot, top and the other's height moves one top to the other's height first
# (Criminisi, Reid and Zisserman, Single view metrology, IJCV 40, 2000). With s = height in pixels / height in metres
# the meeting point is s_i (x_j, y_j, 1) - s_j (x_i, y_i, 1). It lies on a line l for every pair if and only if
# s = l . (x, y, 1) for every object. So three objects determine the line and, by its length, the camera's height.

_REFITS = 20
_MIN_SPREAD_PX = 2.0  # root mean square distance of the feet in the direction of least spread


@dataclass(frozen=True, slots=True)
class ObjectHorizon:
    """The horizon and camera height that fit boxes of N objects best.

    horizon: (3,) line with distances in pixels, positive above.
    camera_height_m: camera height in metres.
    log_height_ratio: (N,) ln of each object's implied camera height over camera_height_m; infinite if the object is
        above the horizon.
    inlier_mask: (N,) bool.
    """

    horizon: Floats
    camera_height_m: float
    log_height_ratio: Floats
    inlier_mask: NDArray[np.bool_]


def fit_object_horizon(
    foot: Floats,
    height_px: Floats,
    height_m: Floats,
    *,
    generator: np.random.Generator,
    tolerance: float = 0.2,
    trials: int = 512,
    sample: int = 3,
) -> ObjectHorizon:
    """Return the horizon and camera height with the most inliers (RANSAC; Fischler and Bolles, CACM 24(6), 1981).

    foot: (N, 2) middle of each box's lower edge in pixels. The camera's orientation is the same for all boxes.
    height_px: (N,) height of each box along y, from edge to edge. For a mask this is last row - first row + 1. Roll is
        ignored.
    height_m: (N,) known heights of the objects in metres.
    generator: a random generator that draws the samples.
    tolerance: largest |log_height_ratio| of an inlier.
    trials: number of samples.
    sample: number of objects in a sample, 3 or more.

    Raises GeometryError for fewer than 3 objects, for values that are not finite and positive, if no 3 objects agree,
    or if the feet of the inliers are on one line.
    """
    if len(foot) < 3:
        found, fix = f"{len(foot)} objects", "pass more objects"
        raise GeometryError("objects of a horizon", found=found, expected="at least 3", fix=fix)
    at = np.column_stack((foot, np.ones(len(foot))))
    px_per_m = height_px / height_m
    count = min(max(sample, 3), len(at))
    drawn = generator.random((trials, len(at))).argpartition(count - 1, axis=1)[:, :count]
    lines = (np.linalg.pinv(at[drawn]) @ px_per_m[drawn, None])[..., 0]
    votes = (abs(_log_height_ratio(lines, at, px_per_m)) < tolerance).sum(-1)
    line = lines[votes.argmax()]
    inlier_mask = (abs(_log_height_ratio(line, at, px_per_m)) < tolerance) & (votes.max() > 0)
    for _ in range(_REFITS):
        _check_inliers(foot[inlier_mask], len(foot))
        s = px_per_m[inlier_mask, None]
        line = np.linalg.lstsq(at[inlier_mask] / s, np.ones(len(s)), rcond=None)[0]
        before, inlier_mask = inlier_mask, abs(_log_height_ratio(line, at, px_per_m)) < tolerance
        if (inlier_mask == before).all():
            break
    length = np.linalg.norm(line[:2])
    return ObjectHorizon(-line / length, float(1 / length), _log_height_ratio(line, at, px_per_m), inlier_mask)


def _log_height_ratio(line: Floats, at: Floats, px_per_m: Floats) -> Floats:
    """Return ln((l . (x, y, 1)) / s) (..., N) of lines (..., 3); infinite if it is not positive."""
    expected = (line[..., None, :] * at).sum(-1)
    return np.log(np.where(expected > 0, expected / px_per_m, np.inf))


def _check_inliers(foot: Floats, count: int) -> None:
    centered = foot - foot.mean(0) if len(foot) else foot
    if len(foot) < 3 or np.linalg.svdvals(centered)[-1] / len(foot) ** 0.5 < _MIN_SPREAD_PX:
        found = f"{len(foot)} of {count} that agree"
        found += ", with feet on one line of the image" if len(foot) >= 3 else ""
        fix = "pass more objects, of one camera with one orientation"
        raise GeometryError("horizon of objects", found=found, expected="at least 3, near and far", fix=fix)


# -- camera height without depth, and which objects are inliers
#
# For an object on the road, (pixels from its foot to the horizon) : (its height in pixels) = (the camera's height) :
# (its height), at any distance (Lee et al., Scale Field, CVPR 2023, eq. 2). With an object's known height that gives a
# camera height. An object with another one is an outlier: its top is hidden, it is no car, or it is not on the road.
# The horizon is the largest source of error: 0.5 degrees of pitch make half of the good objects outliers.


@dataclass(frozen=True, slots=True)
class HorizonRatios(Generic[Array]):
    """The extent of M objects relative to the horizon, in pixels perpendicular to it.

    foot_below: (M,) distance of the lowest pixel to the horizon, positive if below it.
    top_above: (M,) distance of the highest pixel to the horizon, negative if below it.

    Both are NaN if the object's image has no horizon.
    """

    foot_below: Array
    top_above: Array

    @property
    def ratio(self) -> Array:
        """Return object height divided by camera height, (M,): (foot_below + top_above + 1) / foot_below.

        The ratio is infinite if the object's foot is above the horizon.
        """
        xp, below = array_namespace(self.foot_below), self.foot_below > 0
        ratio = (self.foot_below + self.top_above + 1) / xp.where(below, self.foot_below, xp.ones_like(self.foot_below))
        return xp.where(below | xp.isnan(self.foot_below), ratio, xp.full_like(ratio, xp.inf))


def compute_horizon_ratios(horizon: Array, objects: Segments[Array], height: int, width: int) -> HorizonRatios[Array]:
    """Return the extent of the objects of (B, height, width) images relative to their images' horizons (B, 3).

    The ratio adds one pixel, because distances are measured between pixel centers. Ratios are a few percent too large,
    because an object's roof reaches farther back than its foot.
    """
    distance = objects.gather(distance_above_horizon_map(horizon, height, width))[:, 0]
    lowest, highest = segment_quantiles(distance, objects.segment, objects.count, (0.0, 1.0))
    return HorizonRatios(-lowest, highest)


def implied_camera_height(object_height_m: Array, ratio: Array) -> Array:
    """Return the camera height (M,) in metres that each object's known height (M,) implies; 0 if the ratio is infinite.

    ratio: (M,) object height divided by camera height, see `HorizonRatios.ratio`.
    """
    return object_height_m / ratio


def log_height_ratio(implied_height_m: Array, reference_m: Array) -> Array:
    """Return ln(implied / reference), (M,): the relative error of the camera height that an object implies.

    It is above 0 if the object appears too low, for example because its top is hidden. It is -inf if the object is
    above the horizon.

    implied_height_m: (M,) result of `implied_camera_height`.
    reference_m: (M,) camera heights, or one height for all objects.
    """
    return array_namespace(implied_height_m).log(implied_height_m / reference_m)
