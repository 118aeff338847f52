"""A wrong path of a run: the newest runs beside it are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stadia.core.errors import StadiaError
from stadia.files.run_names import describe_runs
from stadia.report.run_files import read_run
from stadia.training.run_folder import Run


def test_the_newest_runs_of_the_first_folder_that_has_some_are_named(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "runs" / f"2026-01-0{number}-000000-dpt").mkdir(parents=True)
        (tmp_path / "runs" / f"2026-01-0{number}-000000-dpt" / "run.json").touch()
    (tmp_path / "runs" / "notes").mkdir()
    names = [str(tmp_path / "runs" / f"2026-01-0{number}-000000-dpt") for number in (4, 3, 2)]
    folders = [tmp_path / "nothing", tmp_path, tmp_path / "runs"]
    assert describe_runs(folders) == f"pass a run: {', '.join(names)} (2 more)"
    assert describe_runs(folders, need_checkpoint=True) == ""


@pytest.mark.parametrize("read", [read_run, Run.open])
def test_a_run_that_is_not_there_is_answered_with_those_that_are(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StadiaError, match=r"nope: found no such folder; .* Fix: pass runs/<date>-<name>"):
        read(Path("nope"))
    run = Path("runs", "2026-01-01-000000-dpt")
    run.mkdir(parents=True)
    (run / "run.json").touch()
    with pytest.raises(
        StadiaError, match=re.escape(f"nope: found no such folder; expected a run's folder. Fix: pass a run: {run}")
    ):
        read(Path("nope"))
