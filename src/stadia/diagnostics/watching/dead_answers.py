"""T03: a network answers the least that it can, where nothing has a slope any more."""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import Lasts
from stadia.diagnostics.watching.rows import logged

MOST = 0.5
"""Share of the labeled pixels."""


class DeadAnswers:
    """Looks at `train/at_floor` of each logged step, where the recipe has it."""

    def __init__(self) -> None:
        self.lasts = Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        share = logged(row, "at_floor")
        if share is None or not self.lasts(step, row, share > MOST):
            return None
        return finding(
            "T03",
            Severity.WARN,
            measured=f"at step {step} the network answers the least that it can at {share:.0%} of the labeled pixels, "
            f"as for {self.lasts.rows} rows",
            expected=f"at most {MOST:.0%}",
            evidence={"step": step, "share": share},
        )
