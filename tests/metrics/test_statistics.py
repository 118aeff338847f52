"""Comparison over seeds: against SciPy where it has the test, by hand and by laws elsewhere."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from stadia.metrics.statistics import (
    adjust_holm,
    beyond_p,
    compute_power,
    detectable_difference,
    equivalence_p,
    paired_t_test,
    pairs_needed,
    sign_flip_p,
)

SAMPLES = [np.random.default_rng(seed).normal(0.3, 1, 3 + seed) for seed in range(8)]


def test_interval_and_p_of_students_own_data():
    """Hours of sleep that a drug adds, ten patients (W. S. Gosset, 1908); the numbers are those of R's t.test."""
    sleep = paired_t_test([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert (sleep.n, sleep.mean, sleep.sd) == (10, pytest.approx(1.58), pytest.approx(1.229995, abs=1e-6))
    assert [sleep.p, sleep.low, sleep.high] == pytest.approx([0.00283289, 0.7001142, 2.4598858], abs=1e-7)


@pytest.mark.parametrize("d", SAMPLES, ids=len)
def test_sign_flips_are_counted_exactly(d):
    signs = itertools.product((1, -1), repeat=len(d))
    sums = np.abs(np.array(list(signs)) @ d)
    assert sign_flip_p(d) == pytest.approx(np.mean(sums >= abs(d.sum()) - 1e-12))


def test_sign_flips_of_few_seeds_cannot_be_sure():
    assert sign_flip_p([1.0, 1.1, 0.9]) == 2 / 2**3
    assert sign_flip_p([1.0, 1.1, 0.9, 1.0, 1.2, 0.8]) == 2 / 2**6
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1


def test_sign_flips_of_many_pairs_are_drawn_and_repeat():
    d = np.random.default_rng(3).normal(0.5, 1, 20)
    assert sign_flip_p(d) == sign_flip_p(d)
    assert sign_flip_p(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)


@pytest.mark.parametrize("d", SAMPLES, ids=len)
def test_laws_of_a_comparison(d):
    """Neither the order nor the unit matters; the other way round only the sign is another."""
    there, back, scaled, shuffled = paired_t_test(d), paired_t_test(-d), paired_t_test(1000 * d), paired_t_test(d[::-1])
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
    for other in (back, scaled, shuffled):
        assert (other.p, other.p_signs) == pytest.approx((there.p, there.p_signs))
    assert (there.low > 0 or there.high < 0) == (there.p < 0.05)


def test_differences_that_are_one_number():
    """No spread for a t test: of all 0 nothing is shown, of one shift what the signs allow."""
    assert paired_t_test([0.0, 0.0, 0.0]).p == 1
    shift = paired_t_test([0.1 + 0.2, 0.3, 0.3])  # but for rounding
    assert (shift.sd, shift.p) == (0, 2 / 2**3)


def test_equivalence_is_the_interval_of_ninety_percent_within_the_margin():
    for d, margin in itertools.product(SAMPLES, (0.3, 1.0, 3.0)):
        inner = paired_t_test(d, confidence=0.9)
        assert (equivalence_p(d, margin) < 0.05) == (-margin < inner.low and inner.high < margin)
        outer = paired_t_test(d, confidence=0.95)
        assert (beyond_p(d, margin) < 0.05) == (outer.low > margin or outer.high < -margin)


def test_holm_by_hand():
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.5, 0.9]) == [1.0, 1.0]
    assert adjust_holm([0.2]) == [0.2]
    assert adjust_holm([]) == []


@pytest.mark.parametrize(("effect", "n", "power"), [(0.5, 10, 0.2932), (1, 5, 0.4013), (0.8, 20, 0.9239), (0, 4, 0.05)])
def test_power_is_that_of_the_tables(effect, n, power):
    """As G*Power and statsmodels' TTestPower give it."""
    assert compute_power(effect, 1, n) == pytest.approx(power, abs=1e-4)


def test_power_of_a_large_effect_is_a_number_where_scipy_has_none():
    assert math.isnan(stats.nct.cdf(-stats.t.ppf(0.975, 7), 7, 15.42 * math.sqrt(8)))
    assert compute_power(15.42, 1, 8) == pytest.approx(1)


def test_what_is_detectable_and_how_many_it_takes():
    assert compute_power(detectable_difference(0.3, 6), 0.3, 6) == pytest.approx(0.8)
    assert pairs_needed(0.5, 1) == 34  # as every table of it has it
    assert compute_power(0.5, 1, 34) >= 0.8 > compute_power(0.5, 1, 33)
    assert pairs_needed(1e-6, 1) is None
    assert pairs_needed(1, 0) == 2


@pytest.mark.parametrize("wrong", [[1.0], [1.0, math.nan], [[1.0, 2.0]]])
def test_what_is_no_list_of_differences_is_refused(wrong):
    with pytest.raises(ValueError, match="two or more finite"):
        paired_t_test(wrong)
