"""H09 to H15, H18 and T07: depth that ignores the camera height, is flat, or contradicts the road and its objects."""

from __future__ import annotations

import math
from collections.abc import Mapping

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.watching.lasting import PersistenceCounter, Rule, warn_at

MAX_HEIGHT_ERROR = 0.2
"""|ln(predicted / known camera height)|."""

MIN_DEPTH_SPREAD = 0.15
MIN_ACCEPTED_OBJECTS = 0.4
MAX_OBJECT_ROAD_GAP = 0.2
MIN_OBJECT_EXTENT, MAX_UNORDERED_ROWS = 0.02, 0.1
"""With exact depth of RoadWorld (16 worlds, 381 cars) the extent of objects is .158 of their depth (the median; a tenth
below .066), and no row of the road is out of order.
"""

MAX_ROAD_MASKED, MAX_AUTO_MASKED, MAX_AT_LIMIT = 0.5, 0.75, 0.05

HEIGHT_RULES = (
    Rule("H10", "metric/depth_spread", lambda v: v < MIN_DEPTH_SPREAD, "the spread of depth is {:.2f} of its mean",
         f"at least {MIN_DEPTH_SPREAD:g}"),
    Rule("H18", "metric/objects_believed", lambda v: v < MIN_ACCEPTED_OBJECTS, "{:.0%} of the objects are accepted",
         f"at least {MIN_ACCEPTED_OBJECTS:.0%}"),
    Rule("H11", "metric/objects_over_road", lambda v: abs(v) > MAX_OBJECT_ROAD_GAP,
         "the logarithm of scale by objects over that by the road is {:+.2f}", f"within {MAX_OBJECT_ROAD_GAP:g} of 0"),
    Rule("H12", "metric/object_extent", lambda v: v < MIN_OBJECT_EXTENT,
         "the extent of objects is {:.1%} of their depth",
         f"at least {MIN_OBJECT_EXTENT:.0%}"),
    Rule("H13", "metric/rows_out_of_order", lambda v: v > MAX_UNORDERED_ROWS,
         "{:.0%} of the rows of the road are nearer than the row below",
         f"at most {MAX_UNORDERED_ROWS:.0%}"),
    Rule("H14", "metric/road_masked", lambda v: v > MAX_ROAD_MASKED, "{:.0%} of the road is in the auto-mask",
         f"at most {MAX_ROAD_MASKED:.0%}"),
    Rule("H15", "metric/objects_at_limit", lambda v: v > MAX_AT_LIMIT,
         "{:.0%} of the object pixels have the maximum depth",
         f"at most {MAX_AT_LIMIT:.0%}"),
    Rule("T07", "auto_masked", lambda v: v > MAX_AUTO_MASKED, "{:.0%} of the pixels are in the auto-mask",
         f"at most {MAX_AUTO_MASKED:.0%}"),
)  # fmt: skip
"""See `PersistentRule`."""


class CameraHeightMonitor:
    """H09: checks `train/metric/off_camera_height` of logged steps, ln(predicted / known camera height)."""

    def __init__(self) -> None:
        self.persists = PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        off = row.get("train/metric/off_camera_height")
        if off is None:  # a row of a validation, or no known height yet
            return None
        if not self.persists(step, row, math.isfinite(off) and abs(off) > MAX_HEIGHT_ERROR):
            return None
        measured = f"the predicted camera height is {math.exp(off):.2f} times the known one, "
        measured += f"as for {self.persists.rows} rows"
        return warn_at(step, "H09", measured, f"within {MAX_HEIGHT_ERROR:.0%} of it", times=math.exp(off))
