"""Plots of layers, time and uncertainty: from histograms.csv, run.json, score files and metrics.csv."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stadia import report
from stadia.report import figures
from stadia.report.run_files import Series, ValueSpread, read_run
from stadia.report.training_plots import (
    make_calibration_plot,
    make_layer_plots,
    make_sparsification_plots,
    summarize_time,
)

HEAD = "step,name,zero,p05,p25,p50,p75,p95\n"


def ys(path: str) -> list[float]:
    return [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]


def test_bands_enclose_their_median_on_a_logarithmic_axis():
    rows = [(1e-5, 1e-4, 1e-3, 1e-2, 1e-1)] * 3
    (plot,) = make_layer_plots([ValueSpread("gradients/decoder", [1, 5, 9], [0.0, 0.0, 0.0], rows)])
    (band,) = plot.bands
    inner, outer, median = ys(band.inner), ys(band.outer), ys(band.median)
    assert median[0] - inner[0] == pytest.approx(inner[-1] - median[0], abs=0.2)
    assert outer[-1] - inner[-1] == pytest.approx(inner[-1] - median[0], abs=0.2)
    assert outer[0] < inner[0] < median[0] < inner[-1] < outer[-1]
    assert (band.last, band.zero, band.dead) == (1e-3, "", False)


def test_small_gradients_are_on_the_axis_and_zeros_at_its_bottom():
    weights = ValueSpread("weights/encoder", [1, 2, 3], [0.0] * 3, [(0.01, 0.02, 0.05, 0.1, 0.2)] * 3)
    gradients = ValueSpread("gradients/encoder", [1, 2, 3], [0.2] * 3, [(0.0, 1e-8, 1e-6, 1e-5, 1e-4)] * 3)
    (plot,) = make_layer_plots([weights, gradients])
    assert [band.name for band in plot.bands] == ["weights", "gradients"]
    median, bottom = ys(plot.bands[1].median)[0], max(ys(plot.bands[1].outer))
    assert 20 < median < bottom - 30
    assert plot.bands[1].zero == "20% exactly 0"


def test_dead_layers_are_marked_and_expanded(tmp_path):
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    rows = [
        f"{s},{k}/pose.head,{z},{v},{v},{v},{v},{v}\n"
        for s in (1, 5, 9)
        for k, z, v in (("weights", 0, 0.1), ("gradients", 1, 0))
    ]
    (tmp_path / "histograms.csv").write_text(HEAD + "".join(rows) + "9,weights/cut", encoding="utf-8")
    text = report.build_report(tmp_path).read_text(encoding="utf-8")
    assert '<span class="stop">100% exactly 0</span>' in text
    assert "<details open><summary>1 group of layers" in text


@pytest.mark.parametrize(
    "row", ["x,weights/a,0,1,1,1,1,1", "1,weights/a,0,1,nan,1,1,1", "1,weights/a,0,-1,1,1,1,1", "1,,0,1,1,1,1,1", "1"]
)
def test_invalid_histogram_rows_are_left_out(tmp_path, row):
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "histograms.csv").write_text(HEAD + f"1,weights/b,0,1,1,1,1,1\n{row}\n", encoding="utf-8")
    assert [spread.name for spread in read_run(tmp_path).spreads] == ["weights/b"]
    assert make_layer_plots(read_run(tmp_path).spreads) == []  # of one step
    report.build_report(tmp_path)


def test_last_validation_image_of_each_kind_is_shown(make_run):
    folder = make_run()
    (folder / "images" / "motion").mkdir()
    for step in (50, 100):
        cv2.imwrite(str(folder / "images" / "motion" / f"step-{step:06d}.png"), np.full((20, 30, 3), step, np.uint8))
    text = report.build_report(folder).read_text(encoding="utf-8")
    assert re.findall(r'alt="(Motion[^"]*)"', text) == ["Motion of the pose network at step 100"]
    assert "<h3>Motion of the pose network, validation at step 100</h3>" in text


TIME = {
    "device": "cuda", "steps": 300, "wall_s": 200.0,
    "phases_s": {"forward": 100.0, "backward": 80.0, "loading": 19.0, "other": 0.6, "images": 0.4},
    "step_s": {"forward": 0.33, "backward": 0.26, "loading": 0.06},
    "flops_per_s": {"step": 4e12}, "peak_flops_per_s": 1e13, "of_peak": {"forward": 0.5, "step": 0.4},
}  # fmt: skip


def test_the_bar_is_as_long_as_the_whole() -> None:
    spent = summarize_time(TIME)
    assert spent is not None
    assert [phase.name for phase in spent.phases] == ["forward", "backward", "loading", "the rest"]
    assert sum(phase.width for phase in spent.phases) == pytest.approx(figures.WIDTH)
    assert [phase.left for phase in spent.phases[1:]] == pytest.approx([p.left + p.width for p in spent.phases[:-1]])
    first = spent.phases[0]
    assert (first.share, first.seconds, first.step, first.of_peak) == ("50.0%", "1 min 40 s", "330 ms", "50%")
    assert spent.about.startswith("300 steps in 3 min 20 s, without setup and teardown; the phases cover 100.0% of it.")
    assert "1e+04 GFLOP/s here when the training ended, of which a step reaches 40%" in spent.about
    on_cpu = summarize_time(TIME | {"device": "cpu", "threads": 2})
    assert on_cpu is not None
    assert "GFLOP/s here on 2 threads when" in on_cpu.about


def test_every_phase_has_a_color_of_its_own_and_no_column_is_empty() -> None:
    spent = summarize_time({"wall_s": 12.0, "phases_s": {f"phase {n}": 1.0 for n in range(12)}})
    assert spent is not None
    assert [phase.color for phase in spent.phases] == list(range(figures.PALETTE_SIZE))
    assert (spent.phases[-1].name, spent.phases[-1].share) == ("the rest", "41.7%")
    assert not spent.has_peak


@pytest.mark.parametrize("found", [None, [], {}, {"phases_s": {"a": "b"}}, {"phases_s": {"a": 0.0}}, {"phases_s": 3}])
def test_a_run_without_times_has_no_table(found: Any) -> None:
    assert summarize_time(found) is None


def test_time_and_stages_are_in_the_report(make_run: Any) -> None:
    folder: Path = make_run()
    plain = report.build_report(folder).read_text()
    assert 'id="time"' not in plain
    assert '<line class="mark"' not in plain
    facts = json.loads((folder / "run.json").read_text())
    stages = [
        {"height": 32, "width": 96, "first_step": 1},
        {"height": 64, "width": 192, "first_step": 150},
        {"height": 64},
    ]
    (folder / "run.json").write_text(json.dumps(facts | {"time": TIME, "stages": stages}))
    text = report.build_report(folder).read_text()
    assert 'id="time"' in text
    first, *_, last = re.findall(r'<line class="mark" x1="([\d.]+)"', text)
    assert figures.LEFT <= float(first) < float(last) < figures.WIDTH - figures.RIGHT
    assert "192x64</text>" in text
    assert "phases_s" not in text, "not in the provenance"


FALLING, BEST, FLAT = [*(2 - k / 50 for k in range(50)), 0], [*(2 - k / 25 for k in range(50)), 0], [*[2.0] * 50, 0]
WORTH = {"ause": 0.2, "aurg": 0.3, "ause_of_random": 0.5, "below_random": 0.6, "spearman": 0.55}
CURVES = {"curve": FALLING, "curve_of_oracle": BEST, "curve_of_random": FLAT}


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_sparsification_curves_of_a_score_file() -> None:
    (plot,) = make_sparsification_plots({"world-test": {"uncertainty": {"abs_rel": WORTH | CURVES}}})
    assert plot.title == "world-test: AbsRel of the pixels that are left"
    assert plot.about == "AUSE 0.200, AURG 0.300, AUSE 60% below that of random order, Spearman 0.550"
    drawn = {name: points(path) for name, _, path in plot.lines}
    assert [len(line) for line in drawn.values()] == [50] * 3  # of none left there is no error
    for name, curve in (("by uncertainty", FALLING), ("by the error itself", BEST), ("in random order", FLAT)):
        heights = [figures.HEIGHT - figures.BOTTOM - y for _, y in drawn[name]]
        assert heights == pytest.approx([value * heights[0] / 2 for value in curve[:-1]], abs=0.1)
    assert drawn["in random order"][0][0] == figures.LEFT
    assert drawn["in random order"][-1][0] == pytest.approx(
        figures.LEFT + 0.98 * (figures.WIDTH - figures.LEFT - figures.RIGHT), abs=0.1
    )


@pytest.mark.parametrize(
    "bad",
    [
        None,
        3,
        [],
        [1, 2],
        ["1", "2", "3"],
        [1, None, 0],
        [1, float("nan"), 0],
        [-1.0] * 51,
        [1.0] * 2000,
        {"a": 1},
        [2, 1, 0],
    ],
)
def test_invalid_curves_are_not_drawn(bad: Any) -> None:
    assert make_sparsification_plots({"a": {"uncertainty": {"rmse": WORTH | CURVES | {"curve_of_oracle": bad}}}}) == []
    assert make_sparsification_plots({"a": {"uncertainty": bad}, "b": {"uncertainty": {"rmse": bad}}, "c": {}}) == []


def test_undefined_numbers_are_left_out() -> None:
    (plot,) = make_sparsification_plots(
        {"a": {"uncertainty": {"d1": CURVES | {"ause": 0.1, "below_random": -0.2, "spearman": None}}}}
    )
    assert plot.about == "AUSE 0.100, AUSE 20% above that of random order"
    assert plot.title == "a: 1 - (δ < 1.25) of the pixels that are left"


def test_calibration_uses_the_last_validation() -> None:
    series = [Series(f"val/inside_{percent}", [10, 20], [0.0, percent / 200]) for percent in (90, 10, 50)]
    plot = make_calibration_plot([*series, Series("val/abs_rel", [10], [0.1])])
    assert plot is not None
    assert plot.about == "25% off in the mean"
    found, nominal = (points(path) for _, _, path in plot.lines)
    assert len(found) == 3
    assert found[0][0] < found[1][0] < found[2][0]
    assert nominal[0] == (figures.LEFT, figures.HEIGHT - figures.BOTTOM)
    slope = (found[2][1] - found[0][1]) / (found[2][0] - found[0][0])
    assert slope == pytest.approx(0.5 * (nominal[1][1] - nominal[0][1]) / (nominal[1][0] - nominal[0][0]), rel=1e-2)
    assert make_calibration_plot([]) is None
    assert (
        make_calibration_plot([Series("val/inside_10", [1], [0.1]), Series("val/inside_50", [1], [float("nan")])])
        is None
    )


def test_page_has_uncertainty_only_where_scored(make_run: Any) -> None:
    folder: Path = make_run()
    assert "Quality of the uncertainty" not in report.build_report(folder).read_text(encoding="utf-8")
    path = folder / "scores" / "depth-test.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"uncertainty": {"abs_rel": WORTH | CURVES}}), encoding="utf-8"
    )
    rows = (folder / "metrics.csv").read_text().splitlines()
    rows = [f"{rows[0]},val/inside_10,val/inside_90", *(f"{row},0.2,0.8" for row in rows[1:])]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    text = report.build_report(folder).read_text(encoding="utf-8")
    assert "AbsRel of the pixels that are left" in text
    assert "AUSE 60% below that of random order" in text
    assert "10% off in the mean" in text
    assert "Inside 10" not in text  # no panel of its own over steps
