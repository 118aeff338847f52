"""T08: the first loss or gradient that is not finite."""

from __future__ import annotations

from stadia.core.errors import NotFiniteError
from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity


def not_finite(step: int, error: NotFiniteError) -> Finding:
    """What the training itself says as it ends: which term of which samples, or which parameter's gradient."""
    return finding(
        "T08",
        Severity.STOP,
        measured=f"{error.what}: {error.found}",
        expected=error.expected,
        fix=error.fix,
        evidence={"step": step},
    )
