"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from stadia.cli.main import run as run_command_line

torch.set_num_threads(1)  # the suite runs one worker a core
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts background jobs so, and they pass it on
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _restore_path_of_modules() -> Iterator[None]:
    """Remove what the command line sets for the processes that it starts: a test's program imports its neighbors."""
    yield
    os.environ.pop("PYTHONSAFEPATH", None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real samples; their licenses keep them out of the project, so tests skip where they are absent."""
    folder = Path(os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "kitti_odometry").is_dir():
        pytest.skip(f"no real samples in {folder}; set STADIA_REAL_DATA")
    return folder


@pytest.fixture
def stadia(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `stadia WORDS...` in this process: exit code, stdout, stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ending:
            run_command_line([str(word) for word in words])
        out, err = capfd.readouterr()
        return int(ending.value.code or 0), out, err

    return call
