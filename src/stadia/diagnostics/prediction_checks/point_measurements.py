"""Compare predicted maps with static points: a map's (`stadia map`), and the road below the camera."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.datasets.video.map_geometry import StandingPoints

Array = NDArray[np.float64]

MIN_MAPPED_FRAMES = 4  # frames with points or road of a map
MIN_POINTS = 24  # of a frame
MIN_POINT_SPREAD = 0.15  # mean |ln z - median| of a frame: below, its points are on one surface
CELLS = 8, 6  # across and down: parts of an image that are searched for holes
CELL_POINTS = 5  # of a part
MIN_REGION_POINTS = 8  # on each side, near and far
SIDE_SHARE = 0.4  # of the width that counts as left, and as right
ROW_POINTS = 12  # points in nearly the same row
MIN_MEASURED_SPREAD = 0.1  # of ln depth within rows, or beyond the mean map: below, the scene is a gradient
ROAD_NEAR, ROAD_FAR, ROAD_SIDE = 3.0, 20.0, 3.0  # part of the road, over the camera's height: ahead, each side
MIN_ROAD_SHARE = 0.02  # of the image
BEHIND = 2.0  # predicted depth over the road's, from which a pixel is behind it
FOREGROUND = 0.2  # lowest share of the rows
FAR_QUANTILE = 0.8  # of the depth of a map, from which the foreground is at its limit
MIN_FOREGROUND_RATIO = 1.35  # depth of the foreground over its nearest fifth; a wall has nearly one depth


@dataclass(frozen=True, slots=True, eq=False)
class PointFrame:
    """A predicted frame with points. K: (3, 3), size: (height, width) of its image. inverse_depth: (h, w), positive."""

    points: StandingPoints
    K: Array
    inverse_depth: Array
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PointMeasurements:
    """Predictions compared with static points; medians over the frames. None: not measured.

    frames: with enough points.
    error: mean |ln z_predicted - ln z| after median scaling, over the error of constant depth.
    correlation: rank correlation of predicted and measured depth.
    row_correlation: the same within nearly equal rows; 0 for a vertical gradient.
    own_correlation: rank correlation of what map and points add to the mean map of all frames; 0 for a network that
        ignores its image.
    side_ratio: predicted over measured depth, right over left.
    hole_share: share of the image parts that are predicted BEHIND times as far as their points.
    range_ratio: predicted over measured depth, farthest over nearest third.
    road_frames: frames that show the road.
    road_error: mean |ln z_predicted - ln z| on the road after median scaling.
    road_error_constant: the same of constant depth.
    behind_road: share of the road's pixels with more than BEHIND times its depth.
    """

    frames: int
    error: float | None = None
    correlation: float | None = None
    row_correlation: float | None = None
    own_correlation: float | None = None
    side_ratio: float | None = None
    range_ratio: float | None = None
    hole_share: float | None = None
    road_frames: int = 0
    road_error: float | None = None
    road_error_constant: float | None = None
    behind_road: float | None = None


def measure_points(frames: Sequence[PointFrame], mean_map: Array | None = None) -> PointMeasurements:
    """Return measurements of frames with points. mean_map: (h, w) mean inverse depth; None for too few frames."""
    compared = [values for frame in frames if (values := compare_points(frame, mean_map)) is not None]
    roads = [on_road for frame in frames if (on_road := compare_road(frame)) is not None]

    def middle(name: str) -> float | None:
        known = [value for values in compared if (value := values[name]) is not None]
        return float(np.median(known)) if known else None

    road = np.median(np.array(roads), axis=0) if roads else None
    side, depth_range = middle("side"), middle("range")
    return PointMeasurements(
        frames=len(compared),
        error=middle("error"),
        correlation=middle("correlation"),
        row_correlation=middle("row_correlation"),
        own_correlation=middle("own_correlation"),
        side_ratio=None if side is None else float(np.exp(side)),
        hole_share=middle("holes"),
        range_ratio=None if depth_range is None else float(np.exp(depth_range)),
        road_frames=len(roads),
        road_error=None if road is None else float(road[0]),
        road_error_constant=None if road is None else float(road[1]),
        behind_road=None if road is None else float(road[2]),
    )


def compare_points(frame: PointFrame, mean_map: Array | None = None) -> dict[str, float | None] | None:
    """Return error, correlations, and logarithms of the ratios of one frame; None with too few points."""
    height, width = frame.size
    points = frame.points
    x, y = points.xy[:, 0], points.xy[:, 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1) & (points.z > 0)
    if inside.sum() < MIN_POINTS:
        return None
    x, y, measured = x[inside], y[inside], np.log(points.z[inside])
    at = (x + 0.5) / width, (y + 0.5) / height
    predicted = _sample_log_depth(frame.inverse_depth, *at)
    residual = predicted - measured
    constant = float(np.mean(np.abs(measured - np.median(measured))))
    if constant < MIN_POINT_SPREAD:
        return None
    error = float(np.mean(np.abs(residual - np.median(residual))))
    mean = None if mean_map is None else _sample_log_depth(mean_map, *at)
    third = np.quantile(measured, [1 / 3, 2 / 3])
    in_rows = [subtract_row_medians(y, log_depth) for log_depth in (measured, predicted)]
    beyond = None if mean is None else correlate_ranks(measured - mean, predicted - mean, MIN_MEASURED_SPREAD)
    return {
        "error": error / max(constant, 1e-6),
        "correlation": correlate_ranks(measured, predicted),
        "row_correlation": correlate_ranks(in_rows[0], in_rows[1], MIN_MEASURED_SPREAD),
        "own_correlation": beyond,
        "holes": _share_of_holes(residual - np.median(residual), x / width, y / height),
        "side": _gap(residual, x < SIDE_SHARE * width, x > (1 - SIDE_SHARE) * width),
        "range": _gap(residual, measured <= third[0], measured >= third[1]),
    }


def _sample_log_depth(inverse_depth: Array, x: Array, y: Array) -> Array:
    """Return ln z (M,) of a map (h, w) at shares of its width and height."""
    rows, columns = inverse_depth.shape
    row, column = (y * rows).astype(int), (x * columns).astype(int)
    return -np.log(inverse_depth[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)])


def correlate_ranks(measured: Array, predicted: Array, least_spread: float = 0.0) -> float | None:
    """Return the rank correlation of measured and predicted values, (N,) each.

    It is 0 for constant predictions, and None if the standard deviation of the measured values is below `least_spread`.
    """
    from scipy.stats import spearmanr  # slow to import

    if float(measured.std()) < least_spread:
        return None
    if float(np.ptp(predicted)) < 1e-3:
        return 0.0
    return float(spearmanr(measured.round(3), predicted.round(3)).statistic)


def subtract_row_medians(rows: Array, values: Array) -> Array:
    """Return values (N,) less the median of ROW_POINTS values in nearly the same row."""
    order, less = np.argsort(rows, kind="stable"), values.copy()
    for part in np.array_split(order, max(len(order) // ROW_POINTS, 1)):
        less[part] -= np.median(values[part])
    return less


def _share_of_holes(residual: Array, x: Array, y: Array) -> float:
    """Return the share of the parts of an image whose median residual is above ln BEHIND."""
    across, down = CELLS
    cell = np.clip((x * across).astype(int), 0, across - 1) + across * np.clip((y * down).astype(int), 0, down - 1)
    parts = [residual[cell == number] for number in range(across * down)]
    medians = [float(np.median(part)) for part in parts if len(part) >= CELL_POINTS]
    return float(np.mean(np.array(medians) > np.log(BEHIND))) if medians else 0.0


def _gap(residual: Array, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    """Return the median residual of the second part less the first's; None with too few points."""
    if min(first.sum(), second.sum()) < MIN_REGION_POINTS:
        return None
    return float(np.median(residual[second]) - np.median(residual[first]))


def compare_road(frame: PointFrame) -> tuple[float, float, float] | None:
    """Return errors of depth and of constant depth on the road, and the share of farther pixels; None without road."""
    road, K, inverse_depth = frame.points.road, frame.K, frame.inverse_depth
    if road is None:
        return None
    height, width = frame.size
    rows, columns = inverse_depth.shape
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    x, y = (x + 0.5) * width / columns - 0.5, (y + 0.5) * height / rows - 0.5
    rays = np.stack(((x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)), -1)
    falling = np.maximum(-(rays @ road[:3]), 1e-9)
    z = road[3] / falling
    relative = z / road[3]
    on_road = (relative > ROAD_NEAR) & (relative < ROAD_FAR) & (np.abs(rays[..., 0] * relative) < ROAD_SIDE)
    if on_road.mean() < MIN_ROAD_SHARE:
        return None
    residual = -np.log(inverse_depth[on_road]) - np.log(z[on_road])
    residual -= np.median(residual)
    measured = np.log(z[on_road])
    constant = float(np.mean(np.abs(measured - np.median(measured))))
    # objects on the road are nearer: their residual does not count
    flat = residual[residual > -np.log(BEHIND) / 2]
    return float(np.mean(np.abs(flat))), constant, float((residual > np.log(BEHIND)).mean())


def is_foreground_far(inverse_depth: Array) -> bool:
    """Return whether the lowest rows of an inverse depth map (H, W) are as far as its farthest fifth.

    They must also be farther than the nearest fifth of the map.
    """
    lowest = float(np.median(inverse_depth[-max(round(FOREGROUND * len(inverse_depth)), 1) :]))
    far, near = (float(value) for value in np.quantile(inverse_depth, [1 - FAR_QUANTILE, FAR_QUANTILE]))
    return lowest <= far < near and near > MIN_FOREGROUND_RATIO * lowest
