"""The catalog of findings: every code with its symptom, cause and fix, as TOML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stadia.diagnostics.catalog.entries import FAMILIES, Entry, load_entries
from stadia.diagnostics.finding import Finding, Severity

CATALOG: dict[str, Entry] = load_entries()
"""Every entry by its code."""


def make_finding(
    code: str,
    severity: Severity,
    measured: str,
    expected: str,
    *,
    where: str | Sequence[str] = (),
    cause: str | None = None,
    fix: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Finding:
    """Return a finding of a code in the catalog; its cause and fix default to those of the entry."""
    entry = CATALOG[code]
    places = ((where,) if where else ()) if isinstance(where, str) else tuple(where)
    cause, fix = cause or entry.cause, fix or entry.fix
    return Finding(code, severity, entry.stage, measured, expected, cause, fix, evidence or {}, places)


_RANK = {Severity.STOP: 0, Severity.WARN: 1, Severity.NOTE: 2}


def sort_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Sort by family (data first: later ones are often its symptoms), then by severity, then by code."""
    families = list(FAMILIES)
    return sorted(findings, key=lambda f: (families.index(f.code[0]), _RANK[f.severity], f.code, f.where))
