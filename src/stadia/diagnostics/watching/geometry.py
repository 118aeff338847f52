"""What the losses of a video tell of its geometry: S20, S21, L20, B20, B21, P20, R20, U04. Of numbers that are logged
anyway.

Of trainings that learn on RoadWorld (stereo and mono, 64x224, 1000 to 3000 steps), from step 100 on: warped over
unwarped .27 to .90, gains .75 to 1.22 where log a had a spread of .25, saturated pixels .20, the gradient of depth over
that of motion .2 to 7, smoothness .002 of the photometric term, a loss of -1.7 with an uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import COMES_RIGHT, VALIDATIONS, Lasts, Rule
from stadia.diagnostics.watching.rows import logged

UNEXPLAINED, WHITE, LEAST_LOSS = 0.97, 0.25, -4.0

RULES = (
    Rule("S20", "warped_over_unwarped", lambda v: v > UNEXPLAINED, "the residual is {:.2f} times what it is without depth and motion",
         f"at most {UNEXPLAINED:g}"),
    Rule("B21", "saturated", lambda v: v > WHITE, "{:.0%} of the pixels are saturated, and left out", f"at most {WHITE:.0%}"),
    Rule("U04", "loss", lambda v: v < LEAST_LOSS, "the loss is {:.2f}", f"at least {LEAST_LOSS:g}: residuals above a hundredth"),
)  # fmt: skip
"""See `Lasting`."""

GAIN, OFFSET = 1.6, 0.3
RATIO, SHARE = 1e3, 0.3
BACKWARDS = -0.5


class Exposures:
    """B20: looks at `train/gain/SOURCE` and `train/offset/SOURCE`, means of a batch."""

    def __init__(self) -> None:
        self.lasts = Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        said = {name: value for name, value in row.items() if "/gain/" in name or "/offset/" in name}
        if not said:
            return None
        far = {
            name: value
            for name, value in said.items()
            if (abs(value) > OFFSET if "/offset/" in name else not 1 / GAIN < value < GAIN)
        }
        if not self.lasts(step, row, bool(far)):
            return None
        told = ", ".join(f"{name.rpartition('train/')[2]} {value:.2f}" for name, value in far.items())
        return finding(
            "B20",
            Severity.WARN,
            measured=f"at step {step} {told}, as for {self.lasts.rows} rows",
            expected=f"gains of {1 / GAIN:.2f} to {GAIN:g}, offsets within {OFFSET:g}",
            evidence={"step": step, **far},
        )


class Unbalanced:
    """L20: looks at `gradient/inverse_depth/0` against the larger of `gradient/translation` and `gradient/rotation`."""

    def __init__(self) -> None:
        self.lasts = Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        motion = max(row.get("gradient/translation", math.nan), row.get("gradient/rotation", math.nan))
        if math.isnan(motion):  # a rig alone has no motion to learn
            return None
        depth = row.get("gradient/inverse_depth/0", 0.0)  # not logged where it is detached
        if not self.lasts(step, row, not motion / RATIO <= depth <= motion * RATIO):
            return None
        return finding(
            "L20",
            Severity.WARN,
            measured=(
                f"at step {step} the loss has a gradient of {depth:.2g} by inverse depth, and of {motion:.2g} by"
                f" motion, as for {self.lasts.rows} rows"
            ),
            expected=f"within a factor of {RATIO:g} of each other",
            evidence={"step": step, "by_inverse_depth": depth, "by_motion": motion},
        )


class SmoothnessRules:
    """R20: looks at `train/term/smoothness` against `train/term/photometric`."""

    def __init__(self) -> None:
        self.lasts = Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        smooth, photometric = logged(row, "term/smoothness"), logged(row, "term/photometric")
        if smooth is None or photometric is None:
            return None
        share = smooth / abs(photometric) if photometric else math.inf
        if not self.lasts(step, row, share > SHARE):
            return None
        return finding(
            "R20",
            Severity.WARN,
            measured=(
                f"at step {step} the smoothness term is {share:.2g} times the photometric one, as for {self.lasts.rows}"
                " rows"
            ),
            expected=f"at most {SHARE:g}; .002 in trainings that learn",
            evidence={"step": step, "smoothness": smooth, "photometric": photometric},
        )


class Unseen:
    """S21 and P20: looks at validations, `val/residual` against `val/residual_unwarped`, and `val/motion_along` where
    these are explained: what motion says before it has learnt points anywhere.
    """

    def __init__(self) -> None:
        self.unexplained, self.backwards, self.along_before = Lasts(VALIDATIONS), Lasts(VALIDATIONS), math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        return self._explained(step, row) or self._forward(step, row)

    def _explained(self, step: int, row: Mapping[str, float]) -> Finding | None:
        warped, unwarped = row.get("val/residual"), row.get("val/residual_unwarped")
        if warped is None or unwarped is None:
            return None
        if not self.unexplained(step, row, warped >= UNEXPLAINED * unwarped):
            return None
        return finding(
            "S21",
            Severity.WARN,
            measured=(
                f"at step {step} what validates has a residual of {warped:.3g}, and of {unwarped:.3g} without depth and"
                f" motion, as in {self.unexplained.rows} validations"
            ),
            expected=f"at most {UNEXPLAINED:g} times that",
            evidence={"step": step, "residual": warped, "residual_unwarped": unwarped},
        )

    def _forward(self, step: int, row: Mapping[str, float]) -> Finding | None:
        along, warped, unwarped = (row.get(f"val/{name}") for name in ("motion_along", "residual", "residual_unwarped"))
        if along is None or warped is None or unwarped is None:
            return None
        before, self.along_before = (
            self.along_before,
            max(along, -1.0),
        )  # a size that comes right is no direction that does
        if not self.backwards(
            step, row, warped < UNEXPLAINED * unwarped and along < BACKWARDS and not along > COMES_RIGHT * before
        ):
            return None
        return finding(
            "P20",
            Severity.WARN,
            measured=(
                f"at step {step} predicted motion goes {along:.2f} times as far along the true one (the median), "
                f"as in {self.backwards.rows} validations"
            ),
            expected="1 where it is right, 0 where nothing is learnt yet",
            evidence={"step": step, "along": along},
        )
