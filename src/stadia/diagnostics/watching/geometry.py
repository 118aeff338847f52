"""S20, S21, L20, B20, B21, P20, R20, U04: geometry of a video training, from logged values of its losses.

Trainings that learn on RoadWorld (stereo and mono, 64x224, 1000 to 3000 steps) have, from step 100 on: warped over
unwarped residual .27 to .90, gains of .75 to 1.22 with a spread of log a of .25, .20 saturated pixels, depth over
motion gradient .2 to 7, smoothness .002 of the photometric term, a loss of -1.7 with an uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.watching.lasting import IMPROVES, VALIDATIONS, PersistenceCounter, Rule, warn_at
from stadia.diagnostics.watching.rows import get_logged

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
