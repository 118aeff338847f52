"""Monitors of metric scale by camera height."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.monitors.persistence import PersistenceCounter, Rule, warn_at
from stadia.diagnostics.preflight.mask_checks import HeightEstimateResult

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


def check_epoch(
    epoch: int,
    estimates: Mapping[str, HeightEstimateResult],
    *,
    first_epoch: int,
    known_m: Mapping[str, float] | None = None,
) -> list[Finding]:
    """Return H06, H07 and H17 of an epoch for each group; early epochs may have no height.

    known_m: heights from silhouettes or earlier epochs that are used anyway, by group; NaN where none is known.
    """
    found = []
    for group, one in estimates.items():
        of = f" of the cameras '{group}'" if group else ""
        if one.apart:
            measured = f"epoch {epoch}{of}: {one.refused}; depth is not in metres"
            found.append(
                make_finding("H07", Severity.WARN, measured, "one height of one group of cameras", where=group)
            )
            continue
        if one.locked_height:
            measured = f"epoch {epoch}{of}: {one.locked_height}"
            found.append(
                make_finding("H17", Severity.WARN, measured, "a test that agrees with all objects", where=group)
            )
        if one.refused and epoch > first_epoch:
            measured, teaches = (
                f"epoch {epoch} gives no camera height{of}: {one.refused}",
                (known_m or {}).get(group, math.nan),
            )
            severity = Severity.WARN
            if math.isfinite(teaches):  # nothing is lost while another height is used
                severity, measured = Severity.NOTE, f"{measured}; {teaches:.2f} m, known before, is used"
            found.append(make_finding("H06", severity, measured, "frames that agree on a height", where=group))
    return found


def check_drift(heights_m: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Return H08 from the heights after each epoch, by group."""
    found = []
    for group, heights in heights_m.items():
        logs = [math.log(height) for height in heights if math.isfinite(height)][-DRIFT_EPOCHS - 1 :]
        steps = [after - before for before, after in pairwise(logs)]
        if (
            len(steps) == DRIFT_EPOCHS
            and (min(steps) > 0 or max(steps) < 0)
            and abs(logs[-1] - logs[0]) > MAX_DRIFT * DRIFT_EPOCHS
        ):
            percent = math.expm1((logs[-1] - logs[0]) / DRIFT_EPOCHS)
            measured = f"the camera's height went from {math.exp(logs[0]):.2f} m to {math.exp(logs[-1]):.2f} m, "
            measured += f"{percent:+.1%} an epoch"
            evidence = {"camera_height_m": list(heights)}
            expected = f"less than {MAX_DRIFT:.0%} an epoch"
            found.append(make_finding("H08", Severity.WARN, measured, expected, where=group, evidence=evidence))
    return found


MAX_DRIFT, DRIFT_EPOCHS = 0.01, 5

MAX_DRIFT, DRIFT_EPOCHS = 0.01, 5
