"""Plots of a training: weights and gradients by layer, time per phase, and quality of an uncertainty."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stadia.report import figures
from stadia.report.figures import MIN_CURVE_STEPS, AxisTick, FigureAxes, make_path_data
from stadia.report.metric_labels import format_duration, format_number, is_finite, metric_label
from stadia.report.run_files import Series, ValueSpread

SPREAD_KINDS = ("weights", "gradients")
DEAD_SHARE = 0.99  # share of gradients that are exactly 0, from which on a group of layers learns nothing
DECADES_BELOW = 3  # decades of the axis below the smallest median; smaller values are drawn at the bottom
MIN_PHASE_SHARE = 0.005  # share of the whole time; smaller phases are joined
MAX_PHASES = figures.PALETTE_SIZE - 1  # phases with a color of their own; the others are joined, too
REST_LABEL = "the rest"

MAX_CURVE_VALUES = 1001
PERCENT = (0, 25, 50, 75, 100)
COVERAGE_NAME = re.compile(r"val/inside_(\d\d)$")


# -- Weights and gradients of each group of layers over the training, from histograms.csv.


@dataclass(frozen=True)
class SpreadBand:
    """One kind of values: weights or gradients.

    color: class of the stylesheet.  outer, inner, median: SVG path data of p05 to p95, p25 to p75 and the median.
    last: of the median.  zero: text of the last share that is exactly 0.  dead: nearly all values are 0.
    """

    name: str
    color: int
    outer: str
    inner: str
    median: str
    last: float
    zero: str
    dead: bool


@dataclass(frozen=True)
class LayerPlot:
    """A group of layers."""

    title: str
    bands: list[SpreadBand]
    x_ticks: list[AxisTick]
    y_ticks: list[AxisTick]


def make_layer_plots(spreads: Sequence[ValueSpread]) -> list[LayerPlot]:
    """Plot weights and gradients of each group on one logarithmic axis, where it has at least MIN_CURVE_STEPS steps."""
    groups: dict[str, list[ValueSpread]] = {}
    for spread in spreads:
        kind, _, group = spread.name.partition("/")
        if kind in SPREAD_KINDS and group and len(spread.steps) >= MIN_CURVE_STEPS:
            groups.setdefault(group, []).append(spread)
    return [plot for group, members in groups.items() if (plot := _plot_group(group, members)) is not None]


def _plot_group(group: str, spreads: Sequence[ValueSpread]) -> LayerPlot | None:
    medians = [row[2] for spread in spreads for row in spread.percentiles if row[2] > 0]
    if not medians:
        return None
    highest = max(row[4] for spread in spreads for row in spread.percentiles)
    smallest = min(size for spread in spreads for row in spread.percentiles for size in row if size > 0)
    low = 10 ** math.floor(math.log10(max(smallest, min(medians) / 10**DECADES_BELOW)))
    first, last = min(spread.steps[0] for spread in spreads), max(spread.steps[-1] for spread in spreads)
    axes = FigureAxes(first, last, low, max(2 * highest, 10 * low), log=True)
    bands, ticks = [_make_band(spread, axes) for spread in spreads], axes.y_ticks()
    return LayerPlot(group, bands, figures.make_step_ticks(axes), ticks[:: max(len(ticks) // 6, 1)])


def _make_band(spread: ValueSpread, axes: FigureAxes) -> SpreadBand:
    kind = spread.name.partition("/")[0]
    p05, p25, p50, p75, p95 = ([max(row[i], axes.low) for row in spread.percentiles] for i in range(5))
    zero = spread.zero[-1]
    dead = kind == "gradients" and zero >= DEAD_SHARE
    zero_share = f"{zero:.0%} exactly 0" if zero >= 0.005 else ""
    median = make_path_data(axes.points(spread.steps, p50))
    outer, inner = _make_area_path(spread.steps, p05, p95, axes), _make_area_path(spread.steps, p25, p75, axes)
    return SpreadBand(kind, SPREAD_KINDS.index(kind), outer, inner, median, spread.percentiles[-1][2], zero_share, dead)


def _make_area_path(steps: Sequence[int], low: Sequence[float], high: Sequence[float], axes: FigureAxes) -> str:
    """Format SVG path data of the area between two curves."""
    return make_path_data([*axes.points(steps, high), *reversed(axes.points(steps, low))]) + "Z"


# -- Time of a training: phases, time a step, and share of the device's peak.


@dataclass(frozen=True)
class PhaseTime:
    """A phase: color (class of the stylesheet), left edge and width in the bar (SVG units), and numbers as text.

    share, seconds: of the whole training.  step: seconds of a step.  of_peak: share of the device's peak; "" = unknown.
    """

    name: str
    color: int
    left: float
    width: float
    share: str
    seconds: str
    step: str
    of_peak: str


@dataclass(frozen=True)
class TimeSpent:
    """phases: the longest first.  about: text.  has_peak: whether a phase's share of the peak is known."""

    phases: list[PhaseTime]
    about: str
    has_peak: bool


def summarize_time(found: Any) -> TimeSpent | None:
    """Read `time` of run.json; None where it is missing or invalid."""
    seconds = _finite_numbers(found.get("phases_s")) if isinstance(found, dict) else {}
    if not (total := sum(seconds.values())) > 0:
        return None
    steps, of_peak = _finite_numbers(found.get("step_s")), _finite_numbers(found.get("of_peak"))
    small = sum(value for value in seconds.values() if value < MIN_PHASE_SHARE * total)
    large = {name: value for name, value in seconds.items() if value >= MIN_PHASE_SHARE * total}
    longest = sorted(((value, name) for name, value in large.items()), reverse=True)
    small += sum(value for value, _ in longest[MAX_PHASES:])
    longest = longest[:MAX_PHASES] + ([(small, REST_LABEL)] if small else [])
    phases, left = [], 0.0
    for color, (value, name) in enumerate(longest):
        width = value / total * figures.WIDTH
        step = f"{1e3 * steps[name]:.3g} ms" if steps.get(name) else ""
        reached, share = f"{of_peak[name]:.0%}" if name in of_peak else "", f"{value / total:.1%}"
        phases.append(PhaseTime(name, color, left, width, share, format_duration(value), step, reached))
        left += width
    return TimeSpent(phases, _describe_time(found, total), any(phase.of_peak for phase in phases))


def _describe_time(found: dict[str, Any], total: float) -> str:
    numbers = _finite_numbers(found)
    wall_s, peak = numbers.get("wall_s", math.nan), numbers.get("peak_flops_per_s")
    text = f"{numbers.get('steps', 0):.0f} steps in {format_duration(wall_s)}, without setup and teardown"
    text += f"; the phases cover {total / wall_s:.1%} of it" if wall_s > 0 else ""
    if peak is None:
        return text + "."
    step = _finite_numbers(found.get("of_peak")).get("step")
    reached = f", of which a step reaches {step:.0%}" if step is not None else ""
    threads = numbers.get("threads", 0) if found.get("device") == "cpu" else 0
    on = f" on {threads:.0f} thread{'s' * (threads != 1)}" if threads else ""
    return (
        f"{text}. Products of large matrices made {peak / 1e9:.3g} GFLOP/s here{on} when the training ended{reached}:"
        " convolutions and products are counted. It varies with the load of the machine."
    )


def _finite_numbers(value: Any) -> dict[str, float]:
    """Return the finite numbers of a mapping by name."""
    items = value.items() if isinstance(value, dict) else ()
    return {str(name): float(one) for name, one in items if is_finite(one)}


# -- Quality of an uncertainty: order of pixels by error (sparsification), and size (calibration).


@dataclass(frozen=True)
class SharePlot:
    """Curves over a share from 0 to 100 %. lines: (name, class of the stylesheet, SVG path data)."""

    title: str
    about: str
    lines: list[tuple[str, str, str]]
    x_label: str
    x_ticks: list[AxisTick]
    y_ticks: list[AxisTick]


def make_sparsification_plots(scores: dict[str, dict[str, Any]]) -> list[SharePlot]:
    """Plot sparsification for each score file with an `uncertainty` and each error with three valid curves."""
    plots = []
    for stem, score in scores.items():
        errors = score.get("uncertainty")
        for name, values in errors.items() if isinstance(errors, dict) else ():
            if not isinstance(values, dict):
                continue
            curves = [_read_curve(values.get(key)) for key in ("curve", "curve_of_oracle", "curve_of_random")]
            if curves[0] and all(len(curve) == len(curves[0]) for curve in curves):
                plots.append(_make_sparsification_plot(stem, name, values, curves))
    return plots


def _make_sparsification_plot(stem: str, name: str, values: dict[str, Any], curves: Sequence[list[float]]) -> SharePlot:
    """Plot values at equal steps from 0 to 100 % of the pixels; the last, of no pixel at all, is left out."""
    label = metric_label(name).label
    named = (("AUSE", values.get("ause")), ("AURG", values.get("aurg")))
    numbers = [f"{key} {format_number(value)}" for key, value in named if is_finite(value)]
    below, rank = values.get("below_random"), values.get("spearman")
    if is_finite(below):
        numbers.append(f"AUSE {abs(below):.0%} {'below' if below > 0 else 'above'} that of random order")
    if is_finite(rank):
        numbers.append(f"Spearman {format_number(rank)}")
    title = f"{stem}: {f'1 - ({label})' if name == 'd1' else label} of the pixels that are left"
    points = [[(k / (len(curve) - 1), v) for k, v in enumerate(curve[:-1])] for curve in curves]
    names = ("by uncertainty", "by the error itself", "in random order")
    lines = list(zip(names, ("s0", "s1", "s2"), points, strict=True))
    return _make_share_plot(title, ", ".join(numbers), lines, "left out", top=max(map(max, curves)))


def make_calibration_plot(series: list[Series]) -> SharePlot | None:
    """Plot measured against nominal coverage of the intervals at the last validation; None where not logged."""
    matches = ((COVERAGE_NAME.match(one.name), one.values[-1]) for one in series)
    points = sorted((int(match[1]) / 100, value) for match, value in matches if match and is_finite(value))
    if len(points) < 2:
        return None
    off = float(np.mean([abs(value - nominal) for nominal, value in points]))
    lines = [("residuals inside", "s0", points), ("nominal", "s2", [(0.0, 0.0), (1.0, 1.0)])]
    title, about = "Coverage of the predicted intervals", f"{off:.0%} off in the mean"
    return _make_share_plot(title, about, lines, "nominal coverage", top=1.0)


def is_calibration(series: Series) -> bool:
    """Return whether a scalar belongs to `make_calibration_plot` instead of a panel over steps."""
    return COVERAGE_NAME.match(series.name) is not None


def _make_share_plot(
    title: str, about: str, lines: list[tuple[str, str, list[tuple[float, float]]]], x_label: str, top: float
) -> SharePlot:
    axes = FigureAxes(0, 1, 0.0, 1.05 * top if top > 0 else 1.0, log=False)
    paths = [(name, color, make_path_data([(axes.x(a), axes.y(b)) for a, b in line])) for name, color, line in lines]
    x_ticks = [AxisTick(axes.x(percent / 100), f"{percent} %") for percent in PERCENT]
    return SharePlot(title, about, paths, x_label, x_ticks, axes.y_ticks())


def _read_curve(values: Any) -> list[float]:
    """Return at most MAX_CURVE_VALUES finite values, none below 0; none for anything else."""
    is_curve = isinstance(values, list) and 3 <= len(values) <= MAX_CURVE_VALUES
    return list(map(float, values)) if is_curve and all(is_finite(value) and value >= 0 for value in values) else []
