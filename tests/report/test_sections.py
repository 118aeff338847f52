"""Objects that nothing was found of are the worst there are, and the report says so."""

from __future__ import annotations

import json

import pytest

from stadia import report
from stadia.report.figures import make_plot
from stadia.report.quality_summary import describe_quality
from stadia.report.run_files import Series, ValueSpread, read_run
from stadia.report.score_tables import make_image_scores, order_scores
from stadia.report.sections import list_short_series, make_curves
from stadia.report.training_plots import make_layer_plots


def objects_scored(*entries: dict) -> dict:
    errors = [e["rotation_error_deg"] for e in entries if not e["missed"]]
    metrics = {"objects": len(entries), "rotation_error_deg": sum(errors) / len(errors) if errors else None}
    return {"images": 1, "metrics": metrics, "per_object": list(entries)}


def test_missed_objects_are_among_the_worst():
    found = {"name": "a/1, mug 1", "missed": False, "rotation_error_deg": 40.0}
    (shown,) = make_image_scores({"val": objects_scored(found, {"name": "a/2, can 1", "missed": True})})
    assert [name for name, _, _ in shown.worst] == ["a/2, can 1, missed", "a/1, mug 1"]
    assert shown.worst[0][1].startswith("180")
    assert shown.counted == "2 objects, 1 of them missed"
    assert make_image_scores({"val": objects_scored(found)})[0].counted == "1 object"


def test_worst_objects_of_a_run_with_zero_recall(make_run):
    folder = make_run()
    score = objects_scored(*({"name": f"a/{i}, mug 1", "missed": True} for i in range(7)))
    (folder / "scores" / "val.json").write_text(json.dumps(score), encoding="utf-8")
    text = report.build_report(folder).read_text(encoding="utf-8")
    assert "7 objects, 7 of them missed" in text
    assert "a/0, mug 1, missed" in text.replace("<wbr>", "")


def scored(recall: float, precision: float) -> dict:
    metrics = {
        "objects": 167,
        "recall": recall,
        "precision": precision,
        "rotation_error_deg": 4.0,
        "rotation_error_deg_of_all": 170.0,
    }
    return {
        "images": 9,
        "metrics": metrics,
        "per_object": [{"name": "a/0, mug 1", "missed": False, "rotation_error_deg": 4.0}],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recall", "precision", "expected", "tone"),
    [
        (
            0.018,
            0.3,
            "1.8% of 167 labeled objects were found, and 30.0% of what was found is one. Less than half is found",
            "warn",
        ),
        (0.9, 0.2, "most of what it finds is no object", "warn"),
        (0.9, 0.9, "90.0% of 167 labeled objects were found, and 90.0% of what was found is one.", ""),
    ],
)
def test_recall_and_precision_are_described(make_run, recall, precision, expected, tone):
    folder = make_run(
        without=("scores", "result.json", "findings.jsonl"), run={"status": "finished", "depth_scale": None}
    )
    (folder / "scores").mkdir()
    (folder / "scores" / "val.json").write_text(json.dumps(scored(recall, precision)), encoding="utf-8")
    run = read_run(folder)
    (sentence,) = [one for one in describe_quality(run, predicts_depth=False) if "labeled" in one.text]
    assert expected in sentence.text
    assert sentence.tone == tone
    text = report.build_report(folder).read_text(encoding="utf-8")
    assert expected in text
    assert "Depth was not scored" not in text
    assert ("the quality of the predictions is described at the top" in text) == (tone == "warn")
    assert "Rotation error of each object" in text
    assert "Rotation error, mean, val" not in text


def test_one_or_two_values_are_no_curve():
    once, twice = Series("val/recall", [60], [0.018]), Series("val/mask_iou", [30, 60], [0.1, 0.2])
    often = Series("val/d1", [20, 40, 60], [0.1, 0.2, 0.3])
    assert [panel.title for panel in make_curves([once, twice, often])] == ["δ < 1.25"]
    weights = ValueSpread("weights/encoder", [30, 60], [0.0, 1.0], [(1, 2, 3, 4, 5), (2, 3, 4, 5, 6)])
    assert list_short_series([once, twice, often, Series("val/iou_3d", [60], [float("nan")])], [weights]) == [
        ("Objects found", "val/recall", "0.0180 at step 60"),
        ("Mask IoU", "val/mask_iou", "0.100 at step 30, 0.200 at step 60"),
        ("Median size", "weights/encoder", "3 at step 30, 4 (100% exactly 0) at step 60"),
    ]
    assert make_layer_plots([weights]) == []


def test_a_short_series_beside_a_long_one_is_no_curve():
    often, twice = Series("train/loss", [20, 40, 60], [0.3, 0.2, 0.1]), Series("val/loss", [30, 60], [0.2, 0.1])
    (panel,) = make_curves([often, twice])
    assert [line.name for line in panel.lines] == ["train/loss"]
    assert [name for _, name, _ in list_short_series([often, twice])] == ["val/loss"]


def test_values_over_decades_have_a_logarithmic_axis():
    steps = [1, 2, 3]
    wide, narrow = Series("train/loss", steps, [1.0, 0.3, 0.03]), Series("train/loss", steps, [1.0, 0.3, 0.1])
    assert [panel.log for series in (wide, narrow) for panel in make_curves([series])] == [True, False]


def test_quantities_of_different_units_have_panels_of_their_own():
    """Of a recipe alone, and as a part of another recipe; each with a sentence on what it is."""
    names = (
        "depth/median",
        "depth/spread",
        "motion/over_depth/+1",
        "motion/turn_deg/+1",
        "auto_masked",
        "update_ratio",
    )
    for part in ("", "selfsup/"):
        panels = make_curves([Series(f"train/{part}{name}", [1, 2, 3], [1.0, 2.0, 3.0]) for name in names])
        assert len({panel.title for panel in panels}) == len(names)
        assert all(panel.note for panel in panels)


def test_an_axis_of_zeros_begins_there():
    panel = make_plot("AP", [Series("val/ap_iou50", [30, 60], [0.0, 0.0])])
    assert panel is not None
    assert panel.y_ticks[0].label == "0"


def test_a_runs_own_predictions_come_before_the_pose_network_and_baselines() -> None:
    scores = {
        "test-mean-depth": {"motion": "aligned", "checkpoint": "", "metrics": {"ate_m": 2.0}},
        "test-network": {"motion": "network", "checkpoint": "best", "metrics": {"ate_m": 1.0}},
        "test-refined": {"motion": "refined", "checkpoint": "best", "metrics": {"ate_m": 0.4}},
        "val": {"motion": "aligned", "checkpoint": "best", "metrics": {"ate_m": 0.5}},
    }
    assert list(order_scores(scores)) == ["test-refined", "val", "test-network", "test-mean-depth"]
