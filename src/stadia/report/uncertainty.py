"""Plot the quality of an uncertainty: order of pixels by error (sparsification), and size (calibration)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from stadia.report import figures, wording
from stadia.report.figures import Tick
from stadia.report.run_files import Series

MAX_POINTS = 1001
PERCENT = (0, 25, 50, 75, 100)
INSIDE = re.compile(r"val/inside_(\d\d)$")


@dataclass(frozen=True)
class SharePlot:
    """Curves over a share from 0 to 100 %: (name, class of the template's stylesheet, SVG path data) each, and what
    their meaning in words.
    """

    title: str
    about: str
    lines: list[tuple[str, str, str]]
    x_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def sparsification_plots(scores: dict[str, dict[str, Any]]) -> list[SharePlot]:
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
    label = wording.score(name).label
    numbers = [
        f"{key} {wording.number(value)}"
        for key, value in (("AUSE", worth.get("ause")), ("AURG", worth.get("aurg")))
        if _is_finite_number(value)
    ]
    below, rank = worth.get("below_random"), worth.get("spearman")
    if _is_finite_number(below):
        numbers.append(f"AUSE {abs(below):.0%} {'below' if below > 0 else 'above'} that of random order")
    if _is_finite_number(rank):
        numbers.append(f"Spearman {wording.number(rank)}")
    title = f"{stem}: {f'1 - ({label})' if name == 'd1' else label} of the pixels that are left"
    names = (("by uncertainty", "s0"), ("by the error itself", "s1"), ("in random order", "s2"))
    lines = [(name, color, list(curve)) for (name, color), curve in zip(names, curves, strict=True)]
    return _make_curves_plot(title, ", ".join(numbers), lines, "left out", top=max(max(line[2]) for line in lines))


def calibration_plot(series: list[Series]) -> SharePlot | None:
    """Plot measured against nominal coverage of the intervals at the last validation; None where not logged."""
    shares = {
        int(match[1]): s.values[-1]
        for s in series
        if (match := INSIDE.match(s.name)) and _is_finite_number(s.values[-1])
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
    return INSIDE.match(series.name) is not None


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
        (name, color, figures.path_data([(x(share), y(value)) for share, value in line])) for name, color, line in lines
    ]
    ticks = figures.nice_ticks(0, high)
    y_ticks = [Tick(y(value), label) for value, label in zip(ticks, figures.tick_labels(ticks), strict=True)]
    return SharePlot(
        title, about, paths, x_label, [Tick(x(percent / 100), f"{percent} %") for percent in PERCENT], y_ticks
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
