"""What the networks of a video say: S22 to S24, M20 to M23, P21 to P25. Of `recipes.said` and validations, all logged
anyway.

Of a training that learns (stereo and both neighbors on RoadWorld, 64x224, 400 steps), from step 100 on: each source
explains 4 to 74 % of what is explained; 4 % of the pixels are outside at most; inverse depth spreads by .37 to .61 of
its mean, and none of it is at a bound; motion is .036 to .078 of the depth, turns .03 to .44 degrees, the cosine of
both neighbors -1.00; the right view's residual .35 to .57. Of
one that collapsed (mono, random weights, ten times the rate): all depth at the farthest, a spread of 0, motion .001 to
.003.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import COMES_RIGHT, ROWS, VALIDATIONS, Begun, Lasts, Rule
from stadia.diagnostics.watching.rows import logged

UNEXPLAINED, LEFT_OUT, OUTSIDE = 0.97, 0.02, 0.5
CONSTANT, NEAREST, FARTHEST, DRIFTED = 0.05, 0.2, 0.8, 6.0
NO_MOTION, LEAPS, TURNS_DEG, SAME_SIDE = 0.001, 1.0, 15.0, 0.5
LONGER, KNOWN_BY = 1.4, 0.9

RULES = (
    Rule("S23", "outside", lambda v: v > OUTSIDE, "{:.0%} of the pixels are seen by no source", f"at most {OUTSIDE:.0%}"),
    Rule("S24", "warped_over_unwarped_right", lambda v: v > UNEXPLAINED,
         "the right view's residual is {:.2f} times what it is without depth", f"at most {UNEXPLAINED:g}"),
    Rule("M20", "depth/spread", lambda v: v < CONSTANT, "inverse depth spreads by {:.1%} of its mean", f"at least {CONSTANT:.0%}"),
    Rule("M21", "depth/at_nearest", lambda v: v > NEAREST, "{:.0%} of the pixels have the least depth that there can be",
         f"at most {NEAREST:.0%}"),
    Rule("M22", "depth/at_farthest", lambda v: v > FARTHEST, "{:.0%} of the pixels have the largest depth that there can be",
         f"at most {FARTHEST:.0%}"),
    Rule("P24", "motion/same_side", lambda v: v > SAME_SIDE,
         "the neighbors before and after are seen to move the same way, by a mean cosine of {:.2f}", f"at most {SAME_SIDE:g}; -1 ahead"),
)  # fmt: skip
"""See `Lasting`."""

OF_EACH = (
    Rule("S22", "explained_by", lambda v: v < LEFT_OUT, "{:.1%} is what it explains of all that is explained",
         f"at least {LEFT_OUT:.0%} of each source"),
    Rule("P21", "motion/over_depth", lambda v: v < NO_MOTION, "motion is {:.2g} of the depth", f"at least {NO_MOTION:g}"),
    Rule("P22", "motion/over_depth", lambda v: v > LEAPS, "motion is {:.2g} times the depth", f"at most {LEAPS:g}"),
    Rule("P23", "motion/turn_deg", lambda v: v > TURNS_DEG, "the camera is said to turn by {:.0f} degrees to the next image",
         f"at most {TURNS_DEG:g}"),
)  # fmt: skip
"""See `LastingOfEach`."""


class Drift:
    """M23: compares `depth/median` of the last ROWS logged steps with that of the first past the start."""

    def __init__(self) -> None:
        self.begun = Begun()
        self.first: list[float] = []
        self.last: deque[float] = deque(maxlen=ROWS)

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        median = logged(row, "depth/median")
        if median is None or not self.begun(step, row):
            return None
        if len(self.first) < ROWS:
            self.first.append(median)
            return None
        self.last.append(median)
        if len(self.last) < ROWS:
            return None
        first, last = statistics.median(self.first), statistics.median(self.last)
        if 1 / DRIFTED <= last / first <= DRIFTED:
            return None
        return finding(
            "M23",
            Severity.WARN,
            measured=f"at step {step} the median depth is {last:.3g}, and was {first:.3g} when the training had begun",
            expected=f"within a factor of {DRIFTED:g}",
            evidence={"step": step, "median_depth": last, "at_the_start": first},
        )


class OtherUnit:
    """P25: looks at validations for motion along z that follows the true one at another size, and comes no nearer to
    it. (One that is known up to scale is brought to its size before.)
    """

    def __init__(self) -> None:
        self.lasts, self.before = Lasts(VALIDATIONS), math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        slope, correlation = row.get("val/motion_slope/tz"), row.get("val/motion_correlation/tz")
        if slope is None or correlation is None:
            return None
        off = abs(math.log(slope)) if slope > 0 else math.inf
        before, self.before = self.before, off
        if not self.lasts(
            step, row, correlation > KNOWN_BY and off > math.log(LONGER) and not off < COMES_RIGHT * before
        ):
            return None
        return finding(
            "P25",
            Severity.WARN,
            measured=(
                f"at step {step} predicted motion along z is {slope:.2f} times the true one, correlated by"
                f" {correlation:.2f}, as in {self.lasts.rows} validations"
            ),
            expected=f"within a factor of {LONGER:g}",
            evidence={"step": step, "slope": slope, "correlation": correlation},
        )
