"""How good a run is, in sentences and key numbers, and whether its training converged."""

import json

import numpy as np
import pytest
from tests.report.conftest import build_page, build_words, write_scores

from stadia.report.quality_summary import find_identical_terms, make_tiles, make_verdict, measure_late_decrease
from stadia.report.run_files import Series, read_run

DEPTH = {"depth_scale": "metres", "alignment": "none", "checkpoint": "best.safetensors, step 60"}


@pytest.mark.parametrize(
    ("metrics", "ratio", "expected"),
    [
        ({"d1": 0.0}, 0.096, ["0% of the pixels", "sizes are wrong", "0.0960 times"]),
        ({"d1": 0.93}, 1.02, ["test: 93% of the pixels are within a quarter of the true depth."]),
    ],
)
def test_quality_is_described_by_scores(make_run, metrics, ratio, expected):
    folder = make_run(without=("scores", "result.json"), run={"depth_scale": "metres"})
    write_scores(folder, {"test": {**DEPTH, "metrics": metrics, "scale_ratio_median": ratio}})
    quality = build_words(folder).partition("Pictures")[0]
    assert all(sentence in quality for sentence in expected), quality
    assert ("sizes are wrong" in quality) == (ratio < 1)


@pytest.mark.parametrize(
    ("run", "severity", "word"),
    [
        ({"predictions": "usable"}, "warn", "usable"),
        ({"predictions": "doubtful"}, "warn", "doubtful"),
        ({"predictions": "usable"}, "stop", "unusable"),
        ({"predictions": None}, "note", "not judged"),
        ({"predictions": "usable", "status": "failed"}, "note", "failed"),
        ({"predictions": None, "status": "running"}, "note", "training"),
    ],
)
def test_a_run_has_one_verdict(make_run, run, severity, word):
    folder = make_run(run=run, findings=[{"code": "K03", "severity": severity, "stage": "training"}])
    assert make_verdict(read_run(folder)).word == word


@pytest.mark.parametrize(
    ("ratio", "sentence"),
    [
        (0.96, "explain 4%"),
        (0.3, "explain 70%"),
        (1.84, "explain nothing: warping makes the residual 1.84 times"),
        (-1, ""),
        ("a", ""),
    ],
)
def test_the_residual_is_that_of_the_verdict(make_run, ratio, sentence):
    """The validation's residual counts masked pixels as unwarped ones, and is never above them: it is no share."""
    facts = {"depth_scale": "up-to-scale", "judged": {"steps": 60, "warped_over_unwarped": ratio}}
    folder = make_run(without=("scores", "result.json"), run=facts)
    (folder / "metrics.csv").write_text("step,epoch,val/residual,val/residual_unwarped\n60,1,0.03,0.048\n")
    words = build_words(folder)
    assert sentence in words
    assert bool(sentence) == ("Depth and motion" in words)
    assert "37%" not in words
    assert "Depth was not scored" in words


def test_masks_and_baselines_are_described(make_run):
    folder = make_run(without=("scores", "result.json", "metrics.csv"), run={"depth_scale": "metres"})
    scores = {
        "val": {"checkpoint": "best", "metrics": {"abs_rel": 0.16, "d1": 0.73, "mask_iou": 0.88}},
        "val-mean-depth": {"baseline": "the mean depth of 500 images", "metrics": {"abs_rel": 0.32, "d1": 0.62}},
        "val-difference": {"baseline": "where they differ", "metrics": {"mask_iou": 0.91}},
    }
    words = build_words(write_scores(folder, {name: {"depth_scale": "metres", **s} for name, s in scores.items()}))
    assert "Depth is in metres" in words, "no path was scored"
    assert "val: mask IoU 88%" in words
    assert "(AbsRel 0.160 against 0.320): the mean depth of 500" in words
    assert "val: no better than" in words
    assert "val-mean-depth: 62% of the pixels" not in words, "nobody's prediction"
    assert "val-mean-depth · " not in words, "no key number"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recall", "precision", "expected", "tone"),
    [
        (0.018, 0.3, "1.8% of 167 labeled objects were found, and 30.0%", "warn"),
        (0.9, 0.2, "most detections are wrong", "warn"),
        (0.9, 0.9, "90.0% of 167 labeled objects were found, and 90.0%", ""),
    ],
)
def test_recall_and_precision_are_described(make_run, recall, precision, expected, tone):
    metrics = {"objects": 167, "recall": recall, "precision": precision}
    metrics |= {"rotation_error_deg": 4.0, "rotation_error_deg_of_all": 170.0}
    per_object = [{"name": "a/0, mug 1", "missed": False, "rotation_error_deg": 4.0}]
    folder = make_run(without=("scores", "result.json", "findings.jsonl"), run={"depth_scale": None})
    page = build_page(write_scores(folder, {"val": {"images": 9, "metrics": metrics, "per_object": per_object}}))
    (sentence,) = [line for line in page.splitlines() if expected in line]
    assert ('class="warn"' in sentence) == (tone == "warn")
    assert "Depth was not scored" not in page
    assert ("the quality of the predictions is described at the top" in page) == (tone == "warn")
    assert "Rotation error of each object, in °, val" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ("usable", "frames that trained (roads) are usable"),
        ("doubtful", "frames that trained (roads) are doubtful (T40)"),
        ("not judged", "Predictions were not judged: too few validation frames"),
    ],
)
def test_the_verdict_names_its_data_and_those_of_later_predictions(make_run, verdict, text):
    facts = {"predictions": verdict, "judged": {"steps": 60, "has_trained_frames": True}}
    finding = {"severity": "warn", "stage": "evaluation", "measured": "40 steps"}
    findings = [{**finding, "code": "T40"}, {**finding, "code": "S30", "where": ["town/0"]}]
    page = build_page(make_run(run={**facts, "data": {"path": "/data/roads"}}, findings=findings))
    top = page.partition("</header>")[0]
    assert text in top
    assert "town/0 are worse (S30)" in top


# -- Convergence.

STEPS = list(range(0, 2000, 20))


def make_series(values: np.ndarray, name: str = "val/abs_rel") -> Series:
    return Series(name, STEPS, values.tolist())


def test_decrease_of_an_unfinished_training_is_measured() -> None:
    falling = 0.5 * np.exp(-np.array(STEPS) / 2000)
    noise = np.random.default_rng(0).normal(0, 0.005, len(STEPS))
    assert measure_late_decrease(make_series(falling * np.exp(noise))) == pytest.approx(0.17, abs=0.03)


def test_noise_is_no_decrease() -> None:
    random = np.random.default_rng(1)
    courses = (make_series(0.2 * np.exp(random.normal(0, 0.05, len(STEPS)))) for _ in range(200))
    assert sum(measure_late_decrease(series) is not None for series in courses) <= 2


def test_no_decrease_for_rising_constant_or_short_series() -> None:
    assert measure_late_decrease(make_series(0.2 + np.array(STEPS) * 1e-5)) is None
    assert measure_late_decrease(make_series(np.full(len(STEPS), 0.2))) is None
    assert measure_late_decrease(Series("val/abs_rel", [0, 500, 1000], [0.5, 0.4, 0.3])) is None
    assert measure_late_decrease(Series("val/abs_rel", [], [])) is None


def test_identical_loss_terms_are_found() -> None:
    random = np.random.default_rng(2)
    base, other = (np.exp(-np.array(STEPS) / 500) + random.normal(0, 0.02, len(STEPS)) for _ in range(2))
    terms = {"term/a": base, "term/b": 3 * base + 1, "term/c": other, "loss": base}
    series = [make_series(values, f"train/{name}") for name, values in terms.items()]
    assert list(find_identical_terms(series)) == [("a", "b")]
    constant = [make_series(np.full(len(STEPS), 1.0), f"train/term/{name}") for name in "ab"]
    assert list(find_identical_terms(constant)) == []


def test_unfinished_training_is_a_warning(make_run):
    folder = make_run(without=("metrics.csv",))
    rows = [f"{20 * n},0,{0.5 * 0.99**n},{1 / (n + 1)},{2 / (n + 1)}" for n in range(100)]
    head = "step,epoch,val/abs_rel,train/term/a,train/term/b"
    (folder / "metrics.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    words = build_words(folder)
    assert "17%" in words
    assert "a and b." in words


# -- Key numbers.


@pytest.mark.slow
def test_ate_names_its_sequence_and_the_longest_path_comes_first(make_run):
    path = {"ate_m": 2.31, "path_m": 148.2, "recording": "world/003", "recordings": 4}
    assert "worst of 4 sequences world/003: 1.6% of a path of 148 m" in build_page(make_run(result={"odometry": path}))
    folder = make_run("2026-03-02-101600-paths", without=("result.json",), run={"depth_scale": "metres"})
    scores = {
        name: {"metrics": {"ate_rmse_m": error}, "align": "sim3", "poses": poses, "path_m": length}
        for name, poses, length, error in (("val-drive", 5, 4.8, 0.1), ("whole-drive", 60, 59.9, 0.49))
    }
    run = read_run(write_scores(folder, scores))
    assert [(tile.label, tile.value) for tile in make_tiles(run)] == [
        ("whole-drive · ATE", "0.490 m"),
        ("val-drive · ATE", "0.100 m"),
    ]
    whole = "60 poses over 59.9 m, moved, turned and scaled onto the true path"
    assert make_tiles(run)[0].note.startswith(whole)
    assert (
        "whole-drive: the path (60 poses over 59.9 m) is off by 0.8% of its length, moved, turned and scaled onto the"
        " true path (sim3)." in build_words(folder)
    )


@pytest.mark.slow
def test_scale_ratio_is_not_judged_for_up_to_scale_depth(make_run):
    """Up to scale: a fit stands beside each score, and the scale ratio is neither right nor wrong."""
    score = {"protocol": "relative", "depth_scale": "up-to-scale", "alignment": "median", "metrics": {"abs_rel": 0.2}}
    folder = make_run(without=("scores", "result.json"), run={"depth_scale": "up-to-scale"})
    words = build_words(write_scores(folder, {"val": {**score, "scale_ratio_median": 30.1}}))
    assert "Up to scale." in words
    assert "val · AbsRel 0.200 scaled to the true depth, per image by its median (median)" in words
    assert "Scale ratio, median 30.1" in words
    other = make_run("2026-03-02-101600-learnt-before", result={"depth_scale": "up-to-scale"})
    assert "1 is true size" not in build_words(other)
    assert "1 is true size" in json.dumps([tile.note for tile in make_tiles(read_run(make_run("2026-03-02-a")))])
