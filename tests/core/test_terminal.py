"""Steps of the set-up are printed when they begin; output that nobody reads any more ends a command, or is left."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from stadia.core import signals, terminal
from stadia.core.signals import OutputClosedError
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


on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither such pipes nor such terminals")


@contextmanager
def open_console(descriptor: int) -> Iterator[Terminal]:
    with os.fdopen(descriptor, "w") as stream:
        yield Terminal(file=stream)
        with Path(os.devnull).open("w") as null:
            os.dup2(null.fileno(), descriptor)


@on_posix
def test_a_pipe_that_nobody_reads_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    monkeypatch.setattr(signals, "is_hangup_ignored", lambda: False)
    with open_console(writes) as console:
        console.print("read")
        os.close(reads)
        with pytest.raises(OutputClosedError):
            console.print("not read")
        assert console.quiet
        console.print("not printed")


@on_posix
def test_a_command_of_nohup_goes_on_where_nobody_reads_its_pipe() -> None:
    reads, writes = os.pipe()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with open_console(writes) as console:
            os.close(reads)
            console.print("not read")
            console.print("not printed")
            assert console.quiet
    finally:
        signal.signal(signal.SIGHUP, before)
