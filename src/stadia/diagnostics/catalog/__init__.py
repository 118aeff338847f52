"""The catalog of findings, as TOML files: every code with its symptom, cause and fix; and the root cause of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """Return a finding of a code in the catalog; its cause and fix default to those of the entry.

    Examples:
        >>> from stadia.diagnostics.finding import Severity
        >>> finding = make_finding("E01", Severity.STOP, "baseline -0.54 m", "baseline 0.54 m")
        >>> finding.code, finding.measured
        ('E01', 'baseline -0.54 m')
    """
    entry = CATALOG[code]
    places = ((where,) if where else ()) if isinstance(where, str) else tuple(where)
    texts = measured, expected, cause or entry.cause, fix or entry.fix
    return Finding(code, severity, entry.stage, *texts, evidence or {}, places, title=entry.title)


_RANK = {Severity.STOP: 0, Severity.WARN: 1, Severity.NOTE: 2}


def sort_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Sort by family (data first: later ones are often its symptoms), then by severity, then by code."""
    families = list(FAMILIES)
    return sorted(findings, key=lambda f: (families.index(f.code[0]), _RANK[f.severity], f.code, f.where))


# -- The chain of causes: order the findings of a run from cause to effect, and find the first one to fix.

VERDICT_CODES = "M30", "M31", "M32", "M33", "M34", "S30", "T40"
"""Findings of the verdict on a run's predictions."""

OWN_LINK: dict[str, str] = {
    **dict.fromkeys(("T02", "T09", "T10", "T14", "T15", "T20", "T21", "T22", "T23"), "optimizer"),
    **dict.fromkeys(("D09", "D10", "D12", "D13", "C01", "C02"), "splits"),
    **dict.fromkeys(VERDICT_CODES, "V"),
    "T40": "W",
}
"""Codes with another place in the chain of causes than their family. Weights that do not change, or change too much,
look like wrong data from S on. Splits that share data distort scores and no training. The verdict on predictions (V) is
a symptom of everything before it: also of a training that hardly learned (W).
"""

CAUSES: dict[str, str] = {
    "D": "KESMLUBPRHOCTWV",
    "K": "ESMLUBPRHOTWV",
    "E": "SMLUBPRHTWV",
    "optimizer": "SMUBPRHOCTWV",
    "S": "MLUBPRHTWV",
    "M": "LUBPRHTWV",
    "L": "UBPRHTWV",
    "U": "BPRHTWV",
    "B": "PRHTWV",
    "P": "RHTWV",
    "R": "HTWV",
    "H": "TWV",
    "O": "T",
    "C": "T",
    "T": "WV",
    "W": "V",
    "V": "",
    "splits": "",
    "N": "",
}
"""Links of the chain of causes (a family or a value of OWN_LINK), in order, with the families in which each shows
symptoms. Wrong data can show everywhere; wrong extrinsics of a rig cannot show in composites.
"""


NEVER_A_CAUSE = {"T06"}
"""Codes about measurements of a training, which change nothing in it: they are never the first to fix."""


def find_link(code: str) -> str:
    """Return the link of a code in CAUSES. Raises KeyError for an unknown family.

    Examples:
        >>> find_link("E01")
        'E'
    """
    link = OWN_LINK.get(code, code[:1])
    if link not in CAUSES:
        raise KeyError(code)
    return link


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Findings from cause to effect: the one to fix first, its possible symptoms, those with another cause, and checks
    that could not run or had no time.
    """

    first: Finding | None
    follows: tuple[Finding, ...]
    apart: tuple[Finding, ...]
    unchecked: tuple[Finding, ...]

    @property
    def stops(self) -> int:
        """Number of findings with severity STOP."""
        every = (*([self.first] if self.first else []), *self.follows, *self.apart)
        return sum(one.severity is Severity.STOP for one in every)


def find_root_cause(findings: Sequence[Finding]) -> Diagnosis:
    """Choose the first finding to fix: a stop before a warning, and of these the earliest in CAUSES.

    Notes and NEVER_A_CAUSE are never first. A stop of the verdict on predictions is first only where no
    warning may have led to it. Another finding of the same code counts as a symptom. Codes of unknown
    families are left out.
    """
    chain = list(CAUSES)
    ordered = sort_findings([one for one in findings if one.code[:1] in FAMILIES])
    ordered.sort(key=lambda one: chain.index(find_link(one.code)))
    unchecked = tuple(one for one in ordered if one.code.startswith("N"))
    checked = [one for one in ordered if not one.code.startswith("N")]
    causes = [one for one in checked if one.code not in NEVER_A_CAUSE]
    first = next((one for level in (Severity.STOP, Severity.WARN) for one in causes if one.severity is level), None)
    if first is not None and first.code in VERDICT_CODES:
        leading = (one for one in causes if one.severity is not Severity.NOTE and _may_follow(one, first))
        first = next((one for one in leading if find_link(one.code) != "V"), first)
    if first is None:
        return Diagnosis(None, (), tuple(checked), unchecked)
    rest = [one for one in checked if one is not first]
    follows = tuple(one for one in rest if _may_follow(first, one))
    return Diagnosis(first, follows, tuple(one for one in rest if one not in follows), unchecked)


def _may_follow(first: Finding, other: Finding) -> bool:
    if other.severity is Severity.NOTE or other.code in NEVER_A_CAUSE:
        return False
    return other.code == first.code or find_link(other.code) in CAUSES[find_link(first.code)]
