"""Depth metrics: equal to the formulas written again in NumPy, and lawful."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.metrics import METRICS
from stadia.metrics.depth_metrics import scale_ratio

Array = NDArray[np.float64]
Maps = tuple[Array, Array, NDArray[np.bool_]]

# The formulas once more, on flat arrays p (predicted) and g (true), from Eigen et al. 2014 and the KITTI depth
# benchmark.
INDEPENDENT: dict[str, Callable[[Array, Array], float]] = {
    "abs_rel": lambda p, g: float(np.mean(np.abs(p - g) / g)),
    "sq_rel": lambda p, g: float(np.mean((p - g) ** 2 / g)),
    "rmse": lambda p, g: float(np.sqrt(np.mean((p - g) ** 2))),
    "rmse_log": lambda p, g: float(np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2))),
    "silog": lambda p, g: float(100 * np.sqrt(np.mean(np.log(p / g) ** 2) - np.mean(np.log(p / g)) ** 2)),
    "log10": lambda p, g: float(np.mean(np.abs(np.log(p / g))) / np.log(10)),
    "mae": lambda p, g: float(np.mean(np.abs(p - g))),
    "d1": lambda p, g: float(np.mean(np.maximum(p / g, g / p) < 1.25)),
    "d2": lambda p, g: float(np.mean(np.maximum(p / g, g / p) < 1.25**2)),
    "d3": lambda p, g: float(np.mean(np.maximum(p / g, g / p) < 1.25**3)),
    "abs_error_rel_percent": lambda p, g: float(100 * np.mean(np.abs(p - g) / g)),
    "sq_error_rel_percent": lambda p, g: float(100 * np.mean((p - g) ** 2 / g**2)),
    "irmse_per_km": lambda p, g: float(np.sqrt(np.mean((1e3 / p - 1e3 / g) ** 2))),
}
PERFECT = {name: 1.0 if name in ("d1", "d2", "d3") else 0.0 for name in METRICS}


pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # pixels outside the mask


@pytest.fixture
def maps() -> Maps:
    """Three images of which a sixth has ground truth; what is not scored is poison."""
    rng = np.random.default_rng(0)
    true = np.exp(rng.uniform(np.log(1), np.log(80), (3, 37, 53)))
    predicted = true * np.exp(rng.normal(0.05, 0.3, true.shape))
    mask = rng.random(true.shape) < 1 / 6
    true[~mask] = rng.choice([0, np.nan, np.inf, -3], (~mask).sum())
    predicted[~mask] = rng.choice([0, np.nan, np.inf, -3], (~mask).sum())
    return predicted, true, mask


def test_every_metric_has_an_independent_twin() -> None:
    assert set(INDEPENDENT) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_equal_to_numpy(name: str, maps: Maps) -> None:
    ours = METRICS.load(name)(*maps)
    assert ours.shape == (3,)
    for value, p, g, m in zip(ours, *maps, strict=True):
        assert float(value) == pytest.approx(INDEPENDENT[name](p[m], g[m]), rel=1e-9, abs=1e-9)


def test_a_number_by_hand() -> None:
    p, g = np.array([[2.0, 8.0]]), np.array([[4.0, 4.0]])
    mask = np.ones((1, 2), np.bool_)
    by_hand = {
        "abs_rel": 0.75,
        "sq_rel": 2.5,
        "rmse": 10**0.5,
        "rmse_log": 0.6931472,
        "silog": 69.31472,
        "log10": 0.30103,
        "mae": 3.0,
        "d1": 0.0,
        "d2": 0.0,
        "d3": 0.0,
        "abs_error_rel_percent": 75.0,
        "sq_error_rel_percent": 62.5,
        "irmse_per_km": 1000 * (5 / 128) ** 0.5,
    }
    for name, value in by_hand.items():
        assert float(METRICS.load(name)(p, g, mask)) == pytest.approx(value, rel=1e-6), name
    assert float(scale_ratio(p, g, mask)) == pytest.approx(
        4 / 5
    )  # an even number of pixels: the middle two are averaged


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_perfect_is_exactly_perfect(name: str, dtype: type[np.floating], maps: Maps) -> None:
    _, true, mask = maps
    assert METRICS.load(name)(true.astype(dtype), true.astype(dtype), mask).tolist() == [PERFECT[name]] * 3


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_pixels_does_not_matter(name: str, maps: Maps) -> None:
    metric = METRICS.load(name)
    order = np.random.default_rng(1).permutation(37 * 53)
    shuffled = [m.reshape(3, -1)[:, order].reshape(3, 37, 53) for m in maps]
    np.testing.assert_allclose(metric(*shuffled), metric(*maps), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["silog"])
@pytest.mark.parametrize("factor", [1e-4, 0.5, 3.0, 1e4])
def test_silog_does_not_see_scale(name: str, factor: float, maps: Maps) -> None:
    p, g, m = maps
    np.testing.assert_allclose(METRICS.load(name)(factor * p, g, m), METRICS.load(name)(p, g, m), rtol=1e-10, atol=0)
    assert (METRICS.load(name)(factor * g, g, m) < 1e-10).all()  # and a scaled truth is perfect, not NaN


def test_never_nan_where_something_is_scored(maps: Maps) -> None:
    p, g, _ = maps
    mask = (p > 0) & (g > 0) & np.isfinite(p) & np.isfinite(g)
    for scale in (1e-30, 1.0, 1e30):
        for name in METRICS:
            assert np.isfinite(METRICS.load(name)(p * scale, g, mask)).all(), name


def test_an_image_without_truth_is_nan_not_perfect(maps: Maps) -> None:
    p, g, m = maps
    m[1] = False
    for name in METRICS:
        assert np.isnan(METRICS.load(name)(p, g, m)).tolist() == [False, True, False]


def test_thresholds_are_strict() -> None:
    mask = np.ones((1, 1), np.bool_)
    for name, power in (("d1", 1), ("d2", 2), ("d3", 3)):
        edge = np.array([[1.25**power]])
        assert METRICS.load(name)(edge, np.ones_like(edge), mask) == 0
        assert METRICS.load(name)(edge - 1e-9, np.ones_like(edge), mask) == 1
