"""Scale by objects of known height: recovered exactly from scaled depth, whatever depth stands for an object."""

import numpy as np
import pytest
import torch

from stadia.core.types import Camera
from stadia.geometry.ground.object_scale import OBJECT_DEPTHS, POOLS, pool_heights, represent_depths, scale_objects
from stadia.geometry.ground.road_plane import road_pixel_heights
from stadia.geometry.segments import Segments, segments_from_instances

FOCAL, HEIGHT, WIDTH, TRUE_M, CAR_M = 300.0, 240, 480, 1.65, 1.5
CAMERA = Camera(torch.tensor([[FOCAL, 0, 239.5], [0, FOCAL, 89.5], [0, 0, 1]], dtype=torch.float64), HEIGHT, WIDTH)


def make_street(*distances_m: float) -> tuple[torch.Tensor, torch.Tensor, Segments]:
    """Depth (1, 1, H, W) of a level road with flat cars on it, the road's mask, and the cars."""
    rows = torch.arange(HEIGHT, dtype=torch.float64)[:, None].expand(HEIGHT, WIDTH)
    depth = torch.where(rows > 92, FOCAL * TRUE_M / (rows - 89.5).clamp(min=1), 0.0)
    road, numbers = depth > 0, torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    for number, z in enumerate(distances_m, start=1):
        bottom = 89.5 + FOCAL * TRUE_M / z
        top = bottom - FOCAL * CAR_M / z
        place = (slice(round(top + 0.5), round(bottom + 0.5)), slice(100 * number, 100 * number + 60))
        depth[place], numbers[place], road[place] = z, number, False
    return depth[None, None], road[None, None], segments_from_instances(numbers[None])


@pytest.mark.parametrize("kind", OBJECT_DEPTHS)
@pytest.mark.parametrize("unit", [1.0, 0.01, 37.0])
def test_the_factor_of_scaled_depth_is_one_over_its_unit(kind: str, unit: float) -> None:
    depth, on_road, cars = make_street(8.0, 12.0, 16.0)
    heights = torch.full((3,), CAR_M, dtype=torch.float64)
    road = road_pixel_heights(unit * depth, CAMERA, on_road)
    scales = scale_objects(unit * depth, CAMERA, road.plane, cars, heights, 0.1 * heights, kind=kind)
    torch.testing.assert_close(scales.factor * unit, torch.ones(3, dtype=torch.float64), rtol=0.03, atol=0)
    torch.testing.assert_close(scales.variance.sqrt() / scales.factor, torch.full((3,), 0.1, dtype=torch.float64))
    torch.testing.assert_close(
        road.median_height * scales.factor.mean(), torch.tensor([TRUE_M]).double(), rtol=0.03, atol=0
    )


def test_representative_depths_are_ordered_and_ignore_what_has_none() -> None:
    depth = torch.tensor([0.0, 4.0, 5.0, 6.0, 9.0]).view(1, 1, 1, 5)
    objects = segments_from_instances(torch.ones(1, 1, 5, dtype=torch.long))
    found = [represent_depths(depth, objects, kind).item() for kind in ("nearest", "quartile", "median", "mean")]
    assert found == [4.0, 4.75, 5.5, 6.0]
    nothing = represent_depths(torch.zeros(1, 1, 1, 5), objects, "mean")
    assert nothing.isnan().all()


def test_an_object_that_hangs_or_is_too_tall_is_not_grounded() -> None:
    depth, on_road, cars = make_street(8.0, 12.0, 16.0)
    plane = road_pixel_heights(depth, CAMERA, on_road).plane
    heights = torch.tensor([CAR_M, CAR_M, 0.5 * CAR_M], dtype=torch.float64)
    scales = scale_objects(depth, CAMERA, plane, cars, heights, 0.1 * heights)
    assert scales.is_grounded(1.0, heights, tolerance=0.3).tolist() == [True, True, False]
    lower = plane + torch.tensor([0.0, 0.0, 0.0, 0.8], dtype=torch.float64)  # a road 0.8 m below the cars
    hanging = scale_objects(depth, CAMERA, lower, cars, heights, 0.1 * heights)
    assert not hanging.is_grounded(1.0, heights, tolerance=0.3).any()


def test_pools_agree_on_symmetric_heights_and_only_mean_and_weights_follow_a_tail() -> None:
    random = np.random.default_rng(0)
    heights = 1.65 * np.exp(random.normal(0, 0.05, 400))
    pooled = pool_heights(heights, np.full(400, 0.01), np.full(20, 1 / 20), 0.1)
    assert set(pooled.by) == set(POOLS)
    for name, value in pooled.by.items():
        assert value == pytest.approx(1.65, rel=0.04), name
    assert pooled.sigma_m == pytest.approx(1.65 * 0.1 / np.sqrt(20), rel=0.05)
    tail = np.concatenate([heights, np.full(60, 4.0)])
    pooled = pool_heights(tail, np.full(460, 0.01), np.full(20, 1 / 20), 0.1)
    assert pooled.by["median"] == pytest.approx(1.66, rel=0.03)
    assert pooled.by["mode"] == pytest.approx(1.65, rel=0.04)
    assert pooled.by["mean"] > 1.9
