"""T06: timings that are inconsistent with each other or with the speed of the machine."""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import warn_at
from stadia.training.peak_flops import MOST_OF_PEAK

STEP_TIME = "time/step_s"
PEAK_PREFIX = "speed/of_peak/"
MAX_TIME_GAP, MAX_TIME_GAP_S = 0.1, 0.002
"""Share of the step, and seconds."""

ROWS = 3
"""Consecutive rows: two clocks are read at two moments, between which other processes may run."""


class ImpossibleTimes:
    """Checks `time/...` of each logged step (parts by the device clock, the step by the host clock) and
    `speed/of_peak/...`.
    """

    def __init__(self) -> None:
        self.rows = 0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        return self._check_parts(step, row) or self._check_peak(step, row)

    def _check_parts(self, step: int, row: Mapping[str, float]) -> Finding | None:
        whole = row.get(STEP_TIME)
        parts = {name: value for name, value in row.items() if name.startswith("time/") and name != STEP_TIME}
        if whole is None or not parts:
            return None
        total, negative = sum(parts.values()), min(parts.values()) < 0
        is_off = abs(total - whole) > max(MAX_TIME_GAP * whole, MAX_TIME_GAP_S) or negative
        self.rows = self.rows + 1 if is_off else 0
        if self.rows < ROWS:
            return None
        measured = f"the parts of a step take {total:.3g} s, and the step takes {whole:.3g} s, as for {ROWS} rows"
        return warn_at(step, "T06", measured, f"the same within {MAX_TIME_GAP:.0%}", **{STEP_TIME: whole, **parts})

    def _check_peak(self, step: int, row: Mapping[str, float]) -> Finding | None:
        shares = {name.removeprefix(PEAK_PREFIX): value for name, value in row.items() if name.startswith(PEAK_PREFIX)}
        name = max(shares, key=lambda one: shares[one], default="")
        if not name or shares[name] <= MOST_OF_PEAK:
            return None
        return finding(
            "T06",
            Severity.WARN,
            measured=f"the time of '{name}' would mean {shares[name]:.3g} times the machine's measured peak",
            expected=f"at most {MOST_OF_PEAK:g} times",
            evidence={"step": step, **shares},
        )
