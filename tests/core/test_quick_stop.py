"""Ctrl-C in the set-up of a training ends the process within a second, with one line and without half-made folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stadia.core import quick_stop
from stadia.core.quick_stop import discard_if_interrupted, stop_quickly

BUSY = """
import ctypes, sys
from pathlib import Path
from stadia.core.quick_stop import discard_if_interrupted, stop_quickly

folder = Path(sys.argv[1])
with stop_quickly(), discard_if_interrupted(folder):
    folder.mkdir()
    libc = ctypes.CDLL(None)
    while True:  # a library that goes on after a signal, and lets other threads run
        try:
            print("busy", flush=True)
            libc.sleep(60)
        except KeyboardInterrupt:
            libc.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process")
def test_a_call_that_does_not_return_is_ended(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-c", BUSY, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - sent < 2  # 0.8 s on an idle machine
    assert (process.returncode, err) == (quick_stop.INTERRUPTED, "stadia: interrupted\n")
    assert not folder.exists()


def test_only_an_interrupted_folder_is_removed(tmp_path: Path) -> None:
    for error in (KeyboardInterrupt, ValueError):
        folder = tmp_path / error.__name__
        folder.mkdir()
        with pytest.raises(error), discard_if_interrupted(folder):
            raise error
    assert [path.name for path in tmp_path.iterdir()] == ["ValueError"]


def test_the_interrupt_of_a_short_call_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal raises KeyboardInterrupt, and what was set is as before."""
    monkeypatch.setattr(quick_stop, "GRACE_S", 30)
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("ended"))
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), stop_quickly():
        signal.raise_signal(signal.SIGINT)
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_worker_does_not_delay_the_end() -> None:
    """The worker holds both sockets open."""
    before = time.monotonic()
    with stop_quickly():
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    assert time.monotonic() - before < 15, "the block ends while the worker still sleeps"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
