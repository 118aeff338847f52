"""Convergence of a training: unfinished training, and identical terms of the loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from stadia.report.run_files import Series

LAST_SHARE, MIN_VALIDATIONS, MIN_STANDARD_ERRORS = 0.2, 5, 4.0
"""The evaluated last share of the steps, the minimum number of values, and how many standard errors the
slope of their logarithm lies below 0; of 200 courses of noise alone at most two get there (a test).
"""

MIN_TERM_CORRELATION, MIN_TERM_ROWS = 0.9999, 20
"""Correlation of two terms over so many rows at least. Terms that fall together while a network learns stay below: each
has its noise.
"""


def measure_late_decrease(series: Series) -> float | None:
    """Return the share by which an error fell over the last LAST_SHARE of the steps, where that is significant; else
    None.
    """
    steps, values = np.asarray(series.steps, float), np.asarray(series.values, float)
    late = (
        (steps >= steps.max() - LAST_SHARE * (steps.max() - steps.min())) & np.isfinite(values) & (values > 0)
        if len(steps)
        else []
    )
    if np.count_nonzero(late) < MIN_VALIDATIONS:
        return None
    x, y = steps[late] - steps[late].mean(), np.log(values[late])
    slope = float((x * y).sum() / (x * x).sum())
    scatter = math.sqrt(float(((y - y.mean() - slope * x) ** 2).sum()) / (len(x) - 2))
    error = scatter / math.sqrt(float((x * x).sum()))
    return -math.expm1(slope * float(np.ptp(x))) if slope < -MIN_STANDARD_ERRORS * error and slope < 0 else None


def find_identical_terms(series: Sequence[Series]) -> Iterator[tuple[str, str]]:
    """Yield pairs of loss terms that are equal up to a factor and a constant: one term with another weight."""
    terms = [one for one in series if one.name.startswith("train/term/")]
    for first, second in itertools.combinations(terms, 2):
        if first.steps != second.steps or len(first.steps) < MIN_TERM_ROWS:
            continue
        both = np.array([first.values, second.values], float)
        if np.isfinite(both).all() and both.std(1).min() > 0 and abs(np.corrcoef(both)[0, 1]) > MIN_TERM_CORRELATION:
            yield first.name.removeprefix("train/term/"), second.name.removeprefix("train/term/")
