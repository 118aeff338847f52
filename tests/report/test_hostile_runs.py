"""Reports of runs that others wrote: nothing private is shown, nothing outside is read, and garbage is survived."""

import html
import json
import math
import re

import pytest
from tests.report.conftest import build_page

from stadia.report.run_files import read_run

SECRET = "4f9a0d3c-secret"


@pytest.mark.slow
def test_a_shared_report_hides_command_paths_and_code(make_run):
    home = "/".join(("", "home", "maria.curie", "own data", "drives"))
    folder = make_run(
        run={
            "command": f"stadia train selfsup data.path='{home}' token={SECRET}",
            "data": {"path": home, "nested": [f"see {home.replace(' ', '_')}/x.txt, or ~/Videos/drive.mp4"]},
            "error": "/data/maria.curie/x/recording.json: found no such file",
        },
        config={"data": {"path": home, "masks": "\\".join(("D:", "maria.curie", "masks"))}},
        findings=[{"code": "E01", "severity": "stop", "stage": "data", "where": [f"{home}/a"]}],
    )
    (folder / "diff.patch").write_text(f"diff --git a/x b/x\n+key = '{SECRET}'\n", encoding="utf-8")
    text = html.unescape(build_page(folder))
    for hidden in (SECRET, "maria.curie", "stadia train", "Uncommitted"):
        assert hidden not in text, hidden
    for shown in ("…/drives", "…/drive.mp4", "…/recording.json: found no such file", "…/masks", "…/a"):
        assert shown in text, shown
    whole = html.unescape(build_page(folder, private=True))
    assert all(part in whole for part in (SECRET, home, "stadia train", "Uncommitted changes"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diff.patch", "images/step-000050.png", "scores/demo.json"])
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
    text = build_page(folder, private=True)
    assert SECRET not in text
    assert "a link out of the run" in html.unescape(text)


HEAD = "step,name,zero,p05,p25,p50,p75,p95,val/loss\n"


def repeat_row(row: str, count: int = 70) -> str:
    return HEAD + "".join(f"{number},weights/a,{row}\n" for number in range(count))


TABLES: dict[str, tuple[str, dict[str, tuple[int, float]], list[tuple[str, int]]]] = {
    "steps that are no number": ("step,a\n1e400,1\nnan,1\n-5,2\n", {}, []),
    "a name twice": ("step,a,a\n1,2,3\n", {"a": (1, 3.0)}, []),
    "numbers without a ratio": (
        repeat_row("0,0,1e-320,1e-300,1e308,1e308,1e308"),
        {"p50": (70, 0.0), "p75": (70, math.inf), "val/loss": (70, math.inf)},
        [],
    ),
    "rows of another length": (
        repeat_row("0,1,1,1,1,1,1", 1) + "1,weights/a,0,1\n2,weights/a,0,1,1,1,1,1,1,1,1\n",
        {"p05": (1, 1.0), "val/loss": (1, 1.0)},
        [("weights/a", 1)],
    ),
}
"""Name -> text of a table, some columns with their number of values and their last one, and distributions likewise."""


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
        series = {series.name: (len(series.values), series.values[-1]) for series in run.series}
        assert {name: series.get(name) for name in columns} == columns
        assert bool(series) == bool(columns)
    else:
        assert [(spread.name, len(spread.steps)) for spread in run.spreads] == distributions
    assert run.unreadable == []
    page = build_page(folder)
    drawn = re.findall(r' (?:d|x|y|width|height|transform)="([^"]*)"', page)
    assert drawn
    assert not [value for value in drawn if re.search("nan|inf", value, re.IGNORECASE)]
    assert "0.128" in page, "the score of depth"
    assert "gradient norm 41 at step 12" in page
