"""report.html from every kind of run folder: whole, poor and broken; what its readers need to understand it."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report.conftest import build_page, build_words, read_words, write_scores

from stadia.report.run_files import format_number

VOID = {"meta", "br", "wbr", "img", "input", "link", "hr"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}</style></pre>'


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps every tag with its attributes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.text = build_page(folder)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(self.text)
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


@pytest.mark.slow
def test_report_of_a_complete_run(make_run):
    page = Page(make_run())
    words = read_words(page.text)
    assert "Metres. Depth and path are in metres" in words
    assert "58% below the mean map's 0.306" in words
    assert "1.6% of a path of 148 m" in words
    assert "took 8 min 41 s" in words
    assert "gradient norm 41 at step 12" in words
    assert words.index("3 of 200 frames") < words.index("gradient norm 41")  # as written: causes before symptoms
    assert "1 warn 1 note" in words
    assert "world-11/left/000016 0.566" in words  # the worst image
    assert '"encoder": "mobilenetv3_small_100"' in words
    titles = [title.strip() for title in re.findall(r"<h3>([^<]+)", page.text)]
    assert {"Loss", "Terms of the loss", "AbsRel", "Learning rate"} <= set(titles)
    assert len(page.named("img")) == 6
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")
    assert "prefers-color-scheme: dark" in page.text
    assert all("viewbox" in a and "width" not in a for a in page.named("svg"))


@pytest.mark.slow
def test_page_is_one_file_that_loads_nothing(make_run):
    page = Page(make_run())
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            value = attributes.get(name) or "data:image/jpeg;base64,"
            assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value)
    assert not page.named("link")
    assert not re.search(r"@import|url\((?!#)", page.text)
    policy = next(a["content"] for a in page.named("meta") if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_hostile_strings_are_text(make_run):
    folder = make_run(
        name="2026-03-02-101500-<b>bold",
        run={"recipe": HOSTILE, "environment": {"packages": {HOSTILE: HOSTILE}}, "scale_from": HOSTILE},
        config={HOSTILE: HOSTILE},
        result={HOSTILE: 1.0, "depth_scale": HOSTILE},
        findings=[
            dict.fromkeys(("code", "severity", "stage", "measured", "expected", "cause", "fix"), HOSTILE)
            | {"evidence": {HOSTILE: HOSTILE}}
        ],
    )
    path = {"recording": HOSTILE, "path_estimated_m": [[0, 0], [0, 1]], "metrics": {HOSTILE: 0.5}}
    score = {"protocol": HOSTILE, "depth_scale": HOSTILE, "images": HOSTILE}
    score |= {"metrics": {HOSTILE: 0.5}, "per_image": [{"name": HOSTILE, HOSTILE: 0.5}]}
    write_scores(folder, {"x<script>": score, "path": path})
    (folder / "metrics.csv").write_text('step,"train/<script>alert(3)</script>"\n0,1\n1,2\n2,3\n', encoding="utf-8")
    (folder / "diff.patch").write_text(HOSTILE, encoding="utf-8")
    page = Page(folder)
    assert len(page.named("script")) == 1  # ours
    assert "alert(" not in re.search(r"<script[^>]*>(.*?)</script>", page.text, re.S)[1]
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert all((a["src"] or "").startswith("data:") for a in page.named("img"))
    assert "{{ 7 * 7 }}" in html.unescape(page.text)
    assert "<b>bold" not in page.text


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["run.json", "config.json", "scores", "metrics.csv"])
def test_any_part_may_be_missing(make_run, missing):
    assert Page(make_run(without=(missing,))).named("h1")


def test_run_that_was_killed_at_once(make_run):
    folder = make_run(
        without=("config.json", "result.json", "scores", "findings.jsonl", "metrics.csv", "images"),
        run={"status": "running", "finished": None},
    )
    words = build_words(folder)
    assert "not finished yet" in words
    assert "No depth scale yet." in words


def test_broken_files_are_listed_and_the_rest_is_shown(make_run):
    folder = make_run()
    (folder / "result.json").write_text('{"depth": {"abs_rel": 0.1', encoding="utf-8")
    (folder / "scores" / "depth-test.json").write_text("[1, 2]", encoding="utf-8")
    (folder / "images" / "step-000100.png").write_bytes((folder / "images" / "step-000050.png").read_bytes()[:2000])
    (folder / "images" / "step-000150.png").write_bytes(b"")
    words = build_words(folder)
    for name in ("result.json", "scores/depth-test.json", "images/step-000100.png", "images/step-000150.png"):
        assert f"Not read: {name}" in words
    assert "ATE" in words


@pytest.mark.slow
def test_changes_since_the_previous_run(make_run):
    """The previous run is the latest earlier one of the same recipe and name."""
    make_run("2026-02-01-080000-older", run={"started": "2026-02-01T08:00:00+00:00"}, config={"data": {"height": 1}})
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
    make_run("2026-03-01-090000-video", run={"name": "video", "started": "2026-03-01T09:00:00+00:00"})
    make_run("2026-03-03-080000-later", run={"started": "2026-03-03T08:00:00+00:00"})
    words = build_words(make_run()).split("Changes since the previous run")[1]
    assert words.startswith(" 2026-03-01-080000-before, the last of the same recipe and name")
    assert "optimizer.lr 0.0002 0.001" in words
    assert "code.commit 0000000 4f1c2ab" in words
    assert "python 3.12.1 3.11.9" in words
    assert "torch not there 2.13.0" in words
    assert "depth.abs_rel 0.200 0.128" in words
    assert "keys differ" not in words


# -- Findings.


@pytest.mark.slow
def test_evidence_is_shown_as_images_and_tables(make_run):
    evidence = {
        "matches": 1186,
        "sides": {"hypothesis": ["as given", "the other way round"], "residual": [0.147, 0.032]},
        "T_right_left": [[1.0, 0.0], [0.0, 1.0]],
        "codes": [],
        "image": "findings/E01-1.png",
    }
    finding = {"code": "E01", "severity": "stop", "stage": "data", "measured": "t_x is +0.54 m", "evidence": evidence}
    folder = make_run(findings=[finding])
    (folder / "findings").mkdir()
    (folder / "findings" / "E01-1.png").write_bytes((folder / "images" / "step-000050.png").read_bytes())
    page = Page(folder)
    words = read_words(page.text)
    assert "hypothesis residual as given 0.147 the other way round 0.0320" in words
    for text_part in ("T_right_left 1.00 0 0 1.00", "matches 1186", "stadia explain CODE explains"):
        assert text_part in words
    assert "<dt>codes</dt>" not in page.text, "a list without entries has no row"
    (image,) = [image for image in page.named("img") if image["alt"] == "image of finding E01"]
    assert image["src"].startswith("data:image/jpeg")
    assert any("open" in attributes for attributes in page.named("details"))


# -- Receipts of scale, meaning of the numbers, time and steps.


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1284, "", "0.128"),
        (4.1, "m", "4.10 m"),
        (148.2, "m", "148 m"),
        (1.4, "°", "1.40°"),
        (0.0, "", "0"),
        (12345, "", "12 345"),
        (2.74e-8, "", "2.74e-08"),
        (float("nan"), "", "not finite"),
        (None, "", "–"),
        (True, "", "True"),
    ],
)
def test_numbers(value, unit, text):
    assert format_number(value, unit) == text


# -- What a reader who never saw the program needs: terms explained, no broken words, no page wider than a phone.
