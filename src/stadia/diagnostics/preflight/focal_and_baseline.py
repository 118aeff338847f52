"""Decide between fx and the baseline where both look wrong: only their product is measured by lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from stadia.diagnostics.finding import Finding, Severity

MAX_FACTOR_GAP = 0.04
"""Between the logs of two factors that are one, beside their errors: KITTI's fx are 707 to 722 px, and the interval of
the baseline is at least 5 % wide.
"""

RANK = {Severity.STOP: 0, Severity.WARN: 1, Severity.NOTE: 2}


def explain_baseline_by_focal(found: Sequence[Finding]) -> list[Finding]:
    """Return the findings of one recording, with one cure where fx (K04, K06) and fx times baseline (E03) are off.

    Off by the same factor: fx alone is wrong. Two measurements agree on it, so that it becomes as severe as E03, which
    becomes a note. Off by another factor: both may be wrong, and fx is corrected first, since E03 follows from it.
    """
    focal = next((one for one in found if one.code in ("K04", "K06") and "focal_factor" in one.evidence), None)
    rig = next((one for one in found if one.code == "E03" and "factor" in one.evidence), None)
    if focal is None or rig is None or Severity.NOTE in (focal.severity, rig.severity):
        return list(found)
    of_focal, of_rig = float(focal.evidence["focal_factor"]), float(rig.evidence["factor"])
    width = math.log(rig.evidence["largest_factor"] / rig.evidence["smallest_factor"])
    error = float(focal.evidence.get("log_error", 0.0)) + width / 2 + MAX_FACTOR_GAP
    length = f"{rig.evidence['baseline_m']:.4g} m"
    if abs(math.log(of_rig / of_focal)) > error:
        cause = f"fx is {of_focal:.2f} times its true length ({focal.code}), which is another factor: {rig.cause}"
        fix = f"correct fx first, as {focal.code} describes, and check again: the right baseline follows from it"
        return [replace(rig, cause=cause, fix=fix) if one is rig else one for one in found]
    severity = min(focal.severity, rig.severity, key=RANK.__getitem__)
    measured = f"{focal.measured}; fx times baseline is off by the same factor, {of_rig:.2f}"
    cause = f"fx, which is {of_focal:.2f} times its true length ({focal.code}): the baseline is right"
    fix = f"correct fx as {focal.code} describes, and leave the baseline of {length} as it is"
    settled = {
        id(focal): replace(focal, severity=severity, measured=measured),
        id(rig): replace(rig, severity=Severity.NOTE, cause=cause, fix=fix),
    }
    return [settled.get(id(one), one) for one in found]
