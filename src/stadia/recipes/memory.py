"""Measure the memory of a job and all its child processes."""

from __future__ import annotations

import contextlib
import threading
from typing import Self

import psutil


class PeakMemory:
    """Context manager that records the peak resident memory of this process and its children together.

    Samples every `interval_s`, so shorter peaks are missed. A page shared by several processes counts for each.
    """

    def __init__(self, interval_s: float = 0.5) -> None:
        self.interval_s = interval_s
        self.bytes = 0
        self._over = threading.Event()
        self._lock = threading.Lock()  # else a sample begun before `restart` would restore the old peak
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def mb(self) -> float:
        """Return the peak so far, in units of 2^20 bytes."""
        return self.bytes / (1 << 20)

    def __enter__(self) -> Self:
        self.bytes = resident_bytes()
        self._thread.start()
        return self

    def restart(self) -> None:
        """Discard the peak so far."""
        with self._lock:
            self.bytes = resident_bytes()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(self.interval_s):
            with self._lock:
                self.bytes = max(self.bytes, resident_bytes())


def resident_bytes() -> int:
    """Return the resident memory of this process and its children."""
    this = psutil.Process()
    total = 0
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
            total += process.memory_info().rss
    return total
