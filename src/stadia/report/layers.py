"""Plot the spread of weights and gradients of each group of layers over training, from histograms.csv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stadia.report import figures
from stadia.report.figures import Axes, Tick
from stadia.report.run_files import Spread

KINDS = ("weights", "gradients")
DEAD = 0.99
"""Share of gradients that are exactly 0, above which a group of layers learns nothing."""

DECADES_BELOW = 3
"""Of the smallest median: what is smaller is drawn at the bottom."""


@dataclass(frozen=True)
class Band:
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
    bands: list[Band]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def layer_plots(spreads: Sequence[Spread]) -> list[LayerPlot]:
    """Plot weights and gradients of each group on one logarithmic axis, where it has at least two steps."""
    groups: dict[str, list[Spread]] = {}
    for spread in spreads:
        kind, _, group = spread.name.partition("/")
        if kind in KINDS and group and len(spread.steps) > 1:
            groups.setdefault(group, []).append(spread)
    return [found for group, of_group in groups.items() if (found := _plot_group(group, of_group)) is not None]


def _plot_group(group: str, spreads: Sequence[Spread]) -> LayerPlot | None:
    medians = [row[2] for spread in spreads for row in spread.percentiles if row[2] > 0]
    if not medians:
        return None
    highest = max(row[4] for spread in spreads for row in spread.percentiles)
    smallest = min(size for spread in spreads for row in spread.percentiles for size in row if size > 0)
    low = 10 ** math.floor(math.log10(max(smallest, min(medians) / 10**DECADES_BELOW)))
    axes = Axes(
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
        x_ticks=figures.step_ticks(axes),
        y_ticks=ticks[:: max(len(ticks) // 6, 1)],
    )


def _make_band(spread: Spread, axes: Axes) -> Band:
    kind = spread.name.partition("/")[0]
    p05, p25, p50, p75, p95 = ([max(row[i], axes.low) for row in spread.percentiles] for i in range(5))
    zero = spread.zero[-1]
    dead = kind == "gradients" and zero >= DEAD
    zero_share = f"{zero:.0%} exactly 0" if zero >= 0.005 else ""
    median = figures.path_data(axes.points(spread.steps, p50))
    outer, inner = _make_area_path(spread.steps, p05, p95, axes), _make_area_path(spread.steps, p25, p75, axes)
    return Band(kind, KINDS.index(kind), outer, inner, median, spread.percentiles[-1][2], zero_share, dead)


def _make_area_path(steps: Sequence[int], low: Sequence[float], high: Sequence[float], axes: Axes) -> str:
    """Format SVG path data of the area between two curves."""
    there, back = axes.points(steps, high), axes.points(steps, low)
    return figures.path_data([*there, *reversed(back)]) + "Z"
