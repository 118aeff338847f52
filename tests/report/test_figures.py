"""Numbers to SVG: smoothing, ticks, axes, drawings, against values worked out by hand."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from stadia.report import figures, metric_labels
from stadia.report.path_figures import DrawnPath, draw_camera_paths
from stadia.report.run_files import Series
from stadia.report.sections import make_curves


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def test_smooth_is_a_centered_mean_that_shrinks_at_the_ends():
    assert figures.smooth_values([1, 2, 6, 4, 5], 3).tolist() == [1, 3, 4, 5, 5]


def test_smooth_leaves_out_what_is_not_finite():
    assert figures.smooth_values([1, math.nan, 3], 3).tolist() == pytest.approx([1, 2, 3])
    assert np.isnan(figures.smooth_values([math.inf], 1)).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0.13, 0.42, [0.2, 0.3, 0.4]), (-1, 1, [-1, -0.5, 0, 0.5, 1]), (3, 3, [3])],
)
def test_ticks_are_round(low, high, expected):
    assert figures.choose_ticks(low, high) == pytest.approx(expected)


def test_plot_maps_ends_to_the_frame():
    panel = figures.make_plot("t", [Series("a", [10, 20], [0.0, 1.0])])
    (x0, y0), (x1, y1) = points(panel.lines[0].path)
    assert (x0, x1) == (figures.LEFT, figures.WIDTH - figures.RIGHT)
    assert y0 == figures.HEIGHT - figures.BOTTOM  # the axis starts at 0
    assert y1 == pytest.approx(figures.TOP + (figures.HEIGHT - figures.TOP - figures.BOTTOM) * 0.05 / 1.05, abs=0.1)


def test_wide_range_is_logarithmic():
    panel = figures.make_plot("t", [Series("a", [0, 1, 2], [0.01, 0.1, 10.0])])
    assert panel.log
    (_, y0), (_, y1), (_, y2) = points(panel.lines[0].path)
    assert (y0 - y1) * 2 == pytest.approx(y1 - y2, abs=0.2)  # one decade, two decades


def test_a_value_that_stands_still_is_a_level_line_with_short_numbers_beside():
    values = [0.27889487, 0.2788949, 0.27889488]
    panel = figures.make_plot("t", [Series("gradient/log_depth", [1, 2, 3], values)])
    heights = [y for _, y in points(panel.lines[0].path)]
    assert max(heights) - min(heights) < 1  # of 240: rounding is no course
    assert max(len(tick.label) for tick in panel.y_ticks) <= 7  # what the left margin holds
    moving = figures.make_plot("t", [Series("val/d1", [1, 2], [0.997, 0.999])])  # a fifth of a percent is one
    (_, low), (_, high) = points(moving.lines[0].path)
    assert low - high > 0.9 * (figures.HEIGHT - figures.TOP - figures.BOTTOM) - 1


def test_best_follows_the_direction():
    series = Series("val/d1", [1, 2, 3], [0.5, 0.9, 0.7])
    assert figures.make_plot("t", [series], better="higher").lines[0].best_step == 2
    assert figures.make_plot("t", [series], better="lower").lines[0].best_step == 1


def test_values_that_are_not_finite_break_the_line():
    line = figures.make_plot("t", [Series("a", [0, 1, 2, 3], [1.0, math.nan, 2.0, 3.0])]).lines[0]
    assert line.path.count("M") == 2
    assert (line.not_finite, line.first_not_finite) == (1, 1)


def test_nothing_finite_is_no_plot():
    assert figures.make_plot("t", [Series("a", [0], [math.nan])]) is None


def test_one_value_is_a_plot():
    assert points(figures.make_plot("t", [Series("a", [5], [2.0])]).lines[0].path)


def test_long_series_are_thinned():
    panel = figures.make_plot("t", [Series("a", list(range(50_000)), list(np.linspace(1, 2, 50_000)))])
    assert len(points(panel.lines[0].path)) <= figures.MAX_POINTS


def draw(points_m, true_m=None, **heights):
    """A figure of one path, with heights where they are given."""
    estimate = DrawnPath("pose network", 0, points_m, heights.get("estimated"))
    return draw_camera_paths([estimate], DrawnPath("true", 0, true_m, heights.get("true")))


def test_path_drawing_keeps_shape_and_scale():
    drawing = draw([[0, 0], [10, 0], [10, 20]], [[0, 0], [10, 0], [10, 20]])
    a, b, c = points(drawing.lines[0].path)
    across, up = math.dist(a, b), math.dist(b, c)
    assert up == pytest.approx(2 * across, rel=1e-2)
    assert c[1] < b[1]  # forward is up
    assert drawing.bar_px / drawing.bar_m == pytest.approx(across / 10, rel=1e-2)
    assert drawing.lines[0].path == drawing.true


@pytest.mark.parametrize(("count", "gaps", "pieces"), [(20, [4, 9], 3), (5000, [1234], 2), (20, "text", 1)])
def test_path_drawing_does_not_join_poses_beside_a_gap(count, gaps, pieces):
    ahead, climb = [[0, z] for z in range(count)], [0.2 * z for z in range(count)]
    paths = [DrawnPath(name, 0, ahead, climb, gaps=gaps) for name in ("estimate", "true")]
    drawing = draw_camera_paths(paths[:1], paths[1])
    drawn = (drawing.true, drawing.profile.true, drawing.lines[0].path, drawing.lines[0].height)
    assert [line.count("M") for line in drawn] == [pieces] * 4


@pytest.mark.parametrize("gaps", [[4, 5], [0], [18]], ids=["within", "first", "last"])
def test_a_pose_between_two_gaps_is_a_dot(gaps):
    """A line of no length, whose round ends are drawn; a move of the pen alone draws nothing."""
    ahead, climb = [[0, z] for z in range(20)], [0.2 * z for z in range(20)]
    paths = [DrawnPath(name, 0, ahead, climb, gaps=gaps) for name in ("estimate", "true")]
    drawing = draw_camera_paths(paths[:1], paths[1])
    for data in (drawing.true, drawing.profile.true, drawing.lines[0].path, drawing.lines[0].height):
        pieces = data.split("M")[1:]
        assert len(pieces) == len(gaps) + 1
        assert all("L" in piece for piece in pieces)
        (dot,) = [piece.split("L") for piece in pieces if len(set(piece.split("L"))) == 1]
        assert len(dot) == 2


@pytest.mark.parametrize(
    "bad", [None, "text", 3, [[1, 2]], [[1, 2, 3], [4, 5, 6]], [[0, math.nan], [1, 1]], [[0, 0], [1]], {"a": 1}]
)
def test_invalid_paths_are_not_drawn(bad):
    assert draw(bad) is None


def test_path_that_does_not_move_is_drawn():
    assert draw([[1, 1], [1, 1]]) is not None


def test_height_is_drawn_where_it_varies():
    """Ahead over 10 m, up by 2 m; the estimate stays level."""
    ahead = [[0, z] for z in range(11)]
    climb, level = [0.2 * z for z in range(11)], [0.0] * 11
    drawing = draw(ahead, ahead, estimated=level, true=climb)
    climbing, flat = points(drawing.profile.true), points(drawing.lines[0].height)
    assert climbing[-1][1] < climbing[0][1], "higher is up"
    assert flat[-1][1] == flat[0][1] == pytest.approx(climbing[0][1], abs=0.1)
    assert flat[-1][0] == climbing[-1][0]
    assert drawing.profile.y_ticks[-1].label == "2"
    assert draw(ahead, ahead, estimated=level, true=level).profile is None
    assert draw(ahead, ahead).profile is None
    assert draw(ahead, ahead, estimated=climb[:5], true="high").profile is None


def test_histogram_holds_every_image():
    shape = figures.make_histogram([0.1] * 3 + [0.2])
    tall = sorted({round(height, 3) for *_, height in shape.bars})
    assert tall[-1] == 90.0
    assert sum(height for *_, height in shape.bars) / 30 == pytest.approx(4, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.9985, 0.999, 0.9995], ["0.9985", "0.999", "0.9995"]),
        ([1200.5, 1201.0], ["1200.5", "1201"]),
        ([0.2, 0.4], ["0.2", "0.4"]),
        ([], []),
    ],
)
def test_two_ticks_have_two_labels(values, labels):
    assert figures.format_tick_labels(values) == labels


def test_a_narrow_histogram_has_ticks_that_differ():
    labels = [tick.label for tick in figures.make_histogram([0.9985 + 0.00001 * i for i in range(150)]).x_ticks]
    assert len(set(labels)) == len(labels) > 1
    panel = figures.make_plot("t", [Series("a", [10, 20], [100.001, 100.002])])
    assert len({tick.label for tick in panel.y_ticks}) == len(panel.y_ticks) > 1


def test_histogram_of_equal_values():
    assert figures.make_histogram([0.5, 0.5]).bars


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1284, "", "0.128"),
        (4.1, "m", "4.10 m"),
        (148.2, "m", "148 m"),
        (1.4, "°", "1.40°"),
        (0.0, "", "0"),
        (12345, "", "12 345"),
        (2.74e-8, "", "2.74e-08"),
        (math.nan, "", "not finite"),
        (None, "", "–"),
        (True, "", "True"),
    ],
)
def test_numbers(value, unit, text):
    assert metric_labels.format_number(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(48, "48 s"), (521.4, "8 min 41 s"), (600, "10 min"), (7500, "2 h 5 min"), (3600, "1 h")]
)
def test_durations(seconds, text):
    assert metric_labels.format_duration(seconds) == text


def test_related_scalars_share_a_panel():
    names = (
        "train/gain/-1", "train/gain/+1", "train/log_uncertainty/p10", "val/north/abs_rel", "val/abs_rel",
        "train/update_ratio",
        "gradient/inverse_depth/0", "gradient/inverse_depth/1", "gradient/rotation", "gradient/translation",
        "gradient/gain",
        "gradient/offset", "train/weight/mask_bce", "train/weight/depth_l1", "val/mask_bce",
    )  # fmt: skip
    plots = make_curves([Series(name, [1, 2, 3], [1.0, 2.0, 3.0]) for name in names])
    assert {plot.title: plot.better for plot in plots if plot.better != "neither"} == {
        "AbsRel": "lower",
        "Mask cross-entropy": "lower",
    }
    assert {plot.title: [line.name for line in plot.lines] for plot in plots} == {
        "Gain of brightness": ["train/gain/-1", "train/gain/+1"],
        "Log of the uncertainty": ["train/log_uncertainty/p10"],
        "AbsRel": ["val/north/abs_rel", "val/abs_rel"],
        "Update ratio": ["train/update_ratio"],
        "Gradient of the loss by inverse depth": ["inverse_depth/0", "inverse_depth/1"],
        "Gradient of the loss by motion": ["rotation", "translation"],
        "Gradient of the loss by brightness": ["gain", "offset"],
        "Weight": ["train/weight/mask_bce", "train/weight/depth_l1"],  # of a term that is a score, too
        "Mask cross-entropy": ["val/mask_bce"],
    }
