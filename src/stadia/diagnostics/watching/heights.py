"""H09 to H15 and T07: depth that does not follow the camera's height, is flat, or is wrong in a way that its own rows
and objects tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import Lasts, Rule

OFF, FLATTEST, BELIEVED = 0.2, 0.15, 0.4


class ScaleIgnored:
    """Looks at `train/metric/off_camera_height` of logged steps: ln of the road's height below the camera, as
    predicted, over the known.
    """

    def __init__(self) -> None:
        self.lasts = Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        off = row.get("train/metric/off_camera_height")
        if off is None:  # a row of a validation, or no height is known yet
            return None
        if not self.lasts(step, row, math.isfinite(off) and abs(off) > OFF):
            return None
        return finding(
            "H09",
            Severity.WARN,
            measured=(
                f"at step {step} the road is {math.exp(off):.2f} times the camera's height below it, as for"
                f" {self.lasts.rows} rows"
            ),
            expected=f"within {OFF:.0%} of it",
            evidence={"step": step, "times": math.exp(off)},
        )


APART, FLAT_OBJECT, OUT_OF_ORDER, MASKED_ROAD, MASKED, LIMIT = 0.2, 0.02, 0.1, 0.5, 0.75, 0.05
"""With exact depth of RoadWorld (16 worlds, 381 cars): objects are .158 of their depth deep (the median; a tenth below
.066), and no row of the road is out of order.
"""

RULES = (
    Rule("H10", "metric/depth_spread", lambda v: v < FLATTEST, "depth spreads by {:.2f} of its mean", f"at least {FLATTEST:g}"),
    Rule("H18", "metric/objects_believed", lambda v: v < BELIEVED, "{:.0%} of the objects are believed", f"at least {BELIEVED:.0%}"),
    Rule("H11", "metric/objects_over_road", lambda v: abs(v) > APART, "the logarithm of scale by objects over that by the road is {:+.2f}",
         f"within {APART:g} of 0"),
    Rule("H12", "metric/object_extent", lambda v: v < FLAT_OBJECT, "objects are {:.1%} of their depth deep",
         f"at least {FLAT_OBJECT:.0%}"),
    Rule("H13", "metric/rows_out_of_order", lambda v: v > OUT_OF_ORDER, "{:.0%} of the road's rows are nearer than the row below",
         f"at most {OUT_OF_ORDER:.0%}"),
    Rule("H14", "metric/road_masked", lambda v: v > MASKED_ROAD, "{:.0%} of the road is in the auto-mask", f"at most {MASKED_ROAD:.0%}"),
    Rule("H15", "metric/objects_at_limit", lambda v: v > LIMIT, "{:.0%} of the objects' pixels have the largest depth there can be",
         f"at most {LIMIT:.0%}"),
    Rule("T07", "auto_masked", lambda v: v > MASKED, "{:.0%} of the pixels are in the auto-mask", f"at most {MASKED:.0%}"),
)  # fmt: skip
