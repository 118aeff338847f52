"""What was not checked: for lack of something to compare with, for lack of time, or since a check failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity

NOT_CHECKED = "N01"  # code of the note about a check that could not run
SAMPLED = "N02"  # code of the note about data of which a sample was checked


class NotChecked(Exception):
    """A check lacks what it compares with; the message names it.

    hides: a common mistake that would go unnoticed.  is_out_of_time: whether it lacks time.
    """

    def __init__(self, reason: str, *, hides: str = "", is_out_of_time: bool = False) -> None:
        super().__init__(reason)
        self.hides = hides
        self.is_out_of_time = is_out_of_time


def make_not_checked(
    check: str,
    reason: str,
    where: str = "",
    *,
    hides: str = "",
    is_out_of_time: bool = False,
    case: str = "",
    values: dict[str, object] | None = None,
) -> Finding:
    """Return N01: what could not be checked, and why. The evidence has `check` and `reason` alone.

    case, values: of the entry, where it is not about data.
    """
    evidence: dict[str, object] = {"check": check, "reason": reason}
    if hides:
        evidence["hides"] = hides
    if is_out_of_time:
        evidence["is_out_of_time"] = True
    return make_finding(
        NOT_CHECKED,
        Severity.NOTE,
        f"{check}: {reason}",
        "something to compare with",
        case=case,
        values=values,
        where=where,
        evidence=evidence,
    )


# -- Incomplete checks: what they found is about this run, and is not used again.

_INCOMPLETE: ContextVar[list[str] | None] = ContextVar("incomplete checks", default=None)


@contextmanager
def collect_incomplete_checks() -> Iterator[list[str]]:
    """Yield a list that gets an entry for each check of this block that had no time, or that failed.

    Examples:
        >>> with collect_incomplete_checks() as incomplete:
        ...     is_out_of_time(time.monotonic() - 1, "frames")
        True
        >>> incomplete
        ['frames: out of time']
    """
    incomplete: list[str] = []
    token = _INCOMPLETE.set(incomplete)
    try:
        yield incomplete
    finally:
        _INCOMPLETE.reset(token)


def report_incomplete(what: str) -> None:
    """Add an entry to the list of `collect_incomplete_checks`, if one collects."""
    if (incomplete := _INCOMPLETE.get()) is not None:
        incomplete.append(what)


def is_out_of_time(until: float, check: str) -> bool:
    """Return whether `until`, a time of `time.monotonic`, has passed; then report that the check was cut short."""
    if time.monotonic() <= until:
        return False
    report_incomplete(f"{check}: out of time")
    return True
