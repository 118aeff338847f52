"""Stop a process when the one that started it has ended, also by kill -9."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

PARENT_VARIABLE = "STADIA_PARENT"
"""Environment variable with the process id of the parent to stop with."""

_POLL_S = 0.5


def stop_with_parent() -> None:
    """Send this process SIGTERM, as Ctrl-C for a training, when the parent that PARENT_VARIABLE names has ended.

    Does nothing without the variable. Windows does not change a process's parent, and has no such signal.
    """
    parent = os.environ.pop(PARENT_VARIABLE, "")  # the processes that this one starts do not stop with it
    if sys.platform == "win32" or not parent:
        return

    def wait() -> None:
        while str(os.getppid()) == parent:
            time.sleep(_POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
