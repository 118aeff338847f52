"""T14 to T16: a learning rate that is next to nothing, weights that do not move, and a training that waits for its
data.
"""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import ROWS, Lasts
from stadia.diagnostics.watching.rows import logged

NOTHING, SHARE = 1e-3, 0.1
"""Of the highest rate that the run had; and of its rows. A cosine to 0 is below it in its last 2 %."""

AT_WORK, UNMOVED = 0.01, 1e-7
"""Of the highest rate; and |update| / |weight|."""

WAITS = 0.5


class RateOfNothing:
    """T14: looks at `train/lr` of logged steps."""

    def __init__(self) -> None:
        self.highest = 0.0
        self.rows = self.low = 0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        rate = logged(row, "lr")
        if rate is None:
            return None
        self.highest, self.rows = max(rate, self.highest), self.rows + 1
        self.low = self.low + 1 if 0 < rate < NOTHING * self.highest else 0
        if self.low < max(ROWS, SHARE * self.rows):
            return None
        return finding(
            "T14",
            Severity.WARN,
            measured=(
                f"at step {step} the learning rate is {rate:.2g}, and was {self.highest:.2g}: next to nothing for"
                f" {self.low} of {self.rows} rows"
            ),
            expected=f"less than {SHARE:.0%} of a training below {NOTHING:g} of its highest rate",
            evidence={"step": step, "lr": rate, "highest": self.highest},
        )


class Unmoved:
    """T15: looks at `train/update_ratio` of logged steps while there is a rate."""

    def __init__(self) -> None:
        self.highest, self.lasts = 0.0, Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        rate, ratio = logged(row, "lr"), logged(row, "update_ratio")
        if rate is None or ratio is None:
            return None
        self.highest = max(rate, self.highest)
        if not self.lasts(step, row, ratio < UNMOVED and rate > AT_WORK * self.highest):
            return None
        return finding(
            "T15",
            Severity.WARN,
            measured=(
                f"at step {step} an update moves the weights by {ratio:.2g} of their size at a rate of {rate:.2g}, "
                f"as for {self.lasts.rows} rows"
            ),
            expected=f"at least {UNMOVED:g}",
            evidence={"step": step, "update_ratio": ratio, "lr": rate},
        )


class Waits:
    """T16: looks at `time/loading_s` against `time/step_s` of logged steps."""

    def __init__(self) -> None:
        self.lasts = Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        loading_s, step_s = row.get("time/loading_s"), row.get("time/step_s")
        if loading_s is None or not step_s or not self.lasts(step, row, loading_s > WAITS * step_s):
            return None
        return finding(
            "T16",
            Severity.WARN,
            measured=(
                f"at step {step} {loading_s / step_s:.0%} of a step is waiting for the next batch, as for"
                f" {self.lasts.rows} rows"
            ),
            expected=f"at most {WAITS:.0%}",
            evidence={"step": step, "time/loading_s": loading_s, "time/step_s": step_s},
        )
