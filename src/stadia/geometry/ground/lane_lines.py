"""Find lane markings in the frames of a driving video, and measure the lane by them.

On a road, x0 + u v is the column of a point at row y0 + v, with u = sideways / camera height, and (x0, y0) the point in
which the lines meet. So the lane's width over the camera's height needs no focal length. Lengths along the road do:
a point at row y0 + v has the distance f h / v, so a period of dashes is measured in units of f h. If the camera rolls,
that distance changes by the ratio 1 + u tan(roll): dashes on both sides of the camera show the roll.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.geometry.ground.horizon import find_vanishing_point

Array = NDArray[np.float64]

WIDTH_PX = 960
"""Frames are searched at this width."""

STRIPE_WIDTHS = (0.06, 0.1, 0.16)
"""Widths of markings over the camera's height: 0.1 to 0.25 m from 1 to 2 m."""

LANE_WIDTHS = (1.25, 4.2)
"""Width of a lane over the camera's height: 2.75 to 3.75 m from .9 to 2.5 m."""

MIN_CONTRAST = 10.0
"""A marking is brighter than the road on both sides by this many gray levels."""

REACH = 5.0
"""Lines are searched this many camera heights to both sides."""

MIN_BELOW = 0.025
"""Rows nearer to the horizon, as a share of the width, show too little."""


@dataclass(frozen=True)
class FrameLanes:
    """Lane lines of one frame.

    point: (2,) where they meet, pixels at the search's width.
    sides: (N,) u of each line, rising.
    dashes: for each line, rows of (near, far) ends of its painted parts, in 1 / pixels.
    """

    point: Array
    sides: Array
    dashes: tuple[Array, ...]

    def find_own_lane(self) -> "FrameLanes | None":
        """Return the lane that the camera is in, with its two lines; None without both, or for another width."""
        left, right = np.flatnonzero(self.sides < 0), np.flatnonzero(self.sides > 0)
        if not len(left) or not len(right):
            return None
        pair = [left[-1], right[0]]
        width = self.sides[pair[1]] - self.sides[pair[0]]
        if not LANE_WIDTHS[0] <= width <= LANE_WIDTHS[1]:
            return None
        return FrameLanes(self.point, self.sides[pair], tuple(self.dashes[line] for line in pair))

    def enlarge(self, factor: float) -> "FrameLanes":
        """Return the lines without dashes in a frame that is larger by this factor."""
        return FrameLanes(_enlarge(self.point, factor), self.sides, ())


def _enlarge(point: Array, factor: float) -> Array:
    return (point + 0.5) * factor - 0.5  # of pixels' centers


def measure_paint(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how bright white or yellow paint is, at WIDTH_PX columns, of an RGB image (H, W, 3) or a gray one."""
    paint = image if image.ndim == 2 else image[..., :2].mean(axis=-1)  # yellow is as bright as white in red and green
    height, width = paint.shape
    interpolation = cv2.INTER_AREA if width > WIDTH_PX else cv2.INTER_CUBIC
    size = WIDTH_PX, round(height * WIDTH_PX / width)
    return np.asarray(cv2.resize(paint.astype(np.float32), size, interpolation=interpolation), np.float32)


def _box(rows: Array, centers: Array, half: Array) -> Array:
    """Return means of cumulated rows (N, W + 1) from centers - half to centers + half."""
    last = rows.shape[1] - 1
    low = np.clip(np.rint(centers - half).astype(int), 0, last)
    high = np.clip(np.rint(centers + half).astype(int), 0, last)
    high = np.maximum(high, low + 1).clip(max=last)
    low = np.minimum(low, high - 1)
    index = np.arange(len(rows))[:, None]
    return np.asarray((rows[index, high] - rows[index, low]) / (high - low))


def find_stripes(paint: NDArray[np.float32], horizon: float, ignored: NDArray[np.bool_] | None = None) -> Array:
    """Return contrasts (H, W) of bright stripes: paint minus the brighter of both sides, for the width of a marking.

    horizon: row above which there is no road.
    ignored: (H, W), parts that never move.
    """
    height, width = paint.shape
    contrast = np.zeros((height, width))
    first = max(math.ceil(horizon + MIN_BELOW * WIDTH_PX), 0)
    if first >= height - 8:
        return contrast
    part = paint[first:].astype(np.float64)
    rows = np.concatenate((np.zeros((len(part), 1)), np.cumsum(part, axis=1)), axis=1)
    below = np.arange(first, height)[:, None] - horizon
    columns: Array = np.arange(width, dtype=np.float64)[None] + 0.5
    for stripe in STRIPE_WIDTHS:
        half = np.maximum(below * stripe / 2, 1.0)
        middle = _box(rows, columns, 0.6 * half)
        left, right = _box(rows, columns - 2.6 * half, half), _box(rows, columns + 2.6 * half, half)
        found = middle - np.maximum(left, right)
        found[np.abs(left - right) > 0.7 * found] = 0  # a curb has road on one side only, and noise has no sides
        found[(columns < 4 * half) | (columns > width - 4 * half)] = 0
        contrast[first:] = np.maximum(contrast[first:], found)
    if ignored is not None:
        contrast[ignored] = 0
    return np.where(contrast > MIN_CONTRAST, contrast, 0)


def _find_centers(contrast: Array) -> tuple[Array, Array, Array]:
    """Return columns, rows and contrasts of the middles of stripes: the largest contrast of each run in a row."""
    is_stripe = contrast > 0
    edges = np.diff(np.pad(is_stripe, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    total = np.concatenate((np.zeros((len(contrast), 1)), np.cumsum(contrast, axis=1)), axis=1)
    moment = np.concatenate((np.zeros((len(contrast), 1)), np.cumsum(contrast * np.arange(contrast.shape[1]), 1)), 1)
    weight = total[rows, ends] - total[rows, starts]
    x = (moment[rows, ends] - moment[rows, starts]) / weight
    return x, rows.astype(np.float64), weight / (ends - starts)


def find_frame_lanes(
    paint: NDArray[np.float32], point: Array, ignored: NDArray[np.bool_] | None = None
) -> FrameLanes | None:
    """Return the lane lines of a frame (H, W) of WIDTH_PX columns, or None without two.

    point: (2,) where lines are expected to meet.
    ignored: (H, W), parts that never move.
    """
    expected = point
    for _ in range(2):
        contrast = find_stripes(paint, float(point[1]), ignored)
        lines = _fit_lines(contrast, point)
        moved = _meet(lines) if len(lines) > 1 else None
        if moved is None or np.abs(moved - expected).max() > MAX_MOVE * WIDTH_PX:
            return None
        point = moved
    sides = np.array([line[1] for line in lines])
    dashes = tuple(_find_dashes(contrast, line[0], line[1], float(point[1])) for line in lines)
    return FrameLanes(point, sides, dashes)


MAX_MOVE = 0.05
"""The lines of single frames meet within this share of the width from those of all frames."""


def find_meeting_point(segments: Array, height: int) -> Array | None:
    """Return the point (2,) in which segments (N, 4) of `find_segments` of all frames of this height meet, or None."""
    center = torch.tensor([WIDTH_PX / 2, 0.5 * height], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    found = find_vanishing_point(torch.from_numpy(segments), center, 0.35 * height, generator=generator)
    if found is None or abs(float(found[0][0]) - WIDTH_PX / 2) > MAX_ASIDE * WIDTH_PX:
        return None
    return np.asarray(found[0].numpy())


MAX_ASIDE = 0.2
"""A camera in a car looks along the road: the lines meet within this share of the width from the middle."""


def find_segments(paint: NDArray[np.float32], horizon: float, ignored: NDArray[np.bool_] | None = None) -> Array:
    """Return stripes (N, 4) of a frame (H, W) of WIDTH_PX columns as x0, y0, x1, y1. Args as in `find_stripes`."""
    shown = (find_stripes(paint, horizon, ignored) > 0).astype(np.uint8) * 255
    segments = cv2.HoughLinesP(shown, 1, np.pi / 360, 25, minLineLength=25, maxLineGap=6)
    return np.zeros((0, 4)) if segments is None else segments.reshape(-1, 4).astype(np.float64)


def _fit_lines(contrast: Array, point: Array) -> list[tuple[float, float, float]]:
    """Return lines x = start + slope y, as (start, slope, deviation at the meeting point in pixels), left to right."""
    x, y, strength = _find_centers(contrast)
    below = y - point[1]
    used = below > MIN_BELOW * WIDTH_PX
    x, y, below, strength = x[used], y[used], below[used], strength[used]
    u = (x - point[0]) / below
    lines, strengths = list[tuple[float, float, float]](), list[float]()
    bins = np.arange(-REACH, REACH, 0.04)
    free = np.abs(u) < REACH
    for _ in range(10):
        votes = np.convolve(np.histogram(u[free], bins, weights=strength[free])[0], [1, 2, 1], "same")
        if not votes.max() > 0:
            break
        middle = bins[int(votes.argmax())] + 0.02
        near = free & (np.abs(u - middle) < 0.15)
        free &= np.abs(u - middle) > 0.3
        line = _fit_line(x[near], y[near])
        if line is None:
            continue
        on_line = near & (np.abs(x - line[0] - line[1] * y) < 2 + 0.03 * below)
        if len(np.unique(y[on_line])) < max(MIN_ROWS, MIN_SHARE * _count_rows(line, contrast.shape, point[1])):
            continue
        lines.append(line)
        strengths.append(float(np.median(strength[on_line])))
    faint = MIN_STRENGTH * max(strengths, default=0)
    kept = [line for line, strong in zip(lines, strengths, strict=True) if strong > faint]
    return sorted(kept, key=lambda line: line[1])


def _count_rows(line: tuple[float, float, float], shape: tuple[int, ...], horizon: float) -> int:
    rows = np.arange(max(math.ceil(horizon + MIN_BELOW * WIDTH_PX), 0), shape[0])
    x = line[0] + line[1] * rows
    return int(((x > 0) & (x < shape[1])).sum())


MIN_SHARE, MIN_STRENGTH = 0.15, 0.35
"""A line is painted in this share of its rows, and at least this strong compared with the strongest."""

MIN_ROWS = 10


def _fit_line(x: Array, y: Array) -> tuple[float, float, float] | None:
    if len(x) < MIN_ROWS:
        return None
    weight = np.ones_like(x)
    for _ in range(8):
        total = weight.sum()
        mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
        spread = (weight * (y - mean_y) ** 2).sum()
        if spread < 1:
            return None
        slope = (weight * (x - mean_x) * (y - mean_y)).sum() / spread
        error = x - mean_x - slope * (y - mean_y)
        unit = max(1.4826 * float(np.median(np.abs(error))), 0.5)
        weight = 1 / (1 + (error / (2 * unit)) ** 2)
    return float(mean_x - slope * mean_y), float(slope), float(unit / math.sqrt(spread))


def _meet(lines: Sequence[tuple[float, float, float]]) -> Array | None:
    """Return the point (2,) nearest to all lines."""
    start, slope, deviation = (np.array(values) for values in zip(*lines, strict=True))
    if np.ptp(slope) < 0.5:
        return None
    weight = 1 / (deviation + 0.003)
    weight[np.abs(slope) > 3.0] *= 0.5
    matrix = np.stack((np.ones_like(slope), -slope), 1) * weight[:, None]
    for _ in range(5):
        solution = np.linalg.lstsq(matrix, start * weight, rcond=None)[0]
        error = np.abs(start + slope * solution[1] - solution[0])
        scale = weight / (1 + error / 4)
        matrix = np.stack((np.ones_like(slope), -slope), 1) * scale[:, None]
        solution = np.linalg.lstsq(matrix, start * scale, rcond=None)[0]
    return np.asarray(solution)


def _find_dashes(contrast: Array, start: float, slope: float, horizon: float) -> Array:
    """Return (near, far) ends (N, 2) of a line's painted parts as 1 / pixels below the horizon, the nearest first.

    Ends that the frame cuts off are NaN.
    """
    height, width = contrast.shape
    rows = np.arange(max(math.ceil(horizon + MIN_BELOW * WIDTH_PX), 0), height)
    x = start + slope * rows
    inside = (x > 3) & (x < width - 4)
    rows, x = rows[inside], x[inside]
    if len(rows) < 2 * MIN_ROWS:
        return np.zeros((0, 2))
    reach = np.maximum(0.04 * (rows - horizon), 2)
    values = np.zeros(len(rows))
    for share in np.linspace(-1, 1, 7):
        columns = np.clip(np.rint(x + share * reach).astype(int), 0, width - 1)
        values = np.maximum(values, contrast[rows, columns])
    painted = values > max(0.4 * float(np.percentile(values, 95)), MIN_CONTRAST)
    edges = np.diff(np.pad(painted, 1).astype(np.int8))
    tops, bottoms = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    gap = np.flatnonzero(tops[1:] - bottoms[:-1] <= 2)  # noise of a row or two
    tops, bottoms = np.delete(tops, gap + 1), np.delete(bottoms, gap)
    near = np.where(bottoms < len(rows), 1 / (rows[np.minimum(bottoms, len(rows)) - 1] + 0.5 - horizon), np.nan)
    far = np.where(tops > 0, 1 / (rows[tops] - 0.5 - horizon), np.nan)
    return np.stack((near, far), 1)[::-1]


# -- all frames


FIRST_HORIZON = 0.45
"""Share of the height at which the horizon is expected before it is found."""

MIN_FRAMES, MIN_FRAME_SHARE, MIN_AGREEMENT = 8, 0.35, 0.6
"""Frames with one lane width: their number, their share of all frames, and of the frames with two lines."""

SAME_WIDTH = 0.04
"""Two lane widths agree within this ratio."""

POINT_PX, WIDTH_ERROR = 0.6, 0.01
"""The row in which lines meet is known to this many pixels, and a width to this ratio, with any number of frames."""

ROLL = math.radians(2)
"""Standard deviation of the roll of a camera in a car."""

MIN_PERIODS, MIN_PERIOD_SHARE, SAME_PERIOD = 20, 0.3, 0.12
"""Intervals of dashes with one length: their number and share, and the ratio within which they agree."""


@dataclass(frozen=True)
class LaneMeasurement:
    """The lane of a drive, without a focal length. Pixels are of the given frames.

    point: (2,) where the lines meet.
    point_deviation: standard deviation of its row in single frames.
    width: width of the lane / camera height.
    width_deviation, period_deviation: relative standard deviations.
    period: period of the dashes / (focal length * camera height), 1 / pixels; None without regular dashes.
    frames, seen: frames that agree, and all frames.
    lanes: index of each frame that agrees -> its two lines, slopes u of the left and right line.
    """

    point: Array
    point_deviation: float
    width: float
    width_deviation: float
    period: float | None
    period_deviation: float
    frames: int
    seen: int
    lanes: Mapping[int, FrameLanes]

    def find_height_m(self, lane_m: float) -> float:
        """Return the camera's height over the road for a lane of this width; it needs no focal length."""
        return lane_m / self.width

    def find_focal_px(self, lane_m: float, period_m: float) -> float | None:
        """Return the focal length for this width and this period of dashes; None without dashes."""
        return None if self.period is None else period_m / (self.period * self.find_height_m(lane_m))


def measure_lanes(images: Iterable[NDArray[np.uint8]], ignored: NDArray[np.bool_] | None = None) -> LaneMeasurement:
    """Measure the lane of a camera in a car, from frames (H, W, 3) of one size.

    ignored: (h, w), parts that never move, such as a hood.

    Raises GeometryError if too few frames agree: no drive, no markings, or no lane.
    """
    paints, factor = list[NDArray[np.float32]](), 1.0
    for image in images:
        paints.append(measure_paint(image))
        factor = image.shape[1] / WIDTH_PX
    if not paints:
        raise _make_error("no frame")
    height = len(paints[0])
    if ignored is not None:
        ignored = cv2.resize(ignored.astype(np.uint8), (WIDTH_PX, height), interpolation=cv2.INTER_NEAREST) > 0
    point = np.array([0.5 * WIDTH_PX, FIRST_HORIZON * height])
    for _ in range(2):
        segments = [find_segments(paint, float(point[1]), ignored) for paint in paints[:: max(len(paints) // 30, 1)]]
        met = find_meeting_point(np.concatenate(segments), height)
        if met is None:
            raise _make_error("no lines that meet at a horizon")
        point = met
    frames = {index: find_frame_lanes(paint, point, ignored) for index, paint in enumerate(paints)}
    own = {index: lane for index, lanes in frames.items() if lanes and (lane := lanes.find_own_lane()) is not None}
    widths = np.array([lane.sides[1] - lane.sides[0] for lane in own.values()])
    agreeing = _find_agreement(widths, len(paints))
    count = int(agreeing.sum())
    chosen = {index: lane for (index, lane), agrees in zip(own.items(), agreeing, strict=True) if agrees}
    width = float(np.median(widths[agreeing]))
    rows = np.array([lane.point for lane in chosen.values()])
    effective = max(count / 5, 1.0)  # neighboring frames err alike
    all_lines = [lanes for index in chosen if (lanes := frames[index]) is not None]
    period, period_deviation = _measure_period(all_lines)
    return LaneMeasurement(
        point=_enlarge(np.median(rows, axis=0), factor),
        point_deviation=_spread(rows[:, 1]) * factor,
        width=width,
        width_deviation=math.hypot(
            1.2533 * _spread(widths[agreeing]) / width / math.sqrt(effective),
            WIDTH_ERROR,
            ROLL * float(np.median([lane.sides.sum() for lane in chosen.values()])),
        ),
        period=None if period is None else period / factor,
        period_deviation=period_deviation,
        frames=count,
        seen=len(paints),
        lanes={index: lane.enlarge(factor) for index, lane in chosen.items()},
    )


class LaneFinder:
    """Find the lane of frame after frame of a drive; the lines of the last frames meet in one point."""

    def __init__(self) -> None:
        self._segments: list[Array] = []
        self._own: list[FrameLanes] = []
        self._seen = 0

    def find(self, image: NDArray[np.uint8]) -> FrameLanes | None:
        """Return the two lines of the camera's lane in the pixels of this frame (H, W, 3), or None."""
        paint, factor = measure_paint(image), image.shape[1] / WIDTH_PX
        self._segments = [*self._segments[-KEPT_FRAMES:], find_segments(paint, FIRST_HORIZON * len(paint))]
        point = find_meeting_point(np.concatenate(self._segments), len(paint))
        lanes = None if point is None else find_frame_lanes(paint, point)
        own = None if lanes is None else lanes.find_own_lane()
        self._seen += 1
        if own is None:
            return None
        self._own.append(own)
        return own.enlarge(factor)

    def check(self) -> bool:
        """Return whether a line has regular dashes. Raises GeometryError if too few of the frames so far agree."""
        _find_agreement(np.array([np.ptp(own.sides) for own in self._own]), self._seen)
        return _measure_period(self._own)[0] is not None


KEPT_FRAMES = 20
"""The meeting point is searched in this many earlier frames, too."""


def _make_error(found: str) -> GeometryError:
    expected = "the two lines of a lane in a third of the frames, from a camera in a car"
    return GeometryError("lanes", found=found, expected=expected, fix="use another source, see docs/how-to/metres.md")


def _find_agreement(widths: Array, seen: int) -> NDArray[np.bool_]:
    """Return which widths agree. Raises GeometryError if they are too few of the frames seen."""
    agreeing = _find_mode(widths, SAME_WIDTH)
    count = int(agreeing.sum())
    if count < max(MIN_FRAMES, MIN_FRAME_SHARE * seen, MIN_AGREEMENT * len(widths)):
        raise _make_error(f"{len(widths)} of {seen} frames with two lines, {count} with one lane width")
    return agreeing


def _spread(values: Array) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _find_mode(values: Array, ratio: float) -> NDArray[np.bool_]:
    """Return which values (N,) are within this ratio of the one that has most values there."""
    logs = np.log(values)
    near = np.abs(logs[:, None] - logs[None]) < ratio
    return near[int(near.sum(1).argmax())] if len(values) else np.zeros(0, bool)


def _measure_period(frames: Sequence[FrameLanes]) -> tuple[float | None, float]:
    """Return the period of the dashes in 1 / pixels, and its relative deviation; None without regular dashes."""
    lines = [line for lanes in frames for line in zip(lanes.sides, lanes.dashes, strict=True) if len(line[1]) > 1]
    lengths = np.concatenate([np.zeros(0), *(dashes[:, 1] - dashes[:, 0] for _, dashes in lines)])
    lengths = lengths[np.isfinite(lengths)]
    if not len(lengths):
        return None, math.inf
    long = np.median(lengths[lengths >= np.median(lengths)])
    pairs = list[Array]()  # two near ends, or two far ends, with the line's u
    for u, dashes in lines:
        kept = dashes[~(dashes[:, 1] - dashes[:, 0] < 0.5 * long)]  # markers are no dashes
        pairs += [np.stack((ends[:-1], ends[1:], np.full_like(ends[1:], u)), 1) for ends in kept.T]
    rows = np.concatenate(pairs)
    rows = rows[np.isfinite(rows).all(1)]
    intervals = rows[:, 1] - rows[:, 0]
    agreeing = _find_mode(intervals, SAME_PERIOD)
    middle = float(np.median(intervals[agreeing])) if len(intervals) else 0.0
    if agreeing.sum() < max(MIN_PERIODS, MIN_PERIOD_SHARE * len(intervals)) or not 0.1 < long / middle < 0.75:
        return None, math.inf
    near, far, u = rows[agreeing].T
    ratio = (far - near) / middle - 1
    matrix = np.stack((np.ones_like(u), u), 1)
    error = ratio
    for _ in range(3):
        weight = max(len(frames) / 5, 1.0) / len(u) / max(_spread(error), 0.01) ** 2  # neighboring frames err alike
        covariance = np.linalg.inv(weight * matrix.T @ matrix + np.diag((0, 1 / ROLL**2)))
        change = weight * covariance @ (matrix.T @ ratio)
        error = ratio - matrix @ change
    per_px = float(np.mean(1 / (1 / far + 1) - 1 / (1 / near + 1)) / np.mean(far - near)) - 1
    return middle * (1 + float(change[0])), math.hypot(math.sqrt(covariance[0, 0]), per_px * POINT_PX)
