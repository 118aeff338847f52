"""End a command at Ctrl-C, SIGTERM or a closed terminal, the set-up of a training within a second.

Python handles a signal between two of its own operations. A backward pass of a large network, or the import of torch
under load, can take ten seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType

from stadia.process.closed_output import OutputClosedError, discard_closed_output

GRACE_S = 0.8
"""Time for Python to handle the signal itself."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, SIGTERM and SIGHUP: one code for a command that can be started again, or resumed."""

TERMINATIONS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What a scheduler sends before SIGKILL, and what a closed terminal sends. Windows has no SIGHUP."""

_unfinished: set[Path] = set()
_is_watching = False


@contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP, so that the files of a command are removed as after Ctrl-C.

    A signal that has a handler keeps it, and one that is ignored stays ignored: `nohup` starts commands so. Does
    nothing in another thread than the main one, which receives no signals.
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
            discard_closed_output()
        raise KeyboardInterrupt


@contextmanager
def discard_if_interrupted(folder: Path) -> Iterator[None]:
    """Remove a folder if Ctrl-C or a closed output ends the block, because nothing in it can be used yet."""
    _unfinished.add(folder)
    try:
        yield
    except (KeyboardInterrupt, OutputClosedError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        _unfinished.discard(folder)


@cache
def _reset_wakeup_in_forks() -> None:
    """Let no fork of `stop_quickly` write the number of its own signal into the socket of this process."""

    def reset() -> None:
        if _is_watching:
            signal.set_wakeup_fd(-1)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=reset)


@contextmanager
def stop_quickly() -> Iterator[Callable[[], None]]:
    """End the process GRACE_S after a signal to stop, unless the block has ended by then. Gives a function to end this.

    Folders of `discard_if_interrupted` are removed, and "stadia: interrupted" is the last line. The main thread calls
    this; in another one, which receives no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    global _is_watching
    _reset_wakeup_in_forks()
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    _is_watching = True
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
        global _is_watching
        if not over.is_set():
            over.set()
            _is_watching = False
            signal.set_wakeup_fd(before)
            sender.send(b"\0")  # forked workers hold it too, so that closing it would not wake the thread
            thread.join()
            sender.close()
            receiver.close()

    try:
        yield end
    finally:
        end()
