"""Check the basis of metres: the focal length and the scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.geometry.scale_fit import USABLE_DEVIATION

MAX_BELIEVED_RATIO = 1.2  # networks for the field of view err by 5 to 10 %
BELIEF_SIGMAS = 3.0  # standard deviations of a belief


@dataclass(frozen=True, slots=True)
class FocalBelief:
    """A focal length (fx / width) from another `source` than the camera, with its relative standard deviation."""

    focal: float
    source: str
    deviation: float = 0.05


def check_focal_beliefs(focal: float | None, beliefs: Sequence[FocalBelief]) -> list[Finding]:
    """Return K31 for each belief that contradicts the camera. focal: fx / width of the camera; None if unknown."""
    findings = []
    for belief in beliefs if focal is not None and focal > 0 else ():
        assert focal is not None
        ratio = focal / belief.focal
        if abs(math.log(ratio)) <= max(math.log(MAX_BELIEVED_RATIO), BELIEF_SIGMAS * belief.deviation):
            continue
        given_deg, believed_deg = (math.degrees(2 * math.atan(0.5 / value)) for value in (focal, belief.focal))
        text = f"a field of view of {given_deg:.0f} degrees is given (focal length {focal:.3g} of the width);"
        text += f" {belief.source} gives {believed_deg:.0f} degrees ({belief.focal:.3g})"
        evidence = {"ratio": ratio, "given": focal, "believed": belief.focal, "deviation": belief.deviation}
        expected = f"focal lengths within a factor of {MAX_BELIEVED_RATIO:g}"
        findings.append(make_finding("K31", Severity.WARN, text, expected, evidence=evidence))
    return findings


_SEVERITIES = {"doubtful": Severity.WARN, "unusable": Severity.STOP}


FIX_WITH_MAP = "run `stadia adapt NETWORK VIDEO` and measure again; or give a second source (a distance, speed, LiDAR)"


FIX_OF_PHOTO = "give a second source: a measured distance, an object of known height, or LiDAR"


def check_scale_verdict(
    verdict: str, sources: str, deviation: float, *, has_map: bool = False, is_photo: bool = False
) -> list[Finding]:
    """Return M38 if the scale is doubtful or unusable.

    verdict: "usable", "doubtful" or "unusable".
    sources: what the scale was measured by.
    deviation: relative standard deviation.
    has_map: whether the input has a map, which the fix then does not propose.
    is_photo: whether one image was measured, which cannot have a map.
    """
    severity = _SEVERITIES.get(verdict)
    if severity is None:
        return []
    text = f"the scale by {sources} is {verdict}, +- {deviation:.1%}"
    return [
        make_finding(
            "M38",
            severity,
            text,
            f"a usable scale, +- {USABLE_DEVIATION:.0%}",
            fix=FIX_OF_PHOTO if is_photo else FIX_WITH_MAP if has_map else None,
            evidence={"deviation": deviation},
        )
    ]
