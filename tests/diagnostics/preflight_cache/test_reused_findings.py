"""Kept findings are those of a check, and are used only where nothing changed since; in doubt data are checked."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations.mutated_recording import Mutated

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.finding import Finding, Severity, Stage, write_findings
from stadia.diagnostics.preflight import frame_checks, preflight_runner, split_checks
from stadia.diagnostics.preflight.incomplete_checks import report_incomplete
from stadia.diagnostics.preflight.preflight_runner import run_preflight
from stadia.diagnostics.preflight_cache import reused_findings
from stadia.diagnostics.preflight_cache.reused_findings import FindingsCache, KeptFindings
from stadia.files import paths

pytestmark = pytest.mark.usefixtures("source")

NOTE = Finding("N01", Severity.NOTE, Stage.DATA, "poses: none", "e", "c", "f")
WARN = Finding("D02", Severity.WARN, Stage.DATA, "m", "e", "c", "f", {"share": 0.1 + 0.2, "frame": [1, 2]}, ("a", "b"))
SHOWN = replace(WARN, code="E01", severity=Severity.STOP, image=bytes(range(256)))


@dataclass
class Checks:
    """Checks that find what they are given, counted, over a cache of their own."""

    cache: FindingsCache
    lines: list[str]
    found: list[Finding] = field(default_factory=lambda: [SHOWN, WARN, NOTE])
    count: int = 0
    during: Callable[[], object] = lambda: None

    def run(self, *given: Any, **options: Any) -> list[Finding]:
        self.count += 1
        self.during()
        return list(self.found)

    def find(self, recordings: list[Recording], *, check_again: bool = False) -> list[Finding]:
        splits = {"train": [(one, range(len(one))) for one in recordings]}
        cache = replace(self.cache, check_again=check_again)
        return cache.find(self.run, recordings, splits, seconds=20, one_camera=())

    @property
    def entries(self) -> list[Path]:
        return sorted(self.cache.folder.iterdir())


@pytest.fixture
def checks(tmp_path: Path) -> Checks:
    (tmp_path / "findings").mkdir()
    lines: list[str] = []
    return Checks(FindingsCache(tmp_path / "findings", lines.append), lines)


def test_kept_findings_equal_fresh_ones(checks: Checks, folder: Path, tmp_path: Path) -> None:
    """Also their order, their images and the files that a run gets."""
    fresh, reused = (checks.find(open_recordings(folder)) for _ in range(2))
    assert checks.count == 1
    assert reused == fresh == checks.found
    assert [one.image for one in reused] == [one.image for one in fresh]
    for name, findings in (("fresh", fresh), ("reused", reused)):
        write_findings(tmp_path / name / "findings.jsonl", findings)
    files = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("fresh", "reused")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 2


def test_findings_of_real_checks_are_kept_as_they_are(checks: Checks, folder: Path) -> None:
    """Broken data, whose findings have numbers, tables and images."""
    about = json.loads((folder / "recording.json").read_text())
    for camera in about["cameras"].values():
        camera["K"][0][0] *= 0.5
        camera["K"][1][1] *= 0.5
    (folder / "recording.json").write_text(json.dumps(about))
    (folder / "left" / "000003.png").write_bytes((folder / "left" / "000002.png").read_bytes())
    (recording,) = open_recordings(folder)
    splits = {"train": [(recording, range(4))], "val": [(recording, [4])]}

    def find() -> list[Finding]:
        return checks.cache.find(run_preflight, [recording], splits, seconds=20, one_camera=())

    fresh, reused = find(), find()
    assert len(checks.lines) == 1
    assert fresh == reused == run_preflight([recording], splits)
    assert [one.image for one in fresh] == [one.image for one in reused]
    assert any(one.image for one in reused)
    assert any(one.severity is Severity.STOP for one in reused)


def test_the_line_has_the_age_the_count_and_the_option(checks: Checks, folder: Path) -> None:
    checks.find(recordings := open_recordings(folder))
    assert checks.lines == []
    checks.find(recordings)
    (line,) = checks.lines
    expected = r"note: the data were checked \d seconds? ago, and nothing changed since: 2 findings; "
    assert re.fullmatch(expected + r"--check-again \(in Python check_again=True\) checks them again", line)
    (entry,) = checks.entries
    checks.cache.write(entry.stem, KeptFindings([NOTE], time.time() - 200))
    checks.find(recordings)
    assert "checked 3 minutes ago, and nothing changed since: no findings;" in checks.lines[-1]


def test_changed_data_are_checked_again(checks: Checks, folder: Path) -> None:
    checks.find(open_recordings(folder))
    time.sleep(0.02)
    (folder / "right" / "000002.png").touch()
    checks.found = [NOTE]
    assert checks.find(open_recordings(folder)) == [NOTE]
    assert (checks.count, checks.lines) == (2, [])


def test_check_again_replaces_what_was_kept(checks: Checks, folder: Path) -> None:
    checks.find(open_recordings(folder))
    checks.found = [NOTE]
    assert checks.find(open_recordings(folder), check_again=True) == [NOTE]
    assert checks.find(open_recordings(folder)) == [NOTE]
    assert checks.count == 2


def test_data_without_a_fingerprint_are_checked_each_time(checks: Checks, folder: Path) -> None:
    (recording,) = open_recordings(folder)
    for _ in range(2):
        checks.find([Mutated(recording)])
    assert checks.count == 2
    assert checks.entries == []


@pytest.mark.parametrize("code", ["D01", "D17", "N02"])
def test_unreadable_and_sampled_data_are_checked_each_time(checks: Checks, folder: Path, code: str) -> None:
    checks.found = [WARN, replace(NOTE, code=code)]
    for _ in range(2):
        checks.find(open_recordings(folder))
    assert checks.count == 2


def test_an_incomplete_check_removes_what_was_kept(checks: Checks, folder: Path) -> None:
    checks.find(open_recordings(folder))
    assert len(checks.entries) == 1
    checks.during = lambda: report_incomplete("frames: out of time")
    checks.find(open_recordings(folder), check_again=True)
    assert checks.entries == []


def run_incomplete(
    checks: Checks, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch, *changes: tuple[object, str, object]
) -> list[Path]:
    """The entries after a real check in which something went wrong, and those after one in which nothing did."""
    splits = {"train": [(recordings[0], range(3))], "val": [(recordings[0], range(3, 5))]}
    with monkeypatch.context() as patch:
        for place, name, value in changes:
            patch.setattr(place, name, value)
        checks.cache.find(run_preflight, recordings, splits, seconds=20, one_camera=())
    before = checks.entries
    checks.cache.find(run_preflight, recordings, splits, seconds=20, one_camera=())
    assert len(checks.entries) == 1, "without the fault, the findings are kept"
    return before


def test_checks_that_were_cut_short_are_not_kept(checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = open_recordings(folder)
    assert run_incomplete(checks, recordings, monkeypatch, (frame_checks, "MAX_FRAME_SECONDS", -1.0)) == []


@pytest.mark.parametrize("late", ["thumbnails", "probes"])
def test_split_checks_that_were_cut_short_are_not_kept(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """D10 compares fewer frames then, and no finding says so."""
    measure, check = split_checks._measure_within_time, split_checks._check_adjacent_frames

    def measure_thumbnails(frames: Any, function: Any, until: float) -> Any:
        is_late = late == "thumbnails" and function is split_checks._thumbnail
        return measure(frames, function, -1.0 if is_late else float("inf"))

    def check_late(train: Any, held_out: Any, until: float) -> Any:
        return check(train, held_out, -1.0 if late == "probes" else until)

    changes = [
        (split_checks, "_measure_within_time", measure_thumbnails),
        (split_checks, "_check_adjacent_frames", check_late),
    ]
    assert run_incomplete(checks, open_recordings(folder), monkeypatch, *changes) == []


def test_checks_that_failed_are_not_kept(checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> Any:
        raise MemoryError

    recordings = open_recordings(folder)
    failing = (preflight_runner.CHECKS, "load", lambda name: fail)
    assert run_incomplete(checks, recordings, monkeypatch, failing) == []


def test_findings_without_their_image_are_not_kept(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> Any:
        raise MemoryError

    (folder / "left" / "000003.png").write_bytes((folder / "left" / "000002.png").read_bytes())
    changes = [(preflight_runner, name, fail) for name in ("draw_finding", "draw_split_finding")]
    assert run_incomplete(checks, open_recordings(folder), monkeypatch, *changes) == []


def test_a_file_that_fails_for_a_moment_is_not_kept(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = open_recordings(folder)

    def fail(*given: object) -> Any:
        raise DataError("000001.npy", found="a file that cannot be read", expected="depth", fix="try again")

    assert run_incomplete(checks, recordings, monkeypatch, (type(recordings[0]), "depth_m", fail)) == []


def test_data_that_change_during_the_check_are_not_kept(checks: Checks, folder: Path) -> None:
    def change() -> None:
        time.sleep(0.02)
        (folder / "left" / "000001.png").touch()

    checks.during = change
    checks.find(open_recordings(folder))
    assert checks.entries == []


def test_data_that_changed_just_before_are_not_kept(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may change twice within one step of a file system's clock."""
    monkeypatch.setattr(reused_findings, "MIN_AGE_S", 3600.0)
    checks.find(open_recordings(folder))
    assert checks.entries == []


def damage(entry: Path, kind: str) -> None:
    text = entry.read_text()
    values = json.loads(text)
    values["findings"] = values["findings"][1:]  # without the one that stops
    damaged = {
        "empty": "",
        "cut": text[: len(text) // 2],
        "noise": "\x00\xff" * 99,
        "nested": "[" * 100_000,
        "list": "[]",
        "other fields": "{}",
        "a finding less": json.dumps(values),
        "one letter": text.replace('"stop"', '"note"'),
    }
    entry.write_text(damaged[kind], encoding="utf-8")


@pytest.mark.parametrize(
    "kind", ["empty", "cut", "noise", "nested", "list", "other fields", "a finding less", "one letter"]
)
def test_a_damaged_file_is_written_again(checks: Checks, folder: Path, kind: str) -> None:
    recordings = open_recordings(folder)
    fresh = checks.find(recordings)
    (entry,) = checks.entries
    intact = json.loads(entry.read_text())["sha256"]
    damage(entry, kind)
    assert checks.find(recordings) == fresh
    assert (checks.count, checks.lines) == (2, [])
    assert len(intact) == 64
    assert checks.find(recordings) == fresh
    assert checks.count == 2


def test_the_file_of_other_data_is_not_used(checks: Checks, folder: Path) -> None:
    checks.cache.write("0" * 64, KeptFindings([], time.time()))
    (others,) = checks.entries
    fresh = checks.find(recordings := open_recordings(folder))
    (own,) = set(checks.entries) - {others}
    others.replace(own)
    assert checks.find(recordings) == fresh
    assert checks.count == 2


def test_a_large_file_a_folder_and_a_pipe_are_not_read(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = open_recordings(folder)
    checks.find(recordings)
    (entry,) = checks.entries
    with monkeypatch.context() as patch:
        patch.setattr(reused_findings, "MAX_ENTRY_BYTES", entry.stat().st_size // 2)  # the time has few digits or many
        assert checks.find(recordings) == checks.found
        assert checks.entries == [], "what is too large to be read is not written"
    for make in (os.mkfifo, os.mkdir) if hasattr(os, "mkfifo") else (os.mkdir,):
        make(entry)
        assert checks.find(recordings) == checks.found
        entry.rmdir() if entry.is_dir() else entry.unlink()
    assert checks.count == 4


def test_the_oldest_files_are_removed(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a file makes it new."""
    monkeypatch.setattr(reused_findings, "MAX_ENTRIES", 3)
    kept = KeptFindings([WARN], 0.0)
    for age, name in ((50, "a"), (40, "b"), (30, "c")):
        checks.cache.write(name * 64, kept)
        os.utime(checks.cache.folder / f"{name * 64}.json", (time.time() - age,) * 2)
    assert checks.cache.read("a" * 64) == kept
    checks.cache.write("d" * 64, kept)
    assert [path.stem[0] for path in checks.entries] == ["a", "c", "d"]


@pytest.mark.parametrize("value", [float("nan"), (1, 2), {1: 2}, np.float64(1), {"png": object()}])
def test_findings_that_json_changes_are_not_kept(checks: Checks, folder: Path, value: object) -> None:
    checks.found = [replace(WARN, evidence={"value": value})]
    found = [checks.find(open_recordings(folder)) for _ in range(2)]
    assert found[0][0].evidence["value"] is found[1][0].evidence["value"] is value or value == np.float64(1)


def test_a_full_disk_hinders_no_training(checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reused_findings, "write_text", fail)
    assert checks.find(open_recordings(folder)) == checks.found


def test_the_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/process/test_numba_jit.py proves the rules of private folders."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(reused_findings, "find_private_folder", paths.find_private_folder)
    cache = FindingsCache.open(print)
    assert cache is not None
    assert cache.folder == tmp_path / "cache" / "stadia" / "findings"
    if os.name != "nt":
        assert cache.folder.stat().st_mode & 0o777 == 0o700
        cache.folder.chmod(0o750)
        assert FindingsCache.open(print) is None
