"""T06: times that cannot be: parts that do not add up to the whole, and more operations a second than the machine can
do.
"""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.training.peak_flops import MOST_OF_PEAK

WHOLE = "time/step_s"
OFF, OFF_S, ROWS = 0.1, 0.002, 3
"""Of the step, and seconds; and in how many rows one after the other: two clocks are read at two moments, between which
others may work.
"""

OF_PEAK = "speed/of_peak/"


class ImpossibleTimes:
    """Looks at `time/...` of each logged step, parts by the device's clock, the whole by the processor's; and at
    `speed/of_peak/...`.
    """

    def __init__(self) -> None:
        self.rows = 0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        return self._parts(step, row) or self._peak(step, row)

    def _parts(self, step: int, row: Mapping[str, float]) -> Finding | None:
        whole = row.get(WHOLE)
        parts = {name: value for name, value in row.items() if name.startswith("time/") and name != WHOLE}
        if whole is None or not parts:
            return None
        total, negative = sum(parts.values()), min(parts.values()) < 0
        self.rows = self.rows + 1 if abs(total - whole) > max(OFF * whole, OFF_S) or negative else 0
        if self.rows < ROWS:
            return None
        return finding(
            "T06",
            Severity.WARN,
            measured=(
                f"at step {step} the parts of a step make {total:.3g} s, and the step takes {whole:.3g} s, as for"
                f" {ROWS} rows"
            ),
            expected=f"the same within {OFF:.0%}",
            evidence={"step": step, WHOLE: whole, **parts},
        )

    def _peak(self, step: int, row: Mapping[str, float]) -> Finding | None:
        shares = {name.removeprefix(OF_PEAK): value for name, value in row.items() if name.startswith(OF_PEAK)}
        name = max(shares, key=lambda one: shares[one], default="")
        if not name or shares[name] <= MOST_OF_PEAK:
            return None
        return finding(
            "T06",
            Severity.WARN,
            measured=(
                f"'{name}' is said to take so little time that it would reach {shares[name]:.3g} times the machine's"
                " measured peak"
            ),
            expected=f"at most {MOST_OF_PEAK:g} times",
            evidence={"step": step, **shares},
        )
