"""SIGTERM and a closed terminal end a command as Ctrl-C does, without half-made folders."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

TERMINATED = """
import signal, sys, time
from pathlib import Path
from stadia.core.signals import discard_if_interrupted, interrupt_on_termination

signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2] == "ignored" else signal.SIG_DFL)
folder = Path(sys.argv[1])
with interrupt_on_termination():
    try:
        with discard_if_interrupted(folder):
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
