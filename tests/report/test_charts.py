"""Charts of the report: what is drawn where, and that the SVG follows the page."""

import math
import re

import numpy as np
import pytest

from stadia.report import charts
from stadia.report.charts import draw_histogram, make_plot, smooth_values
from stadia.report.path_charts import DrawnPath, draw_camera_paths
from stadia.report.run_files import Series

BOTTOM, TOP = charts.HEIGHT - charts.BOTTOM, charts.TOP


def read_line(svg: str, color: str = "c0", style: str = "") -> list[list[tuple[float, float]]]:
    """Return the points of each piece of the first line of a color."""
    (path, *_) = re.findall(rf'd="([^"]*)"[^>]*stroke="var\(--{color}\)"[^>]*{style}', svg)
    pieces = [re.findall(r"(-?[\d.]+) (-?[\d.]+)", piece) for piece in path.split("M")[1:]]
    return [[(float(x), float(y)) for x, y in piece] for piece in pieces]


def read_labels(svg: str) -> list[str]:
    return re.findall(r">([^<>\n]+)</text>", svg)


def plot(*values: float, name: str = "train/loss", **options: object) -> charts.Chart:
    drawn = make_plot("t", [Series(name, list(range(1, len(values) + 1)), list(values))], **options)
    assert drawn is not None
    return drawn


def test_smooth_is_a_centered_mean_of_finite_values_that_shrinks_at_the_ends():
    assert smooth_values([1, 2, 6, 4, 5], 3).tolist() == [1, 3, 4, 5, 5]
    assert smooth_values([1, math.nan, 3], 3).tolist() == pytest.approx([1, 2, 3])
    assert np.isnan(smooth_values([math.inf], 1)).all()


@pytest.mark.parametrize(("values", "log"), [((0.01, 0.1, 10.0), True), ((1.0, 0.3, 0.1), False)])
def test_values_over_decades_have_a_logarithmic_axis(values, log):
    panel = plot(*values)
    assert panel.is_log == log
    (((_, y0), (_, y1), (_, y2)),) = read_line(panel.svg)
    assert ((y0 - y1) * 2 == pytest.approx(y1 - y2, abs=0.3)) == log  # one decade, two decades
    assert ("0.1" in read_labels(panel.svg)) == log


def test_best_follows_the_direction():
    best = {"higher": "best 0.900 at step 2", "lower": "best 0.500 at step 1", "neither": ""}
    for better, about in best.items():
        (row,) = plot(0.5, 0.9, 0.7, name="time/step_s", better=better).legend
        assert (row.name, row.value, row.about) == ("step_s", "last 0.700", about)


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.9985 + 0.00001 * i for i in range(150)], [1.0, 2.0, 900.0]])
def test_a_histogram_has_a_bar_for_each_bin_and_labels_that_differ(values):
    svg = draw_histogram("h", values)
    assert svg.count('fill="var(--c0)"') == 24
    labels = read_labels(svg)
    assert len(set(labels)) == len(labels) > 1
    assert read_line(svg, "ink")


def draw(points_m, true_m=None, **heights):
    """Charts of one path, with heights where they are given."""
    estimate = DrawnPath("pose network", 0, points_m, heights.get("estimated"))
    return draw_camera_paths("world", [estimate], DrawnPath("true", 0, true_m, heights.get("true")))


def test_a_path_from_above_has_one_scale_and_forward_is_up():
    corner = [[0, 0], [10, 0], [10, 20]]
    (chart,) = draw(corner, corner)
    ((a, b, c),) = read_line(chart.svg)
    assert math.dist(b, c) == pytest.approx(2 * math.dist(a, b), rel=1e-2)
    assert c[1] < b[1]
    assert read_line(chart.svg, "soft") == [[a, b, c]]
    assert [row.color for row in chart.legend] == [0, "truth"]
    assert [row.color for row in draw(corner)[0].legend] == [0]
