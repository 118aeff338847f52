"""What is told of a training once it has lasted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.rows import logged, logged_of_each

ROWS, STEPS, FROM_STEP, VALIDATIONS = 20, 100, 100, 2
"""Logged rows one after the other, how many steps they span at least, and from which step on; and validations one after
the other.
"""

COMES_RIGHT = 0.9
"""Of what a validation is off, the one before's: it comes right by itself, and nothing is told."""


class Begun:
    """Whether a training is past its start, which may be anything: FROM_STEP steps, and a learning rate that rises no
    more.
    """

    def __init__(self) -> None:
        self.rate = math.inf

    def __call__(self, step: int, row: Mapping[str, float]) -> bool:
        before, self.rate = self.rate, row.get("train/lr", self.rate)  # rows of a validation have none
        return step >= FROM_STEP and self.rate <= before


class Lasts:
    """Whether something has been so for `rows` rows that were asked about, one after the other, and STEPS steps, past
    the start. Rows alone
    would not do: they may be of every step, and an epoch may be a handful of them.
    """

    def __init__(self, rows: int = ROWS) -> None:
        self.least, self.rows, self.since = rows, 0, 0
        self.begun = Begun()

    def __call__(self, step: int, row: Mapping[str, float], so: bool) -> bool:
        if not self.begun(step, row) or not so:
            self.rows = 0
            return False
        self.since = self.since if self.rows else step
        self.rows += 1
        return self.rows >= self.least and step - self.since >= STEPS


@dataclass(frozen=True, slots=True)
class Rule:
    """code: of the catalog.  name: what is logged (`logged`, or `val/NAME`).  bad: of its value.  says, expected: in
    words, of the value as `{}`.  better: of a validation's value and the one before, whether it comes right by itself.
    """

    code: str
    name: str
    bad: Callable[[float], bool]
    says: str
    expected: str
    better: Callable[[float, float], bool] = lambda value, before: False


class Lasting:
    """What is told once it lasts: a start is anything, and a batch may be."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.lasts = rule, Lasts()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        value = logged(row, self.rule.name)
        if value is None or not self.lasts(step, row, self.rule.bad(value)):  # NaN is not bad
            return None
        return _told(self.rule, step, value, f"as for {self.lasts.rows} rows")


class LastingOfEach:
    """As `Lasting`, of each `NAME/PART` by itself: what is wrong with one source shows in no mean over all of them."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.lasts: defaultdict[str, Lasts] = defaultdict(Lasts)

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        values = logged_of_each(row, self.rule.name)
        told = [part for part, value in values.items() if self.lasts[part](step, row, self.rule.bad(value))]
        return (
            _told(self.rule, step, values[told[0]], f"as for {self.lasts[told[0]].rows} rows", told[0])
            if told
            else None
        )


class Validated:
    """What is told once VALIDATIONS in a row have said it, none better than the one before."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.lasts, self.before = rule, Lasts(VALIDATIONS), math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        value = row.get(f"val/{self.rule.name}")
        if value is None:
            return None
        before, self.before = self.before, value
        if not self.lasts(step, row, self.rule.bad(value) and not self.rule.better(value, before)):
            return None
        return _told(self.rule, step, value, f"as in {self.lasts.rows} validations")


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
