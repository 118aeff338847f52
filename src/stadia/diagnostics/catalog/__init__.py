"""The catalog of known ways to fail: data, one file a family. `finding` makes a Finding of an entry. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stadia.diagnostics.catalog import (
    contract,
    data,
    extrinsics,
    heights,
    intrinsics,
    learning,
    notes,
    objects,
    overlays,
    start,
    training,
    uncertainty,
    validating,
    watching,
)
from stadia.diagnostics.catalog.entry import FAMILIES, Entry
from stadia.diagnostics.finding import Finding, Severity

_PARTS = (
    data,
    intrinsics,
    extrinsics,
    contract,
    start,
    learning,
    watching,
    uncertainty,
    heights,
    objects,
    overlays,
    training,
    validating,
    notes,
)
CATALOG: dict[str, Entry] = {e.code: e for part in _PARTS for e in part.ENTRIES}
"""Every entry by its code."""


def finding(
    code: str,
    severity: Severity,
    *,
    measured: str,
    expected: str,
    cause: str | None = None,
    fix: str | None = None,
    evidence: Mapping[str, Any] | None = None,
    where: Sequence[str] = (),
) -> Finding:
    """A finding of a code of the catalog; cause and fix are the entry's unless this data tells more.

    Raises KeyError for a code that the catalog does not have.
    """
    entry = CATALOG[code]
    return Finding(
        code=code,
        severity=severity,
        stage=entry.stage,
        measured=measured,
        expected=expected,
        cause=cause or entry.cause,
        fix=fix or entry.fix,
        evidence=evidence or {},
        where=tuple(where),
    )


_RANK = {Severity.STOP: 0, Severity.WARN: 1, Severity.NOTE: 2}


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Order of presentation: by family (data first: what comes later is often its symptom), then severity, then code."""
    families = list(FAMILIES)
    return sorted(findings, key=lambda f: (families.index(f.code[0]), _RANK[f.severity], f.code, f.where))
