"""Measure the memory of this process and its children."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Self

import psutil

from stadia.process.cpu_settings import return_freed_memory

CHILDREN_INTERVAL_S = 1.0
"""Between two lists of children: listing reads every process of the machine, which would slow the steps down."""


class PeakMemory:
    """Context manager that records the peak resident memory of this process and its children together.

    Samples every `interval_s`, so shorter peaks are missed. A page shared by several processes counts for each.

    with_children: False measures this process alone.
    """

    def __init__(self, interval_s: float = 0.5, *, with_children: bool = True) -> None:
        self.interval_s, self.with_children = interval_s, with_children
        self.bytes = 0
        self._over = threading.Event()
        self._lock = threading.Lock()  # else a sample begun before `restart` would restore the old peak
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def mb(self) -> float:
        """Return the peak so far, in units of 2^20 bytes."""
        return self.bytes / (1 << 20)

    def __enter__(self) -> Self:
        return_freed_memory()
        self.restart()
        self._thread.start()
        return self

    def restart(self) -> None:
        """Discard the peak so far. Memory that was freed and is kept counts from the start."""
        with self._lock:
            self.bytes = resident_bytes(None if self.with_children else [psutil.Process()])

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        processes, listed_s = [psutil.Process()] if not self.with_children else list[psutil.Process](), 0.0
        while not self._over.wait(self.interval_s):
            if self.with_children and (not processes or time.monotonic() - listed_s > CHILDREN_INTERVAL_S):
                processes, listed_s = list_processes(), time.monotonic()
            with self._lock:
                self.bytes = max(self.bytes, resident_bytes(processes))


def list_processes() -> list[psutil.Process]:
    """Return this process and its children."""
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def resident_bytes(processes: Sequence[psutil.Process] | None = None) -> int:
    """Return the resident memory of processes together; by default of this one and its children."""
    total = 0
    for process in list_processes() if processes is None else processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
            total += process.memory_info().rss
    return total


def unshared_child_bytes() -> int:
    """Return the memory of the children that this process does not share: workers are forked, and copy little of it."""
    total = 0
    for process in list_processes()[1:]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().uss
    return total
