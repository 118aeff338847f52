"""T03: a network answers the least that it can, where nothing has a slope any more."""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.finding import Finding, Severity

MOST = 0.5
"""Share of the labelled pixels."""


class DeadAnswers:
    """Looks at `train/at_floor` of each logged step, where the recipe has it."""

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        share = row.get("train/at_floor", 0.0)
        if share <= MOST:
            return None
        return finding(
            "T03",
            Severity.WARN,
            measured=f"at step {step} the network answers the least that it can at {share:.0%} of the labelled pixels",
            expected=f"at most {MOST:.0%}",
            evidence={"step": step, "share": share},
        )
