"""Judge a measured scale of depth by its deviation and its inliers."""

from stadia.core.verdict import Verdict, find_worst
from stadia.geometry.scale_fit import ScaleFit
from stadia.judge.catalog import make_finding
from stadia.judge.finding import Finding, Severity
from stadia.judge.limits import SCALE_LIMITS

_SEVERITIES = {Verdict.DOUBTFUL: Severity.WARN, Verdict.UNUSABLE: Severity.STOP}

FIX_WITH_MAP = (
    "adapt it: stadia adapt NETWORK VIDEO --minutes 20; then measure again;"
    " or give a second source (a distance, speed, LiDAR)"
)

FIX_OF_PHOTO = "give a second source: a measured distance, an object of known height, or LiDAR"


def judge_scale(fit: ScaleFit) -> Verdict:
    """Return the verdict on a fitted scale: usable, doubtful or unusable.

    Examples:
        >>> [str(judge_scale(ScaleFit(2.0, deviation, 0.1, 1.0, 9, 3))) for deviation in (0.02, 0.3, 0.6)]
        ['usable', 'doubtful', 'unusable']
    """
    return find_worst(limit.judge(getattr(fit, field)) for field, limit in SCALE_LIMITS.items())


def check_scale_verdict(
    verdict: Verdict,
    sources: str,
    deviation: float,
    *,
    inliers: float = 1.0,
    is_contradicted: bool = False,
    has_map: bool = False,
    is_photo: bool = False,
) -> list[Finding]:
    """Return a finding (M38) if the measured scale of depth is doubtful or unusable, because metres depend on it.

    verdict: verdict on the scale.
    sources: sources of the scale that the message names.
    deviation: relative standard deviation of the scale.
    inliers: share of the measurements that agree with the scale, from 0 to 1.
    is_contradicted: whether two sources contradict each other.
    has_map: whether the input has a map of static points, so that the proposed fix is not to make one.
    is_photo: whether the input is a single photo, so that no map can be made.
    """
    severity = _SEVERITIES.get(verdict)
    if severity is None:
        return []
    measured, least = f"the scale by {sources} is {verdict}, +- {deviation:.1%}", SCALE_LIMITS["inliers"].doubtful
    if is_contradicted:
        measured, expected = f"{measured}, and two sources contradict each other", "sources that agree"
    elif inliers < least:
        measured += f", and {inliers:.0%} of the measurements agree with it"
        expected = f"at least {least:.0%} of the measurements"
    else:
        expected = f"a usable scale, at most +- {SCALE_LIMITS['deviation'].doubtful:.0%}"
    return [
        make_finding(
            "M38",
            severity,
            measured,
            expected,
            fix=FIX_OF_PHOTO if is_photo else FIX_WITH_MAP if has_map else None,
            evidence={"deviation": deviation},
        )
    ]
