"""`stadia` itself at Ctrl-C, SIGTERM and a closed terminal."""

import signal
import subprocess
import sys
from types import ModuleType

import pytest

from stadia.__main__ import main
from stadia.core.signals import INTERRUPTED, TERMINATIONS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals to a process")

WAIT = """
import signal, time
from stadia.cli import main

def wait() -> None:
    print("busy", flush=True)
    time.sleep(600)

main.app.command("wait")(wait)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as started without nohup
main.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "is_read"), [(signal.SIGINT, True), (signal.SIGINT, False), *((number, True) for number in TERMINATIONS)]
)
def test_a_signal_ends_a_command_with_one_line_and_one_code(number: int, is_read: bool) -> None:
    """Also where nobody reads: Ctrl-C on `stadia ... 2>&1 | tee log` ends `tee` first."""
    words = [sys.executable, "-c", WAIT, "wait"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "busy\n"
        if not is_read:
            process.stdout.close()
            process.stderr.close()
        process.send_signal(number)
        err = process.stderr.read() if is_read else ""
        code = process.wait(timeout=600)
    assert (code, err) == (INTERRUPTED, "stadia: interrupted\n" if is_read else "")


def test_a_signal_while_the_command_line_is_imported_ends_it_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    module = ModuleType("stadia.cli.main")
    module.__getattr__ = interrupt  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "stadia.cli.main", module)
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (INTERRUPTED, "stadia: interrupted\n")
