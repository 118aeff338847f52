"""The lock of an output: a look at it does not refuse its writer."""

from __future__ import annotations

import threading
from pathlib import Path

from filelock import FileLock

from stadia.files.locks import hold_lock


def test_a_look_at_a_lock_does_not_refuse_its_writer(tmp_path: Path) -> None:
    look = FileLock(tmp_path / "lock", thread_local=False)
    look.acquire()
    timer = threading.Timer(0.1, look.release)
    timer.start()
    with hold_lock(tmp_path / "lock", tmp_path):
        timer.join()
