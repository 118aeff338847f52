"""Monitors that report a logged value after it was bad for a while: rules as table rows, and a base class."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stadia.checks.catalog import make_finding
from stadia.checks.finding import Finding, Severity

ROWS = 20  # consecutive logged rows in which a value must be bad
MIN_SPAN_STEPS = 100  # that these rows must span, since any number of rows may be logged
FROM_STEP = 100  # first step that counts
VALIDATIONS = 2  # consecutive validations in which a score must be bad
IMPROVES = 0.9  # an error below this share of the error before improves, and is not reported
Row = Mapping[str, float]  # logged values: `train/NAME` of a step, `val/NAME` of a validation


def rename_base_values(row: Row, base_recipe: str = "") -> Row:
    """Rename `train/BASE/NAME` to `train/NAME`, and `train/term/BASE/NAME` to `train/term/NAME`."""
    base_recipe = base_recipe or _find_photometric_part(row)
    if not base_recipe:
        return row
    prefixes = {f"train/{base_recipe}/": "train/", f"train/term/{base_recipe}/": "train/term/"}
    renamed = {}
    for name, value in row.items():
        prefix = next(filter(name.startswith, prefixes), "")
        renamed[prefixes.get(prefix, "") + name.removeprefix(prefix)] = value
    return renamed


def _find_photometric_part(row: Row) -> str:
    start, end = "train/", "/warped_over_unwarped"
    logged = (name for name in row if name.startswith(start) and name.endswith(end))
    return next((name[len(start) : -len(end)] for name in logged), "")


def get_logged_parts(row: Row, name: str) -> dict[str, float]:
    """Return `train/NAME/PART` by the part."""
    start = f"train/{name}/"
    return {key.removeprefix(start): value for key, value in row.items() if key.startswith(start)}


def warn_at(step: int, code: str, measured: str, expected: str, *, where: Any = (), **evidence: Any) -> Finding:
    """Return a warning about a step of the training."""
    evidence = {"step": step, **evidence}
    return make_finding(code, Severity.WARN, f"at step {step} {measured}", expected, where=where, evidence=evidence)


class StartFilter:
    """Ignores the first FROM_STEP steps, and rows with a rising learning rate."""

    def __init__(self) -> None:
        self.rate = math.inf

    def __call__(self, step: int, row: Row) -> bool:
        before, self.rate = self.rate, row.get("train/lr", self.rate)  # rows of a validation have none
        return step >= FROM_STEP and self.rate <= before


class PersistenceCounter:
    """Counts consecutive bad rows after the start; true once `min_rows` rows span MIN_SPAN_STEPS steps."""

    def __init__(self, min_rows: int = ROWS) -> None:
        self.min_rows, self.rows, self.since = min_rows, 0, 0
        self.is_past_start = StartFilter()

    def __call__(self, step: int, row: Row, is_bad: bool) -> bool:
        if not self.is_past_start(step, row) or not is_bad:
            self.rows = 0
            return False
        self.since = self.since if self.rows else step
        self.rows += 1
        return self.rows >= self.min_rows and step - self.since >= MIN_SPAN_STEPS


@dataclass(frozen=True, slots=True)
class Reading:
    """What a row shows about one possible failure."""

    code: str
    is_bad: bool
    measured: str
    expected: str
    evidence: Mapping[str, float] = field(default_factory=dict)


class Monitor:
    """Base of monitors of logged rows."""

    def on_row(self, step: int, row: Row) -> Finding | None:
        """Read a logged row; return a finding, or None."""
        raise NotImplementedError


class PersistentMonitor(Monitor):
    """Base of monitors that warn once `read` is bad in `min_rows` consecutive rows."""

    min_rows, unit = ROWS, "for {} rows"

    def __init__(self) -> None:
        self.persists = PersistenceCounter(self.min_rows)

    def read(self, row: Row) -> Reading | None:
        """Return the reading of a row; a row without a value gives None and does not count."""
        raise NotImplementedError

    def on_row(self, step: int, row: Row) -> Finding | None:
        reading = self.read(row)
        if reading is None or not self.persists(step, row, reading.is_bad):
            return None
        measured = f"{reading.measured}, as {self.unit.format(self.persists.rows)}"
        return warn_at(step, reading.code, measured, reading.expected, **reading.evidence)


class ValidationMonitor(PersistentMonitor):
    """Base of monitors of validation scores."""

    min_rows, unit = VALIDATIONS, "in {} validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """A threshold on one logged value, without `train/` or `val/`; texts have the value as `{}`."""

    code: str
    name: str
    is_bad: Callable[[float], bool]
    message: str
    expected: str
    improves: Callable[[float, float], bool] = lambda value, before: False

    def report(self, step: int, value: float, duration: str, part: str = "") -> Finding:
        """Return the finding."""
        measured = f"{self.message.format(value)}, {duration}"
        measured = f"of '{part}' {measured}" if part else measured
        return warn_at(step, self.code, measured, self.expected, where=part, **{self.name.rpartition("/")[2]: value})


def limit(
    code: str,
    name: str,
    message: str,
    *,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    note: str = "",
    improves: Callable[[float, float], bool] = lambda value, before: False,
) -> Rule:
    """Return the rule that a value is at least or at most a limit, in the unit that its message shows. NaN passes."""
    unit = ".0%" if "%}" in message else "g"
    expected = f"at least {at_least:{unit}}" if at_most == math.inf else f"at most {at_most:{unit}}"
    return Rule(code, name, lambda v: v < at_least or v > at_most, message, expected + note, improves)


class PersistentRule(Monitor):
    """Reports a rule after ROWS consecutive bad rows."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.persists: defaultdict[str, PersistenceCounter] = defaultdict(PersistenceCounter)

    def read(self, row: Row) -> dict[str, float]:
        """Return the values of a row by part; the only part is ""."""
        value = row.get(f"train/{self.rule.name}")
        return {} if value is None else {"": value}

    def on_row(self, step: int, row: Row) -> Finding | None:
        values = self.read(row)
        bad = [part for part, value in values.items() if self.persists[part](step, row, self.rule.is_bad(value))]
        if not bad:
            return None
        return self.rule.report(step, values[bad[0]], f"as for {self.persists[bad[0]].rows} rows", bad[0])


class PersistentPartRule(PersistentRule):
    """Applies a rule to each `NAME/PART`: a mean over all sources hides one bad source."""

    def read(self, row: Row) -> dict[str, float]:
        return get_logged_parts(row, self.rule.name)


class ValidationRule(Monitor):
    """Reports a rule after VALIDATIONS consecutive bad validations that do not improve."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.persists, self.before = rule, PersistenceCounter(VALIDATIONS), math.nan

    def on_row(self, step: int, row: Row) -> Finding | None:
        value = row.get(f"val/{self.rule.name}")
        if value is None:
            return None
        before, self.before = self.before, value
        if not self.persists(step, row, self.rule.is_bad(value) and not self.rule.improves(value, before)):
            return None
        return self.rule.report(step, value, f"as in {self.persists.rows} validations")
