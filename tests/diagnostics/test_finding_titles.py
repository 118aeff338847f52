"""What `stadia diagnose` prints about known mistakes: not only that there is a finding, but what its title means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mutations.all_mutations import ROWS
from typer.testing import CliRunner

from stadia.cli.main import app
from stadia.diagnostics.finding import write_findings
from stadia.training.run_folder import Run

MEANINGS = {
    "sign of the baseline": "baseline .*sign",
    "left and right swapped": "left and right .*swapped",
    "right camera one frame late": "stereo .*not synchronized",
    "baseline in millimetres": "baseline .*length",
    "K doubled": "intrinsics .*not fit the image size",
    "poses inverted": "poses .*inverted",
    "poses in centimetres": "poses .*(scale|unit|length)",
    "every frame twice": "duplicate frames",
    "letterboxed": "black bars",
    "a copy of training frames held out": "splits share frames",
    "five backgrounds": "few .*backgrounds",
    "a learning rate ten times too high": "update .*large",
    "depth that collapsed to one value": "depth .*constant",
    "poses in the other direction": "motion .*(sign|direction)",
    "a sum for a mean in the smoothness": "smoothness dominates",
}
"""What was broken, and what the first line after "fix first" must mean."""


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MEANINGS)
def test_the_title_says_what_was_broken(mistake: str, tmp_path: Path) -> None:
    (row,) = (row for row in ROWS if row.name == mistake)
    (tmp_path / "broken").mkdir()
    run = Run.create(tmp_path / "runs", "small", {}, recipe="selfsup", seed=0)
    write_findings(run.folder / "findings.jsonl", row.broken(tmp_path / "broken"))
    text = CliRunner().invoke(app, ["diagnose", str(run.folder)], env={"COLUMNS": "300"}).stdout
    headline = text.partition("fix first\n")[2].partition("\n")[0]
    assert re.search(MEANINGS[mistake], headline, re.IGNORECASE), text
    listed = CliRunner().invoke(app, ["explain", headline.split()[1]], env={"COLUMNS": "300"}).stdout
    assert listed.splitlines()[0] in headline.removeprefix("stop ").removeprefix("warn ")
