"""Compare the focal length of an input with independent estimates (K31) and with the training (K30)."""

import math
from collections.abc import Iterator, Sequence

from stadia.geometry.cameras import FocalEstimate
from stadia.judge.catalog import make_finding
from stadia.judge.finding import Finding, Severity
from stadia.judge.limits import CAMERA_LIMITS

FOCAL_SIGMAS = 3.0  # standard deviations of an estimate


def check_focal_estimates(focal: float | None, focal_estimates: Sequence[FocalEstimate]) -> list[Finding]:
    """Return a warning (finding K31) for each independent estimate that contradicts the focal length of the camera.

    focal: fx / width of the camera; None if unknown, which gives no warning.
    focal_estimates: independently estimated focal lengths.
    """
    findings = []
    for estimate in focal_estimates if focal is not None and focal > 0 else ():
        assert focal is not None
        ratio = focal / estimate.focal
        most = CAMERA_LIMITS["estimated_ratio"].doubtful
        if abs(math.log(ratio)) <= max(math.log(most), FOCAL_SIGMAS * estimate.deviation):
            continue
        given_deg, estimated_deg = (math.degrees(2 * math.atan(0.5 / value)) for value in (focal, estimate.focal))
        text = f"a field of view of {given_deg:.0f} degrees is given (focal length {focal:.3g} of the width);"
        text += f" {estimate.source} gives {estimated_deg:.0f} degrees ({estimate.focal:.3g})"
        evidence = {"ratio": ratio, "given": focal, "estimated": estimate.focal, "deviation": estimate.deviation}
        expected = f"focal lengths within a factor of {most:g}"
        findings.append(make_finding("K31", Severity.WARN, text, expected, evidence=evidence))
    return findings


def check_trained_camera(focal: float | None, trained: Sequence[float], has_trained_frames: bool) -> Iterator[Finding]:
    """Report a field of view that differs from the training's (K30).

    The finding is a note, or a warning if frames of this input trained the network.
    """
    ratios = [focal / trained_focal for trained_focal in trained if trained_focal > 0] if focal is not None else []
    if focal is None or not ratios:
        return
    ratio = min(ratios, key=lambda ratio: abs(math.log(ratio)))
    if abs(math.log(ratio)) <= math.log(CAMERA_LIMITS["trained_ratio"].doubtful):
        return
    here, there = _field_of_view_deg(focal), _field_of_view_deg(focal / ratio)
    text = f"a field of view of {here:.0f} degrees, {there:.0f} in the training: depth was multiplied by {ratio:.2f}"
    evidence = {"ratio": ratio, "field_of_view_deg": here, "trained_deg": there}
    expected = f"focal lengths within a factor of {CAMERA_LIMITS['trained_ratio'].doubtful:g}"
    severity, case = (Severity.WARN, "trained_frames") if has_trained_frames else (Severity.NOTE, "")
    yield make_finding("K30", severity, text, expected, case=case, evidence=evidence)


def _field_of_view_deg(focal: float) -> float:
    return math.degrees(2 * math.atan(0.5 / focal))
