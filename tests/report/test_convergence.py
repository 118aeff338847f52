"""Convergence on series with known decrease and noise."""

from __future__ import annotations

import numpy as np
import pytest

from stadia.report.quality_summary import find_identical_terms, measure_late_decrease
from stadia.report.run_files import Series

STEPS = list(range(0, 2000, 20))


def course(values: np.ndarray, name: str = "val/abs_rel") -> Series:
    return Series(name, STEPS, values.tolist())


def test_decrease_of_an_unfinished_training_is_measured() -> None:
    falling = 0.5 * np.exp(-np.array(STEPS) / 2000)
    noise = np.random.default_rng(0).normal(0, 0.005, len(STEPS))
    fell = measure_late_decrease(course(falling * np.exp(noise)))
    assert fell == pytest.approx(0.17, abs=0.03)


def test_noise_is_no_decrease() -> None:
    random = np.random.default_rng(1)
    significant = sum(
        measure_late_decrease(course(0.2 * np.exp(random.normal(0, 0.05, len(STEPS))))) is not None for _ in range(200)
    )
    assert significant <= 2


def test_no_decrease_for_rising_constant_or_short_series() -> None:
    assert measure_late_decrease(course(0.2 + np.array(STEPS) * 1e-5)) is None
    assert measure_late_decrease(course(np.full(len(STEPS), 0.2))) is None
    assert measure_late_decrease(Series("val/abs_rel", [0, 500, 1000], [0.5, 0.4, 0.3])) is None
    assert measure_late_decrease(Series("val/abs_rel", [], [])) is None


def test_identical_loss_terms_are_found() -> None:
    random = np.random.default_rng(2)
    base = np.exp(-np.array(STEPS) / 500) + random.normal(0, 0.02, len(STEPS))
    other = np.exp(-np.array(STEPS) / 500) + random.normal(0, 0.02, len(STEPS))
    series = [
        course(base, "train/term/a"),
        course(3 * base + 1, "train/term/b"),
        course(other, "train/term/c"),
        course(base, "train/loss"),
    ]
    assert list(find_identical_terms(series)) == [("a", "b")]
    assert list(find_identical_terms([course(np.full(len(STEPS), 1.0), f"train/term/{name}") for name in "ab"])) == []
