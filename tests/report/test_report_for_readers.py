"""What a reader who never saw the program needs of the page: terms explained, few figures, no broken words."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia import report
from stadia.report.path_figures import make_path_figures
from stadia.report.quality_summary import describe_quality
from stadia.report.run_files import read_run
from stadia.report.run_journal import write_journal
from stadia.report.sections import make_tiles


def build(folder: Path) -> str:
    return report.build_report(folder).read_text(encoding="utf-8")


def visible(text: str) -> str:
    """The page's words without tags, scripts and styles."""
    text = re.sub(r"<(script|style).*?</\1>", " ", text.replace("<wbr>", ""), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_of_many_paths_the_worst_and_the_median_are_open(make_run):
    """Sorted by error over length: 0.1, 0.2, 0.3, 0.4, 0.6 of a path of 10 m."""
    folder = make_run(without=("scores", "result.json"))
    (folder / "scores").mkdir()
    for number, error in enumerate((2.0, 6.0, 1.0, 3.0, 4.0)):
        score = {
            "recording": f"world/{number}",
            "metrics": {"ate_rmse_m": error},
            "path_m": 10.0,
            "path_estimated_m": [[0, 0], [0, 5]],
            "path_true_m": [[0, 0], [0, 6 + number]],
        }
        (folder / "scores" / f"test-{number}.json").write_text(json.dumps(score), encoding="utf-8")
    found = make_path_figures(read_run(folder).scores)
    assert [(one.recording, one.place) for one in found if one.is_open] == [("world/1", "worst"), ("world/3", "median")]
    words = visible(build(folder))
    assert "those with the worst and the median ATE over path length are shown, the others are folded" in words
    assert "3 more recordings" in words
    (folder / "scores" / "test-4.json").unlink()
    assert all(one.is_open and not one.place for one in make_path_figures(read_run(folder).scores))
    assert "<details><summary>1 more" not in build(folder)


def test_depth_of_two_ways_of_motion_is_one_column(make_run):
    """Test and test-network are of one checkpoint: the same depth, and two paths."""
    folder = make_run()
    depth = json.loads((folder / "scores" / "depth-test.json").read_text())
    for name, motion in (("test", "aligned"), ("test-network", "network")):
        (folder / "scores" / f"{name}.json").write_text(json.dumps({**depth, "motion": motion}), encoding="utf-8")
    (folder / "scores" / "depth-test.json").unlink()
    page = build(folder)
    assert page.count("<strong>test, test-network</strong>") == 1
    assert "<strong>test</strong>" not in page
    assert visible(page).count("AbsRel of each image") == 1


def test_terms_of_the_field_are_explained(make_run):
    """Scale ratio, auto-mask and best source have a sentence each; the motion chart names whose motion it is."""
    folder = make_run()
    with (folder / "metrics.csv").open("w", encoding="utf-8") as file:
        file.write("step,epoch,train/auto_masked,train/update_ratio\n1,0,0.5,0.01\n2,0,0.4,0.01\n3,0,0.3,0.01\n")
    (folder / "images" / "motion").mkdir()
    cv2.imwrite(str(folder / "images" / "motion" / "step-000003.png"), np.zeros((70, 100, 3), np.uint8))
    words = visible(build(folder))
    for sentence in (
        "Its spread: standard deviation over the images, divided by their median.",
        "Size of an update of the weights over the size of the weights.",
        "Auto-mask: a pixel does not train where an unwarped source explains it at least as well",
        "Best source: the source with the smallest residual at each pixel (minimum reprojection).",
        "some samples are mirrored",
        "Motion of the pose network, validation at step 3",
        "paths by image alignment refine it with the predicted depth",
    ):
        assert sentence in words, sentence


def test_evidence_without_entries_has_no_row(make_run):
    finding = {"code": "T40", "severity": "warn", "stage": "evaluation", "measured": "55 steps"}
    page = build(make_run(findings=[finding | {"evidence": {"steps": 55, "codes": []}}]))
    assert "<dt>steps</dt><dd>55</dd>" in page
    assert "<dt>codes</dt>" not in page


def test_every_table_scrolls_in_its_box(make_run):
    """A table that is wider than a phone must not widen the page; the boxes are `wide`."""
    folder = make_run()
    make_run("2026-03-01-101500-demo", config={"optimizer": {"lr": 2e-3}})
    text = build(folder)
    boxes = re.findall(r'<div class="([^"]*)">\s*<table', text)
    assert len(boxes) == text.count("<table") > 5
    assert all("wide" in box.split() for box in boxes)
    assert ".wide { overflow-x: auto; }" in text


def test_names_break_between_words(make_run):
    """A key wraps after a dot or an underscore, and no name is broken within a word."""
    make_run("2026-03-01-101500-demo", config={"training": {"checkpoint_every": 2}})
    text = build(make_run(config={"training": {"checkpoint_every": 5}}))
    assert "<code>training.<wbr>checkpoint_<wbr>every</code>" in text
    anywhere = [line for line in text.splitlines() if "overflow-wrap: anywhere" in line]
    assert [line.partition("{")[0] for line in anywhere] == [".keys td + td "], "values alone"


def test_values_of_a_run_wrap(make_run):
    """A command or a fingerprint is one word of hundreds of characters: it wraps, since a phone shows 45."""
    text = build(make_run())
    tables = re.findall(r"<details><summary>(Run|Environment)</summary><div[^>]*><table class=\"([^\"]*)\"", text)
    assert tables == [("Run", "keys"), ("Environment", "keys")]


def test_numbers_wrap_on_a_phone(make_run):
    """`2 min 38 s` in one line made the table of phases wider than a small phone."""
    phone = build(make_run()).partition("@media (max-width: 30rem)")[2]
    (rule,) = (line for line in phone.splitlines() if line.strip().startswith(".numbers td"))
    assert "white-space: normal" in rule


def test_the_longest_scored_path_is_the_headline_and_each_has_its_length(make_run):
    """Five validation poses over 4.8 m do not hide the whole path."""
    folder = make_run(without=("scores", "result.json"))
    (folder / "scores").mkdir()
    for name, poses, length, error in (("val-drive", 5, 4.8, 0.1), ("whole-drive", 60, 59.9, 0.49)):
        score = {"metrics": {"ate_rmse_m": error}, "align": "sim3", "poses": poses, "path_m": length}
        (folder / "scores" / f"{name}.json").write_text(json.dumps(score), encoding="utf-8")
    (folder / "scores" / "depth.json").write_text(json.dumps({"metrics": {"abs_rel": 0.1}}), encoding="utf-8")
    tiles = [tile for tile in make_tiles(read_run(folder)) if "ATE" in tile.label]
    assert [(tile.label.partition(" ")[0], tile.value) for tile in tiles] == [
        ("whole-drive", "0.490 m"),
        ("val-drive", "0.100 m"),
    ]
    assert tiles[0].note.startswith("60 poses over 59.9 m, moved, turned and scaled onto the true path")
    assert tiles[1].note.startswith("5 poses over 4.80 m")
    (folder / "scores" / "depth.json").unlink()
    sentences = [one.text for one in describe_quality(read_run(folder))]
    assert (
        "whole-drive: the path (60 poses over 59.9 m) is off by 0.8% of its length, moved, turned and scaled onto the"
        " true path (sim3)." in sentences
    )


@pytest.mark.slow
def test_a_resumed_run_took_the_time_of_its_parts(make_run):
    """It was stopped overnight."""
    facts = {"finished": "2026-03-03T10:15:00+00:00", "resumed": ["2026-03-02T11:00:00+00:00", "2026-03-03T10:10:00"]}
    took = "took 10 min to train and validate, in 3 parts"
    steps = read_run(make_run("2026-03-02-101600-first", run=facts)).steps
    whole, part = {"wall_s": 600.0, "steps": steps}, {"wall_s": 60.0, "steps": steps - 1}
    assert took in visible(build(make_run(run={**facts, "time": whole})))
    odd = ({}, [], {"wall_s": "a"}, {**whole, "wall_s": -1}, {**whole, "wall_s": 1e400}, part)
    for number, times in enumerate(odd):
        shown = visible(build(make_run(f"2026-03-02-10170{number}-odd", run={**facts, "time": times})))
        assert "in 3 parts" in shown
        assert "to train and validate" not in shown


def test_a_finding_has_its_title(make_run):
    finding = {"code": "D18", "title": "Little <parallax>", "severity": "warn", "stage": "data", "measured": "0.5 px"}
    run = make_run(findings=[finding, {**finding, "code": "K04", "title": None}])  # runs of older versions have none
    shown = visible(build(run))
    assert "warn D18 Little <parallax> data measured 0.5 px" in shown
    assert "warn K04 data measured 0.5 px" in shown
    journal = write_journal([read_run(run)])
    assert "- warn D18 Little <parallax>: 0.5 px" in journal
    assert "- warn K04: 0.5 px" in journal


def test_each_figure_names_what_was_fitted_to_the_truth(make_run):
    """Above a path that is aligned by SE(3), the page said that nothing is fitted."""
    folder = make_run(without=("scores", "result.json"), run={"depth_scale": "metres", "scale_from": "the baseline"})
    (folder / "scores").mkdir()
    true, estimated = [[0, 0], [0, 3], [1, 6]], [[0, 0], [0, 3.1], [1, 6.1]]
    path = {"motion": "aligned", "align": "se3", "path_estimated_m": estimated, "metrics": {"ate_rmse_m": 0.1}}
    scores = {
        "depth": {"depth_scale": "metres", "alignment": "none", "metrics": {"abs_rel": 0.1}},
        "first": {**path, "recording": "drive/0", "path_true_m": true},
        "second": {**path, "recording": "drive/1", "path_true_m": [[0, 0], [0, 4]]},
        "second-sim3": {**path, "align": "sim3", "recording": "drive/1", "path_true_m": [[0, 0], [0, 4]]},
        "third": {**path, "align": "none", "recording": "drive/2", "path_true_m": [[0, 0], [0, 5]]},
    }
    for name, score in scores.items():
        (folder / "scores" / f"{name}.json").write_text(json.dumps(score), encoding="utf-8")
    page = build(folder)
    assert "nothing is fitted" not in page
    assert (
        "Depths are scored as predicted. Some of the scored paths are moved and turned onto the true path, not" in page
    )
    first, second, third = make_path_figures(read_run(folder).scores)
    assert first.aligned == ["Moved and turned onto the true path, not scaled (se3)."]
    assert sorted(second.aligned) == [
        "second-sim3: moved, turned and scaled onto the true path (sim3).",
        "second: moved and turned onto the true path, not scaled (se3).",
    ]
    assert third.aligned == ["As estimated, not aligned."]
    assert "<figure" in page.partition(first.aligned[0])[0]


def test_the_verdict_names_its_data_and_those_of_later_predictions(make_run):
    facts = {"predictions": "usable", "judged": {"steps": 60, "has_trained_frames": True}}
    folder = make_run(run={**facts, "data": {"path": "/data/roads"}})
    later = {"code": "S30", "severity": "stop", "stage": "evaluation", "where": ["town/0"], "measured": "far"}
    with (folder / "findings.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(later) + "\n")
    sentences = {one.text: one.tone for one in describe_quality(read_run(folder))}
    judged = "Predictions of validation frames and frames that trained (roads) are usable by their checks"
    assert sentences[f"{judged}: nothing speaks against them."] == "good"
    assert sentences["Predictions of town/0, made later, are worse by their checks (S30): see the findings."] == "warn"


def test_scores_of_averaged_maps_are_described_once(make_run):
    """`evaluate` with and without --flip. Both are in the table; sentences, tiles and histograms are not doubled."""
    folder = make_run(without=("scores", "result.json"), run={"depth_scale": "metres"})
    (folder / "scores").mkdir()
    plain = {
        "data": "drives",
        "ground_truth": "velodyne_raw",
        "every": 1,
        "alignment": "none",
        "depth_scale": "metres",
        "protocol": "metric",
    }
    plain |= {"metrics": {"abs_rel": 0.3, "d1": 0.7}, "per_image": [{"name": "a", "abs_rel": 0.3}], "notes": []}
    flip = {**plain, "flip": True, "metrics": {"abs_rel": 0.2, "d1": 0.8}, "per_image": [{"name": "a", "abs_rel": 0.2}]}
    alone = {**flip, "every": 5}
    for name, score in {"drives": plain, "drives-flip": flip, "drives-every5-flip": alone}.items():
        (folder / "scores" / f"{name}.json").write_text(json.dumps(score), encoding="utf-8")
    run = read_run(folder)
    of_pixels = [one.text for one in describe_quality(run) if "of the pixels" in one.text]
    assert [text.partition(":")[0] for text in of_pixels] == [
        "drives",
        "drives-every5-flip, averaged with the mirrored image",
    ]
    tiles = {tile.label: tile.note for tile in make_tiles(run) if "AbsRel" in tile.label}
    assert tiles == {"drives · AbsRel": "", "drives-every5-flip · AbsRel": "averaged with the mirrored image"}
    page = build(folder)
    assert "protocol metric, ground truth velodyne_raw, metres" in visible(page)
    assert visible(page).count("AbsRel of each image") == 2
    table = page.partition("One by one")[0].rpartition("<table")[2]
    assert all(name in table.replace("<wbr>", "") for name in ("drives-flip", "drives-every5-flip"))
