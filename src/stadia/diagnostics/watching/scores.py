"""C10 to C12: terms of a loss that are one, and scores of validations that cannot be."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import combinations

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity

TERM, WEIGHT = "train/term/", "train/weight/"
ROWS, VARIES, SAME = 20, 1.5, 0.03
APART, FEWEST = 0.01, 3


class SameTerms:
    """Compares the terms of logged steps, two by two, by what they were before weights: a weight may be balanced anew
    at any step.
    """

    def __init__(self) -> None:
        self.rows: deque[dict[str, float]] = deque(maxlen=ROWS)

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        terms = {name.removeprefix(TERM): value for name, value in row.items() if name.startswith(TERM)}
        if len(terms) < 2:
            return None
        self.rows.append(
            {
                name: value / row.get(WEIGHT + name, 1.0)
                for name, value in terms.items()
                if row.get(WEIGHT + name, 1.0) > 0
            }
        )
        if len(self.rows) < ROWS:
            return None
        for one, other in combinations(self.rows[-1], 2):
            ratios = [
                seen[one] / seen[other] for seen in self.rows if seen.get(one, 0.0) > 0 and seen.get(other, 0.0) > 0
            ]
            if len(ratios) == ROWS and _ratio(seen[one] for seen in self.rows) > VARIES and _ratio(ratios) - 1 < SAME:
                return finding(
                    "C10",
                    Severity.WARN,
                    measured=(
                        f"'{one}' is {ratios[-1]:.4g} times '{other}' in {ROWS} rows until step {step}, to"
                        f" {_ratio(ratios) - 1:.1%}"
                    ),
                    expected="terms that say something of their own",
                    evidence={"step": step, "ratio": ratios[-1], "spread": _ratio(ratios) - 1},
                    where=[one, other],
                )
        return None


def _ratio(values: Iterable[float]) -> float:
    """Largest over smallest."""
    each = list(values)
    return max(each) / min(each)


class RootOfMse:
    """Compares `val/rmse` with `val/mse` of each validation."""

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        rmse, mse = row.get("val/rmse"), row.get("val/mse")
        if rmse is None or mse is None or not (math.isfinite(rmse) and math.isfinite(mse)):
            return None
        root = max(mse, 0.0) ** 0.5
        if abs(rmse - root) <= APART * root:
            return None
        return finding(
            "C11",
            Severity.WARN,
            measured=f"at step {step} val/rmse is {rmse:.4g}, the root of val/mse {root:.4g}",
            expected=f"both within {APART:.0%}",
            evidence={"step": step, "rmse": rmse, "root": root},
        )


class FrozenScores:
    """Compares the scores of each validation with those of the one before."""

    def __init__(self) -> None:
        self.before: dict[str, float] = {}

    def on_row(self, step: int, row: Mapping[str, float]) -> Finding | None:
        scores = {name: value for name, value in row.items() if name.startswith("val/") and math.isfinite(value)}
        if not scores:
            return None
        before, self.before = self.before, scores
        if len(scores) < FEWEST or scores != before or all(value in (0.0, 1.0) for value in scores.values()):
            return None
        return finding(
            "C12",
            Severity.WARN,
            measured=f"at step {step} all {len(scores)} scores of the validation are what they were at the one before",
            expected="scores that follow the weights",
            evidence={"step": step, **dict(list(scores.items())[:5])},
        )
