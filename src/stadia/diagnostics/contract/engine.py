"""Run the checks of losses and of a training start within a time limit, and without changing the training."""

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
from stadia.diagnostics.contract.laws import BASIC_PROPERTIES, PROPERTIES
from stadia.diagnostics.contract.learning import check_one_batch, check_precision
from stadia.diagnostics.contract.looks import INIT_CHECKS
from stadia.diagnostics.contract.start import Start
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import NotChecked

PropertyCheck = Callable[[Exact, str], Iterable[Finding]]


def of_losses(losses: Mapping[str, Exact], until: float = math.inf) -> list[Finding]:
    """Check losses, given by their names. Those that would start after `until` (time.monotonic()) are N01."""
    found: list[Finding] = []
    for name, case in losses.items():
        basic = next((one for check in BASIC_PROPERTIES if (one := _run_check(check, case, name, Severity.STOP))), [])
        if basic:
            found += [*basic, not_checked("properties of the loss", f"{basic[0].code} must be fixed first", name)]
            continue
        for check in PROPERTIES:
            if time.monotonic() > until:
                found.append(not_checked("properties of the loss", str(TimeOver()), name))
                break
            found += _run_check(check, case, name, Severity.WARN)
    return in_order(found)


def of_start(start: Start, seconds: float) -> list[Finding]:
    """Check a training before it starts. After `seconds` networks are stopped, and checks that need one report N01."""
    found: list[Finding] = []
    with ending_at(time.monotonic() + seconds):
        for check in (*INIT_CHECKS, check_precision, check_one_batch):
            found += collected(_describe(check), "", partial(check, start))
    return in_order(found)


def _run_check(check: PropertyCheck, case: Exact, name: str, severity: Severity) -> list[Finding]:
    """Return the findings of a check; a loss that raises is L11."""

    def run() -> Iterator[Finding]:
        try:
            yield from check(case, name)
        except LossRaised as error:
            measured = f"{_describe(check)}: {error}"
            expected = "a report of the loss for every scene and size"
            yield finding("L11", severity, measured=measured, expected=expected, where=[name])

    return collected(_describe(check), name, run)


def _describe(check: Callable[..., Any]) -> str:
    return check.__name__.removeprefix("check_").replace("_", " ")


def collected(what: str, where: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return the findings of a check; what cannot be checked is a note with the reason."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except NotChecked as why:
        found.append(not_checked(what, str(why), where))
    except Exception as error:  # a loss or network of the user may raise anything, anywhere
        found.append(not_checked(what, in_one_line(error), where))
    return found


def not_checked(what: str, why: str, where: str = "") -> Finding:
    """Return N01: what could not be checked, and why."""
    measured, named = f"{what}: {why}", [where] if where else []
    return finding("N01", Severity.NOTE, measured=measured, expected="something to compare with", where=named)
