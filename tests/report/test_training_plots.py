"""Plots of a training: curves, layers, time and uncertainty from metrics.csv, histograms.csv, run.json and scores."""

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.report.conftest import build_page
from tests.report.test_charts import BOTTOM, read_labels, read_line

from stadia.io.run_facts import StageFacts, TrainingTimes, read_run_facts, write_run_facts
from stadia.report import charts
from stadia.report.run_files import Series, ValueSpread
from stadia.report.training_charts import make_curves, make_layer_plots
from stadia.report.uncertainty_charts import make_sparsification_plots

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


TIME = TrainingTimes(
    device="cuda",
    threads=1,
    steps=300,
    wall_s=200.0,
    phases_s={"forward": 100.0, "backward": 80.0, "loading": 19.0, "other": 0.6, "images": 0.4},
    step_s={"forward": 0.33, "backward": 0.26, "loading": 0.06},
)


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
        assert (left, right) == pytest.approx((charts.LEFT, charts.LEFT + 0.98 * 352), abs=0.1)  # of none is no error
        assert BOTTOM - last == pytest.approx((BOTTOM - first) * curve[-2] / 2, abs=0.2)
