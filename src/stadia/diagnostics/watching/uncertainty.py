"""U01 to U03: an uncertainty that is constant, that alone lowers the loss, or that is at its bounds."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.watching.lasting import PersistenceCounter, warn_at
from stadia.diagnostics.watching.rows import get_logged

MIN_MOVED = 1.0
"""|log Sigma|, which starts at 0 everywhere: from here on it is trained."""

MIN_SIGMA_SPREAD = 0.1
"""Between the outer tenths of log Sigma. The minimum of twelve trainings that learn: .34; of one that died: .000."""

MAX_FIT_CHANGE, MIN_UNTRAINED_FIT = 0.9, 0.6
"""warped_over_unwarped over that of the start, and its value. Trainings that learn: .81 and .60 at most (the first rows
with Sigma); one that died: 1.00 and .75.
"""

FIRST_ROWS, LAST_ROWS = 3, 20
BOUNDS, BOUND_MARGIN = (-6.0, 2.0), 0.1
"""Of log Sigma (`models.depth_net`)."""

PERCENTILES = tuple(f"log_uncertainty/p{percent}" for percent in (10, 50, 90))


class ConstantUncertaintyMonitor:
    """U01: checks the percentiles of log Sigma of logged steps, once they have moved from 0."""

    def __init__(self) -> None:
        self.persists = PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        low, middle, high = (get_logged(row, name) for name in PERCENTILES)
        if low is None or middle is None or high is None:  # a row of a validation, or a network without uncertainty
            return None
        if not self.persists(step, row, abs(middle) > MIN_MOVED and high - low < MIN_SIGMA_SPREAD):
            return None
        measured = f"log Sigma is {middle:.2f} everywhere, its outer tenths {high - low:.3f} apart, "
        measured += f"as for {self.persists.rows} rows"
        expected = f"tenths at least {MIN_SIGMA_SPREAD:g} apart"
        return warn_at(step, "U01", measured, expected, p10=low, p50=middle, p90=high)


class UncertaintyOnlyMonitor:
    """U02: compares warped_over_unwarped with its value before Sigma had moved."""

    def __init__(self) -> None:
        self.start: list[float] = []
        self.last: deque[float] = deque(maxlen=LAST_ROWS)
        self.persists = PersistenceCounter(1)  # of the medians over rows

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        middle, fit = get_logged(row, PERCENTILES[1]), get_logged(row, "warped_over_unwarped")
        if middle is None or fit is None:
            return None
        if middle > -MIN_MOVED:
            if len(self.start) < FIRST_ROWS:
                self.start.append(fit)
            return None
        self.last.append(fit)
        if not self.start or len(self.last) < LAST_ROWS:  # the log of a resumed run may lack its start
            return None
        start, now = statistics.median(self.start), statistics.median(self.last)
        if not self.persists(step, row, now > MIN_UNTRAINED_FIT and now > MAX_FIT_CHANGE * start):
            return None
        measured = f"log Sigma has fallen to {middle:.2f}, and the residual is {now:.2f} times that of the unwarped "
        measured += f"images, {start:.2f} at the start"
        evidence = {"log_uncertainty": middle, "warped_over_unwarped": now, "at_the_start": start}
        return warn_at(step, "U02", measured, f"at most {MAX_FIT_CHANGE:g} times the value at the start", **evidence)


class UncertaintyBoundsMonitor:
    """U03: checks whether the outer tenths of log Sigma of logged steps are at its bounds."""

    def __init__(self) -> None:
        self.persists = PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        low, middle, high = (get_logged(row, name) for name in PERCENTILES)
        if low is None or middle is None or high is None:
            return None
        if not self.persists(step, row, low < BOUNDS[0] + BOUND_MARGIN or high > BOUNDS[1] - BOUND_MARGIN):
            return None
        measured = f"a tenth of the pixels has log Sigma below {low:.2f} and one above {high:.2f}, "
        measured += f"as for {self.persists.rows} rows"
        expected = f"between {BOUNDS[0]:g} and {BOUNDS[1]:g}, and not at either"
        return warn_at(step, "U03", measured, expected, p10=low, p50=middle, p90=high)
