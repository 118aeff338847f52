"""Judge the changes of an ablation: is what was expected of each confirmed, refuted or undecided?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stadia.metrics.paired import Paired, beyond_p, detectable, equivalence_p, holm, paired, pairs_needed

Better = Literal["lower", "higher"]
Expected = Literal["different", "better", "worse", "same"]
Decision = Literal["confirmed", "refuted", "undecided"]
Shown = Literal["", "identical", "better", "worse"]

ROUNDING = 2**-23
"""Smallest relative difference that counts: the rounding of single precision, in which metrics are computed."""

LEAST_SEEDS = 3
"""Smallest number of pairs; the spread of fewer is unknown: Student's factor is 4.3 for three and 12.7 for two."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One change against the base, over the seeds where both have a value.

    base, changed: their means.  difference: of changed minus base; None where fewer than LEAST_SEEDS pairs are left.
    p_holm: of the paired t test, adjusted for the number of changes.
    p_same, p_beyond: that the mean difference lies outside the margin, and that it lies within it; adjusted likewise.
        None without a margin.
    expected, decision: the expectation, and the result of its test.
    shown: what the differences show, whatever was expected: "identical" but for rounding, "better", "worse", or nothing
        ("").
    within_margin: shown to be smaller than the margin.
    without: seeds without a value in either run; if there are any, nothing is decided, since runs fail for a reason.
    detectable: the difference that so many pairs find in four of five studies (as many changes, the observed spread).
    needed: how many seeds would find a difference of the margin as often; None without a margin, or above 10,000.
    """

    change: str
    seeds: tuple[int, ...]
    base: float
    changed: float
    difference: Paired | None
    p_holm: float
    p_same: float | None
    p_beyond: float | None
    expected: Expected
    decision: Decision
    shown: Shown
    within_margin: bool
    without: tuple[int, ...]
    detectable: float
    needed: int | None


def judge(
    base: Mapping[int, float],
    changes: Mapping[str, Mapping[int, float]],
    *,
    better: Better = "lower",
    expected: Mapping[str, Expected] | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
) -> list[Verdict]:
    """Return a verdict for each change, in their order.

    Args:
        base: the metric of the base's run by seed; NaN or infinite where a run has none.
        changes: the same of each change.  Seeds in only one of the two are not compared.
        better: the direction in which the metric improves.
        expected: of a change; "different" of those that are not in it. "same" needs a margin.
        margin: the smallest difference that matters, in the metric's unit. Without it nothing is called the same: an
            interval around 0 may be wide.
        alpha: the rate at which one or more changes without an effect may be called an effect (Holm).

    Raises ValueError for a margin that is not positive, and for "same" without one.
    """
    expectations = {name: (expected or {}).get(name, "different") for name in changes}
    if margin is not None and not (margin > 0 and math.isfinite(margin)):
        raise ValueError(f"margin {margin}, must be positive")
    if margin is None and "same" in expectations.values():
        raise ValueError(
            "'same' is expected without a margin: set the largest difference that still counts as the same"
        )
    pairs = {name: sorted(base.keys() & values.keys()) for name, values in changes.items()}
    usable = {
        name: [seed for seed in seeds if math.isfinite(base[seed]) and math.isfinite(changes[name][seed])]
        for name, seeds in pairs.items()
    }
    differences = {
        name: [_difference(changes[name][seed], base[seed]) for seed in seeds] for name, seeds in usable.items()
    }
    enough = [name for name in changes if len(usable[name]) >= LEAST_SEEDS]
    tested = {name: paired(differences[name], confidence=1 - alpha) for name in enough}
    p_holm = dict(zip(enough, holm([tested[name].p for name in enough]), strict=True))
    p_same, p_beyond = (
        ({}, {})
        if margin is None
        else (
            dict(zip(enough, holm([test(differences[name], margin) for name in enough]), strict=True))
            for test in (equivalence_p, beyond_p)
        )
    )
    first = alpha / max(1, len(enough))  # Holm's hardest step, so that neither number below promises too much
    found = []
    for name in changes:
        difference, without = tested.get(name), tuple(seed for seed in pairs[name] if seed not in usable[name])
        shown = _shown(difference, p_holm.get(name, 1.0), better, alpha)
        within = p_same.get(name, 1.0) <= alpha
        sd, n = (difference.sd, difference.n) if difference else (math.nan, 0)
        decided = difference is not None and not without
        found.append(
            Verdict(
                change=name,
                seeds=tuple(usable[name]),
                base=_mean(base, usable[name]),
                changed=_mean(changes[name], usable[name]),
                difference=difference,
                p_holm=p_holm.get(name, 1.0),
                p_same=p_same.get(name),
                p_beyond=p_beyond.get(name),
                expected=expectations[name],
                decision=_decision(expectations[name], shown, within, p_beyond.get(name, 1.0) <= alpha)
                if decided
                else "undecided",
                shown=shown,
                within_margin=within,
                without=without,
                detectable=detectable(sd, n, alpha=first) if difference else math.nan,
                needed=pairs_needed(margin, sd, alpha=first) if margin and difference else None,
            )
        )
    return found


def _shown(difference: Paired | None, p: float, better: Better, alpha: float) -> Shown:
    if difference is not None and difference.mean == difference.sd == 0:
        return "identical"
    if difference is None or p > alpha:
        return ""
    return "better" if (difference.mean < 0) == (better == "lower") else "worse"


def _decision(expected: Expected, shown: Shown, within: bool, beyond: bool) -> Decision:
    """Return the decision; within, beyond: shown to be smaller, or larger, than the margin."""
    if expected == "same":
        return "confirmed" if within or shown == "identical" else "refuted" if beyond else "undecided"
    if shown in ("better", "worse"):
        return "confirmed" if expected in (shown, "different") else "refuted"
    return "refuted" if within or shown == "identical" else "undecided"


def _difference(changed: float, base: float) -> float:
    return 0.0 if abs(changed - base) <= ROUNDING * max(abs(changed), abs(base)) else changed - base


def _mean(values: Mapping[int, float], seeds: list[int]) -> float:
    return math.fsum(values[seed] for seed in seeds) / len(seeds) if seeds else math.nan
