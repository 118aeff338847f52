"""Holds losses to their laws, and a training to what must be true of its start; within a time, and without changing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from stadia.diagnostics.catalogue import finding, in_order
from stadia.diagnostics.contract.exact import Exact
from stadia.diagnostics.contract.laws import FIRST, LAWS
from stadia.diagnostics.contract.learning import learns_one_batch, precisions_agree
from stadia.diagnostics.contract.looks import LOOKS
from stadia.diagnostics.contract.start import Start
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import NotChecked


def of_losses(losses: Mapping[str, Exact]) -> list[Finding]:
    """What is wrong with losses, by their names; nothing of those that are as they should be."""
    found: list[Finding] = []
    for name, exact in losses.items():
        first = next((told for law in FIRST if (told := list(law(exact, name)))), [])
        if first:
            found += [*first, not_checked("laws of the loss", f"{first[0].code} must be mended first", name)]
            continue
        for law in LAWS:
            found += collected(law.__name__.replace("_", " "), name, partial(law, exact, name))
    return in_order(found)


def of_start(start: Start, seconds: float) -> list[Finding]:
    """What is wrong with a training before it starts. Nothing is begun after `seconds`, which is said."""
    began = time.monotonic()
    checks = [(look.__name__, partial(look, start)) for look in (*LOOKS, precisions_agree)]
    found: list[Finding] = []
    for name, check in checks:
        if time.monotonic() - began > seconds:
            found.append(not_checked(name.replace("_", " "), f"the {seconds:.0f} s for the contract were over"))
        else:
            found += collected(name.replace("_", " "), "", check)
    left = seconds - (time.monotonic() - began)
    found += collected("learns one batch", "", partial(learns_one_batch, start, left))
    return in_order(found)


def collected(what: str, where: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds; what cannot be checked is a note that says why."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except NotChecked as why:
        found.append(not_checked(what, str(why), where))
    except Exception as error:  # a loss or network of the user's may raise anything, anywhere
        found.append(not_checked(what, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", where))
    return found


def not_checked(what: str, why: str, where: str = "") -> Finding:
    """N01: what could not be looked at, and why."""
    return finding("N01", Severity.NOTE, measured=f"{what}: {why}", expected="something to compare with", where=[where] if where else [])
