"""Holds losses to their laws, and a training to what must be true of its start; within a time, and without changing it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from stadia.core.errors import in_one_line
from stadia.diagnostics.catalog import finding, in_order
from stadia.diagnostics.contract.deadline import TimeOver, ending_at
from stadia.diagnostics.contract.exact import Exact, LossRaised
from stadia.diagnostics.contract.laws import FIRST, LAWS
from stadia.diagnostics.contract.learning import learns_one_batch, precisions_agree
from stadia.diagnostics.contract.looks import LOOKS
from stadia.diagnostics.contract.start import Start
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import NotChecked

Law = Callable[[Exact, str], Iterable[Finding]]


def of_losses(losses: Mapping[str, Exact], until: float = math.inf) -> list[Finding]:
    """What is wrong with losses, by their names; nothing of those that are as they should be.

    until: of time.monotonic(): no law is asked after it, which is said.
    """
    found: list[Finding] = []
    for name, exact in losses.items():
        first = next((told for law in FIRST if (told := _asked(law, exact, name, Severity.STOP))), [])
        if first:
            found += [*first, not_checked("laws of the loss", f"{first[0].code} must be mended first", name)]
            continue
        for law in LAWS:
            if time.monotonic() > until:
                found.append(not_checked("laws of the loss", str(TimeOver()), name))
                break
            found += _asked(law, exact, name, Severity.WARN)
    return in_order(found)


def of_start(start: Start, seconds: float) -> list[Finding]:
    """What is wrong with a training before it starts. After `seconds` no network goes on, and what needs one says so."""
    found: list[Finding] = []
    with ending_at(time.monotonic() + seconds):
        for check in (*LOOKS, precisions_agree, learns_one_batch):
            found += collected(_words(check), "", partial(check, start))
    return in_order(found)


def _asked(law: Law, exact: Exact, name: str, severity: Severity) -> list[Finding]:
    """What a law finds; a loss that raises where the law asks it is L11."""

    def told() -> Iterator[Finding]:
        try:
            yield from law(exact, name)
        except LossRaised as error:
            measured = f"{_words(law)}: {error}"
            yield finding(
                "L11",
                severity,
                measured=measured,
                expected="a report of the loss, of every scene and size",
                where=[name],
            )

    return collected(_words(law), name, told)


def _words(check: Callable[..., Any]) -> str:
    return check.__name__.replace("_", " ")


def collected(what: str, where: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds; what cannot be checked is a note that says why."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except NotChecked as why:
        found.append(not_checked(what, str(why), where))
    except Exception as error:  # a loss or network of the user's may raise anything, anywhere
        found.append(not_checked(what, in_one_line(error), where))
    return found


def not_checked(what: str, why: str, where: str = "") -> Finding:
    """N01: what could not be looked at, and why."""
    return finding(
        "N01",
        Severity.NOTE,
        measured=f"{what}: {why}",
        expected="something to compare with",
        where=[where] if where else [],
    )
