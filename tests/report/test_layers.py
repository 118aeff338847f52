"""Weights and gradients by group of layers, from histograms.csv; and images of validations."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from stadia import report
from stadia.report.run_files import ValueSpread, read_run
from stadia.report.training_plots import make_layer_plots

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
    weights = ValueSpread("weights/encoder", [1, 2], [0.0, 0.0], [(0.01, 0.02, 0.05, 0.1, 0.2)] * 2)
    gradients = ValueSpread("gradients/encoder", [1, 2], [0.2, 0.2], [(0.0, 1e-8, 1e-6, 1e-5, 1e-4)] * 2)
    (plot,) = make_layer_plots([weights, gradients])
    assert [band.name for band in plot.bands] == ["weights", "gradients"]
    median, bottom = ys(plot.bands[1].median)[0], max(ys(plot.bands[1].outer))
    assert 20 < median < bottom - 30
    assert plot.bands[1].zero == "20% exactly 0"


def test_dead_layers_are_marked_and_expanded(tmp_path):
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    rows = [
        f"{s},{k}/pose.head,{z},{v},{v},{v},{v},{v}\n"
        for s in (1, 9)
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
    assert re.findall(r'alt="(motion[^"]*)"', text) == ["motion at step 100"]
    assert "<h3>Motion, of the validation at step 100</h3>" in text
