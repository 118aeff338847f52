"""End a command at Ctrl-C, SIGTERM or a closed terminal, the set-up of a training within a second.

Python handles a signal between two of its own operations. A backward pass of a large network, or the import of torch
under load, can take ten seconds.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

GRACE_S = 0.8
"""Time for Python to handle the signal itself."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

TERMINATIONS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What a scheduler sends before SIGKILL, and what a closed terminal sends. Windows has no SIGHUP."""

_unfinished: set[Path] = set()


def interrupt_on_termination() -> None:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP, so that the files of a command are removed as after Ctrl-C.

    A signal that is ignored stays ignored: `nohup` starts commands so. The main thread of a program calls this.
    """
    for number in TERMINATIONS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _Interrupt())


class _Interrupt:
    """A handler of signals, for the process that installs it."""

    def __init__(self) -> None:
        self.owner = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.owner:  # a fork: it ends as without a handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if number != signal.SIGTERM:  # the shell and the kernel both send it: the second would end the cleaning up
            signal.signal(number, signal.SIG_IGN)
            leave_closed_output()
        raise KeyboardInterrupt


def leave_closed_output() -> None:
    """Discard what this process prints from now on, where it goes to a closed terminal or pipe: it would fail."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if _is_closed(descriptor):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)


def _is_closed(descriptor: int) -> bool:
    """Return whether a terminal has been closed, or whether nobody reads a pipe any more."""
    if stat.S_ISCHR(os.fstat(descriptor).st_mode):
        return not os.isatty(descriptor)
    if sys.platform == "win32":  # it has no poll
        return False
    readers = select.poll()
    readers.register(descriptor, 0)  # errors and the end are told without being asked for
    return bool(readers.poll(0))


def is_hangup_ignored() -> bool:
    """Return whether this process is to go on when its terminal closes, as `nohup` starts commands."""
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@contextmanager
def discard_if_interrupted(folder: Path) -> Iterator[None]:
    """Remove a folder if Ctrl-C or a closed output ends the block, because nothing in it can be used yet."""
    _unfinished.add(folder)
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        _unfinished.discard(folder)


@contextmanager
def stop_quickly() -> Iterator[Callable[[], None]]:
    """End the process GRACE_S after a signal to stop, unless the block has ended by then. Gives a function to end this.

    Folders of `discard_if_interrupted` are removed, and "stadia: interrupted" is the last line. The main thread calls
    this; in another one, which receives no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            if receiver.recv(1)[0] in (signal.SIGINT, *TERMINATIONS) and not over.wait(GRACE_S):
                for folder in list(_unfinished):
                    shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # the terminal or the pipe is closed
                    os.write(2, b"stadia: interrupted\n")
                os._exit(INTERRUPTED)

    thread = threading.Thread(target=wait, name="quick stop", daemon=True)
    thread.start()

    def end() -> None:
        if not over.is_set():
            over.set()
            signal.set_wakeup_fd(before)
            sender.send(b"\0")  # forked workers hold it too, so that closing it would not wake the thread
            thread.join()
            sender.close()
            receiver.close()

    try:
        yield end
    finally:
        end()
