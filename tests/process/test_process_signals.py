"""A command ends at Ctrl-C, SIGTERM, a closed terminal or a closed pipe, in one line and without half-made folders."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stadia.process import signals
from stadia.process.signals import OutputClosedError, discard_closed_output, handle_output_error, stop_quickly

BUSY = """
import ctypes, signal, sys
from pathlib import Path
from stadia.process.signals import discard_if_interrupted, interrupt_on_termination, stop_quickly

folder = Path(sys.argv[1])
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as started without nohup
with interrupt_on_termination(), stop_quickly(), discard_if_interrupted(folder):
    folder.mkdir()
    libc = ctypes.CDLL(None)
    while True:  # a library that goes on after a signal, and lets other threads run
        try:
            print("busy", flush=True)
            libc.sleep(3600)
        except KeyboardInterrupt:
            libc.sleep(3600)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends signals to a process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_call_that_does_not_return_is_ended(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-c", BUSY, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (signals.INTERRUPTED, "stadia: interrupted\n")
    assert not folder.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_worker_does_not_delay_the_end() -> None:
    with stop_quickly():
        child = os.fork()
        if child == 0:
            time.sleep(3600)
            os._exit(0)
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "the block ends while the worker still sleeps"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


TERMINATED = """
import signal, sys, time
from pathlib import Path
from stadia.process.signals import discard_if_interrupted, interrupt_on_termination

signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2] == "ignored" else signal.SIG_DFL)
folder = Path(sys.argv[1])
try:
    with interrupt_on_termination(), discard_if_interrupted(folder):
        folder.mkdir()
        print("busy", flush=True)
        time.sleep(.5 if sys.argv[2] == "ignored" else 60)
except KeyboardInterrupt:
    if sys.argv[2] == "twice":
        signal.raise_signal(signal.SIGHUP)  # the shell's, after the kernel's
    sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither signal")
@pytest.mark.parametrize(
    ("name", "kind", "code"), [("SIGTERM", "", 130), ("SIGHUP", "twice", 130), ("SIGHUP", "ignored", 0)]
)
def test_a_scheduler_and_a_closed_terminal_end_a_command_as_ctrl_c_does(
    tmp_path: Path, name: str, kind: str, code: int
) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-c", TERMINATED, str(folder), kind]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (code, "")
    assert folder.exists() == (kind == "ignored")


# -- Output that is closed.


on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither such pipes nor such terminals")


@pytest.fixture(params=["pipe", "terminal"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    ends = os.pipe() if request.param == "pipe" else os.openpty()
    yield ends
    for descriptor in ends:
        with suppress(OSError):
            os.close(descriptor)


@pytest.fixture
def no_nohup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "is_hangup_ignored", lambda: False)


@on_posix
@pytest.mark.usefixtures("no_nohup")
def test_what_nobody_reads_is_discarded(pair: tuple[int, int]) -> None:
    reads, writes = pair
    os.close(reads)
    assert discard_closed_output(writes)
    os.write(writes, b"a")
    assert not discard_closed_output(writes)


@on_posix
@pytest.mark.usefixtures("no_nohup")
def test_a_closed_pipe_ends_a_command_and_a_closed_terminal_does_not(
    pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, writes = pair
    os.close(reads)
    with pytest.raises(OSError) as caught:
        os.write(writes, b"a")
    if caught.value.errno == errno.EPIPE:
        with pytest.raises(OutputClosedError):
            handle_output_error(caught.value, writes)
        monkeypatch.setattr(signals, "is_hangup_ignored", lambda: True)
    handle_output_error(caught.value, writes)
    os.write(writes, b"a")
