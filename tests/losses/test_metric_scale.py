"""Metres from objects and from the camera's height: values, gradients (V14), a small training (V15), and what others
tried and gave up.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests import tensor_cameras
from tests.geometry.traffic import Car, Scene, kitti_camera, see, street
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from stadia.differentiable.segments import segment_means
from stadia.geometry import cameras
from stadia.geometry.ground.road_plane import erode_mask, road_pixel_heights
from stadia.geometry.segments import Segments, segments_from_instances
from stadia.losses.config import MetricScaleConfig
from stadia.losses.metric_scale import (
    FINAL_OBJECT_SHARE,
    KnownHeights,
    MetricScaleLoss,
    camera_height_error,
    camera_height_loss,
    compute_scale_loss_shares,
    object_height_error,
    object_height_loss,
)

F64 = torch.float64
NAN = math.nan
SMALL = tensor_cameras.intrinsics(12, 14, 5.4, 2.1, height=8, width=12)
QUARTER = kitti_camera(0.25)
HEIGHT_M = 1.65


def objects() -> Segments:
    """Two in the first image, 3 and 2 rows high, one in the second, 4 rows high."""
    numbers = torch.zeros(2, 8, 12, dtype=torch.int16)
    numbers[0, 1:4, 1:4], numbers[0, 5:7, 6:11], numbers[1, 2:6, 3:5] = 1, 2, 1
    return segments_from_instances(numbers)


def visible_road(count: int = 1, cars: int = 0) -> tuple[Tensor, Tensor, list[Scene]]:
    rng = np.random.default_rng(0)
    scenes = [street(rng, cars, camera_height=HEIGHT_M) for _ in range(count)]
    views = [see(scene, QUARTER) for scene in scenes]
    return torch.stack([v.depth for v in views]), torch.stack([v.road for v in views]), scenes


# ------------------------------------------------------------------------------------------------------------------
# values


def test_an_object_has_its_height_at_one_depth():
    height_m = torch.tensor([1.5, NAN, 2.0], dtype=F64)
    error = object_height_error(torch.full((2, 1, 8, 12), 7.0, dtype=F64), SMALL, objects(), height_m)
    assert_close(error, torch.zeros_like(error))
    error = object_height_error(torch.full((2, 1, 8, 12), 8.4, dtype=F64), SMALL, objects(), height_m)
    assert_close(segment_means(error, objects().segment, 3), torch.tensor([0.3, 0.0, 0.4], dtype=F64))


def test_objects_weigh_alike_whatever_their_size_and_by_their_weights():
    error = torch.tensor([1.0, 3.0, 2.0])[objects().segment]
    for weight, expected in (([1, 1, 1], 2.0), ([1, 0, 1], 1.5), ([0.5, 1, 0], 7 / 3), ([0, 0, 0], 0.0)):
        assert object_height_loss(error, objects(), torch.tensor(weight)).item() == pytest.approx(expected)
    none = segments_from_instances(torch.zeros(2, 8, 12, dtype=torch.long))
    assert object_height_loss(error[:0], none, torch.zeros(0)) == 0


def test_images_without_road_or_height_do_not_count():
    depth, road, _ = visible_road(3)
    road[1] = False
    found = road_pixel_heights(1.1 * depth, QUARTER, road)
    for heights, expected in (([HEIGHT_M] * 3, 0.165), ([NAN, HEIGHT_M, HEIGHT_M + 0.1], 0.065), ([NAN] * 3, 0.0)):
        height_m = torch.tensor(heights, dtype=F64)
        error = camera_height_error(found, height_m)
        assert (error[~found.valid] == 0).all()
        loss = camera_height_loss(error, found.valid & height_m.isfinite()[:, None, None, None])
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_road_beside_a_car_is_left_out():
    depth, road, _ = visible_road(2, cars=3)
    none = known_of(torch.zeros(2, 48, 160, dtype=torch.long))
    report = MetricScaleLoss(MetricScaleConfig(camera_height=0.01))([1 / depth.clamp(0.1, 100)], QUARTER, road, none)
    assert report.maps["camera_height_error"].max() < 1e-6
    assert camera_height_error(road_pixel_heights(depth, QUARTER, road), none.camera_m).max() > 0.1


# ---------------------------------------------------------------------------------------------------------------
# gradients


@pytest.mark.slow
def test_v14_gradients_are_those_of_finite_differences():
    depth = (5 + 4 * torch.rand(2, 1, 8, 12, dtype=F64, generator=torch.Generator().manual_seed(0))).requires_grad_()
    weight, height_m = torch.tensor([1.0, 0.5, 1.0]), torch.tensor([1.5, NAN, 0.4], dtype=F64)
    rough = lambda d: object_height_loss(object_height_error(d, SMALL, objects(), height_m), objects(), weight)  # noqa: E731
    assert torch.autograd.gradcheck(rough, (depth,), atol=1e-6, rtol=1e-4)
    seen, road, _ = visible_road()
    window = cameras.crop_camera(QUARTER, 60, 34, 8, 12)
    tilted = (seen[..., 34:42, 60:72].clamp(1, 60) * (1 + 0.02 * torch.rand(1, 1, 8, 12, dtype=F64))).requires_grad_()

    def fine(d: Tensor) -> Tensor:
        found = road_pixel_heights(d, window, torch.ones_like(road[..., :8, :12]))
        return camera_height_loss(camera_height_error(found, torch.tensor([HEIGHT_M], dtype=F64)), found.valid)

    assert torch.autograd.gradcheck(fine, (tilted,), atol=1e-6, rtol=1e-4)


def test_v14_what_is_known_has_no_gradient():
    depth, road, _ = visible_road()
    depth = depth.requires_grad_()
    height_m, camera_m, weight = (torch.ones(n, dtype=F64, requires_grad=True) for n in (1, 1, 1))
    car = torch.zeros(1, 48, 160, dtype=torch.long)
    car[:, 20:30, 60:80] = 1
    known = KnownHeights(segments_from_instances(car), height_m, weight, camera_m)
    report = MetricScaleLoss()([1 / depth.clamp(0.1, 100)], QUARTER, road, known)
    report.total.backward()
    assert height_m.grad is None
    assert camera_m.grad is None
    assert weight.grad is None
    assert depth.grad is not None
    assert depth.grad.isfinite().all()


# -- the class


def known_of(numbers: Tensor, object_m: float = 1.5, camera_m: float = HEIGHT_M) -> KnownHeights:
    found = segments_from_instances(numbers)
    return KnownHeights(
        found, torch.full((found.count,), object_m), torch.ones(found.count), torch.full((len(numbers),), camera_m)
    )


def test_the_report_adds_up_over_scales_weights_and_shares():
    depth, road, scenes = visible_road(2, cars=3)
    numbers = torch.stack([see(scene, QUARTER).objects for scene in scenes])
    inverse = 1 / depth.clamp(0.1, 100).float()
    halves = functional.avg_pool2d(inverse, 2)
    whole = MetricScaleLoss(MetricScaleConfig(object_height=2.0, camera_height=0.05))
    report = whole([inverse, halves], QUARTER, road, known_of(numbers), object_share=0.5, camera_share=0.1)
    assert_close(report.total, sum(report.terms.values()))
    alone = [MetricScaleLoss()([scale], QUARTER, road, known_of(numbers)).terms for scale in (inverse, halves)]
    assert_close(report.terms["object_height"], (alone[0]["object_height"] + alone[1]["object_height"]) / 2)
    assert_close(report.terms["camera_height"], 0.5 * (alone[0]["camera_height"] + alone[1]["camera_height"]) / 2)
    assert report.logged["camera_height_m"].item() == pytest.approx(HEIGHT_M, rel=1e-3)
    assert report.maps["object_height_error"].shape == report.maps["camera_height_error"].shape == depth.shape
    assert ((report.maps["object_height_error"] > 0).squeeze(1) <= (numbers > 0)).all()


# -- what others tried, as mutants


def test_uniform_depth_is_a_zero_of_camera_height_so_its_weight_stays_small():
    wall = torch.full((1, 1, 48, 160), HEIGHT_M, dtype=F64)
    found = road_pixel_heights(wall, QUARTER, torch.ones_like(wall, dtype=torch.bool))
    assert camera_height_error(found, torch.tensor([HEIGHT_M], dtype=F64)).max() < 1e-9
    assert MetricScaleConfig().camera_height == 0.01
    with pytest.raises(ValueError, match="camera_height"):
        MetricScaleConfig(camera_height=2.5)


# -- a small training


@pytest.mark.slow
def test_v15_metres_are_learnt_from_objects_and_then_from_the_camera():
    rng = np.random.default_rng(1)
    cars = (Car(-2.5, 9, 0.3, 1.53), Car(3.5, 14, 2.0, 1.45), Car(0.5, 20, 0.8, 1.6))
    views = [see(Scene(HEIGHT_M, *rng.uniform(-0.01, 0.01, 2), cars=cars), QUARTER) for _ in range(2)]
    depth = torch.stack([v.depth for v in views]).float()
    road, numbers = torch.stack([v.road for v in views]), torch.stack([v.objects for v in views])
    known = replace(known_of(numbers), object_m=torch.tensor([car.height_m for car in cars]).repeat(2))
    scale = torch.tensor(rng.normal(0, 0.4, (2, 1, 1, 1))).float().requires_grad_()
    field = torch.zeros(2, 1, 4, 12, requires_grad=True)
    loss, truth = MetricScaleLoss(), 1 / depth.clamp(0.5, 100)

    def predict() -> Tensor:
        return truth * torch.exp(-scale - functional.interpolate(field, (48, 160), mode="bicubic"))

    def trained(steps: int, **shares: float) -> tuple[Tensor, Tensor]:
        """Of the road the ln of the scale (3,), and the spread of the depths of the nearest car over the true one."""
        optimizer = torch.optim.Adam([{"params": [scale], "lr": 0.06}, {"params": [field], "lr": 0.006}])
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] *= 0.1 if step == steps * 3 // 4 else 1
            optimizer.zero_grad()
            # Per-pixel geometry is the photometric loss's matter; here a spring stands for it.
            (loss([predict()], QUARTER, road, known, **shares).total + 0.3 * field.square().mean()).backward()
            optimizer.step()
        at = numbers[0] == 1
        spread = (1 / predict()).detach()[0, 0][at].std() / depth[0, 0][at].std()
        return (truth / predict()).detach().log().flatten(1).where(erode_mask(road).flatten(1), torch.nan).nanmedian(
            1
        ).values, spread

    start = scale.detach().abs().max()
    by_objects, flat = trained(40, camera_share=0.0)
    by_camera, kept = trained(40, object_share=0.0, camera_share=9.0)
    assert start > 0.3
    assert by_objects.abs().max() < 0.15
    assert flat < 0.8
    assert by_camera.abs().max() < 0.03
    assert kept > 0.9


CAMERA_SHARE = {0: 0, 1: 0.228, 2: 0.361, 3: 0.455, 5: 0.589, 8: 0.722, 10: 0.788, 15: 0.911, 19: 0.984, 20: 1, 50: 1}


@pytest.mark.parametrize(("epoch", "camera"), CAMERA_SHARE.items())
def test_v13_the_published_table(epoch, camera):
    shares = compute_scale_loss_shares(epoch, epochs=20)
    assert shares.camera == pytest.approx(camera, abs=1e-3)
    assert shares.objects == (FINAL_OBJECT_SHARE if epoch >= 20 else pytest.approx(1 - camera, abs=1e-3))
