"""S22 to S24, M20 to M23, P21 to P25: outputs of the networks of a video training, from logged statistics.

A training that learns (stereo and both adjacent frames on RoadWorld, 64x224, 400 steps) has, from step 100 on: each
source explains 4 to 74 % of the explained pixels; at most 4 % of the pixels are outside; inverse depth has a spread of
.37 to .61 of its mean, and none at a bound; motion is .036 to .078 of the depth, rotation .03 to .44 degrees, the
cosine of both temporal translations -1.00; the residual ratio of the right view .35 to .57. One that collapsed (mono,
random weights, ten times the learning rate): all depth at the maximum, a spread of 0, motion .001 to .003.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.watching.lasting import (
    IMPROVES,
    ROWS,
    VALIDATIONS,
    PersistenceCounter,
    Rule,
    StartFilter,
    warn_at,
)
from stadia.diagnostics.watching.rows import get_logged

MAX_RIGHT_WARP_RATIO, MIN_SOURCE_SHARE, MAX_OUT_OF_VIEW = 0.97, 0.02, 0.5
MIN_INVERSE_DEPTH_SPREAD, MAX_AT_NEAREST, MAX_AT_FARTHEST, MAX_DEPTH_DRIFT = 0.05, 0.2, 0.8, 6.0
MIN_MOTION, MAX_MOTION, MAX_ROTATION_DEG, MAX_SAME_SIDE = 0.001, 1.0, 15.0, 0.5
MAX_MOTION_SCALE, MIN_CORRELATION = 1.4, 0.9

OUTPUT_RULES = (
    Rule("S23", "outside", lambda v: v > MAX_OUT_OF_VIEW, "{:.0%} of the pixels project into no source",
         f"at most {MAX_OUT_OF_VIEW:.0%}"),
    Rule("S24", "warped_over_unwarped_right", lambda v: v > MAX_RIGHT_WARP_RATIO,
         "the residual of the right view is {:.2f} times that of the unwarped image",
         f"at most {MAX_RIGHT_WARP_RATIO:g}"),
    Rule("M20", "depth/spread", lambda v: v < MIN_INVERSE_DEPTH_SPREAD,
         "the spread of inverse depth is {:.1%} of its mean",
         f"at least {MIN_INVERSE_DEPTH_SPREAD:.0%}"),
    Rule("M21", "depth/at_nearest", lambda v: v > MAX_AT_NEAREST, "{:.0%} of the pixels have the minimum depth",
         f"at most {MAX_AT_NEAREST:.0%}"),
    Rule("M22", "depth/at_farthest", lambda v: v > MAX_AT_FARTHEST, "{:.0%} of the pixels have the maximum depth",
         f"at most {MAX_AT_FARTHEST:.0%}"),
    Rule("P24", "motion/same_side", lambda v: v > MAX_SAME_SIDE,
         "the predicted motions to the previous and the next frame have a mean cosine of {:.2f}",
         f"at most {MAX_SAME_SIDE:g}; -1 ahead"),
)  # fmt: skip
"""See `PersistentRule`."""

SOURCE_RULES = (
    Rule("S22", "explained_by", lambda v: v < MIN_SOURCE_SHARE, "the share of the explained pixels is {:.1%}",
         f"at least {MIN_SOURCE_SHARE:.0%} of each source"),
    Rule("P21", "motion/over_depth", lambda v: v < MIN_MOTION, "motion is {:.2g} of the depth",
         f"at least {MIN_MOTION:g}"),
    Rule("P22", "motion/over_depth", lambda v: v > MAX_MOTION, "motion is {:.2g} times the depth",
         f"at most {MAX_MOTION:g}"),
    Rule("P23", "motion/turn_deg", lambda v: v > MAX_ROTATION_DEG,
         "the predicted rotation to the next image is {:.0f} degrees",
         f"at most {MAX_ROTATION_DEG:g}"),
)  # fmt: skip
"""See `PersistentPartRule`."""


class DepthScaleMonitor:
    """M23: compares `depth/median` of the last ROWS logged steps with that of the first ones past the start."""

    def __init__(self) -> None:
        self.is_past_start = StartFilter()
        self.first: list[float] = []
        self.last: deque[float] = deque(maxlen=ROWS)

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        median = get_logged(row, "depth/median")
        if median is None or not self.is_past_start(step, row):
            return None
        if len(self.first) < ROWS:
            self.first.append(median)
            return None
        self.last.append(median)
        if len(self.last) < ROWS:
            return None
        first, last = statistics.median(self.first), statistics.median(self.last)
        if 1 / MAX_DEPTH_DRIFT <= last / first <= MAX_DEPTH_DRIFT:
            return None
        measured = f"the median depth is {last:.3g}, and was {first:.3g} early in training"
        expected = f"within a factor of {MAX_DEPTH_DRIFT:g}"
        return warn_at(step, "M23", measured, expected, median_depth=last, at_the_start=first)


class MotionScaleMonitor:
    """P25: finds validations whose motion along z follows the true one at another scale, and does not improve.

    Motion that is known up to scale is scaled before.
    """

    def __init__(self) -> None:
        self.persists, self.before = PersistenceCounter(VALIDATIONS), math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        slope, correlation = row.get("val/motion_slope/tz"), row.get("val/motion_correlation/tz")
        if slope is None or correlation is None:
            return None
        off = abs(math.log(slope)) if slope > 0 else math.inf
        before, self.before = self.before, off
        is_off = correlation > MIN_CORRELATION and off > math.log(MAX_MOTION_SCALE)
        if not self.persists(step, row, is_off and not off < IMPROVES * before):
            return None
        measured = (
            f"predicted motion along z is {slope:.2f} times the true one, with a correlation of {correlation:.2f}, "
        )
        measured += f"as in {self.persists.rows} validations"
        expected = f"within a factor of {MAX_MOTION_SCALE:g}"
        return warn_at(step, "P25", measured, expected, slope=slope, correlation=correlation)
