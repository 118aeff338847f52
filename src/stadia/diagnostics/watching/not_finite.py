"""T08: the first loss or gradient that is not finite."""

from __future__ import annotations

from stadia.core.errors import NotFiniteError
from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity


def report_not_finite(step: int, error: NotFiniteError) -> Finding:
    """Return the error that ended the training as a finding: the term and samples, or the parameter of the gradient."""
    measured = f"{error.what}: {error.found}"
    evidence = {"step": step}
    return finding("T08", Severity.STOP, measured=measured, expected=error.expected, fix=error.fix, evidence=evidence)
