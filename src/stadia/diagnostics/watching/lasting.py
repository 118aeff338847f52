"""What is told of a training once it has lasted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.rows import logged

ROWS, FROM_STEP = 20, 100
"""Logged rows one after the other, and from which step on."""


@dataclass(frozen=True, slots=True)
class Rule:
    """code: of the catalogue.  name: what is logged (`logged`).  bad: of its value.  says, expected: in words, of the value as `{}`."""

    code: str
    name: str
    bad: Callable[[float], bool]
    says: str
    expected: str


class Lasting:
    """What is told once it has been so for ROWS logged steps in a row, from FROM_STEP on: a start is anything, and a batch may be."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.rows = rule, 0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        value = logged(row, self.rule.name)
        if value is None or step < FROM_STEP:
            return None
        self.rows = self.rows + 1 if self.rule.bad(value) else 0  # NaN is not
        if self.rows < ROWS:
            return None
        return finding(
            self.rule.code,
            Severity.WARN,
            measured=f"at step {step} {self.rule.says.format(value)}, as for {ROWS} rows",
            expected=self.rule.expected,
            evidence={"step": step, self.rule.name.rpartition("/")[2]: value},
        )
