"""Draw the quality of an uncertainty: the order of pixels by error (sparsification), and its size (calibration)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stadia.report.charts import PALETTE, Chart, LegendRow, label_values, render_svg
from stadia.report.run_files import Series, format_number, is_finite, metric_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MAX_CURVE_VALUES = 1001  # a longer curve of a score file is not read
COVERAGE_NAME = re.compile(r"val/inside_(\d\d)$")


def make_sparsification_plots(scores: dict[str, dict[str, Any]]) -> list[Chart]:
    """Plot sparsification for each score file with an `uncertainty` and valid curves."""
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
    """Plot measured against nominal coverage at the last validation; None if not logged."""
    matches = ((COVERAGE_NAME.match(s.name), s.values[-1]) for s in series)
    points = sorted((int(match[1]) / 100, value) for match, value in matches if match and is_finite(value))
    if len(points) < 2:
        return None
    off = float(np.mean([abs(value - nominal) for nominal, value in points]))
    lines = {"residuals inside": points, "nominal": [(0.0, 0.0), (1.0, 1.0)]}
    title, about = "Coverage of the predicted intervals", f"{off:.0%} off in the mean"
    return _make_share_plot(title, about, lines, "nominal coverage", top=1.0)


def is_calibration(series: Series) -> bool:
    """Return whether a scalar belongs to `make_calibration_plot`."""
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
