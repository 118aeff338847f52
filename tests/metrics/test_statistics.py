"""Comparison over seeds: against SciPy where it has the test, by hand and by laws elsewhere."""

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tests.combinations import mark_others

from stadia.metrics.statistics import (
    beyond_p,
    compute_power,
    detectable_difference,
    equivalence_p,
    judge_changes,
    paired_t_test,
    pairs_needed,
    pairs_to_decide,
    repeated_level,
    repeated_p,
    sign_flip_p,
)

SAMPLES = [np.random.default_rng(seed).normal(0.3, 1, 3 + seed) for seed in range(8)]


def test_interval_and_p_of_students_own_data():
    sleep = paired_t_test([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert (sleep.n, sleep.mean, sleep.sd) == (10, pytest.approx(1.58), pytest.approx(1.229995, abs=1e-6))
    assert [sleep.p, sleep.low, sleep.high] == pytest.approx([0.00283289, 0.7001142, 2.4598858], abs=1e-7)


@pytest.mark.parametrize("d", SAMPLES, ids=len)
def test_sign_flips_are_counted_exactly(d):
    signs = itertools.product((1, -1), repeat=len(d))
    sums = np.abs(np.array(list(signs)) @ d)
    assert sign_flip_p(d) == pytest.approx(np.mean(sums >= abs(d.sum()) - 1e-12))


def test_sign_flips_of_many_pairs_are_drawn_and_repeat():
    d = np.random.default_rng(3).normal(0.5, 1, 20)
    assert sign_flip_p(d) == sign_flip_p(d)
    assert sign_flip_p(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)


@pytest.mark.parametrize("d", SAMPLES, ids=len)
def test_laws_of_a_comparison(d):
    there, back, scaled, shuffled = paired_t_test(d), paired_t_test(-d), paired_t_test(1000 * d), paired_t_test(d[::-1])
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
    for other in (back, scaled, shuffled):
        assert (other.p, other.p_signs) == pytest.approx((there.p, there.p_signs))
    assert (there.low > 0 or there.high < 0) == (there.p < 0.05)


@pytest.mark.slow
def test_equivalence_is_the_interval_of_ninety_percent_within_the_margin():
    for d, margin in itertools.product(SAMPLES, (0.3, 1.0, 3.0)):
        inner = paired_t_test(d, confidence=0.9)
        assert (equivalence_p(d, margin) < 0.05) == (-margin < inner.low and inner.high < margin)
        outer = paired_t_test(d, confidence=0.95)
        assert (beyond_p(d, margin) < 0.05) == (outer.low > margin or outer.high < -margin)


@pytest.mark.parametrize(("effect", "n", "power"), [(0.5, 10, 0.2932), (1, 5, 0.4013), (0.8, 20, 0.9239), (0, 4, 0.05)])
def test_power_is_that_of_the_tables(effect, n, power):
    assert compute_power(effect, 1, n) == pytest.approx(power, abs=1e-4)


def test_what_is_detectable_and_how_many_it_takes():
    assert compute_power(detectable_difference(0.3, 6), 0.3, 6) == pytest.approx(0.8)
    assert pairs_needed(0.5, 1) == 34  # as every table of it has it
    assert compute_power(0.5, 1, 34) >= 0.8 > compute_power(0.5, 1, 33)
    assert pairs_needed(1e-6, 1) is None
    assert pairs_needed(1, 0) == 2


@pytest.mark.parametrize("wrong", [[1.0], [1.0, math.nan], [[1.0, 2.0]]])
def test_what_is_no_list_of_differences_is_refused(wrong):
    with pytest.raises(ValueError):
        paired_t_test(wrong)


# -- verdicts of ablations, on studies whose truth is known


FILE = Path(__file__).parents[2] / "experiments" / "null_studies.py"
spec = importlib.util.spec_from_file_location("null_studies", FILE)
null_studies = importlib.util.module_from_spec(spec)
spec.loader.exec_module(null_studies)

BASE = {seed: 0.20 + 0.01 * seed for seed in range(5)}
NOISE = (0.001, -0.001, 0.002, -0.002, 0.0)


def shifted(by: float, spread: float = 1.0) -> dict[int, float]:
    return {seed: value + by + spread * noise for (seed, value), noise in zip(BASE.items(), NOISE, strict=True)}


def only(changed, **options):
    (verdict,) = judge_changes(BASE, {"x": changed}, **options)
    return verdict


@pytest.mark.slow
@pytest.mark.parametrize(("effect", "sd"), [(0.03, 0.015), (0.0, 0.006)])
def test_a_sequential_study_decides_rightly_in_nineteen_of_twenty(effect, sd):
    right, seeds = null_studies.decide(effect, sd, studies=100)
    assert right >= 95
    assert seeds < 20


@pytest.mark.slow
def test_repeated_looks_have_one_level():
    level = repeated_level(0.05, 30)
    assert repeated_p(level, 30) == pytest.approx(0.05, abs=1e-4)
    assert repeated_level(0.05, 5) == pytest.approx(0.05, abs=0.003), "one look is Student's test"
    assert repeated_level(0.05, 60) < level < repeated_level(0.05, 10)


def test_the_pairs_that_decide_have_an_interval_below_it():
    n = pairs_to_decide(0.002, 0.03, 0.01, 0.05)
    halves = [stats.t.ppf(0.975, k - 1) * 0.03 / math.sqrt(k) for k in (n - 1, n)]
    assert halves[0] > 0.01 >= halves[1]
    assert pairs_to_decide(0.02, 0.03, 0.01, 0.05) < n
    assert pairs_to_decide(0, 1, 1e-6, 0.05) is None


@pytest.mark.slow
@pytest.mark.parametrize("noise", mark_others(list(null_studies.NOISES), ["heavy tails", "shared"]))
def test_what_does_nothing_is_seldom_called_an_effect(noise):
    wrong, _ = null_studies.called(null_studies.NOISES[noise], 0.0, studies=200, changes=2, seeds=4)
    assert wrong <= null_studies.tolerance(200) == 18


@pytest.mark.slow
def test_power_equals_theory():
    _, found = null_studies.called(null_studies.NOISES["normal"], 3.0, studies=200, changes=1, seeds=5)
    assert found / 200 == pytest.approx(compute_power(3.0, 2**0.5, 5), abs=3 * 0.03)


@pytest.mark.parametrize(
    ("by", "better", "expected", "decision", "shown"),
    [
        (-0.01, "lower", "better", "confirmed", "better"),
        (-0.01, "higher", "better", "refuted", "worse"),
        (0.01, "lower", "worse", "confirmed", "worse"),
        (0.01, "lower", "better", "refuted", "worse"),
        (0.01, "lower", "different", "confirmed", "worse"),
        (0.0005, "lower", "better", "undecided", ""),
        (0.0005, "lower", "different", "undecided", ""),
    ],
)
def test_decisions(by, better, expected, decision, shown):
    verdict = only(shifted(by), better=better, expected={"x": expected})
    assert (verdict.decision, verdict.shown) == (decision, shown)


@pytest.mark.slow
def test_a_wide_interval_is_never_no_effect():
    wide = only(shifted(0.0, spread=20))
    assert (wide.decision, wide.within_margin, wide.p_same) == ("undecided", False, None)
    assert only(shifted(0.0, spread=20), margin=0.01).decision == "undecided"
    assert only(shifted(0.0, spread=20), margin=0.01, expected={"x": "same"}).decision == "undecided"


def test_the_same_within_a_margin():
    assert only(shifted(0.0), margin=0.01, expected={"x": "same"}).decision == "confirmed"
    assert only(shifted(0.0), margin=0.01, expected={"x": "better"}).decision == "refuted"
    assert only(shifted(0.05), margin=0.01, expected={"x": "same"}).decision == "refuted"
    small = only(shifted(-0.005), margin=0.01, expected={"x": "better"})
    assert (small.decision, small.within_margin) == ("confirmed", True)


def test_several_changes_are_held_to_more():
    barely = {seed: value + d for (seed, value), d in zip(BASE.items(), (0.01, 0.02, 0.03, 0.005, 0.03), strict=True)}
    random = np.random.default_rng(0)
    others = {f"nothing {k}": {seed: value + random.normal(0, 0.01) for seed, value in BASE.items()} for k in range(19)}
    assert only(barely).decision == "confirmed"
    among = judge_changes(BASE, {"x": barely, **others})[0]
    assert (among.decision, among.difference.p) == ("undecided", only(barely).difference.p)
    assert among.difference.low > 0  # its own interval leaves 0 out all the same
    assert among.detectable > only(barely).detectable


def test_too_few_seeds_decide_nothing():
    verdict = only({0: 0.1, 1: 0.1})
    assert (verdict.difference, verdict.decision) == (None, "undecided")
    assert math.isnan(verdict.detectable)
    assert only({}).decision == "undecided"
