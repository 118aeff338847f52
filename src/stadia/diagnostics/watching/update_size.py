"""T02: updates are large against the weights that they change."""

from __future__ import annotations

from collections.abc import Mapping

from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.finding import Finding, Severity

LARGEST = 0.012
"""|update| / |weight|. The most from step 5 on, of trainings that learn: .0086 (objectpose at its rate of 4e-3, at the end of the warm-up),
.0040 (dpt-tiny at 1e-3, with and without compressed attention), .0020 (selfsup on KITTI at 1e-3). dpt-tiny at 1e-2, which goes up and
stays there: .030 at step 5, .014 at step 10.
"""

FROM_STEP = 5
"""Adam's first steps from random weights have their full size whatever the gradient: .0091 where all is well."""


class UpdateSize:
    """Looks at `train/update_ratio` of each logged step."""

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        ratio = row.get("train/update_ratio", 0.0)  # rows of a validation have none
        if ratio <= LARGEST or step < FROM_STEP:
            return None
        return finding(
            "T02",
            Severity.WARN,
            measured=f"the update of step {step} moved the weights by {ratio:.1%} of their size",
            expected=f"at most {LARGEST:.1%}",
            evidence={"step": step, "update_ratio": ratio},
        )
