"""T02: updates are large against the weights that they change."""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.rows import logged

LARGEST = 0.012
"""|update| / |weight|. The most from step 5 on, of trainings that learn: .0086 (objectpose at its rate of 4e-3, at the end of the warm-up),
.0040 (dpt-tiny at 1e-3, with and without compressed attention), .0020 (selfsup on KITTI at 1e-3). dpt-tiny at 1e-2, which goes up and
stays there: .030 at step 5, .014 at step 10.
"""

FROM_STEP = 5
"""Adam's first steps from random weights have their full size whatever the gradient: .0091 where all is well."""


FALLEN = 0.3
"""Of the first logged loss, by which that of a training that learns has fallen: `overlay` at its rate of 3e-3 moves by .018 at the end of
its warm-up, when its loss has fallen by .6."""


class UpdateSize:
    """Looks at `train/update_ratio` and `train/loss` of each logged step."""

    def __init__(self) -> None:
        self.first_loss: float | None = None

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        ratio, loss = logged(row, "update_ratio"), logged(row, "loss")
        if ratio is None or loss is None:  # rows of a validation have neither
            return None
        self.first_loss = loss if self.first_loss is None else self.first_loss
        if ratio <= LARGEST or step < FROM_STEP or loss < self.first_loss - FALLEN * abs(self.first_loss):
            return None
        return finding(
            "T02",
            Severity.WARN,
            measured=f"the update of step {step} moved the weights by {ratio:.1%} of their size, "
            f"and the loss is {loss:.3g} after {self.first_loss:.3g}",
            expected=f"at most {LARGEST:.1%}, or a loss that has fallen by {FALLEN:.0%}",
            evidence={"step": step, "update_ratio": ratio, "loss": loss, "first_loss": self.first_loss},
        )
