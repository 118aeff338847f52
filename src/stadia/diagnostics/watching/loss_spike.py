"""T01: loss spike."""

from __future__ import annotations

import statistics
from collections import deque

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.watching.lasting import warn_at

MAX_SPIKE = 10.0
"""Loss over the running median. The maximum of trainings that learn: 1.3 (dpt-tiny on RoadWorld), 1.1 (selfsup on
KITTI).
"""

SPIKE_BATCHES, MIN_SPIKE_BATCHES = 50, 10
"""Last batches in the median, and how many there must be."""

MIN_DEVIATIONS = 10.0
"""Median absolute deviations above the median: a loss with a logarithm crosses 0, where every ratio is large."""


class LossSpikeMonitor:
    """Compares the loss of each batch with the median of the batches before. A median of 0 or less is skipped."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=SPIKE_BATCHES)

    def ratio_to_median(self, loss: float) -> float:
        """Return loss / running median, and add the loss to the median; 0 where there is no spike or no median yet."""
        before = list(self.losses)
        self.losses.append(loss)
        median = statistics.median(before) if len(before) >= MIN_SPIKE_BATCHES else 0.0
        if median <= 0 or loss - median <= MIN_DEVIATIONS * statistics.median(abs(one - median) for one in before):
            return 0.0
        return loss / median

    def on_batch(self, step: int, loss: float, samples: tuple[str, ...]) -> Finding | None:
        times = self.ratio_to_median(loss)
        if times <= MAX_SPIKE:
            return None
        measured = f"the loss is {loss:.4g}, {times:.3g} times the median of the batches before"
        return warn_at(step, "T01", measured, f"at most {MAX_SPIKE:g} times", where=samples, loss=loss, times=times)
