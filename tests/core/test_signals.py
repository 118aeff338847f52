"""A command ends at Ctrl-C, SIGTERM, a closed terminal or a closed pipe, in one line and without half-made folders."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stadia.core import signals
from stadia.core.signals import OutputClosedError, discard_closed_output, handle_output_error

TERMINATED = """
import signal, sys, time
from pathlib import Path
from stadia.core.signals import discard_if_interrupted, interrupt_on_termination

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
