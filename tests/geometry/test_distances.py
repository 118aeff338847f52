"""Distances between pixels: of a plane and of random points, against coordinates; what has no depth is refused."""

import math

import numpy as np
import pytest

from stadia.geometry.cameras import centered_K
from stadia.predict.prediction import measure_distance
from stadia.scale.depth_deviations import REACH, DepthDeviations

K = centered_K(80.0, 48, 64)


def test_distance_is_that_of_the_points() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, (48, 64))
    for _ in range(20):
        first, second = (tuple(int(v) for v in rng.integers((0, 0), (64, 48))) for _ in range(2))
        points = [np.linalg.inv(K) @ (x, y, 1) * depth[y, x] for x, y in (first, second)]
        measured = measure_distance(depth, K, first, second)
        assert measured.distance == pytest.approx(np.linalg.norm(points[0] - points[1]))
        assert measure_distance(depth, K, second, first).distance == pytest.approx(measured.distance)


def test_distance_scales_with_depth() -> None:
    depth = np.random.default_rng(1).uniform(1, 9, (48, 64))
    once, twice = (
        measure_distance(factor * depth, K, (3, 4), (50, 40), DepthDeviations(0.1, 0.05)) for factor in (1, 2)
    )
    assert twice.distance == pytest.approx(2 * once.distance)
    assert twice.deviation == pytest.approx(2 * once.deviation)


@pytest.mark.slow
def test_deviation_is_the_spread_of_distances_under_errors_of_depth() -> None:
    rng = np.random.default_rng(2)
    flat = np.full((48, 64), 4.0)
    noisy = flat + rng.normal(0, 0.05, flat.shape)
    deviation = measure_distance(noisy, K, (8, 20), (55, 30), DepthDeviations(0.03, 0.02)).deviation
    alike, drawn = np.exp(-math.hypot(55 - 8, 30 - 20) / (REACH * 64)), []
    for _ in range(4000):
        one = flat.copy()
        of_pixels = rng.multivariate_normal([0, 0], 0.02**2 * np.array([[1, alike], [alike, 1]]))
        for (x, y), single in zip(((8, 20), (55, 30)), of_pixels, strict=True):
            one[y, x] = one[y, x] * (1 + single) + rng.normal(0, 0.05)
        drawn.append(measure_distance(one * (1 + rng.normal(0, 0.03)), K, (8, 20), (55, 30)).distance)
    assert deviation == pytest.approx(np.std(drawn), rel=0.15)


def test_a_measured_scale_replaces_the_error_of_the_network_s_scale() -> None:
    """With a known length, the depth of single pixels stays wrong; an exact one leaves nothing else."""
    alone, exact, rough = (DepthDeviations.of(0.25, deviation) for deviation in (None, 0.0, 0.15))
    assert alone is not None
    assert exact is not None
    assert rough is not None
    assert alone.mean == pytest.approx(0.25)
    assert exact.relative == exact.single == alone.single
    assert exact.relative < rough.relative < alone.relative
    assert DepthDeviations.of(None, None) is None
