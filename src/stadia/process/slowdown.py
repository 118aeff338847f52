"""Measure how much longer a thread takes than where no other program computes. Imports nothing else."""

from __future__ import annotations

import time

USUAL_SHARE = 0.9
"""Share of its time in which a thread that trains computes, on a machine of its own."""

MAX_SLOWDOWN = 4.0
"""Larger ones are of a thread that waits for something else than a processor."""


class Slowdown:
    """How many times longer this thread takes than alone on its machine, by the share of the time that it computes.

    Examples:
        >>> slowdown = Slowdown()
        >>> slowdown.value
        1.0
    """

    def __init__(self) -> None:
        self._wall_s, self._computed_s = 0.0, 0.0
        self.restart()

    def restart(self) -> None:
        """Measure from now on; what was measured before stays."""
        self._since = time.perf_counter(), time.thread_time()

    def add(self, kept: float = 1.0) -> None:
        """Add the time since the last call, or since `restart`. kept: weight of all time before."""
        now = time.perf_counter(), time.thread_time()
        self._wall_s = kept * self._wall_s + now[0] - self._since[0]
        self._computed_s = kept * self._computed_s + now[1] - self._since[1]
        self._since = now

    @property
    def value(self) -> float:
        """Return it, between 1 and MAX_SLOWDOWN; 1 where nothing was measured."""
        if self._wall_s <= 0:
            return 1.0
        return min(max(USUAL_SHARE * self._wall_s / max(self._computed_s, 1e-9), 1.0), MAX_SLOWDOWN)
