"""The horizon's laws: where far points of the road are seen, how distances to it are signed, and what an image's change
does to it.
"""

from __future__ import annotations

import torch
from torch.testing import assert_close

from stadia.geometry import camera as cameras
from stadia.geometry.ground import horizon
from stadia.geometry.se3 import so3_exp

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
    places = cameras.pixel_grid(24, 36, dtype=F64).flatten(1).T.expand(2, -1, -1)
    assert_close(above.flatten(1), horizon.distance_above_horizon(horizon.horizon_from_normal(normal, small), places))


def test_distances_are_in_pixels_and_perpendicular(small):
    line = horizon.horizon_from_normal(up(0.05, 0.3), small)
    assert_close(line[:2].norm().item(), 1.0)
    foot = torch.tensor([7.0, 9.0], dtype=F64)
    foot = foot - line[:2] * horizon.distance_above_horizon(line, foot[None])
    assert_close(horizon.distance_above_horizon(line, (foot + 4 * line[:2])[None]), torch.tensor([4.0], dtype=F64))


def test_the_normal_comes_back(small):
    normal = torch.stack([up(), up(0.1, 0.2), up(-0.9, 3.0)])
    assert_close(horizon.normal_from_horizon(horizon.horizon_from_normal(normal, small), small), normal)
    each = cameras.Camera(
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


def test_gradients(small):
    normal = up(0.1, 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda n: horizon.horizon_from_normal(n, small), (normal,))
    assert torch.autograd.gradcheck(
        lambda n: horizon.distance_above_horizon_map(horizon.horizon_from_normal(n, small), 2, 3), (normal,)
    )
