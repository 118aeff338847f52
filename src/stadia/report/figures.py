"""Convert numbers to SVG path data. The template draws it in the colors of the page's theme."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.report.metric_labels import Better
from stadia.report.run_files import Series

WIDTH, HEIGHT = 420.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 18.0, 10.0, 28.0
MAX_POINTS, MAX_DOTS = 800, 20
LOG_RATIO = 20.0
MIN_AXIS_SPAN = 1e-3
"""Least span of an axis, as a share of the values, so that the rounding of a constant does not fill the panel."""
PALETTE_SIZE = 8  # the template's palette
MIN_CURVE_STEPS = 3  # two points show no course
MAX_SHORT_SERIES = 12  # listed by name; more are counted

Point = tuple[float, float]


@dataclass(frozen=True)
class AxisTick:
    """A tick: position on the axis (SVG units) and label."""

    at: float
    label: str


@dataclass(frozen=True)
class CurveLine:
    """One curve. `path` and `raw_path` are SVG path data; `raw_path` is empty where nothing was smoothed."""

    name: str
    color: int
    path: str
    raw_path: str
    dots: list[Point]
    last: float
    best: float
    best_step: int
    not_finite: int
    first_not_finite: int | None


@dataclass(frozen=True)
class CurvePlot:
    """A panel of curves over steps; marks show where a stage begins, the note what is drawn."""

    title: str
    lines: list[CurveLine]
    x_ticks: list[AxisTick]
    y_ticks: list[AxisTick]
    better: Better
    log: bool
    marks: list[AxisTick]
    note: str = ""


@dataclass(frozen=True)
class Histogram:
    """Bars (x, y, width, height) of per-image values, position of the median, and the axis."""

    bars: list[tuple[float, float, float, float]]
    median_at: float
    x_ticks: list[AxisTick]


def smooth_values(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Return the running mean (N,) of finite values in a centered window (odd, shrunk at both ends), or NaN."""
    array = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(array)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, array, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(array))
    half = np.minimum(window // 2, np.minimum(index, len(array) - 1 - index))
    low, high = index - half, index + half + 1
    number = count[high] - count[low]
    return np.divide(total[high] - total[low], number, out=np.full(len(array), np.nan), where=number > 0)


def choose_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers (1, 2 or 5 times a power of ten) within [low, high]."""
    if not low < high:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def format_tick_labels(values: Sequence[float]) -> list[str]:
    """Format ticks with three digits, or as many as make neighbors differ: 0.9995 and 1 are two labels."""
    spacing = min((abs(b - a) for a, b in itertools.pairwise(values)), default=math.inf)
    for digits in range(3, 17):
        labels = [f"{value:.{digits}g}" for value in values]
        if all(abs(float(label) - value) <= 0.01 * spacing for label, value in zip(labels, values, strict=True)):
            break
    return labels


@dataclass(frozen=True)
class FigureAxes:
    """The ranges of a panel, and how they map to SVG units."""

    first: float
    last: float
    low: float
    high: float
    log: bool

    def x(self, step: float) -> float:
        """Return the horizontal position of a step in the figure."""
        return LEFT + (step - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the vertical position of a value in the figure."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def points(self, steps: Sequence[int], values: Sequence[float] | NDArray[np.float64]) -> list[Point | None]:
        """Return at most `MAX_POINTS` points of a curve; None where a value cannot be drawn on the axis."""
        found: list[Point | None] = []
        for i in thin_indices(len(steps)):
            if math.isfinite(values[i]) and (not self.log or values[i] > 0):
                found.append((self.x(steps[i]), float(np.clip(self.y(values[i]), -HEIGHT, 2 * HEIGHT))))
            else:
                found.append(None)
        return found

    def y_ticks(self) -> list[AxisTick]:
        """Return the ticks of the vertical axis."""
        if not self.log:
            return place_ticks(choose_ticks(self.low, self.high), self.y)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [m * 10.0**e for e in powers for m in ((1, 3) if len(powers) < 4 else (1,))]
        return place_ticks([v for v in values if self.low <= v <= self.high], self.y)


def make_plot(
    title: str, series: Sequence[Series], *, better: Better = "lower", noisy: bool = True,
    marks: Sequence[tuple[int, str]] = (), note: str = "",
) -> CurvePlot | None:  # fmt: skip
    """Make the curves of one panel, or None where no value is finite. marks: (first step, label) of each stage.

    Many `noisy` points are drawn as a running mean over the raw ones. The axis is logarithmic where the values span
    more than LOG_RATIO. It leaves out the outermost hundredth of the raw values, so that a first spike does not flatten
    the rest.
    """
    smoothed = {s.name: smooth_values(s.values, _smoothing_window(len(s.values)) if noisy else 1) for s in series}
    drawn = np.concatenate([values for s in series for values in (smoothed[s.name], _trim_outliers(s.values))])
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return None
    low, high = float(drawn.min()), float(drawn.max())
    log = low > 0 and high / low > LOG_RATIO
    if not log:
        size, span = max(abs(low), abs(high)), high - low
        margin = max(0.05 * span, (MIN_AXIS_SPAN * size - span) / 2) if low < high else 0.1 * size or 1.0
        low, high = (0.0 if 0 <= low < 0.3 * high or low == high == 0 else low - margin), high + margin
    first, last = min(s.steps[0] for s in series), max(s.steps[-1] for s in series)
    pad = int(first == last)
    axes = FigureAxes(first - pad, last + pad, low, high, log)
    return CurvePlot(
        title=title,
        lines=[_make_curve(s, color, axes, smoothed[s.name], better) for color, s in enumerate(series)],
        x_ticks=make_step_ticks(axes),
        y_ticks=axes.y_ticks(),
        better=better,
        log=log,
        marks=[AxisTick(axes.x(step), label) for step, label in marks if axes.first <= step <= axes.last],
        note=note,
    )


def make_step_ticks(axes: FigureAxes) -> list[AxisTick]:
    """Return ticks at round numbers of steps."""
    return [AxisTick(axes.x(value), _format_step(value)) for value in choose_ticks(axes.first, axes.last, 4)]


def place_ticks(values: Sequence[float], place: Callable[[float], float]) -> list[AxisTick]:
    """Label values, and place each in SVG units."""
    return [AxisTick(place(value), label) for value, label in zip(values, format_tick_labels(values), strict=True)]


def thin_indices(count: int) -> NDArray[np.int64]:
    """Return at most MAX_POINTS indices spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).astype(int))


def _smoothing_window(count: int) -> int:
    """Return the smoothing window: 1 for few points, else about a fortieth of them, odd."""
    return 1 if count < 60 else 2 * (count // 80) + 1


def _trim_outliers(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the finite values without the outermost hundredth on each side; all of them where there are few."""
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    if len(finite) < 100:
        return finite
    low, high = np.percentile(finite, [1, 99])
    return finite[(finite >= low) & (finite <= high)]


def _make_curve(s: Series, color: int, axes: FigureAxes, smoothed: NDArray[np.float64], better: Better) -> CurveLine:
    finite = np.isfinite(smoothed)
    ranked = np.where(finite, smoothed, -np.inf if better == "higher" else np.inf)
    best = int(np.argmax(ranked) if better == "higher" else np.argmin(ranked))
    broken = [step for step, value in zip(s.steps, s.values, strict=True) if not math.isfinite(value)]
    points = axes.points(s.steps, smoothed)
    path, raw_path = make_path_data(points), make_path_data(axes.points(s.steps, s.values))
    return CurveLine(
        name=s.name.removeprefix("train/term/").removeprefix("time/").removeprefix("gradient/"),
        color=color % PALETTE_SIZE,
        path=path,
        raw_path=raw_path if raw_path != path else "",
        dots=[point for point in points if point is not None] if len(points) <= MAX_DOTS else [],
        last=float(smoothed[finite][-1]) if finite.any() else math.nan,
        best=float(smoothed[best]),
        best_step=s.steps[best],
        not_finite=len(broken),
        first_not_finite=broken[0] if broken else None,
    )


def make_path_data(points: Sequence[Point | None]) -> str:
    """Format SVG path data; None lifts the pen."""
    parts, pen_down = [], False
    for point in points:
        if point is not None:
            parts.append(f"{'L' if pen_down else 'M'}{point[0]:.1f} {point[1]:.1f}")
        pen_down = point is not None
    return "".join(parts)


def _format_step(step: float) -> str:
    return f"{step / 1000:g}k" if step >= 10000 else f"{step:g}"


def round_down(value: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(m * power for m in (1, 2, 5) if m * power <= value * (1 + 1e-9))


def make_histogram(values: Sequence[float], bins: int = 24) -> Histogram:
    """Make a histogram of per-image values up to their 99th percentile; the last bar holds the rest."""
    array = np.asarray(values, dtype=np.float64)
    low, high = float(array.min()), float(np.percentile(array, 99))
    high = high if high > low else low + max(abs(low), 1.0) * 0.01
    counts, edges = np.histogram(np.clip(array, low, high), bins=bins, range=(low, high))
    width, height = WIDTH, 90.0

    def x(value: float) -> float:
        return RIGHT + (value - low) / (high - low) * (width - 2 * RIGHT)  # room for half a number at either end

    tallest = float(counts.max())
    bars = [
        (x(edges[i]) + 0.5, height - c / tallest * height, x(edges[i + 1]) - x(edges[i]) - 1, c / tallest * height)
        for i, c in enumerate(counts)
    ]
    median = float(np.clip(np.median(array), low, high))
    return Histogram(bars, x(median), place_ticks(choose_ticks(low, high, 4), x))
