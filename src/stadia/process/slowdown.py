"""Measure how much longer a thread takes than on an idle machine. Imports nothing of stadia."""

from __future__ import annotations

import time
from pathlib import Path

MAX_SLOWDOWN = 4.0

_SCHEDULE = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds of this thread computing, and waiting for a core."""


def read_thread_s() -> tuple[float, float]:
    """Return the seconds of this thread computing, and waiting for a core (0 except on Linux)."""
    try:
        computed_ns, waited_ns, _ = _SCHEDULE.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return time.thread_time(), 0.0
    return int(computed_ns) / 1e9, int(waited_ns) / 1e9


class Slowdown:
    """How many times longer this thread takes to compute than on an idle machine. To wait for a loader does not count.

    Examples:
        >>> slowdown = Slowdown()
        >>> slowdown.value
        1.0
    """

    def __init__(self) -> None:
        self._computed_s, self._waited_s = 0.0, 0.0
        self.restart()

    def restart(self) -> None:
        """Measure from now on; what was measured before stays."""
        self._since = read_thread_s()

    def add(self, kept: float = 1.0) -> None:
        """Add the time since the last call, or since `restart`. kept: weight of all time before."""
        now = read_thread_s()
        self._computed_s = kept * self._computed_s + now[0] - self._since[0]
        self._waited_s = kept * self._waited_s + now[1] - self._since[1]
        self._since = now

    @property
    def value(self) -> float:
        """Return it, between 1 and MAX_SLOWDOWN."""
        if self._computed_s <= 0:
            return 1.0
        return min(1 + self._waited_s / self._computed_s, MAX_SLOWDOWN)
