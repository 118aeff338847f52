"""Draw what a training logged: its curves, the weights of its layers, and where its time went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stadia.io.run_facts import TrainingTimes
from stadia.report.charts import PALETTE, Chart, LegendRow, label_steps, label_values, make_plot, render_svg
from stadia.report.run_files import (
    LOSS,
    RATE,
    SECONDS,
    TERMS,
    PanelLabel,
    RunFiles,
    Series,
    ValueSpread,
    format_duration,
    format_metric,
    format_number,
    is_finite,
    label_panel,
    metric_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


SPREAD_KINDS = ("weights", "gradients")
MEDIAN_SIZE = "Median size"
DEAD_SHARE = 0.99  # share of zero gradients of layers that learn nothing
DECADES_BELOW = 3  # decades of the axis below the smallest median
MIN_PHASE_SHARE = 0.005  # share of the whole time; smaller phases are joined
MAX_PHASES = len(PALETTE) - 1  # phases with their own color
REST_LABEL = "the rest"

MIN_CURVE_STEPS = 3


def list_stages(run: RunFiles) -> list[tuple[int, str]]:
    """Return (first step, size) of each stage of a training with growing images."""
    return [(stage.first_step, f"{stage.width}x{stage.height}") for stage in run.facts.stages]


def make_curves(series: list[Series], marks: Sequence[tuple[int, str]] = ()) -> list[Chart]:
    """Make panels: loss, its terms, validation, other values, learning rate, time."""
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
    """Return (panel, name, values with their steps) of series with too few steps for a curve."""
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


def make_layer_plots(spreads: Sequence[ValueSpread]) -> list[Chart]:
    """Plot weights and gradients of each group with at least MIN_CURVE_STEPS steps, logarithmic."""
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


@dataclass(frozen=True)
class TimeSpent:
    """phases: (name, share, time, time a step, share of the peak) as text, the longest first."""

    phases: list[tuple[str, str, str, str]]
    about: str


def summarize_time(times: TrainingTimes | None) -> TimeSpent | None:
    """Summarize the times of a run; None if it has none."""
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
