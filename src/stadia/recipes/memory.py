"""How much memory a job holds, with all the processes that it starts."""

from __future__ import annotations

import contextlib
import threading
from typing import Self

import psutil


class PeakMemory:
    """While entered, the largest resident memory of this process and all below it, together.

    They are looked at every `interval_s`, so what comes and goes in between is missed; a page that several share counts
    for each.
    """

    def __init__(self, interval_s: float = 0.5) -> None:
        self.interval_s = interval_s
        self.bytes = 0
        self._over = threading.Event()
        self._look = (
            threading.Lock()
        )  # one look at a time: else one that began before `restart` would bring the old peak back
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def mb(self) -> float:
        """The peak until now, in units of 2^20 bytes."""
        return self.bytes / (1 << 20)

    def __enter__(self) -> Self:
        self.bytes = resident_bytes()
        self._thread.start()
        return self

    def restart(self) -> None:
        """Forget the peak until now."""
        with self._look:
            self.bytes = resident_bytes()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.interval_s):
            with self._look:
                self.bytes = max(self.bytes, resident_bytes())


def resident_bytes() -> int:
    """Of this process and all below it, now."""
    this = psutil.Process()
    total = 0
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
            total += process.memory_info().rss
    return total
