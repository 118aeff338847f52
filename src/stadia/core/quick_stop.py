"""End the set-up of a training within a second of Ctrl-C, also inside a long call of a library.

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
from contextlib import contextmanager
from pathlib import Path

GRACE_S = 0.8
"""Time for Python to handle the signal itself."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

_unfinished: set[Path] = set()


@contextmanager
def discard_if_interrupted(folder: Path) -> Iterator[None]:
    """Remove a folder if Ctrl-C ends the block, because nothing in it can be used yet."""
    _unfinished.add(folder)
    try:
        yield
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        _unfinished.discard(folder)


@contextmanager
def stop_quickly() -> Iterator[Callable[[], None]]:
    """End the process GRACE_S after a SIGINT, unless the block has ended by then. Gives a function that ends this.

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
            if receiver.recv(1)[0] == signal.SIGINT and not over.wait(GRACE_S):
                for folder in list(_unfinished):
                    shutil.rmtree(folder, ignore_errors=True)
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
