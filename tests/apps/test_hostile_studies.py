"""Studies and folders from strangers: one line that names the file, or the same result as without them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.processes import is_running

from stadia.apps import run_odometry
from stadia.apps.studies.config import read_study
from stadia.apps.studies.launch import read_last_lines
from stadia.apps.studies.study_folder import StudyFolder, add_line, read_result_rows
from stadia.apps.studies.sweep import read_space
from stadia.core.errors import ConfigMistakes, DataError, StadiaError
from stadia.recipes.prediction.requests import OdometryRequest

STUDY = "recipe: selfsup\nchanges: {smooth: optimizer.lr=1e-3}\n"
ALIASES = "\n".join(
    ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)] + ["changes: *a8"]
)


@pytest.mark.parametrize(
    ("text", "error", "word"),
    [
        (ALIASES, DataError, "aliases that expand to more"),
        ("changes: &a {b: *a}", DataError, "contains itself"),
        ('margin: !!int "abc"', DataError, "invalid YAML"),
        ("seeds: [0, 1, 0x" + "f" * 5000 + "]", DataError, "a number of 5002 characters"),
        ("claim: !!timestamp 2026-02-31", DataError, "could not determine a constructor"),
        ("name: 2026-02-31\n" + STUDY + "seeds: 2026-01-01", ConfigMistakes, "seeds: found"),
        ("- a\n- list", DataError, "expected a mapping of keys"),
        ("changes: 3", DataError, "changes: int"),
        ("base: 3\n" + STUDY, DataError, "base: int"),
        ("base: {a: 1}\n" + STUDY, DataError, "base: dict"),
        ("base: [[1, 2], {a: 1}]\n" + STUDY, ConfigMistakes, "base.0: found"),
        ("changes: {a: [[]]}\nrecipe: selfsup", ConfigMistakes, "changes.a.set.0: found"),
        ("changes: {? [1] : 2}", DataError, "unhashable"),
        ("seeds: [0, 1, 99999999999]\n" + STUDY, ConfigMistakes, "less than or equal to 4294967295"),
        ("seeds: [.inf, .nan, -.inf]\n" + STUDY, ConfigMistakes, "seeds.0: found"),
        ("margin: .nan\n" + STUDY, ConfigMistakes, "margin: found"),
    ],
    ids=lambda value: str(value)[:20].replace("\n", " "),
)
def test_hostile_study_is_refused_in_one_line(tmp_path: Path, text: str, error: type[Exception], word: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(error, match=r"found") as raised:
        read_study(file, {}, [])
    assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_space_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.yaml: found no such file"):
        read_space(tmp_path / "nope.yaml")


@pytest.mark.parametrize("content", ["", "[]", "3", "recipe: [1]", "\xff\xfe", "post_hoc_choices: 3\n" + STUDY])
def test_a_damaged_study_of_a_folder_is_refused_by_its_name(tmp_path: Path, content: str) -> None:
    folder = StudyFolder(tmp_path)
    folder.study_yaml.write_bytes(content.encode("latin-1"))
    with pytest.raises(StadiaError, match=r"study\.yaml: found"):
        _ = folder.study


@pytest.mark.parametrize("content", ["{", "[1]", "3", "[" * 5000, "9" * 5000])
def test_damaged_results_are_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(content + "\n")
    with pytest.raises(DataError, match=r"results\.jsonl:1: found"):
        add_line(path, {"name": "base-seed0"})
    assert path.read_text() == content + "\n"


def test_results_are_written_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for value in (1, 2):
        add_line(path, {"name": "base-seed0", "value": value})
    assert read_result_rows(path) == [{"name": "base-seed0", "value": 2}]


def test_the_last_lines_of_a_log_of_any_bytes(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 100_000 + b"\n\xff last\n\n")
    assert read_last_lines(log)[-1] == "� last"


PARENT = """
import json, sys
from pathlib import Path
from stadia.apps.studies.launch import Job, LocalLauncher
class Program(Job):
    command = property(lambda job: [sys.executable, "-c", job.words[0]])
LocalLauncher().run([Program("a", (sys.argv[1],), Path(sys.argv[2]))], lambda job, code: None)
"""
CHILD = """
import os, sys, threading, time
from pathlib import Path
from stadia.process.parent_process import stop_with_parent
stop_with_parent()
Path({0!r}).write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows keeps the parent's number")
def test_a_training_ends_where_its_study_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    line = [sys.executable, "-c", PARENT, CHILD.format(str(mark)), str(tmp_path / "log")]
    parent = subprocess.Popen(line)
    _wait(lambda: mark.exists() and mark.read_text() != "")
    parent.kill()
    parent.wait()
    child = int(mark.read_text())
    _wait(lambda: not is_running(child))


def _wait(condition: object) -> None:
    end = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["configs", "logs", "study.yaml"])
def test_a_study_with_a_link_inside_is_not_written(name: str, tmp_path: Path) -> None:
    """A run may be a link: a study links those of another one."""
    path, home, root = tmp_path / "two.yaml", tmp_path / "home", tmp_path / "study"
    path.write_text(STUDY)
    (root / "runs").mkdir(parents=True)
    home.mkdir()
    (root / "runs" / "a").symlink_to(home)
    (root / name).symlink_to(home)
    with pytest.raises(StadiaError, match=f"{name}: found a symbolic link"):
        StudyFolder(root).write(read_study(path, {}, []), ())
    assert not list(home.iterdir())


def test_no_path_is_written_into_a_run_with_a_link_inside(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    checkpoint: Any = SimpleNamespace(run_folder=tmp_path / "run")
    request = OdometryRequest(source=tmp_path / "a.mp4", method="direct")
    assert run_odometry._default_folder(checkpoint, request) == tmp_path / "run" / "odometry" / "a-direct"
    flipped = replace(request, flip=True)
    assert run_odometry._default_folder(checkpoint, flipped) == tmp_path / "run" / "odometry" / "a-direct-flip"
    (tmp_path / "run" / "odometry").symlink_to(tmp_path)
    with pytest.raises(StadiaError, match="odometry: found a symbolic link"):
        run_odometry._default_folder(checkpoint, request)
