"""Compare trainings over seeds: paired tests, power, and verdicts on the changes of an ablation.

Runs of one seed share initial weights and data order, so they are compared in pairs, which removes the seed's effect.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from scipy.optimize import brentq

MAX_EXACT_PAIRS = 16
"""Number of pairs up to which every choice of signs is tried (65,536); above it, as many are drawn."""

NO_SPREAD = 1e-12
"""Differences with a smaller standard deviation, as a share of their mean, are equal but for rounding."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Statistics of n differences (changed minus base, seed by seed).

    sd: of the differences, n - 1.  low, high: Student's confidence interval of the mean.
    p: of the paired t test, two-sided. For equal differences, not 0, there is no spread for a t test: p_signs there.
    p_signs: of the sign-flip test, which assumes no distribution, and is never below 2 / 2^n.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    p_signs: float


def paired_t_test(differences: Sequence[float], *, confidence: float = 0.95) -> PairedDifference:
    """Return Student's interval and tests of the mean of (n,) finite differences, n >= 2 (W. S. Gosset, 1908).

    Examples:
        >>> round(paired_t_test([0.01, 0.012, 0.008, 0.011, 0.009]).p, 5)
        0.00015
    """
    d = _finite(differences)
    n, mean, sd = len(d), float(d.mean()), float(d.std(ddof=1))
    if sd <= NO_SPREAD * abs(mean):
        sd = 0.0
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    p_signs = sign_flip_p(differences)
    p = 2 * float(stats.t.sf(abs(mean) / sd * math.sqrt(n), n - 1)) if sd else p_signs
    return PairedDifference(n, mean, sd, mean - half, mean + half, p, p_signs)


def sign_flip_p(differences: Sequence[float], *, seed: int = 0) -> float:
    """Return the two-sided p of the mean if the sign of each difference were random (R. A. Fisher, 1935).

    Exact up to MAX_EXACT_PAIRS; above it, 2^MAX_EXACT_PAIRS choices of signs drawn from `seed`, and the observed one.

    Examples:
        >>> sign_flip_p([0.01, 0.012, 0.008, 0.011, 0.009])  # never below 2 / 2^5
        0.0625
    """
    d = _finite(differences)
    observed = abs(d.sum()) * (1 - 1e-12)  # the same sum in another order is as large
    if len(d) <= MAX_EXACT_PAIRS:
        chosen = np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1
        return float(np.mean(np.abs((1 - 2 * chosen) @ d) >= observed))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(2**MAX_EXACT_PAIRS, len(d)))
    return float((1 + np.count_nonzero(np.abs(signs @ d) >= observed)) / (1 + 2**MAX_EXACT_PAIRS))


def equivalence_p(differences: Sequence[float], margin: float) -> float:
    """Return the p of "|mean| is margin or more": two one-sided t tests, the larger (D. J. Schuirmann, 1987)."""
    d = _finite(differences)
    if not margin > 0:
        raise ValueError(f"margin {margin}, must be positive")
    return max(_one_sided_p(d, -margin), _one_sided_p(-d, -margin))


def beyond_p(differences: Sequence[float], margin: float) -> float:
    """Return the p of "the mean lies within [-margin, margin]", against its being larger on either side."""
    d = _finite(differences)
    return min(1.0, 2 * min(_one_sided_p(d, margin), _one_sided_p(-d, margin)))


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p of several tests so that all together err as rarely as one (S. Holm, 1979), with any dependence."""
    order = np.argsort(p_values, kind="stable")
    raised, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        raised[index] = largest
    return raised


def compute_power(difference: float, sd: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the probability that a paired t test of n differences finds a true mean difference (J. Cohen, 1988).

    It is the probability of a large |t| of a noncentral t: a normal distribution's tails averaged over the sample's
    standard deviation. SciPy's own noncentral t is NaN at some values.
    """
    if sd == 0:
        return 1.0 if difference else alpha
    shift, least = abs(difference) / sd * math.sqrt(n), float(stats.t.ppf(1 - alpha / 2, n - 1))
    spread, weights = _spreads(n - 1)
    return float(weights @ (special.ndtr(shift - least * spread) + special.ndtr(-shift - least * spread)))


@lru_cache
def _spreads(freedom: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (K,) sample over true standard deviations, and their probabilities (Gauss-Legendre over chi square)."""
    nodes, weights = _quadrature()
    return np.sqrt(stats.chi2.ppf((nodes + 1) / 2, freedom) / freedom), weights / 2


@lru_cache
def _quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes and weights of Gauss-Legendre, whose eigenvalues take longer than all that follows."""
    return np.polynomial.legendre.leggauss(400)


def detectable_difference(sd: float, n: int, *, alpha: float = 0.05, target_power: float = 0.8) -> float:
    """Return the true mean difference that n pairs find with power `target_power`.

    Examples:
        >>> round(detectable_difference(1.0, 5), 2) > round(detectable_difference(1.0, 10), 2)
        True
    """
    return sd * _detectable(n, alpha, target_power)


@lru_cache
def _detectable(n: int, alpha: float, target_power: float) -> float:
    """Return it in standard deviations of a difference."""
    return float(brentq(lambda size: compute_power(size, 1.0, n, alpha=alpha) - target_power, 1e-6, 1e6))


def pairs_needed(
    difference: float, sd: float, *, alpha: float = 0.05, target_power: float = 0.8, max_pairs: int = 10_000
) -> int | None:
    """Return the number of pairs that find a true mean difference with power `target_power`; None above `max_pairs`."""
    low, high = 1, 2
    while compute_power(difference, sd, high, alpha=alpha) < target_power:
        if high >= max_pairs:
            return None
        low, high = high, min(2 * high, max_pairs)
    while high - low > 1:  # power rises with the number of pairs
        middle = (low + high) // 2
        has_power = compute_power(difference, sd, middle, alpha=alpha) >= target_power
        low, high = (low, middle) if has_power else (middle, high)
    return high


def _one_sided_p(d: NDArray[np.float64], bound: float) -> float:
    """Return the one-sided p of "the mean is at most `bound`"."""
    mean, error = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d))
    if error <= NO_SPREAD * abs(mean):
        return 0.0 if mean > bound else 1.0
    return float(stats.t.sf((mean - bound) / error, len(d) - 1))


def _finite(differences: Sequence[float]) -> NDArray[np.float64]:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise ValueError(f"differences of shape {d.shape}, must be two or more finite numbers")
    return d


# -- Judge the changes of an ablation: is what was expected of each confirmed, refuted or undecided?


Better = Literal["lower", "higher"]
Expected = Literal["different", "better", "worse", "same"]
Decision = Literal["confirmed", "refuted", "undecided", "not comparable"]
Shown = Literal["", "identical", "better", "worse"]

ROUNDING = 2**-23
"""Smallest relative difference that counts: the rounding of single precision, in which metrics are computed."""

MIN_SEEDS = 3
"""Smallest number of pairs; the spread of fewer is unknown: Student's factor is 4.3 for three and 12.7 for two."""


@dataclass(frozen=True, slots=True)
class ChangeVerdict:
    """One change against the base, over the seeds where both have a value.

    base, changed: their means.  difference: of changed minus base; None where fewer than MIN_SEEDS pairs are left.
    p_holm: of the paired t test, adjusted for the number of changes.
    p_same, p_beyond: that the mean difference lies outside the margin, and that it lies within it; adjusted likewise.
        None without a margin.
    expected, decision: the expectation, and the result of its test; "not comparable" where nothing was tested since the
        metric of both is measured differently.
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
    difference: PairedDifference | None
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


def judge_changes(
    base: Mapping[int, float],
    changes: Mapping[str, Mapping[int, float]],
    *,
    better: Better = "lower",
    expected: Mapping[str, Expected] | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    not_comparable: Collection[str] = (),
) -> list[ChangeVerdict]:
    """Return a verdict for each change, in their order.

    Args:
        base: the metric of the base's run by seed; NaN or infinite where a run has none.
        changes: the same of each change.  Seeds in only one of the two are not compared.
        better: the direction in which the metric improves.
        expected: of a change; "different" of those that are not in it. "same" needs a margin.
        margin: the smallest difference that matters, in the metric's unit. Without it nothing is called the same: an
            interval around 0 may be wide.
        alpha: the rate at which one or more changes without an effect may be called an effect (Holm).
        not_comparable: changes whose metric is measured differently than the base's. They are not tested.

    Raises ValueError for a margin that is not positive, and for "same" without one.
    """
    expectations = {name: (expected or {}).get(name, "different") for name in changes}
    if margin is not None and not (margin > 0 and math.isfinite(margin)):
        raise ValueError(f"margin {margin}, must be positive")
    if margin is None and "same" in expectations.values():
        raise ValueError("'same' is expected without a margin: set the largest difference that counts as the same")
    pairs = {name: sorted(base.keys() & values.keys()) for name, values in changes.items()}
    usable = {
        name: [seed for seed in seeds if math.isfinite(base[seed]) and math.isfinite(changes[name][seed])]
        for name, seeds in pairs.items()
    }
    differences = {n: [_difference(changes[n][seed], base[seed]) for seed in seeds] for n, seeds in usable.items()}
    enough = [name for name in changes if len(usable[name]) >= MIN_SEEDS and name not in not_comparable]
    tested = {name: paired_t_test(differences[name], confidence=1 - alpha) for name in enough}

    def adjust(p_values: Iterable[float]) -> dict[str, float]:
        return dict(zip(enough, adjust_holm(list(p_values)), strict=True))

    p_holm = adjust(tested[name].p for name in enough)
    p_same = {} if margin is None else adjust(equivalence_p(differences[name], margin) for name in enough)
    p_beyond = {} if margin is None else adjust(beyond_p(differences[name], margin) for name in enough)
    first = alpha / max(1, len(enough))  # Holm's hardest step, so that neither number below promises too much
    found = []
    for name in changes:
        difference, without = tested.get(name), tuple(seed for seed in pairs[name] if seed not in usable[name])
        shown = _shown(difference, p_holm.get(name, 1.0), better, alpha)
        within = p_same.get(name, 1.0) <= alpha
        sd, n = (difference.sd, difference.n) if difference else (math.nan, 0)
        decided = difference is not None and not without
        found.append(
            ChangeVerdict(
                change=name,
                seeds=tuple(usable[name]),
                base=_mean(base, usable[name]),
                changed=_mean(changes[name], usable[name]),
                difference=difference,
                p_holm=p_holm.get(name, 1.0),
                p_same=p_same.get(name),
                p_beyond=p_beyond.get(name),
                expected=expectations[name],
                decision="not comparable"
                if name in not_comparable
                else _decision(expectations[name], shown, within, p_beyond.get(name, 1.0) <= alpha)
                if decided
                else "undecided",
                shown=shown,
                within_margin=within,
                without=without,
                detectable=detectable_difference(sd, n, alpha=first) if difference else math.nan,
                needed=pairs_needed(margin, sd, alpha=first) if margin and difference else None,
            )
        )
    return found


def _shown(difference: PairedDifference | None, p: float, better: Better, alpha: float) -> Shown:
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
