"""Plots of a training: curves, layers, time and uncertainty from metrics.csv, histograms.csv, run.json and scores."""

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.report.conftest import build_page
from tests.report.test_figures import BOTTOM, read_labels, read_line

from stadia.io.run_facts import StageFacts, TrainingTimes, read_run_facts, write_run_facts
from stadia.report import figures
from stadia.report.figures import (
    list_short_series,
    make_calibration_plot,
    make_curves,
    make_layer_plots,
    make_sparsification_plots,
    summarize_time,
)
from stadia.report.run_files import Series, ValueSpread

HEAD = "step,name,zero,p05,p25,p50,p75,p95\n"
STEPS = [1, 5, 9]


@pytest.mark.slow
def test_related_scalars_share_a_panel():
    names = (
        "train/gain/-1", "train/gain/+1", "train/log_uncertainty/p10", "val/north/abs_rel", "val/abs_rel",
        "train/update_ratio",
        "gradient/inverse_depth/0", "gradient/inverse_depth/1", "gradient/rotation", "gradient/translation",
        "gradient/gain",
        "gradient/offset", "train/weight/mask_bce", "train/weight/depth_l1", "val/mask_bce",
    )  # fmt: skip
    plots = make_curves([Series(name, [1, 2, 3], [1.0, 2.0, 3.0]) for name in names])
    assert [plot.title for plot in plots if plot.legend[0].about] == ["AbsRel", "Mask cross-entropy"]
    assert {plot.title: [row.name for row in plot.legend] for plot in plots} == {
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


@pytest.mark.slow
def test_quantities_of_different_units_have_panels_of_their_own():
    """Of a recipe alone, and as a part of another recipe; each with a sentence on what it is."""
    names = ("depth/median", "depth/spread", "motion/over_depth/+1", "motion/turn_deg/+1", "auto_masked")
    for part in ("", "selfsup/"):
        panels = make_curves([Series(f"train/{part}{name}", [1, 2, 3], [1.0, 2.0, 3.0]) for name in names])
        assert len({panel.title for panel in panels}) == len(names)
        assert all(panel.note for panel in panels)


def test_one_or_two_values_are_no_curve():
    once, twice = Series("val/recall", [60], [0.018]), Series("val/mask_iou", [30, 60], [0.1, 0.2])
    often, beside = Series("val/d1", [20, 40, 60], [0.1, 0.2, 0.3]), Series("train/d1", [30, 60], [0.2, 0.1])
    (panel,) = make_curves([once, twice, often, beside])
    assert (panel.title, [row.name for row in panel.legend]) == ("δ < 1.25", ["val/d1"])
    weights = ValueSpread("weights/encoder", [30, 60], [0.0, 1.0], [(1, 2, 3, 4, 5), (2, 3, 4, 5, 6)])
    assert list_short_series([once, twice, often, Series("val/iou_3d", [60], [float("nan")])], [weights]) == [
        ("Objects found", "val/recall", "0.0180 at step 60"),
        ("Mask IoU", "val/mask_iou", "0.100 at step 30, 0.200 at step 60"),
        ("Median size", "weights/encoder", "3 at step 30, 4 (100% exactly 0) at step 60"),
    ]
    assert make_layer_plots([weights]) == []


def test_bands_enclose_their_median_on_a_logarithmic_axis():
    rows = [(1e-5, 1e-4, 1e-3, 1e-2, 1e-1)] * 3
    (plot,) = make_layer_plots([ValueSpread("gradients/decoder", STEPS, [0.0, 0.0, 0.0], rows)])
    (((_, median), *_),) = read_line(plot.svg, "c1", 'stroke-width="2"')
    assert plot.svg.count('fill="var(--c1)" fill-opacity="0.16"') == 2
    labels = [float(label) for label in read_labels(plot.svg) if label.startswith(("0.", "1e"))]
    assert {1e-5, 1e-3, 0.1} <= set(labels)
    places = {float(label): float(y) for y, label in re.findall(r'y="([\d.]+)"[^>]*>([\d.e-]+)</text>', plot.svg)}
    assert median == pytest.approx(places[1e-3], abs=6)  # a label stands half its height lower
    (row,) = plot.legend
    assert (row.value, row.about, row.tone) == ("last 0.00100", "", "soft")


def test_dead_layers_are_marked_and_expanded(tmp_path):
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    rows = [
        f"{s},{k}/pose.head,{z},{v},{v},{v},{v},{v}\n"
        for s in STEPS
        for k, z, v in (("weights", 0, 0.1), ("gradients", 1, 0))
    ]
    (tmp_path / "histograms.csv").write_text(HEAD + "".join(rows) + "9,weights/cut", encoding="utf-8")
    page = build_page(tmp_path)
    assert '<span class="stop">100% exactly 0</span>' in page
    assert "<details open><summary>1 group of layers" in page


TIME = TrainingTimes(
    device="cuda",
    threads=1,
    steps=300,
    wall_s=200.0,
    phases_s={"forward": 100.0, "backward": 80.0, "loading": 19.0, "other": 0.6, "images": 0.4},
    step_s={"forward": 0.33, "backward": 0.26, "loading": 0.06},
)


@pytest.mark.parametrize("times", [None, replace(TIME, phases_s={}), replace(TIME, phases_s={"a": 0.0})])
def test_a_run_without_times_has_no_table(times: TrainingTimes | None) -> None:
    assert summarize_time(times) is None


@pytest.mark.slow
def test_time_and_stages_are_in_the_report(make_run: Any) -> None:
    plain = build_page(make_run("2026-03-01-101500-plain"))
    assert 'id="time"' not in plain
    assert "stroke-dasharray" not in plain
    folder = make_run()
    small = StageFacts(height=32, width=96, share=0.5, batch_size=8, first_step=1, steps=149, lr_factor=1.0)
    large = replace(small, height=64, width=192, first_step=150)
    write_run_facts(folder, replace(read_run_facts(folder), time=TIME, stages=(small, large)))
    page = build_page(folder)
    assert '<span class="c0" style="width: 50.0%">' in page.partition('id="time"')[2]
    assert page.count(">192x64</text>") == page.count(" over steps") > 3
    assert "phases_s" not in page, "not in the provenance"


FALLING, BEST, FLAT = [*(2 - k / 50 for k in range(50)), 0], [*(2 - k / 25 for k in range(50)), 0], [*[2.0] * 50, 0]
WORTH = {"ause": 0.2, "aurg": 0.3, "ause_of_random": 0.5, "below_random": 0.6, "spearman": 0.55}
CURVES = {"curve": FALLING, "curve_of_oracle": BEST, "curve_of_random": FLAT}


def test_sparsification_curves_of_a_score_file() -> None:
    (plot,) = make_sparsification_plots({"world-test": {"uncertainty": {"abs_rel": WORTH | CURVES}}})
    assert plot.title == "world-test: AbsRel of the pixels that are left"
    about = "AUSE 0.200, AURG 0.300, AUSE 60% below random order, Spearman 0.550"
    assert plot.note == f"Across: left out. {about}"
    assert [row.name for row in plot.legend] == ["by uncertainty", "by the error itself", "in random order"]
    for color, curve in enumerate((FALLING, BEST, FLAT)):
        (points,) = read_line(plot.svg, f"c{color}")
        (left, first), (right, last) = points[0], points[-1]
        assert (left, right) == pytest.approx((figures.LEFT, figures.LEFT + 0.98 * 352), abs=0.1)  # of none is no error
        assert BOTTOM - last == pytest.approx((BOTTOM - first) * curve[-2] / 2, abs=0.2)


@pytest.mark.parametrize("bad", [None, [1, 2], ["1", "2", "3"], [1, float("nan"), 0], [-1.0] * 51, [2, 1, 0]])
def test_invalid_curves_are_not_drawn(bad: Any) -> None:
    assert make_sparsification_plots({"a": {"uncertainty": {"rmse": WORTH | CURVES | {"curve_of_oracle": bad}}}}) == []
    assert make_sparsification_plots({"a": {"uncertainty": bad}, "b": {"uncertainty": {"rmse": bad}}, "c": {}}) == []


def test_calibration_uses_the_last_validation() -> None:
    series = [Series(f"val/inside_{percent}", [10, 20], [0.0, percent / 200]) for percent in (90, 10, 50)]
    plot = make_calibration_plot([*series, Series("val/abs_rel", [10], [0.1])])
    assert plot is not None
    assert plot.note == "Across: nominal coverage. 25% off in the mean"
    (measured,), (nominal,) = read_line(plot.svg, "c0"), read_line(plot.svg, "c1")
    assert nominal[0] == (figures.LEFT, BOTTOM)
    rise = [(end[1] - start[1]) / (end[0] - start[0]) for start, end in (measured[:: len(measured) - 1], nominal)]
    assert rise[0] == pytest.approx(0.5 * rise[1], rel=1e-2)
    assert make_calibration_plot([]) is None
    one_finite = [Series("val/inside_10", [1], [0.1]), Series("val/inside_50", [1], [float("nan")])]
    assert make_calibration_plot(one_finite) is None
