"""Compare trainings over seeds: paired tests, power, and verdicts on the changes of an ablation.

Runs with the same seed share initial weights and data order. Therefore they are compared in pairs.
"""

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
"""Largest number of pairs in a sign-flip test that tries every combination of signs of the differences.

For more pairs, 2^MAX_EXACT_PAIRS random combinations are drawn.
"""

NO_SPREAD = 1e-12
"""Differences with a standard deviation below this share of their mean count as equal: they differ by rounding."""

TARGET_POWER = 0.8
"""Statistical power of planned studies: the probability that a study finds an effect of the expected size."""

MAX_PAIRS = 10_000
"""Largest number of pairs of runs that `pairs_needed` tries."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Hold statistics of n differences, each between a metric of a changed run and of the base run with the same seed.

    n: number of differences.
    mean: mean of the differences, changed minus base.
    sd: sample standard deviation of the differences.
    low: lower end of Student's confidence interval of the mean.
    high: upper end of this interval.
    p: two-sided p value of the paired t test of mean 0. If all differences are equal, it is p_signs.
    p_signs: two-sided p value of the sign-flip test (see `sign_flip_p`); it is at least 2 / 2^n.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    p_signs: float


def paired_t_test(differences: Sequence[float], *, confidence: float = 0.95) -> PairedDifference:
    """Test whether the mean of paired differences is 0, by Student's paired t test and by the sign-flip test.

    differences: n >= 2 finite differences, changed run minus base run of the same seed.
    confidence: confidence level of the interval of the mean, in (0, 1).

    Raises ValueError for fewer than two differences, or if one is not finite.

    Examples:
        >>> round(paired_t_test([0.01, 0.012, 0.008, 0.011, 0.009]).p, 5)
        0.00015
    """
    d = _check_differences(differences)
    n, mean, p_signs = len(d), float(d.mean()), sign_flip_p(differences)
    if not _has_spread(d):
        return PairedDifference(n, mean, 0.0, mean, mean, p_signs, p_signs)
    test = stats.ttest_1samp(d, 0.0)
    interval = test.confidence_interval(confidence)
    return PairedDifference(
        n, mean, float(d.std(ddof=1)), float(interval.low), float(interval.high), float(test.pvalue), p_signs
    )


def sign_flip_p(differences: Sequence[float], *, seed: int = 0) -> float:
    """Return the two-sided p value of the sign-flip permutation test of mean 0 (R. A. Fisher, 1935).

    It is the share of combinations of signs that give the differences a mean at least as far from 0 as the observed
    one. The test is exact for up to MAX_EXACT_PAIRS differences. For more, 2^MAX_EXACT_PAIRS combinations are drawn.

    differences: n >= 2 finite differences, changed run minus base run, one per seed.
    seed: seed of the random numbers that draw the combinations of signs.

    Raises ValueError for fewer than two differences, or if one is not finite.

    Examples:
        >>> sign_flip_p([0.01, 0.012, 0.008, 0.011, 0.009])  # never below 2 / 2^5
        0.0625
    """
    test = stats.permutation_test(
        (_check_differences(differences),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**MAX_EXACT_PAIRS,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def equivalence_p(differences: Sequence[float], margin: float) -> float:
    """Return the p value of the null hypothesis that the mean difference reaches the margin, |mean| >= margin.

    It is the larger p value of two one-sided t tests (TOST; D. J. Schuirmann, 1987). A small value shows that changed
    and base runs are equivalent up to the margin.

    differences: two or more finite differences, changed run minus base run, one per seed.
    margin: smallest difference that matters, in the unit of the differences.

    Raises ValueError for fewer than two differences, or if one is not finite.
    """
    d = _check_differences(differences)
    return max(_one_sided_p(d, -margin), _one_sided_p(-d, -margin))


def beyond_p(differences: Sequence[float], margin: float) -> float:
    """Return the p value of the null hypothesis that the mean difference is within [-margin, margin].

    A small value shows that changed and base runs differ by more than the margin, in either direction.

    differences: two or more finite differences, changed run minus base run, one per seed.
    margin: smallest difference that matters, in the unit of the differences.

    Raises ValueError for fewer than two differences, or if one is not finite.
    """
    d = _check_differences(differences)
    return min(1.0, 2 * min(_one_sided_p(d, margin), _one_sided_p(-d, margin)))


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p values of several tests for multiple testing by the method of S. Holm (1979).

    Return the adjusted p values in the order of the given ones. If each is compared with a level alpha, the
    probability of any false finding among all tests is at most alpha.

    p_values: p value of each test.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()


def compute_power(difference: float, sd: float, n: float, *, alpha: float = 0.05) -> float:
    """Return the power of a paired t test: the probability that it finds a given true mean difference (J. Cohen, 1988).

    difference: true mean of the differences, changed run minus base run.
    sd: true standard deviation of the differences, in the same unit.
    n: number of pairs of runs.
    alpha: significance level of the two-sided test.
    """
    if sd == 0:
        return 1.0 if difference else alpha
    shift = abs(difference) / sd * math.sqrt(n)
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    tails = stats.nct.sf(critical, n - 1, shift), stats.nct.cdf(-critical, n - 1, shift)
    return float(np.nansum(tails))  # SciPy's second tail is NaN where it is negligible


def detectable_difference(sd: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the true mean difference that a paired t test of n pairs finds with probability TARGET_POWER (80 %).

    sd: standard deviation of the differences, changed run minus base run. The result has the same unit.
    n: number of pairs of runs.
    alpha: significance level of the two-sided test.

    Examples:
        >>> round(detectable_difference(1.0, 5), 2) > round(detectable_difference(1.0, 10), 2)
        True
    """
    return sd * _find_detectable_effect(n, alpha)


@lru_cache
def _find_detectable_effect(n: int, alpha: float) -> float:
    return float(brentq(lambda effect: compute_power(effect, 1.0, n, alpha=alpha) - TARGET_POWER, 1e-6, 1e6))


def pairs_needed(difference: float, sd: float, *, alpha: float = 0.05) -> int | None:
    """Return how many pairs of runs a paired t test needs to find a true difference with probability TARGET_POWER.

    difference: true mean of the differences, changed run minus base run.
    sd: standard deviation of the differences, in the same unit.
    alpha: significance level of the two-sided test.

    The result is None if more than MAX_PAIRS pairs would be needed.
    """

    def missing_power(n: float) -> float:
        return compute_power(difference, sd, n, alpha=alpha) - TARGET_POWER

    if missing_power(2) >= 0:
        return 2
    return math.ceil(brentq(missing_power, 2, MAX_PAIRS)) if missing_power(MAX_PAIRS) >= 0 else None


# -- sequential studies: pairs are added until a verdict is reached, so each test is one of many interim analyses of the
# same data


FIRST_LOOK = 5
"""Smallest number of pairs at which a sequential study is judged: fewer depend too much on normal differences."""

NUM_SIMULATED_STUDIES = 20_000
"""Simulated studies without an effect. The level of 5 % is then known to within .3 %."""


def repeated_p(p: float, max_pairs: int) -> float:
    """Return the probability that any interim analysis of a study without an effect has a p value of at most `p`.

    Interim analyses are paired t tests at FIRST_LOOK, FIRST_LOOK + 1, ..., `max_pairs` pairs with normal differences.

    p: two-sided p value of one interim analysis.
    max_pairs: largest number of pairs of runs that the study may have, at least FIRST_LOOK.

    Examples:
        >>> repeated_p(0.05, 30) > 0.15
        True
    """
    smallest = _simulate_smallest_p(max_pairs)
    return (1 + int(np.searchsorted(smallest, p, side="right"))) / (1 + len(smallest))


def repeated_level(alpha: float, max_pairs: int) -> float:
    """Return the level of each interim analysis that makes the probability of any false finding over all of them
    `alpha`.

    Student's intervals at this level contain the true mean at all interim analyses together with probability 1 - alpha,
    under any rule that stops the study (C. Jennison and B. W. Turnbull, 1984: repeated confidence intervals; the
    constant level is from S. J. Pocock, 1977).

    alpha: accepted probability of a false finding, in (0, 1).
    max_pairs: largest number of pairs of runs that the study may have, at least FIRST_LOOK.

    Examples:
        >>> 0.007 < repeated_level(0.05, 30) < 0.009
        True
    """
    return float(np.quantile(_simulate_smallest_p(max_pairs), alpha))


@lru_cache
def _simulate_smallest_p(max_pairs: int) -> NDArray[np.float64]:
    if max_pairs < FIRST_LOOK:
        raise ValueError(f"max_pairs is {max_pairs}, must be at least {FIRST_LOOK}")
    differences = np.random.default_rng(0).standard_normal((NUM_SIMULATED_STUDIES, max_pairs))
    n = np.arange(FIRST_LOOK, max_pairs + 1)
    mean = differences.cumsum(axis=1)[:, FIRST_LOOK - 1 :] / n
    squares = (differences**2).cumsum(axis=1)[:, FIRST_LOOK - 1 :]
    t = mean * np.sqrt(n * (n - 1) / (squares - n * mean**2))
    return np.sort(2 * special.stdtr(n - 1, -np.abs(t)).min(axis=1))


def pairs_to_decide(mean: float, sd: float, until: float, level: float) -> int | None:
    """Return the number of pairs at which the half-width of the interval is below `until` or below |mean|.

    mean, sd: mean and standard deviation of the differences, which are assumed to stay.
    until: half-width that is narrow enough, in the unit of the differences.
    level: 1 minus the confidence level of the interval.

    The result is None if more than MAX_PAIRS pairs would be needed.
    """

    def excess(n: float) -> float:
        return float(stats.t.ppf(1 - level / 2, n - 1)) * sd / math.sqrt(n) - max(until, abs(mean))

    if excess(2) <= 0:
        return 2
    return math.ceil(brentq(excess, 2, MAX_PAIRS)) if excess(MAX_PAIRS) <= 0 else None


def _one_sided_p(d: NDArray[np.float64], bound: float) -> float:
    if not _has_spread(d):
        return 0.0 if d.mean() > bound else 1.0
    return float(stats.ttest_1samp(d, bound, alternative="greater").pvalue)


def _has_spread(d: NDArray[np.float64]) -> bool:
    return bool(d.std(ddof=1) > NO_SPREAD * abs(d.mean()))


def _check_differences(differences: Sequence[float]) -> NDArray[np.float64]:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise ValueError(f"differences of shape {d.shape}, must be two or more finite numbers")
    return d


# -- judge the changes of an ablation: is each expectation confirmed, refuted or undecided?


Better = Literal["lower", "higher"]
Expected = Literal["different", "better", "worse", "same"]
Decision = Literal["confirmed", "refuted", "undecided", "not comparable"]
Shown = Literal["", "identical", "better", "worse"]

ROUNDING = 2**-23
"""Largest relative difference of two metrics that count as identical: they are computed in single precision."""

MIN_SEEDS = 3
"""Smallest number of pairs of runs with a verdict.

With two pairs, a 95 % confidence interval is 12.7 standard errors to each side; with three pairs it is 4.3.
"""


@dataclass(frozen=True, slots=True)
class ChangeVerdict:
    """Hold the verdict on one change of an ablation: the comparison of its runs with the base runs of the same seeds.

    change: name of the change.
    seeds: seeds with a finite metric of both the base run and the changed run.
    base: mean metric of the base runs over these seeds.
    changed: mean metric of the changed runs over these seeds.
    difference: statistics of the differences changed minus base; None for fewer than MIN_SEEDS seeds, or if the runs
        are not comparable.
    p_holm: p value of the paired t test, adjusted for the number of tested changes by Holm's method.
    p_same: adjusted p value of the null hypothesis that the mean difference is outside the margin; None without a
        margin.
    p_beyond: adjusted p value of the null hypothesis that the mean difference is inside the margin; None without a
        margin.
    expected: the expected effect of the change: "different", "better", "worse" or "same".
    decision: "confirmed" or "refuted" if the data show that the expectation is right or wrong, "undecided" if they show
        neither. It is "not comparable" if the metrics of the two runs are measured differently.
    shown: the effect that the data show: "better", "worse", "identical" if the runs differ by rounding only, or "" if
        no effect is significant.
    within_margin: True if the data show that the mean difference is smaller than the margin.
    without: seeds of both runs without a finite metric of one of them. If there are any, the decision is "undecided".
    detectable: true mean difference that this number of pairs would find in four of five studies; NaN without
        statistics.
    needed: number of seeds with which a difference as large as the margin would be found in four of five studies;
        None without a margin, without statistics, or if more than MAX_PAIRS are needed. In a sequential study, it is
        the number of seeds that decides, if mean and spread stay (see `pairs_to_decide`).
    is_narrow: True if the interval contains 0, and its half-width is below `until` of a sequential study.
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
    is_narrow: bool = False

    @property
    def is_open(self) -> bool:
        """Return whether more seeds can decide about the change. They cannot if a run has no metric."""
        return self.decision == "undecided" and not self.shown and not self.is_narrow and not self.without


def judge_changes(
    base: Mapping[int, float],
    changes: Mapping[str, Mapping[int, float]],
    *,
    better: Better = "lower",
    expected: Mapping[str, Expected] | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    not_comparable: Collection[str] = (),
    until: float | None = None,
    max_seeds: int = 30,
) -> list[ChangeVerdict]:
    """Compare the runs of each change of an ablation with the base runs; return a verdict per change, in their order.

    base: metric of the base run by seed; NaN or infinite for a run without a valid metric.
    changes: for each name of a change, the metric of the changed run by seed. Only seeds of both base and change are
        compared.
    better: "lower" if a smaller metric is better, "higher" if a larger one is.
    expected: for each name of a change, the expected effect "different", "better", "worse" or "same". The default is
        "different". The expectation "same" can be confirmed by a test only with a margin.
    margin: smallest difference that matters, in the unit of the metric; None without such a limit.
    alpha: accepted probability of any false finding among all changes.
    not_comparable: names of the changes whose metric is measured differently from the base run's.
    until: in a sequential study, the half-width of an interval that is narrow enough; p values and intervals then hold
        for repeated analyses. None if the number of seeds was chosen before any result.
    max_seeds: largest number of seeds of a sequential study.
    """
    level = alpha if until is None else repeated_level(alpha, max_seeds)
    pairs = {name: sorted(base.keys() & values.keys()) for name, values in changes.items()}
    usable = {
        name: [seed for seed in seeds if math.isfinite(base[seed]) and math.isfinite(changes[name][seed])]
        for name, seeds in pairs.items()
    }
    differences = {
        name: [_subtract(changes[name][seed], base[seed]) for seed in usable[name]]
        for name in changes
        if len(usable[name]) >= MIN_SEEDS and name not in not_comparable
    }
    tests = {name: paired_t_test(values, confidence=1 - level) for name, values in differences.items()}

    def adjust(p_values: Iterable[float], *, sides: int = 1) -> dict[str, float]:
        if until is not None:  # a one-sided p value of x is a two-sided one of at most 2 x
            p_values = (repeated_p(min(1.0, 2 * p / sides), max_seeds) for p in p_values)
        return dict(zip(tests, adjust_holm(list(p_values)), strict=True))

    p_holm = adjust((test.p for test in tests.values()), sides=2)
    p_same, p_beyond = dict[str, float](), dict[str, float]()
    if margin is not None:
        p_same = adjust(equivalence_p(values, margin) for values in differences.values())
        p_beyond = adjust((beyond_p(values, margin) for values in differences.values()), sides=2)
    strictest_alpha = level / max(1, len(tests))  # Holm's hardest step: neither number below promises too much
    verdicts = []
    for name, values in changes.items():
        test, seeds = tests.get(name), usable[name]
        expectation = (expected or {}).get(name, "different")
        shown = _describe_effect(test, p_holm.get(name, 1.0), better, alpha)
        is_within = p_same.get(name, 1.0) <= alpha
        is_narrow = False
        if until is not None and test is not None:
            is_narrow = test.low <= 0 <= test.high and test.high - test.low < 2 * until
        if name in not_comparable:
            decision: Decision = "not comparable"
        elif test is None or len(seeds) < len(pairs[name]):
            decision = "undecided"
        else:
            decision = _decide(expectation, shown, is_within or is_narrow, p_beyond.get(name, 1.0) <= alpha)
        verdicts.append(
            ChangeVerdict(
                change=name,
                seeds=tuple(seeds),
                base=_average(base, seeds),
                changed=_average(values, seeds),
                difference=test,
                p_holm=p_holm.get(name, 1.0),
                p_same=p_same.get(name),
                p_beyond=p_beyond.get(name),
                expected=expectation,
                decision=decision,
                shown=shown,
                within_margin=is_within,
                without=tuple(seed for seed in pairs[name] if seed not in seeds),
                detectable=detectable_difference(test.sd, test.n, alpha=strictest_alpha) if test else math.nan,
                needed=_estimate_seeds(test, margin, until, strictest_alpha) if test else None,
                is_narrow=is_narrow,
            )
        )
    return verdicts


def _estimate_seeds(test: PairedDifference, margin: float | None, until: float | None, alpha: float) -> int | None:
    if until is not None:
        return pairs_to_decide(test.mean, test.sd, until, alpha)
    return pairs_needed(margin, test.sd, alpha=alpha) if margin else None


def _describe_effect(difference: PairedDifference | None, p: float, better: Better, alpha: float) -> Shown:
    if difference is not None and difference.mean == difference.sd == 0:
        return "identical"
    if difference is None or p > alpha:
        return ""
    return "better" if (difference.mean < 0) == (better == "lower") else "worse"


def _decide(expected: Expected, shown: Shown, is_within: bool, is_beyond: bool) -> Decision:
    if expected == "same":
        return "confirmed" if is_within or shown == "identical" else "refuted" if is_beyond else "undecided"
    if shown in ("better", "worse"):
        return "confirmed" if expected in (shown, "different") else "refuted"
    return "refuted" if is_within or shown == "identical" else "undecided"


def _subtract(changed: float, base: float) -> float:
    return 0.0 if abs(changed - base) <= ROUNDING * max(abs(changed), abs(base)) else changed - base


def _average(values: Mapping[int, float], seeds: Sequence[int]) -> float:
    return math.fsum(values[seed] for seed in seeds) / len(seeds) if seeds else math.nan
