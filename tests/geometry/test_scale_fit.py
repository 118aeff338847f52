"""Laws of the fit of a scale to measured lengths: equivariance, robustness, and a deviation that holds."""

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import GeometryError
from stadia.geometry.scale_fit import Lengths, ScaleFit, fit_scale, fit_scale_with_shift, fuse_scales


def make_images(
    rng: np.random.Generator, *, factor: float = 0.3, images: int = 12, spread: float = 0.06
) -> list[Lengths]:
    """Predicted lengths whose error has a part for each image and a part for each of its pixels."""
    made = []
    for _ in range(images):
        metres = rng.uniform(3, 60, 200)
        error = spread * rng.standard_normal() + 0.1 * rng.standard_normal(200)
        made.append((metres / factor * np.exp(error), metres))
    return made


def test_the_factor_follows_both_units() -> None:
    images = make_images(np.random.default_rng(0))
    fit = fit_scale(images)
    scaled = fit_scale([(predicted * 4, metres * 0.5) for predicted, metres in images])
    assert scaled.factor == pytest.approx(fit.factor / 8)
    assert (scaled.deviation, scaled.inliers) == (pytest.approx(fit.deviation), fit.inliers)


def test_a_third_of_outliers_hardly_moves_it() -> None:
    rng = np.random.default_rng(0)
    images = make_images(rng, spread=0.01)
    spoiled = [(np.where(rng.random(200) < 0.3, predicted * 9, predicted), metres) for predicted, metres in images]
    fit = fit_scale(spoiled)
    assert fit.factor == pytest.approx(0.3, rel=0.08)
    assert 0.6 < fit.inliers < 0.8


@pytest.mark.slow
def test_the_stated_deviation_holds() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 5, 12):
        fits = [fit_scale(make_images(rng, images=count, spread=0.06 if count > 1 else 0.0)) for _ in range(150)]
        inside = np.mean([abs(np.log(fit.factor / 0.3)) < fit.deviation for fit in fits])
        assert 0.5 < inside < 0.85, count


def test_correlated_images_count_less() -> None:
    rng = np.random.default_rng(0)
    drift = np.repeat(rng.standard_normal(8) * 0.1, 5)
    alone = fit_scale([(np.exp(np.full(9, error)), np.ones(9)) for error in rng.permutation(drift)])
    correlated = fit_scale([(np.exp(np.full(9, error)), np.ones(9)) for error in drift])
    assert correlated.deviation > 1.4 * alone.deviation


def test_scale_and_shift_are_found_among_outliers() -> None:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(6):
        metres = rng.uniform(3, 60, 300)
        raw = (1 / metres - 0.004) / 2.5
        images.append((np.where(rng.random(300) < 0.2, rng.uniform(0, 0.1, 300), raw), metres))
    fit = fit_scale_with_shift(images)
    assert fit.factor == pytest.approx(2.5, rel=0.02)
    assert fit.shift == pytest.approx(0.004, abs=5e-4)


@pytest.mark.parametrize("raw", [np.ones(9), -1 / np.arange(1.0, 10)], ids=["constant", "falling"])
def test_an_output_without_scale_is_refused(raw: np.ndarray) -> None:
    with refuses(GeometryError, where="scale and shift"):
        fit_scale_with_shift([(raw, np.arange(1.0, 10))])


def _fit(factor: float, deviation: float) -> ScaleFit:
    return ScaleFit(factor=factor, deviation=deviation, residual=0.1, inliers=1.0, count=10, images=5)


def test_several_sources_are_weighted_by_their_uncertainty() -> None:
    fused = fuse_scales({"lidar": _fit(1.0, 0.01), "height": _fit(1.06, 0.03)})
    assert 1.0 < fused.factor < 1.02
    assert fused.deviation < 0.01
    assert fused.contradictions == ()


def test_a_contradiction_is_named_and_widens_the_deviation() -> None:
    fused = fuse_scales({"lidar": _fit(1.0, 0.01), "height": _fit(1.3, 0.02), "gps": _fit(1.01, 0.02)})
    assert fused.contradictions == (("lidar", "height"), ("height", "gps"))
    assert fused.deviation > 0.12
