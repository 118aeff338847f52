"""The sound inputs, made once for all tests of the campaign."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from tests.campaign.sound import build


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of sound inputs, which tests only read; parallel workers share one."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "campaign-sound"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            build(folder)
            (folder / "built").touch()
    return folder
