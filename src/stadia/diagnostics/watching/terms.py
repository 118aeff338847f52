"""L21 to L23 and C10: loss terms that are constant, negligible, proportional, or do not sum to the loss."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from itertools import combinations

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.watching.lasting import ROWS, PersistenceCounter, Rule, warn_at
from stadia.diagnostics.watching.rows import get_logged_parts

MIN_GRADIENT_SHARE = 0.01
MAX_SUM_GAP, SUM_ROWS = 0.01, 3
"""Share of the sizes of all terms, and consecutive rows."""

TERM, WEIGHT = "train/term/", "train/weight/"
MIN_TERM_RANGE, MAX_RATIO_SPREAD = 1.5, 0.03
"""Over ROWS rows: largest over smallest value of a term, and by how much the ratio of two proportional terms varies."""

TERM_RULES = (
    Rule("L22", "gradient_share", lambda v: v < MIN_GRADIENT_SHARE, "the share of the gradient is {:.1%}",
         f"at least {MIN_GRADIENT_SHARE:.0%} of each term"),
)  # fmt: skip
"""See `PersistentPartRule`."""


class ConstantTermMonitor:
    """L21: finds a `train/term/NAME` that is constant to the last digit while the loss is not. A term of 0 may start
    later.
    """

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        self.persists: defaultdict[str, PersistenceCounter] = defaultdict(PersistenceCounter)
        self.loss = math.nan

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        terms, loss = get_logged_parts(row, "term"), row.get("train/loss")
        if loss is None or len(terms) < 2:
            return None
        moved, self.loss = loss != self.loss, loss
        same = {name: value for name, value in terms.items() if value and moved and self.before.get(name) == value}
        self.before = terms
        constant = [name for name in terms if self.persists[name](step, row, name in same)]
        if not constant:
            return None
        name = constant[0]
        measured = f"the term '{name}' is {same[name]:.6g}, to the last digit, as for {self.persists[name].rows} rows"
        return warn_at(step, "L21", measured, "a term that changes with the batch", where=[name], **{name: same[name]})


class TermSumMonitor:
    """L23: compares `train/loss` with the sum of its `train/term/NAME`."""

    def __init__(self) -> None:
        self.rows = 0

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        terms, loss = get_logged_parts(row, "term"), row.get("train/loss")
        if not terms or loss is None or not math.isfinite(loss):
            return None
        total, size = sum(terms.values()), sum(map(abs, terms.values()))
        self.rows = self.rows + 1 if abs(total - loss) > MAX_SUM_GAP * max(size, abs(loss)) else 0
        if self.rows < SUM_ROWS:
            return None
        measured = f"the loss is {loss:.4g} and its terms sum to {total:.4g}, as for {SUM_ROWS} rows"
        return warn_at(step, "L23", measured, f"the same within {MAX_SUM_GAP:.0%}", loss=loss, sum=total, **terms)


class ProportionalTermsMonitor:
    """C10: compares the unweighted terms of logged steps pairwise, since weights may be rebalanced at any step."""

    def __init__(self) -> None:
        self.rows: deque[dict[str, float]] = deque(maxlen=ROWS)

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        terms = {name.removeprefix(TERM): value for name, value in row.items() if name.startswith(TERM)}
        if len(terms) < 2:
            return None
        weights = {name: row.get(WEIGHT + name, 1.0) for name in terms}
        self.rows.append({name: value / weights[name] for name, value in terms.items() if weights[name] > 0})
        if len(self.rows) < ROWS:
            return None
        for one, other in combinations(self.rows[-1], 2):
            ratios = [
                seen[one] / seen[other] for seen in self.rows if seen.get(one, 0.0) > 0 and seen.get(other, 0.0) > 0
            ]
            if len(ratios) < ROWS or _max_ratio(seen[one] for seen in self.rows) <= MIN_TERM_RANGE:
                continue
            spread = _max_ratio(ratios) - 1
            if spread < MAX_RATIO_SPREAD:
                measured = f"'{one}' is {ratios[-1]:.4g} times '{other}' in the last {ROWS} rows, to {spread:.1%}"
                expected = "terms that are not proportional"
                return warn_at(step, "C10", measured, expected, where=[one, other], ratio=ratios[-1], spread=spread)
        return None


def _max_ratio(values: Iterable[float]) -> float:
    """Return the largest over the smallest value."""
    each = list(values)
    return max(each) / min(each)
