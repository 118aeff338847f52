"""The report's plots of an uncertainty, from a score file and from metrics.csv, whoever wrote them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stadia import report
from stadia.report import figures
from stadia.report.run_files import Series
from stadia.report.training_plots import make_calibration_plot, make_sparsification_plots

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
    found, said = (points(path) for _, _, path in plot.lines)
    assert len(found) == 3
    assert found[0][0] < found[1][0] < found[2][0]
    assert said[0] == (figures.LEFT, figures.HEIGHT - figures.BOTTOM)
    slope = (found[2][1] - found[0][1]) / (found[2][0] - found[0][0])
    assert slope == pytest.approx(0.5 * (said[1][1] - said[0][1]) / (said[1][0] - said[0][0]), rel=1e-2)
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
