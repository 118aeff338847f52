"""H09 and H10: depth does not follow the camera's height, and depth that is flat."""

from __future__ import annotations

import math
from collections.abc import Mapping

from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.finding import Finding, Severity

OFF, ROWS = 0.2, 20
FLATTEST, FROM_STEP = 0.15, 100


class ScaleIgnored:
    """Looks at `train/metric/off_camera_height` of logged steps: ln of the road's height below the camera, as predicted, over the known."""

    def __init__(self) -> None:
        self.rows = 0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        off = row.get("train/metric/off_camera_height")
        if off is None:  # a row of a validation, or no height is known yet
            return None
        self.rows = self.rows + 1 if math.isfinite(off) and abs(off) > OFF else 0
        if self.rows < ROWS:
            return None
        return finding(
            "H09",
            Severity.WARN,
            measured=f"at step {step} the road is {math.exp(off):.2f} times the camera's height below it, as for {ROWS} rows",
            expected=f"within {OFF:.0%} of it",
            evidence={"step": step, "times": math.exp(off)},
        )


class FlatDepth:
    """Looks at `train/metric/depth_spread` of logged steps."""

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        spread = row.get("train/metric/depth_spread", math.inf)
        if spread >= FLATTEST or step < FROM_STEP:
            return None
        return finding(
            "H10",
            Severity.WARN,
            measured=f"at step {step} depth spreads by {spread:.2f} of its mean",
            expected=f"at least {FLATTEST:g}",
            evidence={"step": step, "depth_spread": spread},
        )
