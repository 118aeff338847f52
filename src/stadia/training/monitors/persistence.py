"""Monitors that report a logged value after it was bad for a while: rules as table rows, and a base class."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from stadia.judge.depth.training_rules import Row, Rule, warn_at
from stadia.judge.finding import Finding

ROWS = 20  # consecutive logged rows in which a value must be bad
MIN_SPAN_STEPS = 100  # steps that these rows must span, since any number of rows may be logged
FROM_STEP = 100  # first step that counts
VALIDATIONS = 2  # consecutive validations in which a score must be bad
IMPROVES = 0.9  # an error below this share of the error before improves, and is not reported


def get_logged_parts(row: Row, name: str) -> dict[str, float]:
    """Return the logged values `train/NAME/PART` by PART, such as the values of a loss's terms.

    row: logged values by name.
    name: the name NAME, such as "term".
    """
    start = f"train/{name}/"
    return {key.removeprefix(start): value for key, value in row.items() if key.startswith(start)}


class StartFilter:
    """Find out whether a logged row is past the start of the training; the start is not judged.

    The start is the first FROM_STEP steps, and any later steps with a rising learning rate.
    """

    def __init__(self) -> None:
        self.rate = math.inf

    def __call__(self, step: int, row: Row) -> bool:
        before, self.rate = self.rate, row.get("train/lr", self.rate)  # rows of a validation have none
        return step >= FROM_STEP and self.rate <= before


class PersistenceCounter:
    """Count consecutive bad rows (logged steps) after the start of the training, and find out when they persist.

    Calling it with a step, its row and whether the row is bad returns True once `min_rows` consecutive bad rows span
    MIN_SPAN_STEPS steps.
    """

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
    """Hold what the logged values of one step show about one possible fault of the training.

    code: code of the finding that reports the fault.
    is_bad: whether the values show the fault.
    measured: what was measured, as text.
    expected: what was expected, as text.
    evidence: measured numbers by name.
    """

    code: str
    is_bad: bool
    measured: str
    expected: str
    evidence: Mapping[str, float] = field(default_factory=dict)


class Monitor:
    """Base of monitors of logged rows."""

    def on_row(self, step: int, row: Row) -> Finding | None:
        """Examine the values that were logged at a step; return a finding if they show a fault, otherwise None.

        step: number of the training step.
        row: logged values by name, such as "train/loss".
        """
        raise NotImplementedError


class PersistentMonitor(Monitor):
    """Base class of monitors that warn if logged values are bad in `min_rows` consecutive rows (logged steps)."""

    min_rows, unit = ROWS, "for {} rows"

    def __init__(self) -> None:
        self.persists = PersistenceCounter(self.min_rows)

    def read(self, row: Row) -> Reading | None:
        """Return whether the values of a row (logged step) are bad, with the texts of the warning.

        Return None if the row lacks the values. Such a row is skipped: it neither counts as bad nor ends a series of
        bad rows.

        row: logged values by name.
        """
        raise NotImplementedError

    def on_row(self, step: int, row: Row) -> Finding | None:
        reading = self.read(row)
        if reading is None or not self.persists(step, row, reading.is_bad):
            return None
        measured = f"{reading.measured}, as {self.unit.format(self.persists.rows)}"
        return warn_at(step, reading.code, measured, reading.expected, **reading.evidence)


class ValidationMonitor(PersistentMonitor):
    """Base class of monitors that warn if a validation score is bad in VALIDATIONS consecutive validations."""

    min_rows, unit = VALIDATIONS, "in {} validations"


class PersistentRule(Monitor):
    """Report a logged value that is beyond the limit of a rule in ROWS consecutive rows (logged steps)."""

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
    """Apply a rule to each of the values `train/NAME/PART`, such as one per source image.

    A mean over all parts would hide a single bad one.
    """

    def read(self, row: Row) -> dict[str, float]:
        return get_logged_parts(row, self.rule.name)


class ValidationRule(Monitor):
    """Report a validation score beyond the limit of a rule in VALIDATIONS validations in a row, without improvement."""

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
