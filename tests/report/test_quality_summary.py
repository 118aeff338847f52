"""How good a run is, in words and by images of what was scored."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia import report
from stadia.report.report_images import embed_drawn_predictions, embed_predicted_depth
from stadia.report.run_files import read_run


def words(folder: Path) -> str:
    """What a reader sees of the report."""
    text = re.sub(r"<(style|script)>.*?</\1>", "", report.build_report(folder).read_text(encoding="utf-8"), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.mark.parametrize(
    ("metrics", "about", "expected"),
    [
        (
            {"d1": 0.0},
            {"scale_ratio_median": 0.096},
            ["0% of the pixels", "mean depths reaches", "sizes are wrong, true depth is 0.0960 times"],
        ),
        (
            {"d1": 0.93},
            {"scale_ratio_median": 1.02},
            ["test: 93% of the pixels are within a quarter of the true depth."],
        ),
    ],
)
def test_quality_is_described_by_scores(make_run, metrics, about, expected):
    folder = make_run(without=("scores", "result.json"), run={"depth_scale": "metres"})
    (folder / "scores").mkdir()
    score = {
        "depth_scale": "metres",
        "alignment": "none",
        "checkpoint": "best.safetensors, step 60",
        "metrics": metrics,
        **about,
    }
    (folder / "scores" / "test.json").write_text(json.dumps(score), encoding="utf-8")
    good = words(folder).partition("Quality of the predictions")[2].partition("Findings")[0]
    assert all(sentence in good for sentence in expected), good
    assert ("sizes are wrong" in good) == (len(expected) > 1)


def test_quality_is_compared_with_mean_depth(make_run):
    assert "Depth is better than a map of mean depths" in words(make_run())
    worse = make_run("2026-03-02-101700-worse", result={"depth": {"abs_rel": 0.96, "abs_rel_mean_baseline": 0.63}})
    assert "worse than a map of mean depths, which ignores the image (AbsRel 0.960 against 0.630)" in words(worse)


def test_unscored_depth_has_unknown_quality(make_run):
    facts = {"depth_scale": "up-to-scale", "judged": {"steps": 60, "warped_over_unwarped": 0.96}}
    expected = words(make_run(without=("scores", "result.json"), run=facts))
    assert "Depth was not scored against ground truth: its quality is unknown." in expected
    assert "explain 4% of what changes between the training images, as after a few dozen training steps." in expected


@pytest.mark.parametrize(
    ("ratio", "sentence"),
    [
        (0.3, "Depth and motion explain 70% of what changes between the training images (the residual of the warped"),
        (1.84, "explain nothing: the residual of the warped training images is 1.84 times that of the unwarped ones."),
    ],
)
def test_the_residual_is_that_of_the_verdict(make_run, ratio, sentence):
    """The validation's residual counts masked pixels as unwarped ones, and is never above them: it is no share."""
    folder = make_run(run={"judged": {"steps": 60, "warped_over_unwarped": ratio}})
    (folder / "metrics.csv").write_text("step,epoch,val/residual,val/residual_unwarped\n60,1,0.03,0.048\n")
    shown = words(folder)
    assert sentence in shown
    assert "37%" not in shown


@pytest.mark.slow
def test_damaged_facts_of_the_verdict_are_left_out(make_run):
    damaged = (None, [], {"warped_over_unwarped": "a"}, {"warped_over_unwarped": -1}, {"steps": "a"})
    for number, judged in enumerate(damaged):
        shown = words(make_run(f"2026-03-02-10170{number}-bad", run={"judged": judged}))
        assert "Depth and motion" not in shown
        assert "best checkpoint" not in shown


@pytest.mark.slow
def test_a_doubtful_best_checkpoint_is_described(make_run):
    compared = {"name": "val/abs_rel", "step": 40, "last_step": 60, "score": 0.3, "last_score": 0.31}
    folder = make_run(run={"best_checkpoint": {**compared, "doubt": "5 validation samples are few"}})
    assert (
        "The best checkpoint is that of step 40 (AbsRel 0.300), the last that of step 60 (0.310); 5 validation samples"
        " are few: the last may be the better one (checkpoints/last.safetensors)." in words(folder)
    )
    odd = (None, [], {**compared, "doubt": ""}, compared, {"doubt": 5}, {"doubt": ["few"]})
    for number, values in enumerate(odd):
        shown = words(make_run(f"2026-03-02-10170{number}-odd", run={"best_checkpoint": values}))
        assert "The best checkpoint is that" not in shown
    assert "that of step – (" in words(make_run("2026-03-02-101800-odd", run={"best_checkpoint": {"doubt": "few"}}))


def test_masks_and_baselines_are_described(make_run):
    folder = make_run(without=("scores", "result.json", "metrics.csv"), run={"depth_scale": "metres"})
    (folder / "scores").mkdir()
    scores = {
        "val": {"checkpoint": "best", "metrics": {"abs_rel": 0.16, "d1": 0.73, "mask_iou": 0.88}},
        "val-mean-depth": {"baseline": "the mean depth of 500 images", "metrics": {"abs_rel": 0.32, "d1": 0.62}},
        "val-difference": {"baseline": "where they differ", "metrics": {"mask_iou": 0.91}},
    }
    for name, score in scores.items():
        (folder / "scores" / f"{name}.json").write_text(
            json.dumps({"depth_scale": "metres", **score}), encoding="utf-8"
        )
    expected = words(folder)
    assert "Depths mean metres, as far as they are right" in expected, "no path was scored"
    assert "val: of the union of true and predicted mask, 88% is in both." in expected
    assert (
        "val: better than a baseline that learns nothing (AbsRel 0.160 against 0.320): the mean depth of 500 images."
        in expected
    )
    assert (
        "val: no better than a baseline that learns nothing (Mask IoU 0.880 against 0.910): where they differ."
        in expected
    )
    assert "val-mean-depth: 62% of the pixels" not in expected, "nobody's prediction"
    assert "val-mean-depth: the mean depth of 500 images; a trained network has to be better." in expected
    assert "val-mean-depth · " not in expected, "no key number"


def test_drawn_predictions_replace_depth_images(make_run):
    folder = make_run(without=("images", "findings.jsonl"))
    write_prediction(folder / "predictions" / "val", np.full((20, 40), 512, np.uint16))
    assert [one.frame for one in embed_predicted_depth(read_run(folder))] == ["kitti/val/000001"]
    (folder / "predictions" / "val" / "drawn").mkdir()
    for number in range(9):
        cv2.imwrite(
            str(folder / "predictions" / "val" / "drawn" / f"{number}.png"), np.full((20, 40, 3), number, np.uint8)
        )
    run = read_run(folder)
    assert embed_predicted_depth(run) == []
    assert [name for name, _ in embed_drawn_predictions(run)] == ["val/0", "val/3", "val/6"]
    assert "val/3" in words(folder)


def write_prediction(folder: Path, depth: np.ndarray, **changes: object) -> None:
    (folder / "depth").mkdir(parents=True)
    cv2.imwrite(str(folder / "depth" / "000001.png"), depth)
    expected = {
        "recipe": "selfsup",
        "finished": True,
        "source": f"kitti/{folder.name}",
        "entries": ["000000", "000001"],
    } | changes
    (folder / "predictions.json").write_text(json.dumps(expected), encoding="utf-8")


def test_scored_depth_is_shown(make_run):
    """Near is bright, none is black; a baseline, half-written predictions and names that leave the folder are not
    shown.
    """
    folder = make_run(without=("images", "findings.jsonl"))
    depth = np.full((20, 40), 80 * 256, np.uint16)
    depth[10:], depth[:, :4] = 2 * 256, 0
    write_prediction(folder / "predictions" / "val" / "06", depth)
    write_prediction(folder / "predictions" / "test-mean" / "06", depth, recipe="mean-depth", source="mean")
    write_prediction(folder / "predictions" / "val" / "07", depth, finished=False)
    write_prediction(folder / "predictions" / "val" / "08", depth, entries=["../../../../config"])
    run = read_run(folder)
    (shown,) = embed_predicted_depth(run)
    image = cv2.imdecode(
        np.frombuffer(base64.b64decode(shown.depth.uri.partition(",")[2]), np.uint8), cv2.IMREAD_GRAYSCALE
    )
    assert shown.frame == "kitti/06/000001"
    assert shown.picture is None
    assert image[15, 30] > 150 > image[3, 30] > image[15, 1]
    assert [line.split(":")[0] for line in run.unreadable] == ["predictions/val/08/predictions.json"]
    assert "kitti/06/000001" in words(folder)


@pytest.mark.parametrize(
    ("depth_scale", "labels", "unit"),
    [("metres", ["2", "5", "10", "∞"], "metres"), ("up-to-scale", ["1", "2", "5", "∞"], "relative")],
)
def test_depth_has_its_picture_and_a_color_scale(make_run, depth_scale, labels, unit):
    folder = make_run(without=("images", "findings.jsonl"))
    where = folder / "predictions" / "val" / "06"
    write_prediction(where, np.full((20, 40), 2 * 256, np.uint16), depth_scale=depth_scale)
    (where / "images").mkdir()
    cv2.imwrite(str(where / "images" / "000001.png"), np.full((20, 40, 3), 90, np.uint8))
    (shown,) = embed_predicted_depth(read_run(folder))
    assert shown.picture is not None
    assert [label for _, label in shown.ticks] == labels
    assert shown.ticks[1][0] == pytest.approx(100 * (1 - float(labels[0]) / float(labels[1])))
    assert shown.unit.startswith(unit)
    page = report.build_report(folder).read_text(encoding="utf-8")
    assert 'alt="picture of kitti/06/000001"' in page
    assert f"kitti/06/000001. Depth: {unit}" in page
    assert "linear-gradient(to right, rgb(252, 253, 191)" in page


def test_unfinished_training_is_a_warning(make_run):
    folder = make_run(without=("metrics.csv",))
    rows = [f"{20 * n},0,{0.5 * 0.99**n},{1 / (n + 1)},{2 / (n + 1)}" for n in range(100)]
    head = "step,epoch,val/abs_rel,train/term/a,train/term/b"
    (folder / "metrics.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    expected = words(folder)
    assert "Validation was still falling, by 17% over the last fifth: train longer before you compare." in expected
    assert "Two terms of the loss are one, a and b: they only ever change together." in expected
