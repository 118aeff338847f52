"""Stop a process when its starter has ended, also by kill -9."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker

PARENT_VARIABLE = "STADIA_PARENT"
"""This environment variable has the process id of the parent to stop with."""

_POLL_S = 0.5


def stop_with_parent() -> None:
    """Send this process SIGTERM when the parent in PARENT_VARIABLE has ended. Not on Windows."""
    parent = os.environ.pop(PARENT_VARIABLE, "")  # processes that this one starts do not stop with it
    if sys.platform == "win32" or not parent:
        return

    def wait() -> None:
        while str(os.getppid()) == parent:
            time.sleep(_POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def stop_with_starter() -> None:
    """Send this process of `multiprocessing` SIGTERM when its starter has ended.

    A loading process of torch waits forever if its parent was killed while starting it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


@contextlib.contextmanager
def block_termination() -> Iterator[None]:
    """Block SIGTERM in this thread and in processes that start within, until `obey_starter_alone`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if method != "fork":  # chosen without setting the default, which a program may set later
        resource_tracker.ensure_running()  # it unblocks SIGTERM if it starts within
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def obey_starter_alone() -> None:
    """Ignore SIGTERM unless this process or its starter sent it; otherwise end at once.

    A service manager sends it to each process of a service.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    starter = multiprocessing.parent_process()
    obeyed = {os.getpid(), os.getppid(), *([] if starter is None else [starter.pid])}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in this thread, and in later ones

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid not in obeyed:
            pass
        os._exit(0)

    threading.Thread(target=wait, name="sigterm", daemon=True).start()
