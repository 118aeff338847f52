"""Go on, or end, where the terminal or the pipe that a command prints to has been closed.

A pipe that nobody reads any more ends the command, as in `stadia list | head`; a training saves first. A command that
`nohup` started goes on without output. So does one whose terminal was closed without a SIGHUP, after `disown`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path


class OutputClosedError(BrokenPipeError):
    """Nobody reads what is printed."""


def handle_output_error(error: OSError, descriptor: int | None = None) -> None:
    """Discard output from now on, where it failed because it is closed.

    descriptor: where it was printed to, beside standard output and error.

    Raises OutputClosedError where the command should end, and `error` where no output is closed.
    """
    if error.errno not in (errno.EPIPE, errno.EIO):
        raise error
    is_closed = discard_closed_output(*([] if descriptor is None else [descriptor]))
    if not is_closed and error.errno == errno.EIO:
        raise error
    if error.errno == errno.EPIPE and not is_hangup_ignored():
        raise OutputClosedError(*error.args) from None


def discard_closed_output(*descriptors: int) -> bool:
    """Discard what this process prints from now on to a closed terminal or pipe; return whether there is one.

    descriptors: further ones than those of standard output and error.
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
    """Return whether a terminal has been closed, or whether nobody reads a pipe any more."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISCHR(mode):
        return not os.isatty(descriptor) and not os.path.samestat(os.fstat(descriptor), Path(os.devnull).stat())
    if sys.platform == "win32" or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):  # Windows has no poll
        return False
    readers = select.poll()
    readers.register(descriptor, 0)  # errors and the end are always reported
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in readers.poll(0))


def is_output_discarded() -> bool:
    """Return whether standard output is the null device: rich puts it there where nobody reads, before it ends."""
    try:
        return os.path.samestat(os.fstat(1), Path(os.devnull).stat())
    except OSError:
        return False


def is_hangup_ignored() -> bool:
    """Return whether this process is to go on when its terminal closes, as `nohup` starts commands."""
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
