"""Decide between fx and the baseline where both seem wrong: only their product is measured by lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.scale_consistency import FOCAL_IS_RIGHT, STOP_FROM

MAX_FACTOR_GAP = 0.04
"""Between the logs of two factors that are one, beside their errors: KITTI's fx are 707 to 722 px, and the interval of
the baseline is at least 5 % wide.
"""

RANK = {Severity.STOP: 0, Severity.WARN: 1, Severity.NOTE: 2}


def explain_baseline_by_focal(found: Sequence[Finding]) -> list[Finding]:
    """Return the findings of one rig, with one cure where fx (K04, K06) and fx times baseline (E03) are off.

    fx is measured in recordings with rotation alone, fx times baseline in all: the most precise fx counts for all. Off
    by the same factor: fx alone is wrong. Two measurements agree on it, so that it becomes as severe as E03, which
    becomes a note. That takes factors that are known to STOP_FROM: others may hide a wrong baseline. Else both may be
    wrong, and fx is corrected first, since E03 follows from it.
    """
    severe = [one for one in found if one.severity is not Severity.NOTE]
    focals = [one for one in severe if one.code in ("K04", "K06") and "focal_factor" in one.evidence]
    rigs = [one for one in severe if one.code == "E03" and "factor" in one.evidence]
    if not focals or not rigs:
        return list(found)
    focal = min(focals, key=_log_error)
    errors = [_log_error(focal) + _log_error(one) + MAX_FACTOR_GAP for one in rigs]
    is_one_factor = all(_log_gap(focal, one) <= error for one, error in zip(rigs, errors, strict=True))
    if is_one_factor and max(errors) <= STOP_FROM:
        changed = _settle_by_focal(focal, focals, rigs)
    else:
        why = "that is not precise enough to judge the baseline" if is_one_factor else "which is another factor"
        cause = f"fx is {_factor(focal):.2f} times its true length ({focal.code}), {'and ' * is_one_factor}{why}"
        fix = f"correct fx first, as {focal.code} describes, and check again: the right baseline follows from it"
        causes = [cause if FOCAL_IS_RIGHT in one.cause else f"{cause}: {one.cause}" for one in rigs]
        changed = {id(one): replace(one, cause=text, fix=fix) for one, text in zip(rigs, causes, strict=True)}
    return [changed.get(id(one), one) for one in found]


def _settle_by_focal(focal: Finding, focals: Sequence[Finding], rigs: Sequence[Finding]) -> dict[int, Finding]:
    """Return changed findings by the id of each one, where fx alone is wrong."""
    severity = min((one.severity for one in (*focals, *rigs)), key=RANK.__getitem__)
    also = f"; fx times baseline is off by the same factor, {_factor(rigs[0]):.2f}"
    same = [one for one in focals if _log_gap(focal, one) <= _log_error(focal) + _log_error(one) + MAX_FACTOR_GAP]
    changed = {id(one): replace(one, severity=severity, measured=one.measured + also) for one in same}
    cause = f"fx, which is {_factor(focal):.2f} times its true length ({focal.code}): the baseline is right"
    for one in rigs:
        fix = f"correct fx as {focal.code} describes, and leave the baseline of {one.evidence['baseline_m']:.4g} m"
        changed[id(one)] = replace(one, severity=Severity.NOTE, cause=cause, fix=f"{fix} as it is")
    return changed


def _factor(found: Finding) -> float:
    return float(found.evidence["factor" if found.code == "E03" else "focal_factor"])


def _log_gap(one: Finding, other: Finding) -> float:
    return abs(math.log(_factor(one) / _factor(other)))


def _log_error(found: Finding) -> float:
    """Return the error of the log of the factor; 0 for K04, where the size of the image determines it."""
    if found.code == "E03":
        return math.log(found.evidence["largest_factor"] / found.evidence["smallest_factor"]) / 2
    return float(found.evidence.get("log_error", 0.0))
