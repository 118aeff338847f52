"""Plots of a training: curves, weights and gradients by layer, time per phase, and quality of an uncertainty."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stadia.files.run_facts import TrainingTimes
from stadia.report.figures import (
    MIN_CURVE_STEPS,
    PALETTE,
    Chart,
    LegendRow,
    label_steps,
    label_values,
    make_plot,
    render_svg,
)
from stadia.report.metric_labels import (
    LOSS,
    RATE,
    SECONDS,
    TERMS,
    PanelLabel,
    format_duration,
    format_metric,
    format_number,
    is_finite,
    label_panel,
    metric_label,
)
from stadia.report.run_files import RunFiles, Series, ValueSpread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPREAD_KINDS = ("weights", "gradients")
MEDIAN_SIZE = "Median size"
DEAD_SHARE = 0.99  # share of zero gradients of layers that learn nothing
DECADES_BELOW = 3  # decades of the axis below the smallest median
MIN_PHASE_SHARE = 0.005  # share of the whole time; smaller phases are joined
MAX_PHASES = len(PALETTE) - 1  # phases with their own color
REST_LABEL = "the rest"

MAX_CURVE_VALUES = 1001
COVERAGE_NAME = re.compile(r"val/inside_(\d\d)$")


# -- Curves of the logged scalars, from metrics.csv.


def list_stages(run: RunFiles) -> list[tuple[int, str]]:
    """Return (first step, size) of each stage of a training with growing images."""
    return [(stage.first_step, f"{stage.width}x{stage.height}") for stage in run.facts.stages]


def make_curves(series: list[Series], marks: Sequence[tuple[int, str]] = ()) -> list[Chart]:
    """Return charts of the loss, its terms, validation, other values, the learning rate, and time.

    marks: (first step, label) of each stage of the training.
    """
    groups = _group_by_panel([s for s in series if len(s.steps) >= MIN_CURVE_STEPS])
    plots = []

    def rank(panel: PanelLabel) -> int:
        is_validation = any(s.name.startswith("val/") for s in groups[panel])
        return {LOSS: 0, TERMS: 1, RATE: 4, SECONDS: 5}.get(panel.title, 2 if is_validation else 3)

    for panel in sorted(groups, key=rank):
        better, noisy = metric_label(groups[panel][0].name).better, panel.title != RATE
        plots.append(make_plot(panel.title, groups[panel], better=better, noisy=noisy, marks=marks, note=panel.note))
    return [plot for plot in plots if plot is not None]


def list_short_series(series: list[Series], spreads: Sequence[ValueSpread] = ()) -> list[tuple[str, str, str]]:
    """Return (panel, name, values with their steps) of the series that have too few steps for a curve."""
    panels = _group_by_panel([s for s in series if len(s.steps) < MIN_CURVE_STEPS and all(map(is_finite, s.values))])
    rows = [
        (panel.title, s.name, s.steps, [format_metric(s.name, value) for value in s.values])
        for panel, group in panels.items()
        for s in group
    ]
    rows += [
        (MEDIAN_SIZE, s.name, s.steps, [_format_size(*row) for row in zip(s.percentiles, s.zero, strict=True)])
        for s in spreads
        if len(s.steps) < MIN_CURVE_STEPS
    ]
    return [
        (title, name, ", ".join(f"{value} at step {step}" for value, step in zip(values, steps, strict=True)))
        for title, name, steps, values in rows
    ]


def _format_size(percentiles: tuple[float, ...], zero: float) -> str:
    return format_number(percentiles[2]) + (f" ({zero:.0%} exactly 0)" if zero else "")


def _group_by_panel(series: Sequence[Series]) -> dict[PanelLabel, list[Series]]:
    groups: dict[PanelLabel, list[Series]] = {}
    for s in series:
        groups.setdefault(label_panel(s.name), []).append(s)
    return groups


# -- Weights and gradients of each group of layers over the training, from histograms.csv.


def make_layer_plots(spreads: Sequence[ValueSpread]) -> list[Chart]:
    """Plot the weights and gradients of each group with at least MIN_CURVE_STEPS steps, on a logarithmic axis."""
    groups: dict[str, list[ValueSpread]] = {}
    for spread in spreads:
        kind, _, group = spread.name.partition("/")
        if kind in SPREAD_KINDS and group and len(spread.steps) >= MIN_CURVE_STEPS:
            groups.setdefault(group, []).append(spread)
    return [plot for group, members in groups.items() if (plot := _plot_group(group, members)) is not None]


def _plot_group(group: str, spreads: Sequence[ValueSpread]) -> Chart | None:
    medians = [row[2] for spread in spreads for row in spread.percentiles if row[2] > 0]
    if not medians:
        return None
    colors = [PALETTE[SPREAD_KINDS.index(spread.name.partition("/")[0])] for spread in spreads]
    highest = max(row[4] for spread in spreads for row in spread.percentiles)
    smallest = min(size for spread in spreads for row in spread.percentiles for size in row if size > 0)
    low = 10 ** math.floor(math.log10(max(smallest, min(medians) / 10**DECADES_BELOW)))

    def draw(axes: Axes) -> None:
        label_steps(axes, min(spread.steps[0] for spread in spreads), max(spread.steps[-1] for spread in spreads))
        label_values(axes, low, max(2 * highest, 10 * low), log=True)
        for spread, color in zip(spreads, colors, strict=True):
            p05, p25, p50, p75, p95 = np.maximum(spread.percentiles, low).T
            for bottom, top in ((p05, p95), (p25, p75)):
                axes.fill_between(spread.steps, bottom, top, color=color, alpha=0.16, linewidth=0)
            axes.plot(spread.steps, p50, color=color)

    svg = render_svg(f"weights and gradients of {group} over steps", draw)
    return Chart(group, svg, list(map(_describe_spread, spreads)))


def _describe_spread(spread: ValueSpread) -> LegendRow:
    kind, zero = spread.name.partition("/")[0], spread.zero[-1]
    is_dead = kind == "gradients" and zero >= DEAD_SHARE
    return LegendRow(
        color=SPREAD_KINDS.index(kind),
        name=kind,
        value=f"last {format_number(spread.percentiles[-1][2])}",
        about=f"{zero:.0%} exactly 0" if zero >= 0.005 else "",
        tone="stop" if is_dead else "soft",
    )


# -- Time of a training: phases, and time of a step.


@dataclass(frozen=True)
class TimeSpent:
    """The time of a training by phase, as text.

    phases: (name, share, time, time per step, share of the peak), the longest first.
    """

    phases: list[tuple[str, str, str, str]]
    about: str


def summarize_time(times: TrainingTimes | None) -> TimeSpent | None:
    """Return the time of a run by phase; None if it is not recorded."""
    seconds = times.phases_s if times else {}
    if times is None or not (total := sum(seconds.values())) > 0:
        return None
    steps = times.step_s
    longest = sorted(seconds.items(), key=lambda phase: -phase[1])[:MAX_PHASES]
    longest = [(name, value) for name, value in longest if value >= MIN_PHASE_SHARE * total]
    rest = total - sum(value for _, value in longest)
    phases = [
        (name, f"{value / total:.1%}", format_duration(value), f"{1e3 * steps[name]:.3g} ms" if steps.get(name) else "")
        for name, value in [*longest, *([(REST_LABEL, rest)] if rest > 0 else [])]
    ]
    return TimeSpent(phases, _describe_time(times, total))


def _describe_time(times: TrainingTimes, total: float) -> str:
    text = f"{times.steps} steps in {format_duration(times.wall_s)}, without setup and teardown"
    text += f"; the phases cover {total / times.wall_s:.1%} of it" if times.wall_s > 0 else ""
    return text + "."


# -- Quality of an uncertainty: order of pixels by error (sparsification), and size (calibration).


def make_sparsification_plots(scores: dict[str, dict[str, Any]]) -> list[Chart]:
    """Plot the sparsification curves of each score file that has a valid `uncertainty`."""
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


def _make_sparsification_plot(stem: str, name: str, values: dict[str, Any], curves: Sequence[list[float]]) -> Chart:
    label = metric_label(name).label
    named = (("AUSE", values.get("ause")), ("AURG", values.get("aurg")))
    numbers = [f"{key} {format_number(value)}" for key, value in named if is_finite(value)]
    below, rank = values.get("below_random"), values.get("spearman")
    if is_finite(below):
        numbers.append(f"AUSE {abs(below):.0%} {'below' if below > 0 else 'above'} random order")
    if is_finite(rank):
        numbers.append(f"Spearman {format_number(rank)}")
    title = f"{stem}: {f'1 - ({label})' if name == 'd1' else label} of the pixels that are left"
    points = [[(k / (len(curve) - 1), v) for k, v in enumerate(curve[:-1])] for curve in curves]
    lines = dict(zip(("by uncertainty", "by the error itself", "in random order"), points, strict=True))
    return _make_share_plot(title, ", ".join(numbers), lines, "left out", top=max(map(max, curves)))


def make_calibration_plot(series: list[Series]) -> Chart | None:
    """Plot measured over nominal coverage at the last validation; None if it was not logged."""
    matches = ((COVERAGE_NAME.match(s.name), s.values[-1]) for s in series)
    points = sorted((int(match[1]) / 100, value) for match, value in matches if match and is_finite(value))
    if len(points) < 2:
        return None
    off = float(np.mean([abs(value - nominal) for nominal, value in points]))
    lines = {"residuals inside": points, "nominal": [(0.0, 0.0), (1.0, 1.0)]}
    title, about = "Coverage of the predicted intervals", f"{off:.0%} off in the mean"
    return _make_share_plot(title, about, lines, "nominal coverage", top=1.0)


def is_calibration(series: Series) -> bool:
    """Return whether a scalar is a series for the calibration plot."""
    return COVERAGE_NAME.match(series.name) is not None


def _make_share_plot(
    title: str, about: str, lines: dict[str, list[tuple[float, float]]], x_label: str, top: float
) -> Chart:
    def draw(axes: Axes) -> None:
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        label_values(axes, 0, 1.05 * top if top > 0 else 1)
        for points, color in zip(lines.values(), PALETTE, strict=False):
            axes.plot(*np.transpose(points), color=color)

    legend = [LegendRow(color, name) for color, name in enumerate(lines)]
    return Chart(title, render_svg(title, draw, corner=""), legend, f"Across: {x_label}. {about}")


def _read_curve(values: Any) -> list[float]:
    is_curve = isinstance(values, list) and 3 <= len(values) <= MAX_CURVE_VALUES
    return list(map(float, values)) if is_curve and all(is_finite(value) and value >= 0 for value in values) else []
