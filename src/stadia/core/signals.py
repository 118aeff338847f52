"""End a command at Ctrl-C, SIGTERM, a closed terminal, or a closed pipe (`stadia list | head`).

A training saves first. A command of `nohup` continues without output. SHOWN_PROGRESS records what this process has
printed. The module is light to import.
"""

import errno
import os
import select
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
"""This is the exit code after Ctrl-C, SIGTERM and SIGHUP."""

TERMINATIONS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""A scheduler sends SIGTERM before SIGKILL, and a closed terminal sends SIGHUP, which Windows lacks."""


@contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP, so that a command removes its files as after Ctrl-C.

    A handled or ignored signal stays so. Does nothing outside the main thread.
    """
    is_main = threading.current_thread() is threading.main_thread()
    changed = [number for number in TERMINATIONS if is_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, _Interrupt())
    try:
        yield
    finally:
        for number in changed:
            if isinstance(signal.getsignal(number), _Interrupt):  # after a SIGHUP the next one stays ignored
                signal.signal(number, signal.SIG_DFL)


class _Interrupt:
    def __init__(self) -> None:
        self.owner = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.owner:  # a fork: it ends as without a handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if number != signal.SIGTERM:  # the shell and the kernel both send it: the second would end the cleaning up
            signal.signal(number, signal.SIG_IGN)
            discard_closed_output()
        raise KeyboardInterrupt


@contextmanager
def discard_if_interrupted(folder: Path) -> Iterator[None]:
    """Remove a folder if Ctrl-C or a closed output ends the block."""
    try:
        yield
    except (KeyboardInterrupt, OutputClosedError):
        shutil.rmtree(folder, ignore_errors=True)
        raise


# -- output that is closed


class OutputClosedError(BrokenPipeError):
    """Nobody reads what is printed."""


def handle_output_error(error: OSError, descriptor: int | None = None) -> None:
    """Discard output from now on if it is closed. descriptor: a further place of output.

    Raises OutputClosedError if the command should end, and `error` if no output is closed.
    """
    if error.errno not in (errno.EPIPE, errno.EIO):
        raise error
    is_closed = discard_closed_output(*([] if descriptor is None else [descriptor]))
    if not is_closed and error.errno == errno.EIO:
        raise error
    if error.errno == errno.EPIPE and not is_hangup_ignored():
        raise OutputClosedError(*error.args) from None


def discard_closed_output(*descriptors: int) -> bool:
    """Discard output to a closed terminal or pipe from now on; return whether there is one.

    descriptors: in addition to standard output and error.
    """
    is_any_closed = False
    for descriptor in {1, 2, *descriptors}:
        with suppress(OSError):
            if _is_closed(descriptor):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)
                is_any_closed = True
    return is_any_closed


def _is_closed(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISCHR(mode):
        return not os.isatty(descriptor) and not os.path.samestat(os.fstat(descriptor), Path(os.devnull).stat())
    if sys.platform == "win32" or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):  # Windows has no poll
        return False
    readers = select.poll()
    readers.register(descriptor, 0)  # errors and the end are always reported
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in readers.poll(0))


def is_output_discarded() -> bool:
    """Return whether standard output is the null device."""
    try:
        return os.path.samestat(os.fstat(1), Path(os.devnull).stat())
    except OSError:
        return False


def is_hangup_ignored() -> bool:
    """Return whether this process continues when its terminal closes, as `nohup` starts commands."""
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


# -- what was shown


@dataclass
class ShownProgress:
    """The state of the progress bars and lines of this process.

    is_silent: whether `--quiet` or `--json` silences them.
    finding: the last finding of a training or check, its level and code such as "warn K03".
    shown_s: time.monotonic of the command's last line, or None.
    """

    is_silent: bool = False
    finding: str = ""
    shown_s: float | None = None

    def mark_shown(self) -> None:
        """Record that a line is printed now."""
        self.shown_s = time.monotonic()


SHOWN_PROGRESS = ShownProgress()
