"""What to mend first: the findings of a run from cause to effect. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stadia.diagnostics.catalog import in_order
from stadia.diagnostics.catalog.entry import FAMILIES, FEEDS, place
from stadia.diagnostics.finding import Finding, Severity


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """first: to mend; None where nothing was found.  follows: what may be no more than its symptoms.  apart: what it
    cannot explain.

    unchecked: what nobody could look at, or had no time for.  Each from cause to effect.
    """

    first: Finding | None
    follows: tuple[Finding, ...]
    apart: tuple[Finding, ...]
    unchecked: tuple[Finding, ...]

    @property
    def stops(self) -> int:
        """How many say stop."""
        every = (*([self.first] if self.first else []), *self.follows, *self.apart)
        return sum(one.severity is Severity.STOP for one in every)


def diagnosis(findings: Sequence[Finding]) -> Diagnosis:
    """What says stop before what warns, for it is proven; of these the earliest cause (`FEEDS`), with all that it feeds
    as its possible symptoms.

    Notes are no causes, and never first: those about the data stand apart. The same code of the same family, found
        again, stands with
    what follows. Codes of families that this version does not know are left out.
    """
    chain = list(FEEDS)
    known = in_order([one for one in findings if one.code[:1] in FAMILIES])
    known.sort(key=lambda one: chain.index(place(one.code)))
    unchecked = tuple(one for one in known if one.code.startswith("N"))
    told = [one for one in known if not one.code.startswith("N")]
    first = next((one for level in (Severity.STOP, Severity.WARN) for one in told if one.severity is level), None)
    if first is None:
        return Diagnosis(None, (), tuple(told), unchecked)
    rest = [one for one in told if one is not first]
    follows = tuple(one for one in rest if _may_follow(first, one))
    return Diagnosis(first, follows, tuple(one for one in rest if one not in follows), unchecked)


def _may_follow(first: Finding, other: Finding) -> bool:
    return other.severity is not Severity.NOTE and (
        other.code == first.code or place(other.code) in FEEDS[place(first.code)]
    )
