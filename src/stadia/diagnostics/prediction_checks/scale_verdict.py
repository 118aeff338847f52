"""Let the verdict of a measured scale limit that of the depth in metres: no metres are better than their measure."""

from __future__ import annotations

from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.geometry.scale_fit import DOUBTFUL_DEVIATION, USABLE_DEVIATION

__all__ = ["DOUBTFUL_DEVIATION", "USABLE_DEVIATION", "check_scale_verdict"]

_SEVERITIES = {"doubtful": Severity.WARN, "unusable": Severity.STOP}


FIX_WITH_MAP = (
    "`stadia adapt NETWORK VIDEO`, which trains depth on the map, and measure again; or a second source (a distance,"
    " speed, LiDAR) that must agree"
)


def check_scale_verdict(verdict: str, sources: str, deviation: float, *, has_map: bool = False) -> list[Finding]:
    """Return M38 where the scale is doubtful or unusable.

    Args:
        verdict: of the scale: "usable", "doubtful" or "unusable".
        sources: what it was measured by.
        deviation: relative standard deviation.
        has_map: whether a map lies beside the input, which the fix then does not propose.

    Examples:
        >>> check_scale_verdict("usable", "height=1.5", 0.03)
        []
        >>> [finding.severity.value for finding in check_scale_verdict("doubtful", "height=1.5", 0.14)]
        ['warn']
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
            fix=FIX_WITH_MAP if has_map else None,
            evidence={"deviation": deviation},
        )
    ]
