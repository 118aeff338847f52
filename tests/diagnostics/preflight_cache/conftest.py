"""Share the rendered world, and a cache of findings whose program is one small file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "datasets"))

from rendered_world import World, _own_cache, world  # noqa: F401

from stadia.diagnostics.preflight_cache import data_fingerprint, reused_findings

LONG_AGO_S = 1.6e9


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only file of the program, as old as this process requires."""
    file = tmp_path / "source" / "check.py"
    file.parent.mkdir()
    file.write_text("LIMIT = 1\n")
    monkeypatch.setattr(data_fingerprint, "PACKAGE", file.parent)
    monkeypatch.setattr(data_fingerprint, "find_start_s", lambda: float("inf"))
    monkeypatch.setattr(reused_findings, "MIN_AGE_S", -3600.0)  # the files of a test are new
    return file


@pytest.fixture
def folder(tmp_path: Path, world: World) -> Path:  # noqa: F811
    """One stereo recording of five frames with depth, poses and times, in the stadia layout."""
    recording = world.recording(tmp_path / "data" / "drive")
    os.utime(recording / "left" / "000000.png", (LONG_AGO_S, LONG_AGO_S))
    return recording
