"""L21 to L23: a term that is constant, one that has no share of the gradient, and terms that are not the loss."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.watching.lasting import Lasts, Rule
from stadia.diagnostics.watching.rows import logged_of_each

STARVED = 0.01
OFF, OFF_ROWS = 0.01, 3
"""Of the terms' sizes together; and in how many rows one after the other."""

OF_EACH = (
    Rule(
        "L22",
        "gradient_share",
        lambda v: v < STARVED,
        "the share of the gradient is {:.1%}",
        f"at least {STARVED:.0%} of each term",
    ),
)
"""See `LastingOfEach`."""


class ConstantTerm:
    """L21: looks at `train/term/NAME` for one that is the same to the last digit while the loss is not. 0 is let be: a
    term may wait.
    """

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        self.lasts: defaultdict[str, Lasts] = defaultdict(Lasts)
        self.loss = math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        terms, loss = _terms(row), row.get("train/loss")
        if loss is None or len(terms) < 2:
            return None
        moved, self.loss = loss != self.loss, loss
        same = {name: value for name, value in terms.items() if value and moved and self.before.get(name) == value}
        self.before = terms
        lasting = [name for name in terms if self.lasts[name](step, row, name in same)]
        if not lasting:
            return None
        name = lasting[0]
        return finding(
            "L21",
            Severity.WARN,
            measured=(
                f"at step {step} the term '{name}' is {same[name]:.6g}, to the last digit, as for"
                f" {self.lasts[name].rows} rows"
            ),
            expected="a term that changes with the batch",
            evidence={"step": step, name: same[name]},
            where=[name],
        )


class NotTheSum:
    """L23: compares `train/loss` with the sum of its `train/term/NAME`, as they enter it."""

    def __init__(self) -> None:
        self.rows = 0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        terms, loss = _terms(row), row.get("train/loss")
        if not terms or loss is None or not math.isfinite(loss):
            return None
        total, size = sum(terms.values()), sum(map(abs, terms.values()))
        self.rows = self.rows + 1 if abs(total - loss) > OFF * max(size, abs(loss)) else 0
        if self.rows < OFF_ROWS:
            return None
        return finding(
            "L23",
            Severity.WARN,
            measured=(
                f"at step {step} the loss is {loss:.4g} and its terms add up to {total:.4g}, as for {OFF_ROWS} rows"
            ),
            expected=f"the same within {OFF:.0%}",
            evidence={"step": step, "loss": loss, "sum": total, **terms},
        )


def _terms(row: Mapping[str, float]) -> dict[str, float]:
    return logged_of_each(row, "term")
