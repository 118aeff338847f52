"""What is told of a training once it has lasted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.rows import logged, logged_of_each

ROWS, FROM_STEP, VALIDATIONS = 20, 100, 2
"""Logged rows one after the other, and from which step on; and validations one after the other."""


@dataclass(frozen=True, slots=True)
class Rule:
    """code: of the catalogue.  name: what is logged (`logged`, or `val/NAME`).  bad: of its value.  says, expected: in words, of the value
    as `{}`.
    """

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
        return _told(self.rule, step, value, f"as for {ROWS} rows") if self.rows >= ROWS else None


class LastingOfEach:
    """As `Lasting`, of each `NAME/PART` by itself: what is wrong with one source shows in no mean over all of them."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.rows: dict[str, int] = {}

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        values = logged_of_each(row, self.rule.name) if step >= FROM_STEP else {}
        for part, value in values.items():
            self.rows[part] = self.rows.get(part, 0) + 1 if self.rule.bad(value) else 0
            if self.rows[part] >= ROWS:
                return _told(self.rule, step, value, f"as for {ROWS} rows", part)
        return None


class Validated:
    """What is told once VALIDATIONS in a row have said it, from FROM_STEP on."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.times = rule, 0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        value = row.get(f"val/{self.rule.name}")
        if value is None or step < FROM_STEP:
            return None
        self.times = self.times + 1 if self.rule.bad(value) else 0
        return _told(self.rule, step, value, f"as in {VALIDATIONS} validations") if self.times >= VALIDATIONS else None


def _told(rule: Rule, step: int, value: float, lasting: str, part: str = "") -> Finding:
    of = f"of '{part}' " if part else ""
    return finding(
        rule.code,
        Severity.WARN,
        measured=f"at step {step} {of}{rule.says.format(value)}, {lasting}",
        expected=rule.expected,
        evidence={"step": step, rule.name.rpartition("/")[2]: value},
        where=[part] if part else [],
    )
