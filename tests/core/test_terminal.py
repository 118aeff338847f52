"""Steps of the set-up are printed when they begin; output that nobody reads any more ends a command."""

import io
import os
import sys

import pytest
from rich.console import Console

from stadia.core import terminal
from stadia.core.progress import SHOWN_PROGRESS
from stadia.core.terminal import Terminal, announce_step


@pytest.mark.parametrize(("seconds", "ending"), [(2.5, "  done in 2.5 s\n"), (0.5, "")])
def test_a_step_is_printed_when_it_begins_and_its_time_where_it_was_long(
    monkeypatch: pytest.MonkeyPatch, seconds: float, ending: str
) -> None:
    out, now = io.StringIO(), [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal, "MIN_STEP_S", 1.0)
    with announce_step(Console(file=out), "checking the data"):
        assert out.getvalue() == "checking the data ...\n"
        now[0] += seconds
    assert out.getvalue() == f"checking the data ...\n{ending}"
    monkeypatch.setattr(SHOWN_PROGRESS, "is_silent", True)
    with announce_step(Console(file=out), "training"):
        now[0] += seconds
    assert "training" not in out.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_that_nobody_reads_ends_the_command() -> None:
    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as stream:
        console = Terminal(file=stream)
        console.print("read")
        os.close(reads)
        with pytest.raises(BrokenPipeError):
            console.print("not read")
        console.print("not printed")
