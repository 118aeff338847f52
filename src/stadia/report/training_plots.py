"""Plot layer statistics, time per phase and uncertainty of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from stadia.report import figures, metric_labels
from stadia.report.figures import AxisTick, FigureAxes
from stadia.report.run_files import Series, ValueSpread

# -- Plot the spread of weights and gradients of each group of layers over training, from histograms.csv.

SPREAD_KINDS = ("weights", "gradients")
DEAD_SHARE = 0.99
"""Share of gradients that are exactly 0, above which a group of layers learns nothing."""

DECADES_BELOW = 3
"""Of the smallest median: what is smaller is drawn at the bottom."""


@dataclass(frozen=True)
class SpreadBand:
    """One kind of values: its color (class of the template's stylesheet), SVG path data of p05 to p95, p25 to p75 and
    the median, and its last value; `zero`: the last share that is exactly 0. dead: nearly all.
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
    """Plot weights and gradients of each group on one logarithmic axis, where it has at least two steps."""
    groups: dict[str, list[ValueSpread]] = {}
    for spread in spreads:
        kind, _, group = spread.name.partition("/")
        if kind in SPREAD_KINDS and group and len(spread.steps) > 1:
            groups.setdefault(group, []).append(spread)
    return [found for group, of_group in groups.items() if (found := _plot_group(group, of_group)) is not None]


def _plot_group(group: str, spreads: Sequence[ValueSpread]) -> LayerPlot | None:
    medians = [row[2] for spread in spreads for row in spread.percentiles if row[2] > 0]
    if not medians:
        return None
    highest = max(row[4] for spread in spreads for row in spread.percentiles)
    smallest = min(size for spread in spreads for row in spread.percentiles for size in row if size > 0)
    low = 10 ** math.floor(math.log10(max(smallest, min(medians) / 10**DECADES_BELOW)))
    axes = FigureAxes(
        min(spread.steps[0] for spread in spreads),
        max(spread.steps[-1] for spread in spreads),
        low,
        max(2 * highest, 10 * low),
        log=True,
    )
    ticks = axes.y_ticks()
    return LayerPlot(
        title=group,
        bands=[_make_band(spread, axes) for spread in spreads],
        x_ticks=figures.make_step_ticks(axes),
        y_ticks=ticks[:: max(len(ticks) // 6, 1)],
    )


def _make_band(spread: ValueSpread, axes: FigureAxes) -> SpreadBand:
    kind = spread.name.partition("/")[0]
    p05, p25, p50, p75, p95 = ([max(row[i], axes.low) for row in spread.percentiles] for i in range(5))
    zero = spread.zero[-1]
    dead = kind == "gradients" and zero >= DEAD_SHARE
    zero_share = f"{zero:.0%} exactly 0" if zero >= 0.005 else ""
    median = figures.make_path_data(axes.points(spread.steps, p50))
    outer, inner = _make_area_path(spread.steps, p05, p95, axes), _make_area_path(spread.steps, p25, p75, axes)
    return SpreadBand(kind, SPREAD_KINDS.index(kind), outer, inner, median, spread.percentiles[-1][2], zero_share, dead)


def _make_area_path(steps: Sequence[int], low: Sequence[float], high: Sequence[float], axes: FigureAxes) -> str:
    """Format SVG path data of the area between two curves."""
    there, back = axes.points(steps, high), axes.points(steps, low)
    return figures.make_path_data([*there, *reversed(back)]) + "Z"


# -- Show where a training's time went: phases, time a step, and share of the device's peak.

MIN_PHASE_SHARE = 0.005
"""Of the whole: smaller phases are one."""

MAX_PHASES = figures.PALETTE_SIZE - 1
"""Phases with a color of their own; the others are small, too."""

REST_LABEL = "the rest"


@dataclass(frozen=True)
class PhaseTime:
    """name, its color (class of the stylesheet), left edge and width in the bar (SVG units); and as text: share, all
    of it, a step, and what of the peak it reaches (empty where unknown).
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
    """phases: the longest first.  about: what it is of, and whether the parts make the whole.  has_peak: whether the
    peak is known.
    """

    phases: list[PhaseTime]
    about: str
    has_peak: bool


def summarize_time(found: Any) -> TimeSpent | None:
    """Read `time` of run.json; None where it is missing or invalid."""
    if (
        not isinstance(found, dict)
        or not (seconds := _finite_numbers(found.get("phases_s")))
        or not (total := sum(seconds.values())) > 0
    ):
        return None
    steps, of_peak = _finite_numbers(found.get("step_s")), _finite_numbers(found.get("of_peak"))
    small = sum(value for value in seconds.values() if value < MIN_PHASE_SHARE * total)
    longest = sorted(
        ((value, name) for name, value in seconds.items() if value >= MIN_PHASE_SHARE * total), reverse=True
    )
    small += sum(value for value, _ in longest[MAX_PHASES:])
    longest = longest[:MAX_PHASES] + ([(small, REST_LABEL)] if small else [])
    phases, left = [], 0.0
    for color, (value, name) in enumerate(longest):
        width = value / total * figures.WIDTH
        step = f"{1e3 * steps[name]:.3g} ms" if steps.get(name) else ""
        reached = f"{of_peak[name]:.0%}" if name in of_peak else ""
        phases.append(
            PhaseTime(
                name, color, left, width, f"{value / total:.1%}", metric_labels.format_duration(value), step, reached
            )
        )
        left += width
    return TimeSpent(phases, _describe_time(found, total), any(phase.of_peak for phase in phases))


def _describe_time(found: dict[str, Any], total: float) -> str:
    known = _finite_numbers(found)
    wall_s, peak = known.get("wall_s", math.nan), known.get("peak_flops_per_s")
    text = f"{known.get('steps', 0):.0f} steps in {metric_labels.format_duration(wall_s)}, without setup and teardown"
    text += f"; the phases cover {total / wall_s:.1%} of it" if wall_s > 0 else ""
    if peak is None:
        return text + "."
    step = _finite_numbers(found.get("of_peak")).get("step")
    reached = f", of which a step reaches {step:.0%}" if step is not None else ""
    threads = known.get("threads", 0) if found.get("device") == "cpu" else 0
    on = f" on {threads:.0f} thread{'s' * (threads != 1)}" if threads else ""
    return (
        f"{text}. Products of large matrices made {peak / 1e9:.3g} GFLOP/s here{on} when the training ended{reached}:"
        " convolutions and products are counted. It varies with the load of the machine."
    )


def _finite_numbers(value: Any) -> dict[str, float]:
    """Return the finite numbers of a mapping by name."""
    items = value.items() if isinstance(value, dict) else ()
    return {str(name): float(one) for name, one in items if isinstance(one, int | float) and math.isfinite(one)}


# -- Plot the quality of an uncertainty: order of pixels by error (sparsification), and size (calibration).

MAX_POINTS = 1001
PERCENT = (0, 25, 50, 75, 100)
COVERAGE_NAME = re.compile(r"val/inside_(\d\d)$")


@dataclass(frozen=True)
class SharePlot:
    """Curves over a share from 0 to 100 %: (name, class of the template's stylesheet, SVG path data) each, and what
    their meaning in words.
    """

    title: str
    about: str
    lines: list[tuple[str, str, str]]
    x_label: str
    x_ticks: list[AxisTick]
    y_ticks: list[AxisTick]


def make_sparsification_plots(scores: dict[str, dict[str, Any]]) -> list[SharePlot]:
    """Plot sparsification for each score file with an `uncertainty` and each error with three valid curves."""
    found = []
    for stem, score in scores.items():
        of_error = score.get("uncertainty")
        for name, worth in of_error.items() if isinstance(of_error, dict) else ():
            curves = (
                [_as_curve(worth.get(key)) for key in ("curve", "curve_of_oracle", "curve_of_random")]
                if isinstance(worth, dict)
                else []
            )
            if curves and all(curve is not None and len(curve) == len(curves[0] or ()) for curve in curves):
                found.append(_make_sparsification_plot(stem, name, worth, curves))
    return found


def _make_sparsification_plot(stem: str, name: str, worth: dict[str, Any], curves: Sequence[Any]) -> SharePlot:
    label = metric_labels.metric_label(name).label
    numbers = [
        f"{key} {metric_labels.format_number(value)}"
        for key, value in (("AUSE", worth.get("ause")), ("AURG", worth.get("aurg")))
        if _is_finite_number(value)
    ]
    below, rank = worth.get("below_random"), worth.get("spearman")
    if _is_finite_number(below):
        numbers.append(f"AUSE {abs(below):.0%} {'below' if below > 0 else 'above'} that of random order")
    if _is_finite_number(rank):
        numbers.append(f"Spearman {metric_labels.format_number(rank)}")
    title = f"{stem}: {f'1 - ({label})' if name == 'd1' else label} of the pixels that are left"
    names = (("by uncertainty", "s0"), ("by the error itself", "s1"), ("in random order", "s2"))
    lines = [(name, color, list(curve)) for (name, color), curve in zip(names, curves, strict=True)]
    return _make_curves_plot(title, ", ".join(numbers), lines, "left out", top=max(max(line[2]) for line in lines))


def make_calibration_plot(series: list[Series]) -> SharePlot | None:
    """Plot measured against nominal coverage of the intervals at the last validation; None where not logged."""
    shares = {
        int(match[1]): s.values[-1]
        for s in series
        if (match := COVERAGE_NAME.match(s.name)) and _is_finite_number(s.values[-1])
    }
    if len(shares) < 2:
        return None
    nominal = sorted(shares)
    off = float(np.mean([abs(shares[percent] - percent / 100) for percent in nominal]))
    lines = [
        ("residuals inside", "s0", [(percent / 100, shares[percent]) for percent in nominal]),
        ("nominal", "s2", [(0.0, 0.0), (1.0, 1.0)]),
    ]
    return _make_share_plot(
        "Coverage of the predicted intervals", f"{off:.0%} off in the mean", lines, "nominal coverage", top=1.0
    )


def is_calibration(series: Series) -> bool:
    """Return whether a scalar belongs to `calibration_plot` instead of a panel over steps."""
    return COVERAGE_NAME.match(series.name) is not None


def _make_curves_plot(
    title: str, about: str, lines: list[tuple[str, str, list[float]]], x_label: str, top: float
) -> SharePlot:
    """Plot values at equal steps from 0 to 100 %; the last, of no pixel at all, is left out."""
    points = [
        (name, color, [(k / (len(values) - 1), v) for k, v in enumerate(values[:-1])]) for name, color, values in lines
    ]
    return _make_share_plot(title, about, points, x_label, top)


def _make_share_plot(
    title: str, about: str, lines: list[tuple[str, str, list[tuple[float, float]]]], x_label: str, top: float
) -> SharePlot:
    high = 1.05 * top if top > 0 else 1.0

    def x(share: float) -> float:
        return figures.LEFT + share * (figures.WIDTH - figures.LEFT - figures.RIGHT)

    def y(value: float) -> float:
        return figures.HEIGHT - figures.BOTTOM - value / high * (figures.HEIGHT - figures.TOP - figures.BOTTOM)

    paths = [
        (name, color, figures.make_path_data([(x(share), y(value)) for share, value in line]))
        for name, color, line in lines
    ]
    ticks = figures.choose_ticks(0, high)
    y_ticks = [AxisTick(y(value), label) for value, label in zip(ticks, figures.format_tick_labels(ticks), strict=True)]
    return SharePlot(
        title, about, paths, x_label, [AxisTick(x(percent / 100), f"{percent} %") for percent in PERCENT], y_ticks
    )


def _as_curve(values: Any) -> list[float] | None:
    """Return at most MAX_POINTS finite values, none below 0, or None for anything else."""
    if (
        not isinstance(values, list)
        or not 3 <= len(values) <= MAX_POINTS
        or not all(_is_finite_number(value) and value >= 0 for value in values)
    ):
        return None
    return [float(value) for value in values]


def _is_finite_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
