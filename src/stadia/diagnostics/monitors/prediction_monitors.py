"""Monitors of predicted depth, motion, exposure and uncertainty."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.monitors.persistence import (
    IMPROVES,
    ROWS,
    VALIDATIONS,
    PersistenceCounter,
    Rule,
    StartFilter,
    get_logged,
    warn_at,
)

# -- S20, S21, L20, B20, B21, P20, R20, U04: geometry of a video training, from logged values of its losses.
#
# Trainings that learn on RoadWorld (stereo and mono, 64x224, 1000 to 3000 steps) have, from step 100 on: warped over
# unwarped residual .27 to .90, gains of .75 to 1.22 with a spread of log a of .25, .20 saturated pixels, depth over
# motion gradient .2 to 7, smoothness .002 of the photometric term, a loss of -1.7 with an uncertainty.

MAX_WARP_RATIO, MAX_SATURATED, MIN_LOSS = 0.97, 0.25, -4.0
MAX_AT_FLOOR = 0.5
"""Share of the labeled pixels."""

MAX_GAIN, MAX_OFFSET = 1.6, 0.3
MAX_GRADIENT_RATIO, MAX_SMOOTHNESS_SHARE = 1e3, 0.3
MIN_MOTION_ALONG = -0.5

GEOMETRY_RULES = (
    Rule("S20", "warped_over_unwarped", lambda v: v > MAX_WARP_RATIO,
         "the residual is {:.2f} times that of the unwarped images",
         f"at most {MAX_WARP_RATIO:g}"),
    Rule("B21", "saturated", lambda v: v > MAX_SATURATED, "{:.0%} of the pixels are saturated, and left out",
         f"at most {MAX_SATURATED:.0%}"),
    Rule("U04", "loss", lambda v: v < MIN_LOSS, "the loss is {:.2f}",
         f"at least {MIN_LOSS:g}: residuals above a hundredth"),
    Rule("T03", "at_floor", lambda v: v > MAX_AT_FLOOR, "the output is at its minimum for {:.0%} of the labeled pixels",
         f"at most {MAX_AT_FLOOR:.0%}"),
)  # fmt: skip
"""See `PersistentRule`. T03 is for a last ReLU that outputs 0 and has no gradient."""


class ExposureMonitor:
    """B20: checks `train/gain/SOURCE` and `train/offset/SOURCE`, means of a batch."""

    def __init__(self) -> None:
        self.persists = PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        logged = {name: value for name, value in row.items() if "/gain/" in name or "/offset/" in name}
        if not logged:
            return None
        bad = {
            name: value
            for name, value in logged.items()
            if (abs(value) > MAX_OFFSET if "/offset/" in name else not 1 / MAX_GAIN < value < MAX_GAIN)
        }
        if not self.persists(step, row, bool(bad)):
            return None
        values = ", ".join(f"{name.rpartition('train/')[2]} {value:.2f}" for name, value in bad.items())
        expected = f"gains of {1 / MAX_GAIN:.2f} to {MAX_GAIN:g}, offsets within {MAX_OFFSET:g}"
        return warn_at(step, "B20", f"{values}, as for {self.persists.rows} rows", expected, **bad)


class GradientBalanceMonitor:
    """L20: compares `gradient/inverse_depth/0` with the larger of `gradient/translation` and `gradient/rotation`."""

    def __init__(self) -> None:
        self.persists = PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        motion = max(row.get("gradient/translation", math.nan), row.get("gradient/rotation", math.nan))
        if math.isnan(motion):  # with a stereo pair only, no motion is learned
            return None
        depth = row.get("gradient/inverse_depth/0", 0.0)  # not logged where it is detached
        if not self.persists(step, row, not motion / MAX_GRADIENT_RATIO <= depth <= motion * MAX_GRADIENT_RATIO):
            return None
        measured = f"the gradient of the loss is {depth:.2g} for inverse depth and {motion:.2g} for motion, "
        measured += f"as for {self.persists.rows} rows"
        expected = f"within a factor of {MAX_GRADIENT_RATIO:g} of each other"
        return warn_at(step, "L20", measured, expected, by_inverse_depth=depth, by_motion=motion)


class SmoothnessMonitor:
    """R20: compares `train/term/smoothness` with `train/term/photometric`."""

    def __init__(self) -> None:
        self.persists = PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        smooth, photometric = get_logged(row, "term/smoothness"), get_logged(row, "term/photometric")
        if smooth is None or photometric is None:
            return None
        share = smooth / abs(photometric) if photometric else math.inf
        if not self.persists(step, row, share > MAX_SMOOTHNESS_SHARE):
            return None
        measured = f"the smoothness term is {share:.2g} times the photometric one, as for {self.persists.rows} rows"
        expected = f"at most {MAX_SMOOTHNESS_SHARE:g}; .002 in trainings that learn"
        return warn_at(step, "R20", measured, expected, smoothness=smooth, photometric=photometric)


class ValidationWarpMonitor:
    """S21 and P20: compares `val/residual` with `val/residual_unwarped`, and checks `val/motion_along`.

    Motion is checked only where warping reduces the residual: before it is learned, its direction is arbitrary.
    """

    def __init__(self) -> None:
        self.no_warp_gain, self.backwards = PersistenceCounter(VALIDATIONS), PersistenceCounter(VALIDATIONS)
        self.along_before = math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        along, warped, unwarped = (row.get(f"val/{name}") for name in ("motion_along", "residual", "residual_unwarped"))
        if warped is None or unwarped is None:
            return None
        found = self._check_residual(step, row, warped, unwarped)
        return found if found is not None or along is None else self._check_motion(step, row, along, warped, unwarped)

    def _check_residual(self, step: int, row: Mapping[str, float], warped: float, unwarped: float) -> Finding | None:
        if not self.no_warp_gain(step, row, warped >= MAX_WARP_RATIO * unwarped):
            return None
        measured = f"the validation has a residual of {warped:.3g}, and of {unwarped:.3g} without warping, "
        measured += f"as in {self.no_warp_gain.rows} validations"
        expected = f"at most {MAX_WARP_RATIO:g} times that"
        return warn_at(step, "S21", measured, expected, residual=warped, residual_unwarped=unwarped)

    def _check_motion(
        self, step: int, row: Mapping[str, float], along: float, warped: float, unwarped: float
    ) -> Finding | None:
        before, self.along_before = (
            self.along_before,
            max(along, -1.0),
        )  # a length that improves is no improving direction
        is_bad = warped < MAX_WARP_RATIO * unwarped and along < MIN_MOTION_ALONG and not along > IMPROVES * before
        if not self.backwards(step, row, is_bad):
            return None
        measured = f"the median predicted motion along the true one is {along:.2f} times its length, "
        measured += f"as in {self.backwards.rows} validations"
        return warn_at(step, "P20", measured, "1 where it is correct, 0 where nothing is learned yet", along=along)


# -- S22 to S24, M20 to M23, P21 to P25: outputs of the networks of a video training, from logged statistics.
#
# A training that learns (stereo and both adjacent frames on RoadWorld, 64x224, 400 steps) has, from step 100 on: each
# source explains 4 to 74 % of the explained pixels; at most 4 % of the pixels are outside; inverse depth has a spread of
# .37 to .61 of its mean, and none at a bound; motion is .036 to .078 of the depth, rotation .03 to .44 degrees, the
# cosine of both temporal translations -1.00; the residual ratio of the right view .35 to .57. One that collapsed (mono,
# random weights, ten times the learning rate): all depth at the maximum, a spread of 0, motion .001 to .003.

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
        measured = f"predicted motion along z is {slope:.2f} times the true one, with a correlation of "
        measured += f"{correlation:.2f}, "
        measured += f"as in {self.persists.rows} validations"
        expected = f"within a factor of {MAX_MOTION_SCALE:g}"
        return warn_at(step, "P25", measured, expected, slope=slope, correlation=correlation)


# -- U01 to U03: an uncertainty that is constant, that alone lowers the loss, or that is at its bounds.

MIN_MOVED = 1.0
"""|log Sigma|, which starts at 0 everywhere: from here on it is trained."""

MIN_SIGMA_SPREAD = 0.1
"""Between the outer tenths of log Sigma. The minimum of twelve trainings that learn: .34; of one that died: .000."""

MAX_FIT_CHANGE, MIN_UNTRAINED_FIT = 0.9, 0.6
"""warped_over_unwarped over that of the start, and its value. Trainings that learn: .81 and .60 at most (the first rows
with Sigma); one that died: 1.00 and .75.
"""

FIRST_ROWS, LAST_ROWS = 3, 20
BOUNDS, BOUND_MARGIN = (-6.0, 2.0), 0.1
"""Of log Sigma (`models.depth_net`)."""

PERCENTILES = tuple(f"log_uncertainty/p{percent}" for percent in (10, 50, 90))


class ConstantUncertaintyMonitor:
    """U01: checks the percentiles of log Sigma of logged steps, once they have moved from 0."""

    def __init__(self) -> None:
        self.persists = PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        low, middle, high = (get_logged(row, name) for name in PERCENTILES)
        if low is None or middle is None or high is None:  # a row of a validation, or a network without uncertainty
            return None
        if not self.persists(step, row, abs(middle) > MIN_MOVED and high - low < MIN_SIGMA_SPREAD):
            return None
        measured = f"log Sigma is {middle:.2f} everywhere, its outer tenths {high - low:.3f} apart, "
        measured += f"as for {self.persists.rows} rows"
        expected = f"tenths at least {MIN_SIGMA_SPREAD:g} apart"
        return warn_at(step, "U01", measured, expected, p10=low, p50=middle, p90=high)


class UncertaintyOnlyMonitor:
    """U02: compares warped_over_unwarped with its value before Sigma had moved."""

    def __init__(self) -> None:
        self.start: list[float] = []
        self.last: deque[float] = deque(maxlen=LAST_ROWS)
        self.persists = PersistenceCounter(1)  # of the medians over rows

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        middle, fit = get_logged(row, PERCENTILES[1]), get_logged(row, "warped_over_unwarped")
        if middle is None or fit is None:
            return None
        if middle > -MIN_MOVED:
            if len(self.start) < FIRST_ROWS:
                self.start.append(fit)
            return None
        self.last.append(fit)
        if not self.start or len(self.last) < LAST_ROWS:  # the log of a resumed run may lack its start
            return None
        start, now = statistics.median(self.start), statistics.median(self.last)
        if not self.persists(step, row, now > MIN_UNTRAINED_FIT and now > MAX_FIT_CHANGE * start):
            return None
        measured = f"log Sigma has fallen to {middle:.2f}, and the residual is {now:.2f} times that of the unwarped "
        measured += f"images, {start:.2f} at the start"
        evidence = {"log_uncertainty": middle, "warped_over_unwarped": now, "at_the_start": start}
        return warn_at(step, "U02", measured, f"at most {MAX_FIT_CHANGE:g} times the value at the start", **evidence)


class UncertaintyBoundsMonitor:
    """U03: checks whether the outer tenths of log Sigma of logged steps are at its bounds."""

    def __init__(self) -> None:
        self.persists = PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        low, middle, high = (get_logged(row, name) for name in PERCENTILES)
        if low is None or middle is None or high is None:
            return None
        if not self.persists(step, row, low < BOUNDS[0] + BOUND_MARGIN or high > BOUNDS[1] - BOUND_MARGIN):
            return None
        measured = f"a tenth of the pixels has log Sigma below {low:.2f} and one above {high:.2f}, "
        measured += f"as for {self.persists.rows} rows"
        expected = f"between {BOUNDS[0]:g} and {BOUNDS[1]:g}, and not at either"
        return warn_at(step, "U03", measured, expected, p10=low, p50=middle, p90=high)
