"""What metric scale may cost and how wrong it may be, on ray-cast roads at 640x192: the limits V1 to V8, V10, V11, V18
of the method.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from tests.geometry.traffic import Scene, View, camera_height, kitti_camera, see, street
from torch import Tensor

from stadia.geometry.ground import horizon, road_plane
from stadia.geometry.ground import horizon as hr
from stadia.geometry.poses import so3_exp
from stadia.geometry.segments import Segments, segment_quantiles, segments_from_instances

F64 = torch.float64
CAMERA_M = 1.65
FULL, HALF = kitti_camera(), kitti_camera(0.5)


@dataclass(frozen=True)
class Traffic:
    """The cars of many images that are seen whole, with their true heights (M,) and distances (M,)."""

    depth: Tensor
    road: Tensor
    plane: Tensor
    objects: Tensor
    cars: Segments
    height_m: Tensor
    z_m: Tensor

    def rows(self, cars: Segments) -> tuple[Tensor, Tensor, Tensor]:
        """Of each pixel, and the first and last of each car."""
        row = (cars.pixel // FULL.width % FULL.height).to(F64)
        return row, *segment_quantiles(row, cars.segment, cars.count, (0.0, 1.0))

    def without(self, hidden: Tensor) -> Segments:
        """The cars without those pixels (P,) of theirs."""
        objects = self.objects.flatten().clone()
        objects[self.cars.pixel[hidden]] = 0
        cars = segments_from_instances(objects.view_as(self.objects))
        assert cars.count == self.cars.count
        return cars

    def without_rows(self, first: float, last: float) -> Segments:
        """The cars without the rows from a share of their height, counted from the top, to another."""
        row, top, bottom = self.rows(self.cars)
        share = (row - top[self.cars.segment]) / (bottom - top + 1)[self.cars.segment]
        return self.without((share >= first) & (share < last))


def traffic(images: int, **options: float) -> Traffic:
    rng = np.random.default_rng(0)
    scenes = [street(rng, 4, camera_height=CAMERA_M, **options) for _ in range(images)]
    views = [see(scene, FULL) for scene in scenes]
    objects = torch.stack(
        [view.objects * torch.cat((torch.zeros(1), view.whole)).long()[view.objects] for view in views]
    )
    cars = segments_from_instances(objects)
    height_m, z_m = (
        torch.tensor([[getattr(car, name) for car in s.cars] for s in scenes], dtype=F64) for name in ("height_m", "z")
    )
    here = cars.image, cars.instance - 1
    depth, road = _stacked(views)
    return Traffic(depth, road, torch.stack([s.plane for s in scenes]), objects, cars, height_m[here], z_m[here])


def _stacked(views: list[View]) -> tuple[Tensor, Tensor]:
    return torch.stack([view.depth for view in views]), torch.stack([view.road for view in views])


@pytest.fixture(scope="module")
def cars() -> Traffic:
    return traffic(22)


def camera_heights(
    scenes: list[Scene], camera: horizon.Camera, factor: Tensor | float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Relative errors (B,) of the height by one plane, the pixels' median, and one plane through the near road."""
    depth, road = _stacked([see(scene, camera) for scene in scenes])
    true = torch.tensor([scene.camera_height for scene in scenes], dtype=F64)
    depth = depth * factor
    found = camera_height(depth, camera, road)
    near = camera_height(
        depth, camera, road & (depth < 9 * found.by_median[:, None, None, None])
    )  # 15 m for a camera at 1.65 m
    return found.by_plane / true - 1, found.by_median / true - 1, near.by_plane / true - 1


def roads(count: int, cars: int = 0, **options: float) -> list[Scene]:
    rng = np.random.default_rng(1)
    return [street(rng, cars, **options) for _ in range(count)]


def test_v1_without_noise_both_heights_are_exact():
    for error in camera_heights([*roads(3, cars=3), Scene(facades=(6.0,))], HALF):
        assert error.abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.02])
def test_v2_smooth_noise_costs_the_median_less_than_a_percent(share):
    rng = np.random.default_rng(2)
    smooth = np.stack([gaussian_filter(rng.standard_normal((96, 320)), 4) for _ in range(12)])
    factor = torch.from_numpy(1 + share * smooth / smooth.std((1, 2), keepdims=True))[:, None]
    scenes = roads(12, cars=1)
    depth, road = _stacked([see(scene, HALF) for scene in scenes])
    found = road_plane.road_pixel_heights(depth * factor, HALF, road)
    by_median = found.median_height / torch.tensor([scene.camera_height for scene in scenes], dtype=F64) - 1
    assert by_median.mean().abs() < 0.01
    assert by_median.std() < 0.01


@pytest.mark.parametrize("road", [{"grade": 0.03}, {"grade": -0.03}, {"crown": 0.02}, {"kerb_m": 0.12}], ids=str)
def test_v4_roads_that_are_no_plane(road):
    _, by_median, near_plane = camera_heights(roads(3, **road), HALF)
    assert by_median.abs().max() < 0.005
    assert near_plane.abs().max() < 0.03


@pytest.mark.slow
def test_v5_the_scale_from_whole_silhouettes(cars):
    scale_error = cars.height_m / road_plane.measure_silhouettes(cars.depth, FULL, cars.plane, cars.cars).height - 1
    assert len(scale_error) > 50
    assert scale_error.median().abs() < 0.01
    assert scale_error.quantile(0.9) < 0.05
    assert scale_error[cars.z_m > 30].median().abs() < 0.04


def implied(cars: Traffic, shown: Segments, pitch_deg: float = 0.0) -> Tensor:
    """The camera height of each car by a horizon that is wrong by so much."""
    turn = so3_exp(torch.tensor([math.radians(pitch_deg), 0, 0], dtype=F64))
    line = horizon.horizon_from_normal((turn * cars.plane[:, None, :3]).sum(-1), FULL)
    return hr.implied_camera_height(
        cars.height_m, hr.compute_horizon_ratios(line, shown, FULL.height, FULL.width).ratio
    )


@pytest.mark.slow
def test_v7_a_hidden_top_is_odd_and_a_hidden_foot_is_not(cars):
    true = torch.tensor(CAMERA_M, dtype=F64)
    odd = hr.log_height_ratio(implied(cars, cars.without_rows(-0.1, 0.4)), true)
    assert (odd.abs() < 0.2).double().mean() < 0.05
    assert (odd > 0).all()
    assert (hr.log_height_ratio(implied(cars, cars.without_rows(0.6, 1.1)), true).abs() < 0.2).double().mean() > 0.9
