"""End a command at SIGTERM and SIGHUP as at Ctrl-C. The module is light to import."""

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
"""This is the exit code after Ctrl-C, SIGTERM and SIGHUP."""

TERMINATIONS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""A scheduler sends SIGTERM before SIGKILL, and a closed terminal sends SIGHUP, which Windows lacks."""


@contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP, so that a command removes its files as after Ctrl-C.

    A signal that is handled or ignored (SIGHUP under `nohup`) stays so. Does nothing outside the main thread.
    """
    is_main = threading.current_thread() is threading.main_thread()
    changed = [number for number in TERMINATIONS if is_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # the shell and the kernel both send SIGHUP: the clean-up must not end
    raise KeyboardInterrupt


@contextmanager
def discard_if_interrupted(folder: Path) -> Iterator[None]:
    """Remove a folder if Ctrl-C or a closed output ends the block."""
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
