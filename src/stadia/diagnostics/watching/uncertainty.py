"""U01 to U03: an uncertainty that is constant, that falls alone, or that lies at its bounds."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import Lasts
from stadia.diagnostics.watching.rows import logged

MOVED = 1.0
"""|log Sigma|, whose start is 0 all over: from here on it has said something."""

LEAST_SPREAD = 0.1
"""Between the tenths of log Sigma. The least of twelve trainings that learn: .34; of one that died: .000."""

FITS_NO_BETTER, UNLEARNT = 0.9, 0.6
"""warped_over_unwarped over that of the start, and by itself. Trainings that learn: .81 and .60 at most (the first rows
with Sigma);
one that died: 1.00 and .75.
"""

FIRST_ROWS, LAST_ROWS = 3, 20
BOUNDS, NEAR = (-6.0, 2.0), 0.1
"""Of log Sigma (`models.depth_net`)."""

TENTHS = tuple(f"log_uncertainty/p{percent}" for percent in (10, 50, 90))
FIT = "warped_over_unwarped"


class ConstantUncertainty:
    """U01: looks at the tenths of log Sigma of logged steps, once they have moved."""

    def __init__(self) -> None:
        self.lasts = Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        low, middle, high = (logged(row, name) for name in TENTHS)
        if low is None or middle is None or high is None:  # a row of a validation, or a network that says none
            return None
        if not self.lasts(step, row, abs(middle) > MOVED and high - low < LEAST_SPREAD):
            return None
        return finding(
            "U01",
            Severity.WARN,
            measured=(
                f"at step {step} log Sigma is {middle:.2f} all over, its tenths {high - low:.3f} apart, as for"
                f" {self.lasts.rows} rows"
            ),
            expected=f"tenths at least {LEAST_SPREAD:g} apart",
            evidence={"step": step, "p10": low, "p50": middle, "p90": high},
        )


class FallsAlone:
    """U02: compares the residual, over that without depth and motion, with what it was before Sigma had moved."""

    def __init__(self) -> None:
        self.start: list[float] = []
        self.last: deque[float] = deque(maxlen=LAST_ROWS)
        self.lasts = Lasts(1)  # of the medians over rows

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        middle, fit = logged(row, TENTHS[1]), logged(row, FIT)
        if middle is None or fit is None:
            return None
        if middle > -MOVED:
            if len(self.start) < FIRST_ROWS:
                self.start.append(fit)
            return None
        self.last.append(fit)
        if not self.start or len(self.last) < LAST_ROWS:  # a run that goes on has forgotten its start
            return None
        start, now = statistics.median(self.start), statistics.median(self.last)
        if not self.lasts(step, row, now > UNLEARNT and now > FITS_NO_BETTER * start):
            return None
        return finding(
            "U02",
            Severity.WARN,
            measured=(
                f"at step {step} log Sigma has fallen to {middle:.2f}, and the residual is {now:.2f} times that without"
                f" depth and motion, {start:.2f} at the start"
            ),
            expected=f"at most {FITS_NO_BETTER:g} times what it was at the start",
            evidence={"step": step, "log_uncertainty": middle, "warped_over_unwarped": now, "at_the_start": start},
        )


class AtItsBounds:
    """U03: looks at the tenths of log Sigma of logged steps."""

    def __init__(self) -> None:
        self.lasts = Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        low, middle, high = (logged(row, name) for name in TENTHS)
        if low is None or middle is None or high is None:
            return None
        if not self.lasts(step, row, low < BOUNDS[0] + NEAR or high > BOUNDS[1] - NEAR):
            return None
        return finding(
            "U03",
            Severity.WARN,
            measured=(
                f"at step {step} a tenth of the pixels has log Sigma below {low:.2f} and one above {high:.2f}, "
                f"as for {self.lasts.rows} rows"
            ),
            expected=f"between {BOUNDS[0]:g} and {BOUNDS[1]:g}, and not at either",
            evidence={"step": step, "p10": low, "p50": middle, "p90": high},
        )
