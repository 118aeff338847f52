"""Run the checks of losses and of a training start within a time limit."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from stadia.core.errors import summarize_exception
from stadia.diagnostics.catalog import NotChecked, make_finding, make_not_checked, sort_findings
from stadia.diagnostics.finding import Finding, Severity, merge_findings
from stadia.diagnostics.loss_checks.added_term_checks import ADDED_PROPERTIES
from stadia.diagnostics.loss_checks.init_checks import INIT_CHECKS
from stadia.diagnostics.loss_checks.loss_case import LossCase, LossRaised
from stadia.diagnostics.loss_checks.loss_properties import BASIC_PROPERTIES, PROPERTIES
from stadia.diagnostics.loss_checks.training_start import (
    TimeLimitReached,
    TrainingStart,
    check_bf16_loss,
    check_one_batch,
)

PropertyCheck = Callable[[LossCase], Iterable[Finding]]


def check_losses(losses: Mapping[str, LossCase], until: float = math.inf) -> list[Finding]:
    """Check losses, given by their names; N01 for losses that would start after `until` (time.monotonic())."""
    findings: list[Finding] = []
    for name, case in losses.items():
        basic = next(filter(None, (_run_check(check, case, name, Severity.STOP) for check in BASIC_PROPERTIES)), [])
        if basic:
            findings += [
                *basic,
                make_not_checked("properties of the loss", f"{basic[0].code} must be fixed first", name),
            ]
            continue
        for check in (*PROPERTIES, *ADDED_PROPERTIES):
            if time.monotonic() > until:
                limit = str(TimeLimitReached())
                findings.append(make_not_checked("properties of the loss", limit, name, is_out_of_time=True))
                break
            findings += _run_check(check, case, name, Severity.WARN)
    same = attrgetter("code", "severity", "measured", "expected", "fix")
    return sort_findings(merge_findings(findings, same))


def check_training_start(start: TrainingStart, seconds: float) -> list[Finding]:
    """Check a training before it starts. After `seconds` networks stop, and checks that need one report N01."""
    findings: list[Finding] = []
    with stop_at(time.monotonic() + seconds):
        for check in (*INIT_CHECKS, check_bf16_loss, check_one_batch):
            findings += collect_findings(_describe(check), "", partial(check, start))
    return sort_findings(findings)


@contextlib.contextmanager
def stop_at(deadline: float) -> Iterator[None]:
    """Make every layer raise TimeLimitReached once time.monotonic() is past the deadline; weights may be in a step."""

    def check_time(*_: object) -> None:
        if time.monotonic() > deadline:
            raise TimeLimitReached

    def check_time_backward(module: object, inputs: object, output: Any) -> None:
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(check_time)  # type: ignore[no-untyped-call]

    hooks = register_module_forward_pre_hook(check_time), register_module_forward_hook(check_time_backward)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _run_check(check: PropertyCheck, case: LossCase, name: str, severity: Severity) -> list[Finding]:

    def run() -> Iterator[Finding]:
        try:
            yield from (replace(finding, where=(name,)) for finding in check(case))
        except LossRaised as error:
            expected = "a report of the loss for every scene and size"
            yield make_finding("L11", severity, f"{_describe(check)}: {error}", expected, where=name)

    return collect_findings(_describe(check), name, run)


def _describe(check: Callable[..., Any]) -> str:
    return check.__name__.removeprefix("check_").replace("_", " ")


def collect_findings(what: str, where: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return the findings of a check; a note if it cannot run."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except NotChecked as lack:
        findings.append(make_not_checked(what, str(lack), where, is_out_of_time=lack.is_out_of_time))
    except Exception as error:  # a user's loss or network may raise anything
        findings.append(make_not_checked(what, summarize_exception(error), where))
    return findings
