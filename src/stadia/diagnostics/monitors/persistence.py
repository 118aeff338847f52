"""Rules that report a value only after it has persisted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity

# -- Read values of a logged row, whichever recipe logged it.

BASE_RECIPE = "selfsup"
"""A recipe that adds losses to another recipe logs the values of that one under its name."""


def get_logged(row: Mapping[str, float], name: str) -> float | None:
    """Return `train/NAME` of the recipe itself or of BASE_RECIPE as a part of it; None where it is not logged."""
    return row.get(f"train/{name}", row.get(f"train/{BASE_RECIPE}/{name}"))


def get_logged_parts(row: Mapping[str, float], name: str) -> dict[str, float]:
    """Return `train/NAME/PART` by the part, of the recipe itself or of BASE_RECIPE."""
    starts = f"train/{name}/", f"train/{BASE_RECIPE}/{name}/"
    return {key.partition(f"{name}/")[2]: value for key, value in row.items() if key.startswith(starts)}


# -- Rules that report a logged value only after it has persisted.


ROWS = 20
"""Consecutive logged rows in which a value must be bad."""

STEPS = 100
"""Steps that these rows must span: rows may be of every step, and an epoch may have a handful of them."""

FROM_STEP = 100
"""First step that counts."""

VALIDATIONS = 2
"""Consecutive validations in which a score must be bad."""

IMPROVES = 0.9
"""An error below this share of that of the validation before is improving, and is not reported."""


def warn_at(step: int, code: str, measured: str, expected: str, *, where: Any = (), **evidence: Any) -> Finding:
    """Return a warning about a step of the training. where: names, typed Any since evidence may be an unpacked dict."""
    measured = f"at step {step} {measured}"
    evidence = {"step": step, **evidence}
    return make_finding(code, Severity.WARN, measured, expected, where=where, evidence=evidence)


class StartFilter:
    """Ignores the start of a training: the first FROM_STEP steps, and rows with a rising learning rate."""

    def __init__(self) -> None:
        self.rate = math.inf

    def __call__(self, step: int, row: Mapping[str, float]) -> bool:
        before, self.rate = self.rate, row.get("train/lr", self.rate)  # rows of a validation have none
        return step >= FROM_STEP and self.rate <= before


class PersistenceCounter:
    """Counts consecutive bad rows after the start; true once there are `min_rows` of them that span STEPS steps."""

    def __init__(self, min_rows: int = ROWS) -> None:
        self.min_rows, self.rows, self.since = min_rows, 0, 0
        self.is_past_start = StartFilter()

    def __call__(self, step: int, row: Mapping[str, float], is_bad: bool) -> bool:
        if not self.is_past_start(step, row) or not is_bad:
            self.rows = 0
            return False
        self.since = self.since if self.rows else step
        self.rows += 1
        return self.rows >= self.min_rows and step - self.since >= STEPS


@dataclass(frozen=True, slots=True)
class Rule:
    """A threshold on one logged value.

    code: of the catalog.  name: of the value (`get_logged`, or `val/NAME`).  is_bad: of the value.
    message, expected: texts, with the value as `{}`.  improves: of a validation's value and the one before.
    """

    code: str
    name: str
    is_bad: Callable[[float], bool]
    message: str
    expected: str
    improves: Callable[[float, float], bool] = lambda value, before: False


class PersistentRule:
    """Reports a rule after ROWS consecutive bad rows."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.persists = rule, PersistenceCounter()

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        value = get_logged(row, self.rule.name)
        if value is None or not self.persists(step, row, self.rule.is_bad(value)):  # NaN is not bad
            return None
        return _report(self.rule, step, value, f"as for {self.persists.rows} rows")


class PersistentPartRule:
    """Applies a rule to each `NAME/PART` separately: a mean over all sources hides one bad source."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.persists: defaultdict[str, PersistenceCounter] = defaultdict(PersistenceCounter)

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        values = get_logged_parts(row, self.rule.name)
        bad = [part for part, value in values.items() if self.persists[part](step, row, self.rule.is_bad(value))]
        if not bad:
            return None
        return _report(self.rule, step, values[bad[0]], f"as for {self.persists[bad[0]].rows} rows", bad[0])


class ValidationRule:
    """Reports a rule after VALIDATIONS consecutive bad validations, none of which improves on the one before."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.persists, self.before = rule, PersistenceCounter(VALIDATIONS), math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        value = row.get(f"val/{self.rule.name}")
        if value is None:
            return None
        before, self.before = self.before, value
        if not self.persists(step, row, self.rule.is_bad(value) and not self.rule.improves(value, before)):
            return None
        return _report(self.rule, step, value, f"as in {self.persists.rows} validations")


def _report(rule: Rule, step: int, value: float, duration: str, part: str = "") -> Finding:
    subject = f"of '{part}' " if part else ""
    measured = f"{subject}{rule.message.format(value)}, {duration}"
    evidence = {rule.name.rpartition("/")[2]: value}
    return warn_at(step, rule.code, measured, rule.expected, where=[part] if part else [], **evidence)
