"""T02: updates are large against the weights that they change."""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.rows import logged

LARGEST = 0.012
"""|update| / |weight|. The most from step 5 on, of trainings that learn: .0086 (objectpose at its rate of 4e-3, at the
end of the warm-up), .0040 (dpt-tiny at 1e-3, with and without compressed attention), .0020 (selfsup on KITTI at 1e-3),
.019 (`overlay` at 3e-3, whose loss in the row after is below the first in each of 50). dpt-tiny at 1e-2, which goes up
and stays there: .030 at step 5, .014 at step 10.
"""

FROM_STEP = 5
"""Adam's first steps from random weights have their full size whatever the gradient: .0091 where all is well."""


class UpdateSize:
    """Looks at `train/update_ratio` of each logged step, and at `train/loss` of the next one."""

    def __init__(self) -> None:
        self.first_loss: float | None = None
        self.large: tuple[int, float] | None = None  # step and ratio of the row before, where it was

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        ratio, loss = logged(row, "update_ratio"), logged(row, "loss")
        if ratio is None or loss is None:  # rows of a validation have neither
            return None
        self.first_loss = first = loss if self.first_loss is None else self.first_loss
        large, self.large = self.large, (step, ratio) if ratio > LARGEST and step >= FROM_STEP else None
        if large is None or loss < first:
            return None
        return finding(
            "T02",
            Severity.WARN,
            measured=f"the update of step {large[0]} moved the weights by {large[1]:.1%} of their size, "
            f"and the loss of step {step} is {loss:.3g}, at first {first:.3g}",
            expected=f"at most {LARGEST:.1%}, or a loss that falls",
            evidence={"step": large[0], "update_ratio": large[1], "loss": loss, "first_loss": first},
        )
