"""Limits of the values that a training logs: rules as rows of a table."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stadia.judge.catalog import make_finding
from stadia.judge.depth.frame_measurements import MAX_AUTO_MASKED
from stadia.judge.finding import Finding, Severity

Row = Mapping[str, float]  # logged values: `train/NAME` of a step, `val/NAME` of a validation


def rename_base_values(row: Row, base_recipe: str = "") -> Row:
    """Remove the name of the base recipe from logged names; return the row with new names.

    `train/BASE/NAME` becomes `train/NAME`, and `train/term/BASE/NAME` becomes `train/term/NAME`, so that monitors
    find the values of a recipe that contains another one, its base.

    row: logged values by name.
    base_recipe: name BASE; "" finds it in the logged names.
    """
    base_recipe = base_recipe or _find_photometric_part(row)
    if not base_recipe:
        return row
    prefixes = {f"train/{base_recipe}/": "train/", f"train/term/{base_recipe}/": "train/term/"}
    renamed = {}
    for name, value in row.items():
        prefix = next(filter(name.startswith, prefixes), "")
        renamed[prefixes.get(prefix, "") + name.removeprefix(prefix)] = value
    return renamed


def _find_photometric_part(row: Row) -> str:
    start, end = "train/", "/warped_over_unwarped"
    logged = (name for name in row if name.startswith(start) and name.endswith(end))
    return next((name[len(start) : -len(end)] for name in logged), "")


def warn_at(step: int, code: str, measured: str, expected: str, *, where: Any = (), **evidence: Any) -> Finding:
    """Return a warning about a step of the training, as a finding.

    step: number of the training step.
    code: code of the finding, which determines its title and fix.
    measured: what was measured, as text.
    expected: what was expected, as text.
    where: samples, terms or datasets that the warning is about.
    evidence: measured numbers by name.
    """
    evidence = {"step": step, **evidence}
    return make_finding(code, Severity.WARN, f"at step {step} {measured}", expected, where=where, evidence=evidence)


@dataclass(frozen=True, slots=True)
class Rule:
    """Define a limit of one logged value, and the warning about a value beyond it.

    code: code of the finding that reports the value.
    name: name of the value, without "train/" or "val/".
    is_bad: function that returns whether a value is beyond the limit.
    message: text about the value, with the placeholder `{}` for it.
    expected: text about the limit.
    improves: function of the value and of the one before that returns whether it improves enough not to be reported.
    """

    code: str
    name: str
    is_bad: Callable[[float], bool]
    message: str
    expected: str
    improves: Callable[[float, float], bool] = lambda value, before: False

    def report(self, step: int, value: float, duration: str, part: str = "") -> Finding:
        """Return the finding."""
        measured = f"{self.message.format(value)}, {duration}"
        measured = f"of '{part}' {measured}" if part else measured
        return warn_at(step, self.code, measured, self.expected, where=part, **{self.name.rpartition("/")[2]: value})


def limit(
    code: str,
    name: str,
    message: str,
    *,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    note: str = "",
    improves: Callable[[float, float], bool] = lambda value, before: False,
) -> Rule:
    """Return the rule that a logged value must be at least or at most a limit. NaN is not reported.

    code: code of the finding that reports the value.
    name: name of the value, without "train/" or "val/".
    message: text about the value, with the placeholder `{}` for it; with "%}" the limit is shown in percent, too.
    at_least: smallest good value.
    at_most: largest good value.
    note: text that is appended to that about the limit.
    improves: function of the value and of the one before that returns whether it improves enough not to be reported.
    """
    unit = ".0%" if "%}" in message else "g"
    expected = f"at least {at_least:{unit}}" if at_most == math.inf else f"at most {at_most:{unit}}"
    return Rule(code, name, lambda v: v < at_least or v > at_most, message, expected + note, improves)


MAX_UPDATE_RATIO = 0.012  # |update| / |weight|; learning at most .0086, diverging .030

MAX_WARP_RATIO = 0.97  # residual over the unwarped one; learning .27 to .90, structural errors .87 or more

MAX_OUT_OF_VIEW = 0.5  # share of pixels that project into no source; learning .04

MAX_SATURATED = 0.25  # share of pixels that are left out; simulated exposures .20

MIN_LOSS = -4.0  # residuals of a hundredth, which real images do not have; learning -1.7

MAX_AT_FLOOR = 0.5  # share of labeled pixels at the minimum output, where a ReLU has no gradient

MIN_INVERSE_DEPTH_SPREAD = 0.05  # deviation over mean of inverse depth; learning .37 to .61, collapsed 0

MAX_AT_NEAREST = 0.2  # share of pixels at the minimum depth; learning 0

MAX_AT_FARTHEST = 0.8  # share of pixels at the maximum depth; learning 0, collapsed 1

MAX_SAME_SIDE = 0.5  # mean cosine of the translations to the previous and next frame; learning -1

MIN_EXPLAINED_SHARE = 0.02  # share of explained pixels by one source; learning .04 to .74

MIN_TRANSLATION_OVER_DEPTH = 0.001  # learning .036 to .078, collapsed .001 to .003

MAX_TRANSLATION_OVER_DEPTH = 1.0  # learning at most .08

MAX_PREDICTED_ROTATION_DEG = 15.0  # rotation to a neighboring frame; learning at most .44

MIN_METRIC_DEPTH_SPREAD = 0.15  # deviation over mean of the depth; learning .03 at step 100, .47 later

MIN_INLIER_SHARE = 0.4  # share of objects whose height agrees; a horizon half a degree off rejects half

MAX_OBJECT_ROAD_GAP = 0.2  # |ln(camera height by the objects / known height)|

MIN_OBJECT_EXTENT = 0.02  # spread of an object's depth over its mean; exact depth of cars has .158

MAX_ROWS_OUT_OF_ORDER = 0.1  # share of road rows that are nearer than the row below

MAX_ROAD_MASKED = 0.5  # share of the road in the auto-mask

MAX_OBJECTS_AT_LIMIT = 0.05  # share of object pixels at the maximum depth

GEOMETRY_RULES = (
    limit("S20", "warped_over_unwarped", "the residual is {:.2f} times the unwarped one", at_most=MAX_WARP_RATIO),
    limit("S23", "outside", "{:.0%} of the pixels project into no source", at_most=MAX_OUT_OF_VIEW),
    limit("S24", "warped_over_unwarped_right", "the right view's residual is {:.2f} times the unwarped one",
          at_most=MAX_WARP_RATIO),
    limit("B21", "saturated", "{:.0%} of the pixels are saturated, and left out", at_most=MAX_SATURATED),
    limit("U04", "loss", "the loss is {:.2f}", at_least=MIN_LOSS, note=": residuals above a hundredth"),
    limit("T03", "at_floor", "the output is at its minimum for {:.0%} of the labeled pixels", at_most=MAX_AT_FLOOR),
    limit("M20", "depth/spread", "the spread of inverse depth is {:.1%} of its mean",
          at_least=MIN_INVERSE_DEPTH_SPREAD),
    limit("M21", "depth/at_nearest", "{:.0%} of the pixels have the minimum depth", at_most=MAX_AT_NEAREST),
    limit("M22", "depth/at_farthest", "{:.0%} of the pixels have the maximum depth", at_most=MAX_AT_FARTHEST),
    limit("P24", "motion/same_side",
          "the predicted motions to the previous and the next frame have a mean cosine of {:.2f}",
          at_most=MAX_SAME_SIDE, note="; -1 ahead"),
)  # fmt: skip
"""Limits of logged values of depth and motion; `PersistentRule` applies each of them."""

HEIGHT_RULES = (
    limit("H10", "metric/depth_spread", "the spread of depth is {:.2f} of its mean", at_least=MIN_METRIC_DEPTH_SPREAD),
    limit("H18", "metric/inlier_share", "{:.0%} of the objects are accepted", at_least=MIN_INLIER_SHARE),
    Rule("H11", "metric/objects_over_road", lambda gap: abs(gap) > MAX_OBJECT_ROAD_GAP,
         "the logarithm of scale by objects over scale by the road is {:+.2f}", f"within {MAX_OBJECT_ROAD_GAP:g} of 0"),
    limit("H12", "metric/object_extent", "the extent of objects is {:.1%} of their depth", at_least=MIN_OBJECT_EXTENT),
    limit("H13", "metric/rows_out_of_order", "{:.0%} of the rows of the road are nearer than the row below",
          at_most=MAX_ROWS_OUT_OF_ORDER),
    limit("H14", "metric/road_masked", "{:.0%} of the road is in the auto-mask", at_most=MAX_ROAD_MASKED),
    limit("H15", "metric/objects_at_limit", "{:.0%} of the object pixels have the maximum depth",
          at_most=MAX_OBJECTS_AT_LIMIT),
    limit("T07", "auto_masked", "{:.0%} of the pixels are in the auto-mask", at_most=MAX_AUTO_MASKED),
)  # fmt: skip
"""Limits of logged values of the camera height; `PersistentRule` applies each of them."""

SOURCE_RULES = (
    limit("S22", "explained_by", "the share of the explained pixels is {:.1%}", at_least=MIN_EXPLAINED_SHARE,
          note=" of each source"),
    limit("P21", "motion/over_depth", "motion is {:.2g} of the depth", at_least=MIN_TRANSLATION_OVER_DEPTH),
    limit("P22", "motion/over_depth", "motion is {:.2g} times the depth", at_most=MAX_TRANSLATION_OVER_DEPTH),
    limit("P23", "motion/turn_deg", "the predicted rotation to the next image is {:.0f} degrees",
          at_most=MAX_PREDICTED_ROTATION_DEG),
)  # fmt: skip
"""Limits of values that are logged for each source image; `PersistentPartRule` applies them to each source."""
