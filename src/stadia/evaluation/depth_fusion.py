"""Fuse depth maps of several views into one set of points: depths that other views confirm are averaged, points that
other views see through are left out, and a surface that several views show is kept once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.cameras import resize_K
from stadia.geometry.poses import invert_pose

IN_FRONT, SAME = 0.12, 0.06
"""Relative difference of depth beyond which a point contradicts another view (SAME: below which it is the same
surface).
"""

NEIGHBORS = 10
"""Number of other views with which each view is compared: those that see most of its points."""

MIN_SHARED = 0.1
"""Least share of the pixels of a view that another view must see for a comparison of their scales."""

MAX_SCALE = 1.5
"""Largest factor by which the depth of a view is scaled to fit its neighbors."""

MAX_LONELY = 1.5
"""Largest depth of a point that no other view confirms, in median depths of its view: errors of far depth are large."""

STAY = 0.05
"""Weight of a view's own scale, compared with that of one neighbor."""


@dataclass(frozen=True, eq=False)
class DepthView:
    """A picture with depth and pose.

    name: name of the view.
    image: (H, W, 3) RGB.
    depth: (h, w) along the optical axis, 0 = none.
    K: (3, 3) of `depth`, pixels.
    T_world_camera: (4, 4) pose.
    """

    name: str
    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    K: NDArray[np.float64]
    T_world_camera: NDArray[np.float64]


def make_view(
    name: str,
    image: NDArray[np.uint8],
    depth: NDArray[np.float32],
    K: NDArray[np.float64],
    T_world_camera: NDArray[np.float64] | None = None,
) -> DepthView:
    """Create a view from a picture, its intrinsics, and a depth map that may have another size.

    name: name of the view.
    image: (H, W, 3) RGB.
    depth: (h, w), 0 = none.
    K: (3, 3) of `image`, pixels.
    T_world_camera: (4, 4) pose; None is the origin.
    """
    of_depth = np.asarray(resize_K(K, image.shape[:2], *depth.shape), np.float64)
    T = np.eye(4) if T_world_camera is None else T_world_camera
    return DepthView(name, image, np.asarray(depth, np.float32), of_depth, np.asarray(T, np.float64))


def shrink_view(view: DepthView, side: int) -> DepthView:
    """Return a view whose depth map has at most `side` pixels on its longer side: each n-th row and column is kept."""
    every = max(-(-max(view.depth.shape) // side), 1)
    K = view.K.copy()
    K[:2] /= every
    return replace(view, depth=np.ascontiguousarray(view.depth[::every, ::every]), K=K)


def lift_pixels(view: DepthView, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the points (N, 3) of pixels in the axes of the view's camera.

    view: the view.
    rows, columns: (N,) pixels of its depth map.
    """
    z, K = view.depth[rows, columns].astype(np.float64), view.K
    return np.stack([(columns - K[0, 2]) / K[0, 0] * z, (rows - K[1, 2]) / K[1, 1] * z, z], axis=1)


def to_world(view: DepthView, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points (N, 3) of a view's camera in the axes of the world."""
    return np.asarray(points @ view.T_world_camera[:3, :3].T + view.T_world_camera[:3, 3])


def sample_depth(
    view: DepthView, points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Project points of the world (N, 3) into a view.

    Returns the view's depth (N,) at each point, 0 outside its image; the depth (N,) of each point in the view's camera;
    and the column and row of each point (2, N).
    """
    T = invert_pose(view.T_world_camera)
    x, y, z = (points @ T[:3, :3].T + T[:3, 3]).T
    height, width = view.depth.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        column = np.nan_to_num(view.K[0, 0] * x / z + view.K[0, 2], nan=-1, posinf=-1, neginf=-1).round()
        row = np.nan_to_num(view.K[1, 1] * y / z + view.K[1, 2], nan=-1, posinf=-1, neginf=-1).round()
    inside = (z > 0) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    at = np.where(inside, np.stack([column, row]), 0).astype(np.intp)
    return np.where(inside, view.depth[at[1], at[0]], 0).astype(np.float64), z, at


@dataclass(frozen=True, eq=False)
class FusedPoints:
    """Points of several views.

    points: (N, 3) float32, in the world.
    colors: (N, 3) RGB.
    views: (N,) number of views that show each point.
    scales: (V,) factor of the depth of each view.
    grain: typical distance between neighboring points.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    views: NDArray[np.intp]
    scales: NDArray[np.float64]
    grain: float = 0.0


ENOUGH_VIEWS, KEPT_SHARE = 3, 0.35
"""Number of views that show a point for certain, and the share of the points that `keep_confirmed` keeps at least."""


def keep_confirmed(fused: FusedPoints) -> FusedPoints:
    """Return the points that three views show; that two or one show, if too few points remain.

    Points of a single view form shells behind and before the scene where predicted depth is wrong.

    Examples:
        >>> points, colors = np.zeros((4, 3), np.float32), np.zeros((4, 3), np.uint8)
        >>> len(keep_confirmed(FusedPoints(points, colors, np.array([1, 1, 3, 4]), np.ones(5))).points)
        2
        >>> len(keep_confirmed(FusedPoints(points, colors, np.array([1, 1, 2, 3]), np.ones(5))).points)
        2
    """
    for least in range(ENOUGH_VIEWS, 0, -1):
        chosen = fused.views >= least
        if chosen.sum() >= KEPT_SHARE * len(chosen):
            return replace(fused, points=fused.points[chosen], colors=fused.colors[chosen], views=fused.views[chosen])
    return fused


def fuse_views(views: Sequence[DepthView]) -> FusedPoints:
    """Fuse the depth maps of views, whose scales are first fitted to each other.

    A point is left out if more views see through it than show it, if it is far and no other view shows it, or if an
    earlier view shows the same surface. Its depth is the geometric mean of the views that show it.

    Source: Merrell et al., Real-time visibility-based fusion of depth maps, ICCV 2007.

    views: the views; their depth is 0 where no point is wanted, such as on sky and at edges.
    """
    scales = fit_scales(views)
    views = scale_views(views, scales)
    ranked = rank_neighbors(views)
    masks, grains = list[NDArray[np.bool_]](), list[float]()
    parts = list[tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.intp]]]()
    for number, view in enumerate(views):
        rows, columns = np.nonzero(view.depth > 0)
        in_camera = lift_pixels(view, rows, columns)
        points = to_world(view, in_camera)
        showing, against = np.ones(len(rows), np.intp), np.zeros(len(rows), np.intp)
        is_shown, logs = np.zeros(len(rows), np.bool_), np.zeros(len(rows))
        for other_number in ranked[number]:
            other = views[other_number]
            seen, depth, at = sample_depth(other, points)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(seen > 0, seen / depth, np.nan)
                log = np.log(ratio)
            agrees = np.abs(log) < SAME
            showing += agrees
            logs += np.where(agrees, log, 0)
            against += log > IN_FRONT  # the other view sees what is behind the point
            if other_number < number:
                is_shown |= agrees & masks[other_number][at[1], at[0]]
        z = in_camera[:, 2]
        is_lonely = (showing < 2) & (z > MAX_LONELY * (np.median(z) if len(z) else 0.0)) & (len(views) > 1)
        kept = (against < showing) & ~is_shown & ~is_lonely
        mask = np.zeros(view.depth.shape, np.bool_)
        mask[rows[kept], columns[kept]] = True
        masks.append(mask)
        grains.append(float(np.median(z)) / float(view.K[0, 0]) if len(z) else 0.0)
        factor = np.exp(logs[kept] / showing[kept])
        height, width = view.depth.shape
        small = np.asarray(cv2.resize(view.image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        moved = to_world(view, in_camera[kept] * factor[:, None]).astype(np.float32)
        parts.append((moved, small[rows[kept], columns[kept]], showing[kept]))
    if not parts:
        return FusedPoints(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.intp), scales)
    placed = np.concatenate([part[0] for part in parts])
    colors = np.concatenate([part[1] for part in parts])
    return FusedPoints(placed, colors, np.concatenate([part[2] for part in parts]), scales, float(np.median(grains)))


def rank_neighbors(views: Sequence[DepthView]) -> list[list[int]]:
    """Return for each view the numbers of at most NEIGHBORS other views, beginning with the one that sees most of its
    points.
    """
    ranked = list[list[int]]()
    for number, view in enumerate(views):
        rows, columns = _thin(view, 400)
        points = to_world(view, lift_pixels(view, rows, columns))
        shares = [
            0.0
            if other_number == number
            else float((sample_depth(other, points)[0] > 0).mean())
            if len(points)
            else 0.0
            for other_number, other in enumerate(views)
        ]
        order = sorted(range(len(views)), key=shares.__getitem__, reverse=True)
        ranked.append([other for other in order if shares[other] > 0][:NEIGHBORS])
    return ranked


def _thin(view: DepthView, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = np.nonzero(view.depth > 0)
    every = max(len(rows) // count, 1)
    return rows[::every], columns[::every]


def scale_views(views: Sequence[DepthView], scales: NDArray[np.float64]) -> list[DepthView]:
    """Return views whose depths are multiplied by a factor each."""
    return [replace(view, depth=view.depth * np.float32(scale)) for view, scale in zip(views, scales, strict=True)]


def fit_scales(views: Sequence[DepthView]) -> NDArray[np.float64]:
    """Return a factor for the depth of each view, by which the views agree best; their geometric mean is 1.

    The logarithms solve least squares over pairs of neighbors, whose depths have a median ratio.
    """
    count, ranked = len(views), rank_neighbors(views)
    rows, values = list[NDArray[np.float64]](), list[float]()
    for number, view in enumerate(views):
        at = _thin(view, 2000)
        points = to_world(view, lift_pixels(view, *at))
        for other in ranked[number]:
            seen, depth, _ = sample_depth(views[other], points)
            both = seen > 0
            if both.sum() < MIN_SHARED * len(points):
                continue
            row = np.zeros(count)
            row[number], row[other] = 1.0, -1.0
            rows.append(row)
            values.append(float(np.median(np.log(seen[both] / depth[both]))))
    if not rows:
        return np.ones(count)
    own = STAY * np.eye(count)
    logs = np.linalg.lstsq(np.concatenate([rows, own]), np.concatenate([values, np.zeros(count)]), rcond=None)[0]
    most = np.log(MAX_SCALE)
    return np.asarray(np.exp(np.clip(logs - logs.mean(), -most, most)))
