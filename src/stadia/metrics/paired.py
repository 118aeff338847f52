"""Compare two trainings over seeds: mean difference with interval, exact and t tests, equivalence, power.

Runs of one seed share initial weights and data order, so they are compared in pairs, which removes the seed's effect.
NumPy and SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from scipy.optimize import brentq

EXACT = 16
"""Number of pairs up to which every choice of signs is tried (65,536); above it, as many are drawn."""

NO_SPREAD = 1e-12
"""Differences with a smaller standard deviation, as a share of their mean, are equal but for rounding."""


@dataclass(frozen=True, slots=True)
class Paired:
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


def paired(differences: Sequence[float], *, confidence: float = 0.95) -> Paired:
    """Return Student's interval and tests of the mean of (n,) finite differences, n >= 2 (W. S. Gosset, 1908); else
    ValueError.
    """
    d = _finite(differences)
    n, mean, sd = len(d), float(d.mean()), float(d.std(ddof=1))
    if sd <= NO_SPREAD * abs(mean):
        sd = 0.0
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    p_signs = sign_flip_p(differences)
    p = 2 * float(stats.t.sf(abs(mean) / sd * math.sqrt(n), n - 1)) if sd else p_signs
    return Paired(n, mean, sd, mean - half, mean + half, p, p_signs)


def sign_flip_p(differences: Sequence[float], *, seed: int = 0) -> float:
    """Return the two-sided p of the mean when each of (n,) differences may equally have the other sign (R. A. Fisher,
    1935).

    Exact up to EXACT pairs; above it, 2^EXACT choices of signs drawn from `seed`, and the observed one.
    """
    d = _finite(differences)
    observed = abs(d.sum()) * (1 - 1e-12)  # the same sum in another order is as large
    if len(d) <= EXACT:
        chosen = np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1
        return float(np.mean(np.abs((1 - 2 * chosen) @ d) >= observed))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(2**EXACT, len(d)))
    return float((1 + np.count_nonzero(np.abs(signs @ d) >= observed)) / (1 + 2**EXACT))


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


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p of several tests so that all together err as rarely as one (S. Holm, 1979), with any dependence."""
    order = np.argsort(p_values, kind="stable")
    raised, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        raised[index] = largest
    return raised


def power(difference: float, sd: float, n: int, *, alpha: float = 0.05) -> float:
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
    """Return (K,) sample over true standard deviations, and their probabilities: Gauss-Legendre over quantiles of chi
    square.
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    return np.sqrt(stats.chi2.ppf((nodes + 1) / 2, freedom) / freedom), weights / 2


def detectable(sd: float, n: int, *, alpha: float = 0.05, target_power: float = 0.8) -> float:
    """Return the true mean difference that n pairs find with power `target_power`."""
    return sd * _detectable(n, alpha, target_power)


@lru_cache
def _detectable(n: int, alpha: float, target_power: float) -> float:
    """Return it in standard deviations of a difference."""
    return float(brentq(lambda size: power(size, 1.0, n, alpha=alpha) - target_power, 1e-6, 1e6))


def pairs_needed(
    difference: float, sd: float, *, alpha: float = 0.05, target_power: float = 0.8, max_pairs: int = 10_000
) -> int | None:
    """Return the number of pairs that find a true mean difference with power `target_power`; None above `max_pairs`."""
    low, high = 1, 2
    while power(difference, sd, high, alpha=alpha) < target_power:
        if high >= max_pairs:
            return None
        low, high = high, min(2 * high, max_pairs)
    while high - low > 1:  # power rises with the number of pairs
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, sd, middle, alpha=alpha) >= target_power else (middle, high)
    return high


def _one_sided_p(d: NDArray[np.float64], bound: float) -> float:
    """Return the one-sided p of "the mean is at max_pairs `bound`"."""
    mean, error = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d))
    if error <= NO_SPREAD * abs(mean):
        return 0.0 if mean > bound else 1.0
    return float(stats.t.sf((mean - bound) / error, len(d) - 1))


def _finite(differences: Sequence[float]) -> NDArray[np.float64]:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise ValueError(f"differences of shape {d.shape}, must be two or more finite numbers")
    return d
