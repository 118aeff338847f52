"""Reports of runs that others wrote: nothing private is shown, nothing outside is read, and garbage is survived."""

from __future__ import annotations

import html
import json
import math
import os
import re
import time
from pathlib import Path

import pytest

from stadia import report
from stadia.apps.studies.study_folder import read_result_rows
from stadia.core.errors import DataError
from stadia.diagnostics.finding import read_findings
from stadia.report.report_page import hide_private_parts
from stadia.report.run_files import RunFiles, find_previous_run, read_run

SECRET = "4f9a0d3c-secret"


def test_a_shared_report_hides_command_paths_and_code(make_run):
    home = "/".join(("", "home", "maria.curie", "own data", "drives"))
    folder = make_run(
        run={
            "command": f"stadia train selfsup data.path='{home}' token={SECRET}",
            "data": {"path": home, "nested": [f"see {home.replace(' ', '_')}/x.txt, or ~/Videos/drive.mp4"]},
            "error": "/data/maria.curie/x/recording.json: found no such file",
            "host": "lab-pc-7",
        },
        config={"data": {"path": home, "masks": "\\".join(("D:", "maria.curie", "masks"))}},
        findings=[{"code": "E01", "severity": "stop", "stage": "data", "where": [f"{home}/a"]}],
    )
    (folder / "diff.patch").write_text(f"diff --git a/x b/x\n+key = '{SECRET}'\n", encoding="utf-8")
    text = html.unescape(report.build_report(folder).read_text(encoding="utf-8"))
    for hidden in (SECRET, "maria.curie", "stadia train", "lab-pc-7", "Uncommitted"):
        assert hidden not in text, hidden
    for shown in ("…/drives", "…/drive.mp4", "…/recording.json: found no such file", "…/masks", "…/a"):
        assert shown in text, shown
    whole = html.unescape(report.build_report(folder, private=True).read_text(encoding="utf-8"))
    assert all(part in whole for part in (SECRET, home, "stadia train", "lab-pc-7", "Uncommitted changes"))


@pytest.mark.parametrize("text", ["/" * 100_000 + "\nx", "~a" * 50_000 + "\nx", "/a" * 50_000 + "\n:\\"])
def test_paths_are_hidden_in_linear_time(text):
    """A text of 300 000 slashes and a line end took hours."""
    started = time.perf_counter()
    hidden = hide_private_parts(RunFiles(Path("run"), run={"error": text})).run["error"]
    assert time.perf_counter() - started < 1.0
    assert len(hidden) <= 10_002


def test_a_whole_path_may_hold_spaces_and_a_line_end_ends_it():
    hidden = hide_private_parts(RunFiles(Path("run"), config={"a": "/x/own data/drives", "b": "/x/own data/d\nand"}))
    assert hidden.config == {"a": "…/drives", "b": "…/own data/d\nand"}


def test_a_line_of_many_values_is_refused_before_it_is_parsed(make_run, monkeypatch):
    folder = make_run()
    monkeypatch.setattr("stadia.files.json_files.MAX_JSON_VALUES", 1000)
    (folder / "findings.jsonl").write_text(f'{{"a": [{"{}," * 1000}{{}}]}}\n')
    found = read_run(folder)
    assert found.findings == []
    assert any(line.startswith("findings.jsonl: about 2003 values") for line in found.unreadable)
    for read in (read_result_rows, read_findings):
        with pytest.raises(DataError, match="values; expected at most 1000"):
            read(folder / "findings.jsonl")


def test_a_linked_run_of_another_folder_is_no_previous_run(make_run):
    folder = make_run()
    facts = json.loads((folder / "run.json").read_text())
    other = folder.parent.parent / "private" / "2000-run"
    other.mkdir(parents=True)
    (other / "run.json").write_text(json.dumps({**facts, "started": "2000-01-01T00:00:00+00:00"}))
    run = read_run(folder)
    (folder.parent / "2000-run").symlink_to(other)
    assert find_previous_run(run) is None
    (folder.parent / "2000-run").unlink()
    other.rename(folder.parent / "2000-run")
    found = find_previous_run(run)
    assert found is not None
    assert found.folder.name == "2000-run"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "diff.patch",
        "images/step-000050.png",
        "config.json",
        "metrics.csv",
        "findings.jsonl",
        "scores/demo.json",
        "images",
    ],
)
def test_links_out_of_the_run_are_not_shown(make_run, name):
    folder = make_run()
    outside = folder.parent.parent / "outside"
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text(json.dumps({"metrics": {"abs_rel": SECRET}}))
    path.symlink_to(outside)
    run = read_run(folder)
    assert not run.patch
    text = report.build_report(folder, private=True).read_text(encoding="utf-8")
    assert SECRET not in text
    assert "a link out of the run" in html.unescape(text)


def test_a_link_inside_the_run_is_shown(make_run):
    folder = make_run()
    (folder / "config.json").rename(folder / "same.json")
    (folder / "config.json").symlink_to("same.json")
    assert read_run(folder).config


@pytest.mark.parametrize("where", ["measured", "code", "where"])
def test_a_line_of_a_hundred_thousand_brackets(make_run, where):
    folder = make_run(without=("images",))
    with (folder / "findings.jsonl").open("a") as stream:
        stream.write("[" * 100_000 + "\n" + '{"a":' * 100_000 + "\n" + '{"a": ' + "9" * 5000 + "}\n")
        stream.write(json.dumps({"code": "E01", "severity": "stop", where: "[" * 100_000}) + "\n")
    page = report.build_report(folder).read_text(encoding="utf-8")
    assert "gradient norm 41 at step 12" in page, "the finding before it"


def repeat_row(row: str, count: int, *, each: int = 1) -> str:
    """A table of values whose steps are 0, `each`, ..."""
    head = "step,name,zero,p05,p25,p50,p75,p95,val/loss\n"
    return head + "".join(f"{each * number},weights/a,{row}\n" for number in range(count))


def expect_values(count: int, *values: float) -> dict[str, tuple[int, float]]:
    return {name: (count, value) for name, value in zip(COLUMNS, values, strict=True)}


COLUMNS = ("zero", "p05", "p25", "p50", "p75", "p95", "val/loss")
HUGE = math.inf  # a number that is too large to be drawn
TABLES: dict[str, tuple[str, dict[str, tuple[int, float]], list[tuple[str, int]]]] = {
    "no byte": ("", {}, []),
    "zero bytes": ("\0" * 999, {}, []),
    "empty lines": ("\n\n", {}, []),
    "a word": ("step", {}, []),
    "a header": ("step\n", {}, []),
    "a step that is infinite": ("step,a\n1e400,1\n", {}, []),
    "a step that is none": ("step,a\nnan,1\n-5,2\n", {}, []),
    "a name twice": ("step,a,a\n1,2,3\n", {"a": (1, 3.0)}, []),
    "numbers without a ratio": (
        repeat_row("0,0,1e-320,1e-300,1e308,1e308,1e308", 70),
        expect_values(70, 0, 0, 0, 0, HUGE, HUGE, HUGE),
        [],
    ),
    "5000 digits": (
        repeat_row(f"0,1,1,1,1,1,{'9' * 5000}", 70),
        expect_values(70, 0, 1, 1, 1, 1, 1, HUGE),
        [("weights/a", 70)],
    ),
    "numbers next to zero": (
        repeat_row("0,0,0,5e-324,5e-324,5e-324,5e-324", 70),
        expect_values(70, 0, 0, 0, 0, 0, 0, 0),
        [("weights/a", 70)],
    ),
    "steps beyond the whole numbers of a float": (
        repeat_row("0,0,1,1,1,1,1", 3, each=1 << 62),
        expect_values(1, 0, 0, 1, 1, 1, 1, 1),
        [("weights/a", 1)],
    ),
    "rows of another length": (
        repeat_row("0,1,1,1,1,1,1", 1) + "1,weights/a,0,1\n2,weights/a,0,1,1,1,1,1,1,1,1\n",
        expect_values(1, 0, 1, 1, 1, 1, 1, 1),
        [("weights/a", 1)],
    ),
    "2000 columns": (
        ",".join(f"val/{n}" for n in range(2000)) + ",step\n" + "1," * 2000 + "1\n",
        {f"val/{n}": (1, 1.0) for n in range(1000)},
        [],
    ),
    "a long name": ('step,"' + "x" * 100_000 + '"\n1,2\n2,3\n', {}, []),
}
"""Name -> text of a table, columns with their number of values and their last one, and distributions likewise."""


@pytest.mark.slow
@pytest.mark.parametrize("file", ["metrics.csv", "histograms.csv"])
@pytest.mark.parametrize("name", TABLES)
def test_garbage_in_tables(make_run, file, name):
    """What can be read is read, nothing else is drawn, and the rest of the report is there."""
    text, columns, distributions = TABLES[name]
    folder = make_run(without=("images",))
    (folder / file).write_text(text)
    run = read_run(folder)
    if file == "metrics.csv":
        assert {one.name: (len(one.values), one.values[-1]) for one in run.series} == columns
    else:
        assert [(one.name, len(one.steps)) for one in run.spreads] == distributions
    assert run.unreadable == []
    page = report.build_report(folder).read_text(encoding="utf-8")
    drawn = re.findall(r' (?:d|x|y|x1|x2|y1|y2|cx|cy|width|height|points|transform)="([^"]*)"', page)
    assert drawn
    assert not [one for one in drawn if re.search("nan|inf", one, re.IGNORECASE)]
    assert "0.128" in page, "the score of depth"
    assert "gradient norm 41 at step 12" in page


def test_a_run_whose_name_is_no_text(make_run):
    folder = make_run()
    renamed = Path(os.fsdecode(os.fsencode(folder) + b"\xff"))
    folder.rename(renamed)
    (renamed / "run.json").write_text('{"recipe": "\\ud800", "status": "finished"}')
    assert "demo?" in report.build_report(renamed).read_text(encoding="utf-8")
