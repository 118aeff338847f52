"""Measure predicted maps: spread, change with the image, sky, matches, and distances to static points."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.data.video.map_geometry import StandingPoints
from stadia.geometry.cameras import resize_K
from stadia.geometry.sky import find_sky
from stadia.judge.depth.pair_measurements import (
    MATCH_WIDTH,
    MeasuredPair,
    compare_pairs,
    match_images,
    measure_pair,
    sample_map,
)

Array = NDArray[np.float64]

MIN_MAPPED_FRAMES = 8  # frames with points or road of a map
MIN_POINTS = 24  # fewest points of a frame that is compared
MIN_POINT_SPREAD = 0.15  # mean |ln z - median| of a frame: below, its points are on one surface
CELLS = 8, 6  # across and down: parts of an image that are searched for holes
CELL_POINTS = 5  # fewest points of a part that is compared
MIN_REGION_POINTS = 8  # fewest points on each side, and fewest near and far points
SIDE_SHARE = 0.4  # share of the image width that counts as left, and as right
ROAD_NEAR = 3.0  # nearest compared point of the road ahead, over the camera's height
ROAD_FAR = 20.0  # farthest compared point, over the camera's height
ROAD_SIDE = 3.0  # largest distance of a compared point to each side, over the camera's height
MIN_ROAD_SHARE = 0.02  # share of the image that shows the road
BEHIND = 2.0  # predicted depth over the road's, from which a pixel is behind it


@dataclass(frozen=True, slots=True, eq=False)
class PointFrame:
    """Hold the predicted depth of a video frame, with static points of a map whose depth was measured.

    points: points that are seen in the video frame, with their measured depth.
    K: (3, 3) intrinsics in pixels of the image.
    inverse_depth: (h, w) predicted 1 / depth, positive.
    size: (height, width) of the image in pixels.
    """

    points: StandingPoints
    K: Array
    inverse_depth: Array
    size: tuple[int, int]


RELATIVE_ERRORS = ("relative_error", "near_error", "far_error", "left_error", "right_error")
"""Median relative errors of depth at points: of all, and of parts by distance and by region."""


@dataclass(frozen=True, slots=True)
class PointMeasurements:
    """Compare predicted depth z_p with the measured depth z of static points; medians over video frames.

    "Constant depth" is a prediction of the same depth at every pixel. A value is None if it could not be measured.

    frames: number of video frames with enough points.
    relative_error: median over points of |z_p / z - 1| after median scaling.
    near_error, far_error, left_error, right_error: the same of the nearest and the farthest third of the points, and of
        the points in the left and the right part of the image, with the scale of all points.
    error: mean over points of |ln z_p - ln z| after median scaling, divided by the same error of constant depth;
        below 1 is better than constant depth.
    correlation: rank correlation of predicted and measured depth over points.
    row_error: error divided by the error of the mean of each row of the map; about 1 for a network that predicts only a
        vertical gradient.
    mean_map_error: error divided by the error of the mean map of all video frames; 1 for a network that ignores its
        image.
    side_ratio: ratio of predicted to measured depth in the right part of the image, divided by the ratio in the left
        part.
    range_ratio: ratio of predicted to measured depth of the farthest third of the points, divided by the same ratio of
        the nearest third.
    hole_share: share of the cells of an image grid whose predicted depth exceeds the depth of their points by more than
        the factor BEHIND.
    road_frames: number of video frames with a measured road.
    road_error: mean of |ln z_p - ln z| over the road after median scaling.
    road_error_constant: the same error of constant depth.
    behind_road: share of the road's pixels whose predicted depth exceeds the road's by more than the factor BEHIND.
    """

    frames: int
    relative_error: float | None = None
    near_error: float | None = None
    far_error: float | None = None
    left_error: float | None = None
    right_error: float | None = None
    error: float | None = None
    correlation: float | None = None
    row_error: float | None = None
    mean_map_error: float | None = None
    points: int = 0
    side_ratio: float | None = None
    range_ratio: float | None = None
    hole_share: float | None = None
    road_frames: int = 0
    road_error: float | None = None
    road_error_constant: float | None = None
    behind_road: float | None = None


def measure_points(frames: Sequence[PointFrame], mean_map: Array | None = None) -> PointMeasurements:
    """Compare the depth of video frames with static points of known depth; return medians over the video frames.

    frames: video frames with predicted depth and points.
    mean_map: (h, w) mean inverse depth over all video frames; None if there are too few.
    """
    compared = [values for frame in frames if (values := compare_points(frame, mean_map)) is not None]
    roads = [on_road for frame in frames if (on_road := compare_road(frame)) is not None]

    def middle(name: str) -> float | None:
        known = [value for values in compared if (value := values[name]) is not None]
        return float(np.median(known)) if known else None

    road = np.median(np.array(roads), axis=0) if roads else None
    side, depth_range = middle("side"), middle("range")
    return PointMeasurements(
        frames=len(compared),
        **{name: middle(name) for name in RELATIVE_ERRORS},
        error=middle("error"),
        correlation=middle("correlation"),
        row_error=middle("row_error"),
        mean_map_error=middle("mean_map_error"),
        points=sum(int(values["points"] or 0) for values in compared),
        side_ratio=None if side is None else float(np.exp(side)),
        hole_share=middle("holes"),
        range_ratio=None if depth_range is None else float(np.exp(depth_range)),
        road_frames=len(roads),
        road_error=None if road is None else float(road[0]),
        road_error_constant=None if road is None else float(road[1]),
        behind_road=None if road is None else float(road[2]),
    )


def compare_points(frame: PointFrame, mean_map: Array | None = None) -> dict[str, float | None] | None:
    """Compare the predicted depth of one video frame with its points; return the measured values by name.

    The names are the fields of error, correlations, and logarithms of ratios in `PointMeasurements`. The result is None
    if too few points are seen.

    frame: video frame with predicted depth and points.
    mean_map: (h, w) mean inverse depth over all video frames; None if there are too few.
    """
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
    constant = _scatter(measured)
    if constant < MIN_POINT_SPREAD:
        return None
    error = _scatter(residual)
    of_rows = _scatter(_sample_log_depth(average_rows(frame.inverse_depth), *at) - measured)
    of_mean = 0.0 if mean_map is None else _scatter(_sample_log_depth(mean_map, *at) - measured)
    third = np.quantile(measured, [1 / 3, 2 / 3])
    near, far = measured <= third[0], measured >= third[1]
    left, right = x < SIDE_SHARE * width, x > (1 - SIDE_SHARE) * width
    relative = np.abs(np.expm1(residual - np.median(residual)))
    parts = (np.ones(len(relative), bool), near, far, left, right)
    return {
        **{name: _find_middle(relative, part) for name, part in zip(RELATIVE_ERRORS, parts, strict=True)},
        "error": error / max(constant, 1e-6),
        "correlation": correlate_ranks(measured, predicted),
        "row_error": error / of_rows if of_rows >= MIN_POINT_SPREAD else None,
        "mean_map_error": error / of_mean if of_mean >= MIN_POINT_SPREAD else None,
        "points": float(inside.sum()),
        "holes": _share_of_holes(residual - np.median(residual), x / width, y / height),
        "side": _gap(residual, left, right),
        "range": _gap(residual, near, far),
    }


def _find_middle(values: Array, part: NDArray[np.bool_]) -> float | None:
    """Return the median of a part of the values; None with too few points."""
    return float(np.median(values[part])) if part.sum() >= MIN_REGION_POINTS else None


def _scatter(values: Array) -> float:
    """Return the mean absolute difference from the median."""
    return float(np.mean(np.abs(values - np.median(values))))


def _sample_log_depth(inverse_depth: NDArray[np.floating], x: Array, y: Array) -> Array:
    """Return ln z (M,) of a map (h, w) at shares of its width and height."""
    rows, columns = inverse_depth.shape
    row, column = (y * rows).astype(int), (x * columns).astype(int)
    values = inverse_depth[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)].astype(np.float64)
    return np.asarray(-np.log(values))


def correlate_ranks(measured: Array, predicted: Array) -> float:
    """Return Spearman's rank correlation of measured and predicted values (N,) each; 0 for constant predictions."""
    from scipy.stats import spearmanr  # slow to import

    if float(np.ptp(predicted)) < 1e-3:
        return 0.0
    return float(spearmanr(measured.round(3), predicted.round(3)).statistic)


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
    """Compare predicted depth on the road with the measured depth of the road plane; None if no road was measured.

    Returns three numbers: the mean of |ln z_predicted - ln z| after median scaling; the same error of constant depth;
    and the share of the road's pixels whose predicted depth exceeds the road's by more than the factor BEHIND.

    frame: video frame with predicted depth, points and the plane of the road.
    """
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


Map = NDArray[np.float32]

MAX_AUTO_MASKED = 0.75  # share of pixels that the auto-mask of a training leaves out
MIN_FRAMES = 4  # frames for whether a map changes with its image
MIN_RELATIVE_RANGE = 1e-4  # range of inverse depth over its largest value: a map with less is flat
MIN_IMAGE_CHANGE = 0.25  # share of the brightness variance outside the mean image; below, images are alike
MIN_SKY = 0.04  # share of an image that sky must cover


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrame:
    """Hold a video frame with its predicted depth, reduced in size for measurements.

    image: (H, W, 3) uint8 RGB, at most MATCH_WIDTH pixels wide.
    K: (3, 3) intrinsics in pixels of this image.
    inverse_depth: (h, w) float32 predicted 1 / depth for the same view; positive, unless known only up to scale and
        shift.
    following: (H, W, 3) next video frame of the same camera, if the camera moved; otherwise None.
    following_K: (3, 3) intrinsics of the next video frame.
    points: static points of a map that are seen in the video frame, with their measured depth; None without a map.
    """

    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    inverse_depth: Map
    following: NDArray[np.uint8] | None = None
    following_K: NDArray[np.float64] | None = None
    points: StandingPoints | None = None


@dataclass(frozen=True, slots=True)
class FrameMeasurements:
    """Measure whether predicted depth depends on the image and agrees with the motion of image points.

    "Matches" are points that were found in a video frame and in the next one. The "mean map" is the median over video
    frames of each pixel's inverse depth relative to its image: a network that ignores its image predicts it always. A
    value is None if it could not be measured.

    frames: number of sampled video frames. The values below are for those with valid depth.
    spread: 95 % quantile of depth divided by the 5 % quantile in a video frame, median over video frames.
    change: share of the variance of a map's values that is not in the mean map.
    image_change: the same share for the brightness of the images.
    match_error: distance, beyond the noise, from matches to where predicted depth and the best motion project them,
        divided by that distance for constant depth; summed over pairs of video frames. 0 if depth explains all motion,
        1 if it is not better than constant depth.
    match_pairs: number of pairs of video frames whose matches distinguish depth from constant depth.
    sky_nearer: share of the video frames with sky whose sky is predicted nearer than the lowest fifth of the image.
    invalid: number of video frames with a depth that is not finite or not positive.
    has_ratios: False for inverse depth that is known only up to scale and shift, because its ratios have no meaning.
    relative_range: for such inverse depth, its range from the 5 % to the 95 % quantile divided by its maximum, median
        over video frames.
    match_deviation: standard deviation of match_error over its pairs.
    matches: number of matches in these pairs.
    match_signal_px: distance that constant depth leaves beyond the noise, pixels at MATCH_WIDTH, median over pairs.
    followed_pairs: number of pairs of video frames with enough matches that agree with one motion.
    row_error: the same as match_error, divided by the distance for the mean of each row of the map; about 1 for a
        network that predicts only a vertical gradient.
    row_deviation, row_pairs: its standard deviation and number of pairs.
    row_share: share of the variance of a map that is between its rows, median over video frames.
    mean_map_error: the same, divided by the distance for the mean map; 1 for a network that ignores its image.
    mean_map_deviation, mean_map_pairs: its standard deviation and number of pairs.
    followed: number of video frames that a later one follows closely enough to be matched.
    mapped: comparison of predicted depth with points of a map.
    """

    frames: int
    spread: float | None
    change: float | None
    image_change: float | None
    match_error: float | None
    match_pairs: int
    sky_nearer: float | None
    invalid: int = 0
    has_ratios: bool = True
    relative_range: float | None = None
    match_deviation: float | None = None
    matches: int = 0
    match_signal_px: float | None = None
    followed_pairs: int = 0
    row_error: float | None = None
    row_deviation: float | None = None
    row_pairs: int = 0
    row_share: float | None = None
    mean_map_error: float | None = None
    mean_map_deviation: float | None = None
    mean_map_pairs: int = 0
    followed: int | None = None
    mapped: PointMeasurements | None = None


def reduce_image(image: NDArray[np.uint8], K: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return an image (H, W, 3) at most MATCH_WIDTH pixels wide, and its K (3, 3)."""
    height, width = image.shape[:2]
    if width <= MATCH_WIDTH:
        return image, K
    size = (max(1, round(height * MATCH_WIDTH / width)), MATCH_WIDTH)
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), resize_K(K, (height, width), *size)


def measure_frames(frames: Sequence[SampledFrame], *, has_ratios: bool = True) -> FrameMeasurements:
    """Measure the predicted depth of video frames that are spread over one input, such as a recording.

    frames: the video frames with predicted depth.
    has_ratios: False if inverse depth is known only up to scale and shift.
    """
    valid = [frame for frame in frames if _is_valid(frame.inverse_depth, has_ratios=has_ratios)]
    inverse_depths = [frame.inverse_depth for frame in valid]
    maps = [np.log(values) if has_ratios else _normalize(values) for values in inverse_depths]
    size = valid[0].inverse_depth.shape if valid else ()
    skies = [is_nearer for is_nearer in map(_is_sky_nearer, valid) if is_nearer is not None]
    mean_map = _mean_map(inverse_depths, size) if has_ratios else None
    mapped = _measure_mapped(valid, mean_map) if has_ratios else None
    measured = [_measure_pair(frame, mean_map) for frame in valid] if has_ratios else []
    pairs = [pair for pair in measured if pair is not None]
    baselines = (BY_CONSTANT, BY_ROWS, BY_MEAN_MAP)
    over_constant, over_rows, over_mean = (compare_pairs(pairs, name) if pairs else None for name in baselines)
    spreads = list(map(_range, maps)) if has_ratios else []
    ranges = [] if has_ratios else list(map(_relative_range, inverse_depths))
    return FrameMeasurements(
        frames=len(frames),
        spread=float(np.exp(np.median(spreads))) if spreads else None,
        change=_share_of_own([_resize(values, size) for values in maps]),
        image_change=_share_of_own([_brightness(frame.image, size) for frame in valid]),
        match_error=over_constant.error if over_constant else None,
        match_pairs=over_constant.pairs if over_constant else 0,
        sky_nearer=float(np.mean(skies)) if skies else None,
        invalid=len(frames) - len(valid),
        has_ratios=has_ratios,
        relative_range=float(np.median(ranges)) if ranges else None,
        row_share=float(np.median(list(map(_share_of_rows, maps)))) if maps else None,
        match_deviation=over_constant.deviation if over_constant else None,
        matches=over_constant.matches if over_constant else 0,
        match_signal_px=over_constant.signal_px if over_constant else None,
        followed_pairs=len(pairs),
        row_error=over_rows.error if over_rows else None,
        row_deviation=over_rows.deviation if over_rows else None,
        row_pairs=over_rows.pairs if over_rows else 0,
        mean_map_error=over_mean.error if over_mean else None,
        mean_map_deviation=over_mean.deviation if over_mean else None,
        mean_map_pairs=over_mean.pairs if over_mean else 0,
        followed=sum(frame.following is not None for frame in frames),
        mapped=mapped,
    )


def _measure_mapped(frames: Sequence[SampledFrame], mean_map: Map | None) -> PointMeasurements | None:
    """Compare the maps of frames with the points of a map; None without points."""
    known = [
        PointFrame(frame.points, frame.K, frame.inverse_depth.astype(np.float64), frame.image.shape[:2])
        for frame in frames
        if frame.points is not None
    ]
    return measure_points(known, None if mean_map is None else mean_map.astype(np.float64)) if known else None


def _is_valid(inverse_depth: Map, *, has_ratios: bool) -> bool:
    return bool(np.isfinite(inverse_depth).all()) and (not has_ratios or bool(inverse_depth.min() > 0))


def _range(values: Map) -> float:
    return float(np.subtract(*np.quantile(values, [0.95, 0.05])))


def _relative_range(values: Map) -> float:
    return _range(values) / max(float(np.abs(values).max()), 1e-12)


def _normalize(inverse_depth: Map) -> Map:
    """Return affine inverse depth with median 0 and a range of 1, or 0 if it is flat."""
    centered = inverse_depth - np.median(inverse_depth)
    is_flat = _relative_range(inverse_depth) < MIN_RELATIVE_RANGE
    return np.asarray(np.zeros_like(centered) if is_flat else centered / _range(inverse_depth), np.float32)


def _resize(values: Map, size: tuple[int, ...]) -> Map:
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.float32)


def _brightness(image: NDArray[np.uint8], size: tuple[int, ...]) -> Map:
    return _resize(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / 255, np.float32), size)


def _share_of_own(maps: Sequence[Map]) -> float | None:
    """Return the share of the variance within a map that is not in the mean map; None for too few maps."""
    if len(maps) < MIN_FRAMES:
        return None
    centered = np.stack([values - np.median(values) for values in maps])
    own = centered - centered.mean(0)
    # each of n independent maps is 1 / n of the mean map
    return float(own.var((1, 2)).mean() / max(float(centered.var((1, 2)).mean()), 1e-12)) * len(maps) / (len(maps) - 1)


def _mean_map(maps: Sequence[Map], size: tuple[int, ...]) -> Map | None:
    if len(maps) < MIN_FRAMES:
        return None
    return np.asarray(np.median([_resize(values / np.median(values), size) for values in maps], axis=0), np.float32)


def _share_of_rows(values: Map) -> float:
    """Return the share of the variance of a map that is between its rows."""
    return float(values.mean(1).var() / max(float(values.var()), 1e-12))


def _is_sky_nearer(frame: SampledFrame) -> bool | None:
    """Return whether sky is predicted nearer than the lowest fifth of the image; None without sky."""
    sky = find_sky(frame.image, frame.inverse_depth.shape)
    if sky.mean() < MIN_SKY:
        return None
    lowest = frame.inverse_depth[-(len(sky) // 5) :]
    return bool(np.median(frame.inverse_depth[sky]) > np.median(lowest))


BY_CONSTANT, BY_ROWS, BY_MEAN_MAP = "constant", "rows", "mean map"
"""Baselines of predicted depth: the same depth everywhere, the mean of each image row, and the mean map."""


def _measure_pair(frame: SampledFrame, mean_map: Map | None) -> MeasuredPair | None:
    """Compare the map of a frame and the baselines with matches; None if few matches agree with one motion."""
    matched = None if frame.following is None else match_images(frame.image, frame.following, frame.K)
    if matched is None:
        return None
    first, second, motion = matched
    size = frame.image.shape[:2]
    baselines = {BY_CONSTANT: np.ones(len(first)), BY_ROWS: sample_map(average_rows(frame.inverse_depth), first, size)}
    if mean_map is not None:
        baselines[BY_MEAN_MAP] = sample_map(mean_map, first, size)
    return measure_pair(
        first,
        second,
        K=frame.K,
        K_second=frame.K if frame.following_K is None else frame.following_K,
        motion=motion,
        inverse_depth=sample_map(frame.inverse_depth, first, size),
        baselines=baselines,
        width=size[1],
    )


def average_rows(inverse_depth: NDArray[np.floating]) -> Map:
    """Return a map (h, w) that has in each row the geometric mean of a map's row."""
    means = np.exp(np.log(inverse_depth).mean(axis=1, keepdims=True))
    return np.asarray(np.broadcast_to(means, inverse_depth.shape), np.float32).copy()
