"""report.html from every kind of run folder: whole, poor, broken and hostile."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia import report
from stadia.core.errors import DataError
from stadia.report import metric_labels
from stadia.report.path_figures import make_path_figures
from stadia.report.run_files import read_run
from stadia.report.sections import embed_image_sheets, make_tiles

VOID = {"meta", "br", "wbr", "img", "input", "link", "hr"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}</style></pre>'


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def build(folder: Path) -> tuple[str, Page]:
    text = report.build_report(folder).read_text(encoding="utf-8")
    return text, Page(text)


def visible(text: str) -> str:
    """The page's words without tags, scripts and styles."""
    text = text.replace("<wbr>", "")
    text = re.sub(r"<(script|style).*?</\1>", " ", text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_report_of_a_complete_run(make_run):
    text, page = build(make_run())
    words = visible(text)
    assert "Metres. Depth and path mean metres, as far as they are right" in words
    assert "58% below the mean map's 0.306" in words
    assert "1.6% of a path of 148 m" in words
    assert "took 8 min 41 s" in words
    assert "gradient norm 41 at step 12" in words
    assert words.index("3 of 200 frames") < words.index("gradient norm 41")  # as written: causes before symptoms
    assert "1 warn 1 note" in words
    assert "world-11/left/000016 0.566" in words  # the worst image
    assert '"encoder": "mobilenetv3_small_100"' in words
    titles = re.findall(r"<h3>([^<]+)", text)
    for panel in ("Loss", "Terms of the loss", "AbsRel", "Learning rate"):
        assert any(title.strip() == panel for title in titles), panel
    assert len(page.named("img")) == 6


def test_title_and_header_name_the_model_where_the_recipe_does(make_run):
    page, _ = build(make_run(run={"recipe": "supervised", "model": "dpt-tiny, attention performer, crop kb"}))
    assert "<title>dpt (dpt-tiny, attention performer, crop kb): 2026-03-02-101500-demo</title>" in page
    assert '<h1>dpt <span class="soft">dpt-tiny, attention performer, crop kb</span>' in page
    assert "<title>selfsup: " in build(make_run("2026-03-03-101500-other"))[0]


def test_page_is_one_file_that_loads_nothing(make_run):
    text, page = build(make_run())
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            value = attributes.get(name) or "data:image/jpeg;base64,"
            assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value)
    assert not page.named("link")
    assert not re.search(r"@import|url\((?!#)", text)
    policy = next(a["content"] for a in page.named("meta") if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_page_fits_a_phone(make_run):
    text, page = build(make_run())
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")
    assert "prefers-color-scheme: dark" in text
    assert all("viewbox" in a and "width" not in a for a in page.named("svg"))


def test_hostile_strings_are_text(make_run):
    folder = make_run(
        name="2026-03-02-101500-<b>bold",
        run={"recipe": HOSTILE, "status": HOSTILE, "command": HOSTILE, "environment": {HOSTILE: HOSTILE}},
        config={HOSTILE: HOSTILE},
        result={HOSTILE: 1.0, "depth_scale": HOSTILE},
        findings=[
            dict.fromkeys(("code", "severity", "stage", "measured", "expected", "cause", "fix"), HOSTILE)
            | {"evidence": {HOSTILE: HOSTILE}}
        ],
    )
    score = {
        "protocol": HOSTILE,
        "depth_scale": HOSTILE,
        "metrics": {HOSTILE: 0.5},
        "images": HOSTILE,
        "per_image": [{"name": HOSTILE, HOSTILE: 0.5}],
    }
    (folder / "scores" / "x<script>.json").write_text(json.dumps(score), encoding="utf-8")
    (folder / "metrics.csv").write_text('step,"train/<script>alert(3)</script>"\n0,1\n1,2\n', encoding="utf-8")
    (folder / "diff.patch").write_text(HOSTILE, encoding="utf-8")
    text, page = build(folder)
    assert len(page.named("script")) == 1  # ours
    assert "alert(" not in re.search(r"<script>(.*?)</script>", text, re.S)[1]
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert all((a["src"] or "").startswith("data:") for a in page.named("img"))
    assert "{{ 7 * 7 }}" in html.unescape(text)
    assert "<b>bold" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "missing", ["run.json", "config.json", "result.json", "scores", "findings.jsonl", "metrics.csv", "images"]
)
def test_any_part_may_be_missing(make_run, missing):
    text, _ = build(make_run(without=(missing,)))
    assert "<h1>" in text


def test_run_that_was_killed_at_once(make_run):
    folder = make_run(
        without=("config.json", "result.json", "scores", "findings.jsonl", "metrics.csv", "images"),
        run={"status": "running", "finished": None},
    )
    words = visible(build(folder)[0])
    assert "not finished when this was written" in words
    assert "No depth scale yet." in words


def test_a_new_metric_is_one_line_of_the_table(make_run, monkeypatch):
    folder = make_run(without=("result.json", "scores"))
    (folder / "scores").mkdir()
    (folder / "scores" / "val.json").write_text(
        json.dumps({"metrics": {"size_error_m": 0.012, "iou": 0.5}}), encoding="utf-8"
    )
    assert make_tiles(read_run(folder)) == []
    monkeypatch.setitem(metric_labels.SCORES, "size_error_m", metric_labels.MetricLabel("Size error", "m", key=True))
    assert [(tile.label, tile.value) for tile in make_tiles(read_run(folder))] == [("val · Size error", "0.0120 m")]


def test_failed_run_shows_its_error(make_run):
    folder = make_run(run={"status": "failed", "error": "loss of step 12: found nan"})
    words = visible(build(folder)[0])
    assert "failed" in words
    assert "loss of step 12: found nan" in words


def test_score_files_of_every_form(make_run):
    """Grouped and flat metrics, notes, numbers that could not be computed, more columns than fit on a screen."""
    folder = make_run(without=("scores",))
    (folder / "scores").mkdir()
    flat = {"ate_rmse_m": 0.5, "t_err_percent": None, "align": "se3", "scale": 1.0, "poses": 50, "path_m": 120.0}
    (folder / "scores" / "val-odometry.json").write_text(json.dumps(flat), encoding="utf-8")
    grouped = {
        "protocol": "relative",
        "depth_scale": "up-to-scale",
        "alignment": "median",
        "metrics": {"abs_rel": 0.1},
        "scale_ratio_median": 30.1,
    }
    (folder / "scores" / "val-depth.json").write_text(
        json.dumps(grouped | {"notes": ["2 images have no truth"]}), encoding="utf-8"
    )
    words = visible(build(folder)[0])
    assert "aligned by se3, 50 poses" in words
    assert "t_err ↓ –" in words
    assert "protocol relative, up to scale, aligned by median" in words
    assert "Scale ratio, median 30.1" in words  # no arrow: up to scale, it has no right value
    assert "2 images have no truth" in words


def test_up_to_scale_is_described(make_run):
    words = visible(build(make_run(result={"depth_scale": "up-to-scale"}))[0])
    assert "Up to scale." in words
    assert "sizes do not" in words


def test_broken_files_are_listed_and_the_rest_is_shown(make_run):
    folder = make_run()
    (folder / "result.json").write_text('{"depth": {"abs_rel": 0.1', encoding="utf-8")
    (folder / "scores" / "depth-test.json").write_text("[1, 2]", encoding="utf-8")
    (folder / "images" / "step-000100.png").write_bytes((folder / "images" / "step-000050.png").read_bytes()[:2000])
    (folder / "images" / "step-000150.png").write_bytes(b"")
    words = visible(build(folder)[0])
    for name in ("result.json", "scores/depth-test.json", "images/step-000100.png", "images/step-000150.png"):
        assert f"Not read: {name}" in words
    assert "ATE" in words


def test_images_of_older_runs_are_shown(make_run):
    """They lie in `pictures`, and score files count `pictures`."""
    folder = make_run()
    (folder / "images").rename(folder / "pictures")
    score = folder / "scores" / "depth-test.json"
    score.write_text(score.read_text().replace('"images": 200', '"pictures": 200'), encoding="utf-8")
    text, page = build(folder)
    assert len(page.named("img")) == 6
    assert "200 pictures" in visible(text)


def test_image_of_absurd_size_is_not_decoded(make_run, monkeypatch):
    monkeypatch.delattr("cv2.imdecode")
    folder = make_run(without=("images",))
    (folder / "images").mkdir()
    header = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR" + (100_000).to_bytes(4, "big") * 2
    (folder / "images" / "step-000001.png").write_bytes(header + b"\0" * 100 + b"IEND\xaeB`\x82")
    run = read_run(folder)
    assert embed_image_sheets(run) == []
    assert "step-000001.png" in run.unreadable[0]


def test_nonfinite_losses_are_marked(make_run):
    folder = make_run()
    (folder / "metrics.csv").write_text("step,epoch,train/loss\n0,0,1.0\n1,0,nan\n2,0,inf\n3,0,0.5\n", encoding="utf-8")
    assert "train/loss was not finite 2 times, first at step 1." in visible(build(folder)[0])


def test_last_finding_cut_by_a_kill_is_left_out(make_run):
    folder = make_run()
    with (folder / "findings.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"code": "X99", "sever')
    assert len(read_run(folder).findings) == 2


@pytest.mark.slow
def test_changes_since_the_previous_run(make_run):
    make_run(
        "2026-02-01-080000-older",
        run={"started": "2026-02-01T08:00:00+00:00"},
        config={"data": {"height": 1, "width": 1}},
    )
    make_run(
        "2026-03-01-080000-before",
        run={
            "started": "2026-03-01T08:00:00+00:00",
            "environment": {"python": "3.12.1"},
            "code": {"commit": "0000000", "dirty": False},
        },
        config={"optimizer": {"name": "adamw", "lr": 2e-4}},
        result={"depth": {"abs_rel": 0.2}},
    )
    make_run("2026-03-01-090000-other", run={"recipe": "metric", "started": "2026-03-01T09:00:00+00:00"})
    make_run("2026-03-03-080000-later", run={"started": "2026-03-03T08:00:00+00:00"})
    words = visible(build(make_run())[0]).split("Changes since the previous run")[1]
    assert words.startswith(" 2026-03-01-080000-before")
    assert "optimizer.lr 0.0002 0.001" in words
    assert "code.commit 0000000 4f1c2ab" in words
    assert "python 3.12.1 3.11.9" in words
    assert "torch not there 2.13.0" in words
    assert "depth.abs_rel 0.200 0.128" in words
    assert "changed at once" not in words


def test_several_changed_keys_are_a_warning(make_run):
    """As where an attention was exchanged, and trained twice as long at another rate."""
    values = {"config": {"optimizer": {"name": "sgd", "lr": 2e-4}}, "result": {"depth": {"abs_rel": 0.2}}}
    make_run("2026-03-01-080000-before", run={"started": "2026-03-01T08:00:00+00:00"}, **values)
    words = visible(build(make_run())[0]).split("Changes since the previous run")[1]
    assert (
        "2 keys changed at once (optimizer.name, optimizer.lr): scores do not show the effect of any single one."
        in words
    )


def test_folder_that_is_no_run(tmp_path):
    with pytest.raises(DataError, match=r"neither run\.json nor config\.json"):
        report.build_report(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        report.build_report(tmp_path / "absent")


def test_out_sets_the_path(make_run, tmp_path):
    out = tmp_path / "elsewhere" / "page.html"
    assert report.build_report(make_run(), out) == out
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.slow
def test_report_builds_where_torch_cannot_be_imported(make_run):
    program = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path; from stadia import report;"
        " report.build_report(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(make_run())], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_evidence_is_shown_as_images_and_tables(make_run):
    evidence = {
        "matches": 1186,
        "sides": {"hypothesis": ["as given", "the other way round"], "residual": [0.147, 0.032]},
        "T_right_left": [[1.0, 0.0], [0.0, 1.0]],
        "image": "findings/E01-1.png",
    }
    folder = make_run(
        findings=[
            {"code": "E01", "severity": "stop", "stage": "data", "measured": "t_x is +0.54 m", "evidence": evidence}
        ]
    )
    (folder / "findings").mkdir()
    (folder / "findings" / "E01-1.png").write_bytes((folder / "images" / "step-000050.png").read_bytes())
    text, page = build(folder)
    words = visible(text)
    assert "hypothesis residual as given 0.147 the other way round 0.0320" in words
    for text_part in ("T_right_left 1.00 0 0 1.00", "matches 1186", "stadia explain CODE describes symptoms"):
        assert text_part in words
    assert any(
        image["alt"] == "image of finding E01" and image["src"].startswith("data:image/jpeg")
        for image in page.named("img")
    )
    assert any("open" in attributes for attributes in page.named("details"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../secret.png", "findings/absent.png", "/etc/hostname", "findings/\0.png"])
def test_image_of_a_finding_must_be_in_the_runs_folder(make_run, name):
    folder = make_run(findings=[{"code": "E01", "severity": "stop", "stage": "data", "evidence": {"image": name}}])
    (folder.parent / "secret.png").write_bytes((folder / "images" / "step-000050.png").read_bytes())
    text, page = build(folder)
    assert not any(image["alt"] == "image of finding E01" for image in page.named("img"))
    assert "Not read:" in visible(text)


def test_skipped_checks_are_listed(make_run):
    notes = [
        {
            "code": "N01",
            "severity": "note",
            "stage": "data",
            "measured": "poses: no poses",
            "where": [f"drive {i}" for i in range(5)],
        },
        {"code": "N01", "severity": "note", "stage": "data", "measured": "sides: one camera, no rig"},
    ]
    words = visible(build(make_run(findings=notes))[0])
    assert (
        "Findings None. 2 not checked poses: no poses (drive 0, drive 1, drive 2 and 2 more) sides: one camera, no rig"
        " Scores" in words
    )


def test_many_score_files_are_rows_with_merged_notes(make_run):
    folder = make_run(without=("scores",))
    (folder / "scores").mkdir()
    for i in range(5):
        score = {"ate_rmse_m": 0.5 + i, "t_err_percent": None, "path_m": 20.0 + i, "align": "sim3"}
        score |= {"notes": [f"t_err needs a path longer than 100 m; the reference has {20 + i}.0 m"]}
        (folder / "scores" / f"test-{i}.json").write_text(json.dumps(score), encoding="utf-8")
    words = visible(build(folder)[0])
    assert "aligned by sim3 ATE ↓ Path test-0 0.500 m 20.0 m test-1 1.50 m 21.0 m" in words
    assert words.count("t_err") == 1
    assert "the reference has 20.0 m (and likewise in 4 more)" in words


@pytest.mark.slow
def test_source_of_scale_comes_from_the_recipe(make_run):
    source = "the ground truth that it was trained on"
    assert f"the scale comes from {source}." in visible(
        build(make_run(run={"depth_scale": "metres", "scale_from": source}))[0]
    )
    hostile = make_run("2026-03-02-101700-hostile", run={"depth_scale": "metres", "scale_from": HOSTILE})
    assert "the scale comes from" in visible(build(hostile)[0])
    assert HOSTILE not in build(hostile)[0]


@pytest.mark.slow
def test_scale_ratio_is_not_judged_for_up_to_scale_depth(make_run):
    """Up to scale: a fit stands beside each score, and the scale ratio is neither right nor wrong."""
    score = {
        "protocol": "relative",
        "depth_scale": "up-to-scale",
        "alignment": "median",
        "metrics": {"abs_rel": 0.2},
        "scale_ratio_median": 30.1,
    }
    folder = make_run(without=("scores", "result.json"), run={"depth_scale": "up-to-scale"})
    (folder / "scores").mkdir()
    (folder / "scores" / "val.json").write_text(json.dumps(score), encoding="utf-8")
    words = visible(build(folder)[0])
    assert "Meaning of the numbers Up to scale." in words
    assert "val · AbsRel 0.200 scaled to the true depth, each image by its median (median)" in words
    assert "Scale ratio, median 30.1" in words
    other = make_run("2026-03-02-101600-learnt-before", result={"depth_scale": "up-to-scale"})
    assert "1 is true size" not in visible(build(other)[0])


@pytest.mark.slow
def test_missing_source_of_scale_is_described(make_run):
    rests_on = "heights of classes: car 1.71 m"
    missed = make_run(
        "2026-03-02-101601-missed", run={"depth_scale": "up-to-scale", "rests_on": rests_on}, without=("result.json",)
    )
    words = visible(build(missed)[0])
    assert f"by this recipe rest on {rests_on}; depth here is up to scale." in words
    assert "recipe metric" not in words, "it is that recipe"
    reason = {"depth_scale": "up-to-scale", "rests_on": rests_on, "no_metres": "no height is known"}
    assert "depth here is up to scale: no height is known." in visible(
        build(make_run("2026-03-02-101603-learnt-before", run=reason))[0]
    )
    learnt = {"depth_scale": "metres", "rests_on": rests_on, "scale_from": "the camera's height"}
    words = visible(build(make_run("2026-03-02-101602-learnt", run=learnt, without=("result.json",)))[0])
    assert "the scale comes from the camera's height." in words
    assert f"The metres rest on {rests_on}." in words
    assert "depth here is up to scale" not in words


def test_score_names_have_no_repeated_words(make_run):
    folder = make_run(without=("scores", "result.json"))
    (folder / "scores").mkdir()
    for stem in ("kitti_odometry-metric-kitti_odometry-06", "seq-01-01", "a-b-a", "a-b"):
        (folder / "scores" / f"{stem}.json").write_text(json.dumps({"metrics": {"ate_rmse_m": 1.0}}), encoding="utf-8")
    assert list(read_run(folder).scores) == ["a-b-a", "a-b", "kitti_odometry-metric-06", "seq-01-01"]
    assert 'data-column="ATE ↓"' in build(folder)[0]  # what a phone shows beside each value


@pytest.mark.slow
def test_previous_run_has_the_same_name(make_run):
    make_run("2026-03-01-101500-demo", run={"name": "demo", "started": "2026-03-01T10:15:00+00:00"})
    video = make_run("2026-03-02-101500-video", run={"name": "video"})
    assert "There is no earlier run of this recipe and name" in visible(build(video)[0])
    demo = make_run("2026-03-02-101500-demo", run={"name": "demo"})
    assert "2026-03-01-101500-demo, the last of the same recipe and name" in visible(build(demo)[0])


def test_skipped_checks_are_not_counted_as_findings(make_run):
    folder = make_run(without=("findings.jsonl",))
    (folder / "findings.jsonl").write_text(
        '{"code": "N01", "severity": "note", "measured": "no poses"}\n', encoding="utf-8"
    )
    assert "1 note" not in visible(build(folder)[0])


@pytest.mark.slow
def test_steps_are_those_of_the_checkpoint(make_run):
    """A run interrupted at step 346 whose last logged row is that of step 299: the checkpoint holds 346 steps."""
    folder = make_run(run={"status": "interrupted"})
    assert read_run(folder).steps == 299
    (folder / "checkpoints" / "last.json").write_text(json.dumps({"step": 346}), encoding="utf-8")
    assert "· 346 steps" in build(folder)[0]
    (folder / "checkpoints" / "last.json").write_text(json.dumps({"step": "many"}), encoding="utf-8")
    assert "· 299 steps" in build(folder)[0]
    early = make_run("2026-03-02-102000-early", run={"judged": {"steps": 60}})
    assert "· 299 steps (best checkpoint: step 60)" in build(early)[0]


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ("usable", "Predictions of validation frames (roads) are usable by their checks"),
        ("doubtful", "Predictions of validation frames (roads) are doubtful by their checks (T40): see the findings."),
        ("not judged", "Predictions were not judged: too few validation frames"),
    ],
)
def test_verdict_on_predictions_is_at_the_top(make_run, verdict: str, text: str):
    folder = make_run(run={"predictions": verdict, "data": {"path": "/data/roads"}})
    finding = {"code": "T40", "severity": "warn", "stage": "evaluation", "measured": "40 steps"}
    with (folder / "findings.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(finding) + "\n")
    page = build(folder)[0]
    assert text in page.partition("</header>")[0]


def test_the_paths_of_a_recording_share_a_figure_with_a_legend(make_run):
    """The pose network and image alignment on one recording; a second recording of one method."""
    folder = make_run()
    scores = folder / "scores"
    path = json.loads((scores / "odometry.json").read_text()) | {"recording": "world/000", "align": "se3"}
    (scores / "odometry.json").write_text(json.dumps({**path, "motion": "aligned"}), encoding="utf-8")
    network = {**path, "motion": "network", "metrics": {"ate_rmse_m": 7.5}}
    (scores / "test-network.json").write_text(json.dumps(network), encoding="utf-8")
    other = {**network, "recording": "world/001", "path_true_m": [[0, 0], [0, 3]]}
    (scores / "test-other.json").write_text(json.dumps(other), encoding="utf-8")
    first, second = make_path_figures(read_run(folder).scores)
    assert (first.recording, second.recording) == ("world/000", "world/001")
    assert [(line.name, line.color, line.error) for line in first.figure.lines] == [
        ("image alignment", 0, "ATE 2.31 m"),
        ("pose network", 1, "ATE 7.50 m"),
    ]
    assert [(line.name, line.color) for line in second.figure.lines] == [("pose network", 1)]
    assert first.aligned == ["Moved and turned onto the true path, not scaled (se3)."]
    page = build(folder)[0]
    assert "Pose network: the pose network predicts the motion." in page
    assert "Image alignment: each image is aligned with the next one, with the predicted depth." in page
    assert page.index('<section id="images">') < page.index('<section id="paths">')


def test_two_paths_of_one_method_have_the_names_of_their_files(make_run):
    folder = make_run()
    path = {**json.loads((folder / "scores" / "odometry.json").read_text()), "motion": "network"}
    for name in ("odometry", "odometry-again"):
        (folder / "scores" / f"{name}.json").write_text(json.dumps(path), encoding="utf-8")
    (shown,) = make_path_figures(read_run(folder).scores)
    assert [line.name for line in shown.figure.lines] == ["odometry-again", "odometry"]


def test_one_ate_of_several_sequences_names_its_sequence(make_run):
    path = {"ate_m": 2.31, "path_m": 148.2, "recording": "world/003", "recordings": 4}
    page = build(make_run(result={"odometry": path}))[0]
    assert "worst of 4 sequences world/003: 1.6% of a path of 148 m" in page


def test_depth_without_scores_is_not_called_scored(make_run):
    """A run that predicted, and whose depth was never compared with the truth."""
    folder = make_run()
    predicted = folder / "predictions" / "val" / "world"
    (predicted / "depth").mkdir(parents=True)
    cv2.imwrite(str(predicted / "depth" / "000000.png"), np.full((12, 40), 2560, np.uint16))
    record = {"finished": True, "recipe": "selfsup", "source": "world", "entries": ["000000"]}
    (predicted / "predictions.json").write_text(json.dumps(record), encoding="utf-8")
    assert "Depth of frames that were scored, bright is near" in build(folder)[0]
    for file in (folder / "scores").glob("*.json"):
        file.unlink()
    page = build(folder)[0]
    assert "Predicted depth, not scored, bright is near" in page
    assert "that were scored" not in page
