"""The horizon's laws: where far points of the road are seen, how distances to it are signed, and what an image's change
does to it.
"""

import math

import numpy as np
import pytest
import torch
from tests import tensor_cameras
from torch.testing import assert_close

from stadia.core.types import Camera
from stadia.geometry import cameras
from stadia.geometry.ground import horizon
from stadia.geometry.ground import horizon as hr
from stadia.geometry.ground.horizon import fit_object_horizon
from stadia.geometry.poses import so3_exp
from stadia.geometry.segments import segments_from_instances

F64 = torch.float64


def up(pitch: float = 0.0, roll: float = 0.0) -> torch.Tensor:
    return so3_exp(torch.tensor([pitch, 0, roll], dtype=F64)) @ torch.tensor([0.0, -1, 0], dtype=F64)


def test_a_level_camera_has_it_at_cy(small):
    assert_close(horizon.horizon_from_normal(up(), small), torch.tensor([0, -1, 11.8], dtype=F64))
    pixels = torch.tensor([[5.0, 10.8], [30.0, 13.8]], dtype=F64)
    assert_close(
        horizon.distance_above_horizon(horizon.horizon_from_normal(up(), small), pixels),
        torch.tensor([1.0, -2], dtype=F64),
    )


def test_far_points_of_road_lie_on_it_and_nearer_ones_below(small):
    normal = torch.stack([up(), up(0.1, 0.2), up(-0.2, -0.4)])
    line = horizon.horizon_from_normal(normal, small)
    ahead = torch.tensor([0.0, 0, 1], dtype=F64) - normal * normal[:, 2:]  # along the road
    for distance, least, most in ((1e9, -1e-6, 1e-6), (20.0, -9.0, -0.5)):
        point = distance * ahead - 1.65 * normal
        pixels, _ = cameras.project(point.T[None, :, None, :].expand(1, 3, 1, 3), small)
        above = horizon.distance_above_horizon(line, pixels[0, :, 0].T[:, None])[:, 0]
        assert ((least <= above) & (above <= most)).all(), above


def test_rays_above_it_leave_the_road(small):
    normal = torch.stack([up(0.1, 0.2), up(-0.2, -0.4)])
    above = horizon.distance_above_horizon_map(horizon.horizon_from_normal(normal, small), 24, 36)
    rays = cameras.apply_to_pixels(cameras.inverse_intrinsics(small.K), 24, 36)
    assert above.shape == (2, 1, 24, 36)
    assert torch.equal(above[:, 0] > 0, torch.einsum("bc,chw->bhw", normal, rays) > 0)
    places = tensor_cameras.pixel_grid(24, 36, dtype=F64).flatten(1).T.expand(2, -1, -1)
    assert_close(above.flatten(1), horizon.distance_above_horizon(horizon.horizon_from_normal(normal, small), places))


def test_the_normal_comes_back(small):
    normal = torch.stack([up(), up(0.1, 0.2), up(-0.9, 3.0)])
    assert_close(horizon.normal_from_horizon(horizon.horizon_from_normal(normal, small), small), normal)
    each = Camera(
        torch.stack((small.K, small.K.sqrt(), cameras.crop_camera(small, 9, 9, 9, 9).K)), 24, 36
    )  # a camera for each
    assert_close(horizon.normal_from_horizon(horizon.horizon_from_normal(normal, each), each), normal)
    assert_close(horizon.horizon_from_normal(normal, each)[0], horizon.horizon_from_normal(normal[0], small))


def test_it_moves_with_the_image(small):
    normal = up(0.1, 0.2)
    line = horizon.horizon_from_normal(normal, small)
    cropped = horizon.horizon_from_normal(normal, cameras.crop_camera(small, left=4, top=3, height=12, width=20))
    assert_close(
        horizon.distance_above_horizon_map(cropped, 12, 20),
        horizon.distance_above_horizon_map(line, 24, 36)[..., 3:15, 4:24],
    )
    mirrored = horizon.horizon_from_normal(normal * torch.tensor([-1.0, 1, 1], dtype=F64), cameras.mirror_camera(small))
    assert_close(
        horizon.distance_above_horizon_map(mirrored, 24, 36), horizon.distance_above_horizon_map(line, 24, 36).flip(-1)
    )


def test_a_vertical_camera_has_no_horizon(small):
    line = horizon.horizon_from_normal(torch.stack([torch.tensor([0.0, 0, -1], dtype=F64), up()]), small)
    assert line.isnan().all(-1).tolist() == [True, False]


# -- the ratio against the horizon, and which objects it makes odd


NAN, INF = math.nan, math.inf


def test_the_ratio_counts_pixels_to_the_horizon():
    objects = torch.zeros(2, 30, 40, dtype=torch.int16)
    objects[0, 8:21, 3:9], objects[0, 2:7, 20:30], objects[1, 15:21, 4:5] = 1, 2, 5
    horizon = torch.tensor([[0, -1, 10.5], [0, -1, 10.5]], dtype=F64)
    found = hr.compute_horizon_ratios(horizon, segments_from_instances(objects), 30, 40)
    assert_close(found.foot_below, torch.tensor([9.5, -4.5, 9.5], dtype=F64))
    assert_close(found.top_above, torch.tensor([2.5, 8.5, -4.5], dtype=F64))
    assert_close(found.ratio, torch.tensor([13 / 9.5, INF, 6 / 9.5], dtype=F64))


def test_an_image_without_a_horizon_gives_nan():
    objects = torch.ones(2, 8, 8, dtype=torch.long)
    found = hr.compute_horizon_ratios(
        torch.tensor([[NAN, NAN, NAN], [0, -1, 3]], dtype=F64), segments_from_instances(objects), 8, 8
    )
    assert found.ratio.isnan().tolist() == [True, False]
    implied = hr.implied_camera_height(torch.tensor([1.5, 1.5], dtype=F64), found.ratio)
    assert (hr.log_height_ratio(implied, implied[1]).abs() < 0.2).tolist() == [False, True]


def test_each_object_implies_a_camera_height():
    implied = hr.implied_camera_height(torch.tensor([1.5, 1.5, 1.5, NAN]), torch.tensor([0.75, 1.5, INF, 1.0]))
    assert_close(implied, torch.tensor([2.0, 1.0, 0.0, NAN]), equal_nan=True)


# -- the horizon and the camera's height from boxes, with many heights wrong


HORIZON = np.array([math.sin(0.04), -math.cos(0.04), 90.0])
CAMERA_M = 1.65


def chance() -> np.random.Generator:
    return np.random.default_rng(0)


def boxes(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feet (count, 2), heights in pixels and in metres that agree with HORIZON and CAMERA_M exactly."""
    random = np.random.default_rng(1)
    foot = random.random((count, 2)) * (640.0, 70.0) + (0, 120.0)
    height_m = 1 + random.random(count)
    below = -(foot @ HORIZON[:2] + HORIZON[2])
    return foot, below * height_m / CAMERA_M, height_m


def test_exact_boxes_give_the_exact_horizon_and_height():
    found = fit_object_horizon(*boxes(5), generator=chance())
    np.testing.assert_allclose(found.horizon, HORIZON)
    assert found.camera_height_m == pytest.approx(CAMERA_M)
    assert found.inlier_mask.all()
    np.testing.assert_allclose(found.log_height_ratio, 0, atol=1e-9)


def test_four_in_ten_with_a_wrong_height_are_found():
    foot, height_px, height_m = boxes(60)
    wrong = np.arange(60) % 5 < 2
    noisy = height_px * (1 + 0.03 * np.random.default_rng(2).normal(size=60))
    labeled_m = np.where(wrong, height_m * np.tile([2.0, 0.55, 1.5], 20), height_m)
    found = fit_object_horizon(foot, noisy, labeled_m, generator=chance())
    np.testing.assert_array_equal(found.inlier_mask, ~wrong)
    assert found.camera_height_m == pytest.approx(CAMERA_M, rel=0.03)
    edges = np.array([[0.0, 90.0], [640.0, 90.0]])
    assert abs(edges @ (found.horizon - HORIZON)[:2] + (found.horizon - HORIZON)[2]).max() < 4
    assert found.log_height_ratio[labeled_m > height_m].min() > 0.2  # it is too low for its labeled height
    again = fit_object_horizon(foot, noisy, labeled_m, generator=chance())
    np.testing.assert_array_equal(again.horizon, found.horizon)


def test_an_object_above_the_horizon_is_never_an_inlier():
    foot, height_px, height_m = boxes(12)
    foot[3, 1] = 20
    found = fit_object_horizon(foot, height_px, height_m, generator=chance())
    assert found.log_height_ratio[3] == math.inf
    assert found.inlier_mask.sum() == 11
