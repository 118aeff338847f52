"""Two trainings compared over seeds: the mean difference with its interval, exact and normal tests, equivalence, power.
NumPy and SciPy.

Runs of one seed share their start and the order of their data, so they are compared pair by pair: what a seed does to
both goes out.
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
"""Up to so many pairs every choice of signs is tried, 65,536; of more, as many are drawn."""

NO_SPREAD = 1e-12
"""Differences whose standard deviation is this share of their mean are one number, but for rounding."""


@dataclass(frozen=True, slots=True)
class Paired:
    """What n differences (changed minus base, seed by seed) say of their mean.

    sd: of the differences, n - 1.  low, high: Student's confidence interval of the mean.
    p: of the paired t test, two-sided. Differences that are one number, not 0, have no spread that a t test could
        measure: p_signs there.
    p_signs: of the sign-flip test, which asks nothing of the distribution, and is never below 2 / 2^n.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    p_signs: float


def paired(differences: Sequence[float], *, confidence: float = 0.95) -> Paired:
    """Student's interval and tests of the mean of (n,) finite differences, n >= 2 (W. S. Gosset, 1908). Raises
    ValueError for fewer.
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
    """Two-sided p of the mean when each of (n,) differences might as well have had the other sign (R. A. Fisher, 1935).

    Exact up to EXACT pairs; of more, 2^EXACT choices of signs drawn from `seed`, and the one that happened.
    """
    d = _finite(differences)
    observed = abs(d.sum()) * (1 - 1e-12)  # the same sum in another order is as large
    if len(d) <= EXACT:
        chosen = np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1
        return float(np.mean(np.abs((1 - 2 * chosen) @ d) >= observed))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(2**EXACT, len(d)))
    return float((1 + np.count_nonzero(np.abs(signs @ d) >= observed)) / (1 + 2**EXACT))


def equivalence_p(differences: Sequence[float], margin: float) -> float:
    """The p of "the mean lies at -margin or below, or at margin or above": two one-sided t tests, the larger (D. J.
    Schuirmann, 1987).
    """
    d = _finite(differences)
    if not margin > 0:
        raise ValueError(f"margin {margin}, must be positive")
    return max(_above(d, -margin), _above(-d, -margin))


def beyond_p(differences: Sequence[float], margin: float) -> float:
    """The p of "the mean lies within [-margin, margin]", against its being larger on either side."""
    d = _finite(differences)
    return min(1.0, 2 * min(_above(d, margin), _above(-d, margin)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p of several tests, each raised so that all of them together are wrong as seldom as one (S. Holm, 1979),
    however they depend.
    """
    order = np.argsort(p_values, kind="stable")
    raised, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        raised[index] = largest
    return raised


def power(difference: float, sd: float, n: int, *, alpha: float = 0.05) -> float:
    """How often a paired t test of n differences finds a true mean difference (J. Cohen, 1988).

    That is how often |t| is large, of a noncentral t: the mean over what the sample's standard deviation may come out
    at, of a normal distribution's tails. SciPy's own noncentral t is NaN at some values.
    """
    if sd == 0:
        return 1.0 if difference else alpha
    shift, least = abs(difference) / sd * math.sqrt(n), float(stats.t.ppf(1 - alpha / 2, n - 1))
    spread, weights = _spreads(n - 1)
    return float(weights @ (special.ndtr(shift - least * spread) + special.ndtr(-shift - least * spread)))


@lru_cache
def _spreads(freedom: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K,) sample over true standard deviations, and how probable each is: Gauss-Legendre over the quantiles of chi
    square.
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    return np.sqrt(stats.chi2.ppf((nodes + 1) / 2, freedom) / freedom), weights / 2


def detectable(sd: float, n: int, *, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """The true mean difference that n pairs find with power `wanted`."""
    return sd * _detectable(n, alpha, wanted)


@lru_cache
def _detectable(n: int, alpha: float, wanted: float) -> float:
    """In standard deviations of a difference."""
    return float(brentq(lambda size: power(size, 1.0, n, alpha=alpha) - wanted, 1e-6, 1e6))


def pairs_needed(
    difference: float, sd: float, *, alpha: float = 0.05, wanted: float = 0.8, most: int = 10_000
) -> int | None:
    """How many pairs find a true mean difference with power `wanted`; None where it takes more than `most`."""
    low, high = 1, 2
    while power(difference, sd, high, alpha=alpha) < wanted:
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:  # power rises with the number of pairs
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, sd, middle, alpha=alpha) >= wanted else (middle, high)
    return high


def _above(d: NDArray[np.float64], bound: float) -> float:
    """One-sided p of "the mean is at most `bound`"."""
    mean, error = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d))
    if error <= NO_SPREAD * abs(mean):
        return 0.0 if mean > bound else 1.0
    return float(stats.t.sf((mean - bound) / error, len(d) - 1))


def _finite(differences: Sequence[float]) -> NDArray[np.float64]:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise ValueError(f"differences of shape {d.shape}, must be two or more finite numbers")
    return d
