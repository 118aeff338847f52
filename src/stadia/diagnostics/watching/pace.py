"""T09 to T11 and T14 to T16: stalled training, tiny learning rate, constant weights, slow data loading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import ROWS, PersistenceCounter, warn_at
from stadia.diagnostics.watching.rows import get_logged

STALLED_ROWS = 3
"""Consecutive rows with a learning rate or gradient of 0, which is never chance."""

CONSTANT_LOSS_ROWS = 20
"""Consecutive rows with the same loss to the last digit."""

MIN_LR_SHARE, MAX_LOW_LR_SHARE = 1e-3, 0.1
"""Share of the highest learning rate of the run, and of its rows. A cosine to 0 is below it in its last 2 %."""

ACTIVE_LR_SHARE, MIN_UPDATE_RATIO = 0.01, 1e-7
"""Share of the highest learning rate, and |update| / |weight|."""

MAX_LOADING_SHARE = 0.5


class StallMonitor:
    """T09, T10, T11: checks `train/lr`, `train/gradient_norm` and `train/loss` of logged steps."""

    def __init__(self) -> None:
        self.zero_rate_rows = self.zero_gradient_rows = self.constant_rows = 0
        self.loss = math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        rate, norm, loss = (get_logged(row, name) for name in ("lr", "gradient_norm", "loss"))
        if loss is None:
            return None
        self.zero_rate_rows = self.zero_rate_rows + 1 if rate == 0 else 0
        self.zero_gradient_rows = self.zero_gradient_rows + 1 if norm == 0 else 0
        self.constant_rows = self.constant_rows + 1 if loss == self.loss else 1
        self.loss = loss
        if self.zero_rate_rows == STALLED_ROWS:
            return warn_at(step, "T09", f"the learning rate is 0, as for {STALLED_ROWS} rows", "above 0", lr=0.0)
        if self.zero_gradient_rows == STALLED_ROWS:
            measured = f"the gradient of all weights is 0, as for {STALLED_ROWS} rows"
            found = warn_at(step, "T10", measured, "above 0", gradient_norm=0.0)
            return replace(found, severity=Severity.STOP)  # no later step can differ
        if self.constant_rows == CONSTANT_LOSS_ROWS:
            measured = f"the loss is {loss:.6g}, to the last digit, as for {CONSTANT_LOSS_ROWS} rows"
            return warn_at(step, "T11", measured, "another loss for another batch", loss=loss)
        return None


class LearningRateMonitor:
    """T14: checks `train/lr` of logged steps."""

    def __init__(self) -> None:
        self.highest = 0.0
        self.rows = self.low_rows = 0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        rate = get_logged(row, "lr")
        if rate is None:
            return None
        self.highest, self.rows = max(rate, self.highest), self.rows + 1
        self.low_rows = self.low_rows + 1 if 0 < rate < MIN_LR_SHARE * self.highest else 0
        if self.low_rows < max(ROWS, MAX_LOW_LR_SHARE * self.rows):
            return None
        measured = f"the learning rate is {rate:.2g}, its maximum was {self.highest:.2g}: "
        measured += f"nearly zero for {self.low_rows} of {self.rows} rows"
        expected = f"less than {MAX_LOW_LR_SHARE:.0%} of a training below {MIN_LR_SHARE:g} of the maximum"
        return warn_at(step, "T14", measured, expected, lr=rate, highest=self.highest)


class WeightChangeMonitor:
    """T15: checks `train/update_ratio` of logged steps while the learning rate is not small."""

    def __init__(self) -> None:
        self.highest, self.persists = 0.0, PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        rate, ratio = get_logged(row, "lr"), get_logged(row, "update_ratio")
        if rate is None or ratio is None:
            return None
        self.highest = max(rate, self.highest)
        if not self.persists(step, row, ratio < MIN_UPDATE_RATIO and rate > ACTIVE_LR_SHARE * self.highest):
            return None
        measured = f"an update changes the weights by {ratio:.2g} of their size at a learning rate of {rate:.2g}, "
        measured += f"as for {self.persists.rows} rows"
        return warn_at(step, "T15", measured, f"at least {MIN_UPDATE_RATIO:g}", update_ratio=ratio, lr=rate)


class DataLoadingMonitor:
    """T16: compares `time/loading_s` with `time/step_s` of logged steps."""

    def __init__(self) -> None:
        self.persists = PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        loading_s, step_s = row.get("time/loading_s"), row.get("time/step_s")
        if loading_s is None or not step_s or not self.persists(step, row, loading_s > MAX_LOADING_SHARE * step_s):
            return None
        measured = f"{loading_s / step_s:.0%} of a step is waiting for the next batch, as for {self.persists.rows} rows"
        times = {"time/loading_s": loading_s, "time/step_s": step_s}
        return warn_at(step, "T16", measured, f"at most {MAX_LOADING_SHARE:.0%}", **times)
