"""What an uncertainty is worth: equal to Poggi et al.'s procedure written again in NumPy and SciPy, and lawful."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from stadia.metrics import METRICS
from stadia.metrics.depth_metrics import (
    DEPTH_ERRORS,
    LEVELS,
    calibration_curve,
    laplace_width,
    sparsification,
    sparsification_curve,
    spearman,
)

Array = NDArray[np.float64]
Maps = tuple[Array, Array, Array, NDArray[np.bool_]]

PIXEL_ERRORS = {
    "abs_rel": lambda p, g: np.abs(p - g) / g,
    "rmse": lambda p, g: np.abs(p - g),
    "d1": lambda p, g: (np.maximum(p / g, g / p) >= 1.25).astype(float),
}


pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # pixels outside the mask


@pytest.fixture
def maps() -> Maps:
    """Predicted, true, uncertainty, mask of three images: a third of the pixels is scored, the others are poison."""
    rng = np.random.default_rng(0)
    true = np.exp(rng.uniform(np.log(1), np.log(80), (3, 37, 53)))
    noise = np.exp(rng.normal(-2, 0.7, true.shape))
    predicted = true * np.exp(noise * rng.normal(size=true.shape))
    uncertainty = np.log(noise) + rng.normal(0, 0.4, true.shape)
    mask = rng.random(true.shape) < 1 / 3
    for poisoned in (true, predicted, uncertainty):
        poisoned[~mask] = rng.choice([0, np.nan, np.inf, -3], (~mask).sum())
    return predicted, true, uncertainty, mask


def curve_by_percentiles(error: Array, by: Array, name: str) -> list[float]:
    """Poggi et al.'s: keep what is at most as uncertain as the (100 - 2 k)-th percentile; after the last, 0."""
    kept = [by <= np.percentile(by, 100 - 2 * k) for k in range(50)]
    return [float(np.sqrt(np.mean(error[k] ** 2)) if name == "rmse" else np.mean(error[k])) for k in kept] + [0.0]


@pytest.mark.parametrize("name", ["abs_rel", "rmse"])
def test_equal_to_percentiles_in_numpy(name: str, maps: Maps) -> None:
    ours = sparsification(*maps, name)
    for index, (p, g, u, m) in enumerate(zip(*maps, strict=True)):
        error, by = PIXEL_ERRORS[name](p[m], g[m]), u[m]
        curve, oracle = (np.array(curve_by_percentiles(error, order, name)) for order in (by, error))
        assert ours.by_uncertainty[index] == pytest.approx(curve, rel=1e-9)
        assert ours.oracle[index] == pytest.approx(oracle, rel=1e-9)
        assert float(ours.ause[index]) == pytest.approx(np.trapezoid(curve - oracle, dx=0.02), rel=1e-9)
        flat = np.r_[np.full(50, curve[0]), 0]
        assert float(ours.aurg[index]) == pytest.approx(np.trapezoid(flat - curve, dx=0.02), rel=1e-9)


def test_spearman_is_of_the_order_alone(maps: Maps) -> None:
    *_, uncertainty, mask = maps
    uncertainty = uncertainty[mask]
    assert spearman(np.exp(uncertainty), uncertainty) == pytest.approx(1)
    assert spearman(-uncertainty, uncertainty) == pytest.approx(-1)
    assert math.isnan(spearman(np.ones_like(uncertainty), uncertainty))
    assert math.isnan(spearman(uncertainty[:1], uncertainty[:1]))


def test_calibration_equal_to_scipy(maps: Maps) -> None:
    _, true, uncertainty, mask = maps
    for level in LEVELS:
        assert laplace_width(level) == pytest.approx(stats.laplace.interval(level)[1], rel=1e-12)
    residual, sigma = true / 20 - 1, np.exp(uncertainty)
    for ours, r, s, m in zip(calibration_curve(residual, sigma, mask), residual, sigma, mask, strict=True):
        inside = [np.mean(np.abs(r[m]) <= stats.laplace.interval(level)[1] * s[m]) for level in LEVELS]
        assert ours == pytest.approx(inside, rel=1e-12)


@pytest.mark.parametrize("law", [stats.laplace, stats.expon])
def test_what_is_drawn_from_the_law_is_calibrated_and_what_is_not_is_detected(law) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    sigma = np.exp(rng.normal(size=(2, 200, 200)))
    residual = sigma * law.rvs(size=sigma.shape, random_state=rng)
    mask = np.ones(sigma.shape, np.bool_)
    levels = np.array(LEVELS)
    assert (np.abs(calibration_curve(residual, sigma, mask) - levels).mean(-1) < 0.01).all()
    too_sure, too_doubtful = (calibration_curve(residual, factor * sigma, mask) for factor in (0.5, 2))
    assert (too_sure < levels).all()
    assert (too_doubtful > levels).all()
    assert (np.abs(too_sure - levels).mean(-1) > 0.1).all()


@pytest.mark.parametrize("name", DEPTH_ERRORS)
def test_where_none_has_left_it_is_the_metric(name: str, maps: Maps) -> None:
    predicted, true, _, mask = maps
    metric = METRICS.load(name)(predicted, true, mask)
    expected = 1 - metric if name == "d1" else metric
    np.testing.assert_allclose(sparsification(*maps, name).by_uncertainty[:, 0], expected, rtol=1e-7)


@pytest.mark.parametrize("name", DEPTH_ERRORS)
def test_the_error_itself_is_the_oracle(name: str, maps: Maps) -> None:
    predicted, true, _, mask = maps
    error = np.where(mask, DEPTH_ERRORS[name].of_pixel(predicted, true), 0)
    best = sparsification(predicted, true, error, mask, name)
    assert (best.ause == 0).all()
    assert (best.aurg > 0).all()
    np.testing.assert_allclose(best.below_random, np.ones(3))
    worst = sparsification(predicted, true, -error, mask, name)
    assert (worst.aurg < 0).all()


@pytest.mark.parametrize("name", DEPTH_ERRORS)
def test_only_the_order_counts_and_each_image_by_itself(name: str, maps: Maps) -> None:
    whole, uncertainty, mask = sparsification(*maps, name), maps[2], maps[3]
    again = sparsification(*maps[:2], np.exp(uncertainty), mask, name)
    assert np.array_equal(again.by_uncertainty, whole.by_uncertainty)
    for index in range(3):
        alone = sparsification(*(each[index] for each in maps), name)  # type: ignore[arg-type]
        assert np.array_equal(alone.by_uncertainty, whole.by_uncertainty[index])
        assert np.array_equal(alone.ause, whole.ause[index])


def test_by_hand() -> None:
    true, predicted = np.array([[1.0, 1.0]]), np.array([[2.0, 4.0]])
    found = sparsification(predicted, true, np.array([[0.1, 0.2]]), np.ones((1, 2), np.bool_))
    assert found.by_uncertainty.tolist() == [2.0, *[1.0] * 49, 0.0]
    assert float(found.ause) == 0
    assert float(found.aurg) == pytest.approx((0.5 + 48 + 0.5) / 50)
    tied = sparsification_curve(np.array([[1.0, 3.0]]), np.zeros((1, 2)), np.ones((1, 2), np.bool_))
    assert tied.tolist() == [*[2.0] * 50, 0.0]
