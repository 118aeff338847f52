"""Depth metrics: equal to the formulas written again in NumPy, and lawful."""

from collections.abc import Callable

import numpy as np
import pytest

import stadia.core.torchvision_operators  # noqa: F401

# isort: split
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.geometry.segments import segments_from_instances
from stadia.metrics import METRICS
from stadia.metrics.depth_metrics import object_extent, rows_out_of_order, scale_ratio, share_at_max_depth

Array = NDArray[np.float64]

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


@pytest.fixture
def maps() -> tuple[Tensor, Tensor, Tensor]:
    """Three images of which a sixth has ground truth; what is not scored is poison."""
    rng = np.random.default_rng(0)
    true = np.exp(rng.uniform(np.log(1), np.log(80), (3, 37, 53)))
    predicted = true * np.exp(rng.normal(0.05, 0.3, true.shape))
    mask = rng.random(true.shape) < 1 / 6
    true[~mask] = rng.choice([0, np.nan, np.inf, -3], (~mask).sum())
    predicted[~mask] = rng.choice([0, np.nan, np.inf, -3], (~mask).sum())
    return torch.from_numpy(predicted), torch.from_numpy(true), torch.from_numpy(mask)


def test_every_metric_has_an_independent_twin() -> None:
    assert set(INDEPENDENT) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_equal_to_numpy(name: str, maps: tuple[Tensor, Tensor, Tensor]) -> None:
    ours = METRICS.load(name)(*maps)
    assert ours.shape == (3,)
    for value, p, g, m in zip(ours, *maps, strict=True):
        assert float(value) == pytest.approx(INDEPENDENT[name](p[m].numpy(), g[m].numpy()), rel=1e-9, abs=1e-9)


def test_a_number_by_hand() -> None:
    p, g = torch.tensor([[2.0, 8.0]]), torch.tensor([[4.0, 4.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_perfect_is_exactly_perfect(name: str, dtype: torch.dtype, maps: tuple[Tensor, Tensor, Tensor]) -> None:
    _, true, mask = maps
    assert METRICS.load(name)(true.to(dtype), true.to(dtype), mask).tolist() == [PERFECT[name]] * 3


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_pixels_does_not_matter(name: str, maps: tuple[Tensor, Tensor, Tensor]) -> None:
    metric = METRICS.load(name)
    order = torch.randperm(37 * 53, generator=torch.Generator().manual_seed(1))
    shuffled = [m.flatten(1)[:, order].unflatten(1, (37, 53)) for m in maps]
    torch.testing.assert_close(metric(*shuffled), metric(*maps), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["silog"])
@pytest.mark.parametrize("factor", [1e-4, 0.5, 3.0, 1e4])
def test_silog_does_not_see_scale(name: str, factor: float, maps: tuple[Tensor, Tensor, Tensor]) -> None:
    p, g, m = maps
    torch.testing.assert_close(METRICS.load(name)(factor * p, g, m), METRICS.load(name)(p, g, m), rtol=1e-10, atol=0)
    assert (METRICS.load(name)(factor * g, g, m) < 1e-10).all()  # and a scaled truth is perfect, not NaN


def test_never_nan_where_something_is_scored(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    p, g, _ = maps
    mask = (p > 0) & (g > 0) & p.isfinite() & g.isfinite()
    for scale in (1e-30, 1.0, 1e30):
        for name in METRICS:
            assert METRICS.load(name)(p * scale, g, mask).isfinite().all(), name


def test_an_image_without_truth_is_nan_not_perfect(maps: tuple[Tensor, Tensor, Tensor]) -> None:
    p, g, m = maps
    m[1] = False
    for name in METRICS:
        assert METRICS.load(name)(p, g, m).isnan().tolist() == [False, True, False]


def test_thresholds_are_strict() -> None:
    mask = torch.ones(1, 1, dtype=torch.bool)
    for name, power in (("d1", 1), ("d2", 2), ("d3", 3)):
        edge = torch.tensor([[1.25**power]], dtype=torch.float64)
        assert METRICS.load(name)(edge, torch.ones_like(edge), mask) == 0
        assert METRICS.load(name)(edge - 1e-9, torch.ones_like(edge), mask) == 1


# -- depth of road video by its own rows and objects: exact scenes are in order, and each is broken in one way

H, W, HORIZON = 32, 40, 9.5


def road() -> tuple[Tensor, Tensor]:
    """Depth (1, 1, H, W) of a level road 1.65 m below, and where it is."""
    below = (torch.arange(H, dtype=torch.float64) - HORIZON).clamp(min=0.5)
    return (1.65 * 50 / below)[:, None].expand(1, 1, H, W).clone(), (torch.arange(H) > 10)[:, None].expand(1, 1, H, W)


def test_a_road_viewed_from_above_is_in_order_and_one_that_bends_up_is_not() -> None:
    depth, where = road()
    assert rows_out_of_order(depth, where).tolist() == [0]
    depth[:, :, 11:17] = torch.linspace(4, 12, 6, dtype=torch.float64)[
        :, None
    ]  # the far road comes nearer: 5 of 20 pairs
    assert rows_out_of_order(depth, where).tolist() == [pytest.approx(5 / 20)]


def test_a_plane_that_faces_the_camera_has_no_extent_in_any_unit() -> None:
    instances = torch.zeros(1, H, W, dtype=torch.int64)
    instances[0, 5:15, 2:14], instances[0, 5:15, 20:32], instances[0, 20:22, 2:4] = 1, 2, 3
    depth = torch.full((1, 1, H, W), 10.0)
    depth[..., 20:32] = torch.linspace(9, 11, 12)
    for unit in (1, 100):
        extent = object_extent(unit * depth, segments_from_instances(instances))
        assert extent[0] == 0
        assert extent[1] == pytest.approx(0.16, abs=0.02)
        assert extent[2].isnan(), "four pixels say nothing"
    assert len(object_extent(depth, segments_from_instances(torch.zeros_like(instances)))) == 0


def test_objects_at_the_limit_are_counted_and_none_is_not_a_number() -> None:
    depth, pixels = torch.tensor([[[[96.0, 94.0], [99.0, 99.0]]]]), torch.tensor([[[[True, True], [True, False]]]])
    assert share_at_max_depth(depth, pixels, 100.0) == pytest.approx(2 / 3)
    assert share_at_max_depth(depth, torch.zeros_like(pixels), 100.0).isnan()
