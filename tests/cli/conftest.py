"""Running the command line in this process and in a fresh one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from stadia.cli.main import run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stadia(capsys: pytest.CaptureFixture[str]) -> Run:
    """`stadia("list", "losses")` in this process -> exit code, stdout, stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ending:
            run(words)
        out, err = capsys.readouterr()
        return int(ending.value.code or 0), out, err

    return call


@pytest.fixture
def python() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a program in a fresh interpreter."""

    def call(program: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)

    return call
