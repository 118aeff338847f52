"""Collect which checks were cut short or failed: what they found is about this run, and is not used again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
