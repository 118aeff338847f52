"""Measure predicted maps: spread, change with the image, sky, matches, and distances to static points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.checks.preflight.recording_survey import (
    TwoViewMotion,
    detect_features,
    estimate_motion,
    match_features,
    pixel_rays,
    triangulate,
)
from stadia.data.video.map_geometry import StandingPoints
from stadia.geometry.numpy_camera import resize_K
from stadia.geometry.sky import find_sky

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


@dataclass(frozen=True, slots=True)
class PointMeasurements:
    """Compare predicted depth z_p with the measured depth z of static points; medians over video frames.

    "Constant depth" is a prediction of the same depth at every pixel. A value is None if it could not be measured.

    frames: number of video frames with enough points.
    error: mean over points of |ln z_p - ln z| after median scaling, divided by the same error of constant depth;
        below 1 is better than constant depth.
    correlation: rank correlation of predicted and measured depth over points.
    row_correlation: rank correlation within nearly equal image rows; 0 for a network that predicts only a vertical
        gradient.
    own_correlation: rank correlation of what prediction and points add to the mean map of all video frames; 0 for a
        network that ignores its image.
    side_ratio: ratio of predicted to measured depth in the right part of the image, divided by the ratio in the left
        part.
    range_ratio: ratio of predicted to measured depth of the farthest third of the points, divided by that of the
        nearest third.
    hole_share: share of the cells of an image grid that are predicted more than BEHIND times as far as their points.
    road_frames: number of video frames in which the road was measured.
    road_error: mean of |ln z_p - ln z| over the road after median scaling.
    road_error_constant: the same error of constant depth.
    behind_road: share of the road's pixels that are predicted more than BEHIND times as far as the road.
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
    """Compare the predicted depth of one video frame with its points; return the measured values by name.

    The names are those of error, correlations, and logarithms of ratios in `PointMeasurements`. The result is None if
    too few points are seen.

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
    """Return Spearman's rank correlation of measured and predicted values; 0 for constant predictions.

    measured: (N,) measured values.
    predicted: (N,) predicted values.
    least_spread: smallest standard deviation of the measured values. Below it the result is None.
    """
    from scipy.stats import spearmanr  # slow to import

    if float(measured.std()) < least_spread:
        return None
    if float(np.ptp(predicted)) < 1e-3:
        return 0.0
    return float(spearmanr(measured.round(3), predicted.round(3)).statistic)


def subtract_row_medians(rows: Array, values: Array) -> Array:
    """Subtract from each value the median of values in nearly the same image row; return (N,).

    rows: (N,) image row of each value.
    values: (N,) values. About ROW_POINTS neighbors in the order of rows share a median.
    """
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
    """Compare predicted depth on the road with the measured depth of the road plane; None if no road was measured.

    Return the mean of |ln z_predicted - ln z| after median scaling, the same error of constant depth, and the share
    of the road's pixels that are predicted more than BEHIND times as far as the road.

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


def is_foreground_far(inverse_depth: Array) -> bool:
    """Return whether the lowest rows of a map are as far as its farthest fifth, and farther than its nearest."""
    lowest = float(np.median(inverse_depth[-max(round(FOREGROUND * len(inverse_depth)), 1) :]))
    far, near = (float(value) for value in np.quantile(inverse_depth, [1 - FAR_QUANTILE, FAR_QUANTILE]))
    return lowest <= far < near and near > MIN_FOREGROUND_RATIO * lowest


Map = NDArray[np.float32]

MAX_AUTO_MASKED = 0.75  # share of pixels that the auto-mask of a training leaves out
MIN_FRAMES = 4  # frames for whether a map changes with its image
MIN_RELATIVE_RANGE = 1e-4  # of inverse depth over its largest value; below, the map is flat
MIN_IMAGE_CHANGE = 0.25  # share of the brightness variance outside the mean image; below, images are alike
MIN_PAIR_PARALLAX_PX = 2.0  # median, beyond the rotation, at 640 pixels of width; noise is about 0.5
MATCH_WIDTH = 640  # largest width of matched images
MIN_MATCH_WIDTH = 128  # smallest width of matched images
MIN_ROW_PAIRS = 5  # pairs that are compared within rows
MIN_ROW_MATCHES = 30  # matches of such a pair
MIN_ROW_PARALLAX_PX = 1.0  # parallax of such a match at MATCH_WIDTH
MATCH_NOISE_PX = 0.5
MIN_ROW_SPREAD = 2.0  # spread of log depth within rows over its noise: below, the scene is a gradient
SCALES = np.geomspace(0.02, 50, 120)  # translations that are tried, in units of the median depth
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
    match_error: distance in pixels from matches to where predicted depth and motion project them, divided by that for
        constant depth; median over pairs of video frames.
    match_pairs: number of pairs of video frames in which points move enough for this.
    sky_nearer: share of the video frames with sky in which the sky is predicted nearer than the lowest fifth of the
        image.
    invalid: number of video frames with a depth that is not finite or not positive.
    has_ratios: False for inverse depth that is known only up to scale and shift, of which ratios have no meaning.
    relative_range: for such inverse depth, its range from the 5 % to the 95 % quantile divided by its maximum, median
        over video frames.
    row_correlation: rank correlation of predicted and triangulated depth among matches of nearly the same image row,
        median over pairs; 0 for a network that predicts only a vertical gradient.
    row_share: share of the variance of a map that is between its rows, median over video frames.
    mean_map_error: distance in pixels as in match_error, divided by that for the mean map, median over pairs; 1 for a
        network that ignores its image.
    own_correlation: rank correlation of what the map and the matches add to the mean map, median over pairs; 0 for a
        network that ignores its image.
    followed: number of video frames that a later one follows closely enough to be matched.
    foreground_far: share of the video frames whose lowest fifth is predicted as far as the farthest fifth of the map.
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
    row_correlation: float | None = None
    row_share: float | None = None
    mean_map_error: float | None = None
    own_correlation: float | None = None
    followed: int | None = None
    foreground_far: float | None = None
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
    has_map = mapped is not None and mapped.frames >= MIN_MAPPED_FRAMES  # its points decide
    measured = (_measure_pair(frame, mean_map) for frame in valid) if has_ratios and not has_map else ()
    pairs = [pair for pair in measured if pair is not None]
    errors = [pair.error for pair in pairs]
    over_mean = [pair.error_over_mean for pair in pairs if pair.error_over_mean is not None]
    correlations = [pair.row_correlation for pair in pairs if pair.row_correlation is not None]
    own = [pair.own_correlation for pair in pairs if pair.own_correlation is not None]
    spreads = list(map(_range, maps)) if has_ratios else []
    ranges = [] if has_ratios else list(map(_relative_range, inverse_depths))
    return FrameMeasurements(
        frames=len(frames),
        spread=float(np.exp(np.median(spreads))) if spreads else None,
        change=_share_of_own([_resize(values, size) for values in maps]),
        image_change=_share_of_own([_brightness(frame.image, size) for frame in valid]),
        match_error=float(np.median(errors)) if errors else None,
        match_pairs=len(errors),
        sky_nearer=float(np.mean(skies)) if skies else None,
        invalid=len(frames) - len(valid),
        has_ratios=has_ratios,
        relative_range=float(np.median(ranges)) if ranges else None,
        row_correlation=float(np.median(correlations)) if len(correlations) >= MIN_ROW_PAIRS else None,
        row_share=float(np.median(list(map(_share_of_rows, maps)))) if maps else None,
        mean_map_error=float(np.median(over_mean)) if over_mean else None,
        own_correlation=float(np.median(own)) if len(own) >= MIN_ROW_PAIRS else None,
        followed=sum(frame.following is not None for frame in frames),
        foreground_far=_share_of_far_foregrounds(inverse_depths),
        mapped=mapped,
    )


def _share_of_far_foregrounds(maps: Sequence[Map]) -> float | None:
    if len(maps) < MIN_FRAMES:
        return None
    return float(np.mean([is_foreground_far(values.astype(np.float64)) for values in maps]))


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


@dataclass(frozen=True, slots=True)
class _MeasuredPair:
    """A frame and the following one, with parallax: its errors over constant depth's and over the mean map's."""

    error: float
    error_over_mean: float | None
    row_correlation: float | None
    own_correlation: float | None


def _measure_pair(frame: SampledFrame, mean_map: Map | None) -> _MeasuredPair | None:
    """Compare the map of a frame, and the mean map, with matches; None without parallax."""
    if (matched := _match_pair(frame)) is None:
        return None
    first, second, motion = matched
    predicted = _sample_at_matches(frame.inverse_depth, frame, first)
    own = _error_px(frame, first, second, motion, predicted)
    constant = _error_px(frame, first, second, motion, np.ones(len(first)))
    triangulated = _triangulate_pair(frame, first, second, motion)
    over_mean = own_correlation = row_correlation = None
    if triangulated is not None:
        row_correlation = triangulated.correlate(
            -np.log(predicted), partial(subtract_row_medians, first[triangulated.known, 1])
        )
    if mean_map is not None:
        mean = _sample_at_matches(mean_map, frame, first)
        over_mean = own / max(_error_px(frame, first, second, motion, mean), 1e-6)
        if triangulated is not None:
            of_mean = -np.log(mean)[triangulated.known]
            own_correlation = triangulated.correlate(-np.log(predicted), lambda values: values - of_mean)
    return _MeasuredPair(own / max(constant, 1e-6), over_mean, row_correlation, own_correlation)


def _sample_at_matches(values: Map, frame: SampledFrame, matches: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = values.shape
    scale = np.array([width / frame.image.shape[1], height / frame.image.shape[0]])
    return _sample(values, ((matches + 0.5) * scale - 0.5).astype(np.float32))


@dataclass(frozen=True, slots=True)
class _TriangulatedMatches:
    """Matches of a pair: those with parallax (M,), their ln z up to a constant (N,), and its standard deviation."""

    known: NDArray[np.bool_]
    log_depth: NDArray[np.float64]
    noise: float

    def correlate(
        self, log_depth: NDArray[np.float64], less: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> float | None:
        """Return the rank correlation of triangulated and predicted depth at all matches (M,), both `less` a part."""
        return correlate_ranks(less(self.log_depth), less(log_depth[self.known]), MIN_ROW_SPREAD * self.noise)


def _triangulate_pair(
    frame: SampledFrame, first: NDArray[np.float64], second: NDArray[np.float64], motion: TwoViewMotion
) -> _TriangulatedMatches | None:
    """Return the depth of matches (M, 2); None with fewer than MIN_ROW_MATCHES of enough parallax."""
    K = frame.K if frame.following_K is None else frame.following_K
    T_second_first = np.eye(4)
    T_second_first[:3, :3], T_second_first[:3, 3] = motion.R, motion.t
    z, _ = triangulate(first, second, frame.K, K, T_second_first)
    turned = pixel_rays(first, frame.K) @ motion.R.T @ K.T
    parallax_px = np.linalg.norm(turned[:, :2] / turned[:, 2:] - second, axis=1) * MATCH_WIDTH / frame.image.shape[1]
    known = (z > 0) & np.isfinite(z) & (parallax_px > MIN_ROW_PARALLAX_PX)
    if known.sum() < MIN_ROW_MATCHES:
        return None
    noise = float(np.sqrt(np.mean((MATCH_NOISE_PX / parallax_px[known]) ** 2)))
    return _TriangulatedMatches(known, np.log(z[known]), noise)


def _match_pair(frame: SampledFrame) -> tuple[NDArray[np.float64], NDArray[np.float64], TwoViewMotion] | None:
    """Return matches (N, 2) of a frame and the following one with the camera's motion; None without parallax."""
    if frame.following is None or frame.image.shape[1] < MIN_MATCH_WIDTH:
        return None
    matches = match_features(detect_features(frame.image), detect_features(frame.following))
    motion = estimate_motion(matches.first_px, matches.second_px, frame.K)
    if (
        motion is None
        or motion.planar
        or motion.parallax_px < MIN_PAIR_PARALLAX_PX * frame.image.shape[1] / MATCH_WIDTH
    ):
        return None
    return matches.first_px[motion.inliers], matches.second_px[motion.inliers], motion


def _sample(values: Map, spots: NDArray[np.float32]) -> NDArray[np.float64]:
    read = cv2.remap(values, spots[:, 0:1], spots[:, 1:2], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(read, np.float64).ravel()


def _error_px(
    frame: SampledFrame,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    motion: TwoViewMotion,
    inverse_depth: NDArray[np.float64],
) -> float:
    """Return the median distance of matches from their projections, for the best length of the translation."""
    K = frame.K if frame.following_K is None else frame.following_K
    turned = pixel_rays(first, frame.K) @ motion.R.T
    relative = inverse_depth / np.median(inverse_depth)
    moved = turned[None] + (SCALES[:, None] * relative)[..., None] * motion.t
    projected = moved @ K.T
    ahead = projected[..., 2:] > 1e-3
    pixels = np.where(ahead, projected[..., :2] / np.where(ahead, projected[..., 2:], 1), 1e4)
    return float(np.median(np.linalg.norm(pixels - second, axis=-1), axis=1).min())
