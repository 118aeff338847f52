"""T01: the loss of a batch is many times what it was."""

from __future__ import annotations

import statistics
from collections import deque

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity

TIMES = 10.0
"""Of the running median. The largest of a batch in trainings that learn: 1.3 (dpt-tiny on RoadWorld), 1.1 (selfsup on
KITTI).
"""

MEMORY, FEWEST = 50, 10
"""Batches that the median is of: the last ones, and how many there have to be."""


SPREADS = 10.0
"""Of the median distance of those batches from it: a loss that goes through 0, by a logarithm, is many times of nearly
nothing.
"""


class LossSpike:
    """Compares each batch's loss with the median of those before it. A median of 0 or less is nothing to be many times
    of.
    """

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=MEMORY)

    def times(self, loss: float) -> float:
        """How many times the running median it is; 0 where there is none yet, or the losses spread so far by
        themselves. The loss is part of the median from then on.
        """
        before = list(self.losses)
        self.losses.append(loss)
        median = statistics.median(before) if len(before) >= FEWEST else 0.0
        if median <= 0 or loss - median <= SPREADS * statistics.median(abs(each - median) for each in before):
            return 0.0
        return loss / median

    def on_batch(self, step: int, loss: float, samples: tuple[str, ...]) -> Finding | None:
        times = self.times(loss)
        if times <= TIMES:
            return None
        return finding(
            "T01",
            Severity.WARN,
            measured=f"at step {step} the loss is {loss:.4g}, {times:.3g} times the median of the batches before",
            expected=f"at most {TIMES:g} times",
            evidence={"step": step, "loss": loss, "times": times},
            where=samples,
        )
