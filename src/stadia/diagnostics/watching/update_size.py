"""T02: updates that are large relative to the weights."""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.rows import get_logged

MAX_UPDATE_RATIO = 0.012
"""|update| / |weight|. Maxima from step 5 on of trainings that learn: .0086 (objectpose at 4e-3, at the end of the
warm-up), .0040 (dpt-tiny at 1e-3, with and without compressed attention), .0020 (selfsup on KITTI at 1e-3), .019
(`overlay` at 3e-3, whose loss in the next row is below the first in each of 50). dpt-tiny at 1e-2, which diverges:
.030 at step 5, .014 at step 10.
"""

FIRST_CHECKED_STEP = 5
"""Adam's first steps from random weights have full size whatever the gradient: .0091 in a correct training."""


class UpdateRatioMonitor:
    """Checks `train/update_ratio` of each logged step, and `train/loss` of the next one."""

    def __init__(self) -> None:
        self.first_loss: float | None = None
        self.large: tuple[int, float] | None = None  # step and ratio of the row before, where it was large

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        ratio, loss = get_logged(row, "update_ratio"), get_logged(row, "loss")
        if ratio is None or loss is None:  # rows of a validation have neither
            return None
        self.first_loss = first = loss if self.first_loss is None else self.first_loss
        is_large = ratio > MAX_UPDATE_RATIO and step >= FIRST_CHECKED_STEP
        large, self.large = self.large, (step, ratio) if is_large else None
        if large is None or loss < first:
            return None
        measured = f"the update of step {large[0]} changed the weights by {large[1]:.1%} of their size, "
        measured += f"and the loss of step {step} is {loss:.3g}, at first {first:.3g}"
        evidence = {"step": large[0], "update_ratio": large[1], "loss": loss, "first_loss": first}
        expected = f"at most {MAX_UPDATE_RATIO:.1%}, or a loss that falls"
        return finding("T02", Severity.WARN, measured=measured, expected=expected, evidence=evidence)
