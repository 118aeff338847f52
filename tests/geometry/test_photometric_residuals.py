"""Residuals of points: their slopes are autograd's, and the laws of weights and of the choice of pixels."""

from dataclasses import replace

import pytest
import torch
from tests.tensor_cameras import intrinsics, pixel_grid
from torch import Tensor
from torch.testing import assert_close

from stadia.differentiable import photometric_residuals as direct
from stadia.differentiable.photometric_residuals import (
    HostPoints,
    Observations,
    PhotometricResiduals,
    VirtualStereo,
    WindowFrames,
    compute_stereo_residuals,
)
from stadia.geometry import poses as se3

F64 = torch.float64
CAMERA = intrinsics(60.0, 58.0, 47.3, 22.8, height=48, width=96)
K = CAMERA.K.clone()
K[0, 1] = 1.5  # a skew too
NEAR = 0.1 + 0.001 * pixel_grid(48, 96, dtype=F64)[1]  # inverse depth, of something like a road


def waves(frames: int) -> Tensor:
    """(F, 48, 96) in [0, 1]."""
    x, y = pixel_grid(48, 96, dtype=F64)
    return torch.stack(
        [0.5 + (torch.sin(0.31 * x + 0.2 * y + k) + torch.sin(0.4 * y - 0.17 * x + k)) / 4 for k in range(frames)]
    )


@pytest.fixture
def window(poses) -> tuple[WindowFrames, HostPoints, Observations]:
    """Three frames of different brightness, each host of 20 points, all projected to the others."""
    gray = waves(3)
    brightness = torch.tensor([[0.0, 0.0], [0.2, 0.03], [-0.1, -0.02]], dtype=F64)
    frames = WindowFrames(gray, K.expand(3, 3, 3), poses(3, reach=0.2, turn=0.03), brightness)
    hosts = []
    for host in range(3):
        pixel = torch.stack((torch.randint(20, 76, (20,)), torch.randint(12, 36, (20,))), -1)
        hosts.append(
            direct.make_host_points(gray[host], K, host, pixel, NEAR + 0.05 * waves(1)[0], torch.ones_like(gray[host]))
        )
    points = HostPoints(*(torch.cat([getattr(part, name) for part in hosts]) for name in HostPoints.__slots__))
    pairs = [(p, f) for p in range(60) for f in range(3) if f != p // 20]
    point, frame = torch.tensor(pairs).unbind(-1)
    return frames, points, Observations(point, frame)


def full_slopes(
    found: PhotometricResiduals, frames: WindowFrames, points: HostPoints, sightings: Observations
) -> tuple[Tensor, Tensor]:
    """(S, 8, F, 8) in the frames' unknowns and (S, 8) in the inverse depth, made of what a Residuals holds."""
    every = torch.zeros(*found.value.shape, len(frames), 8, dtype=F64)
    host, frame, row = points.host[sightings.point], sightings.frame, torch.arange(len(sightings))
    every[row, :, frame] = found.slope[..., :8]
    every[row, :, host] = found.slope[..., :8] @ direct.host_jacobians(frames)[frame, host]
    return every, found.slope[..., 8]


@pytest.mark.slow
def test_slopes_are_autograds(window):
    frames, points, sightings = window

    def value(step: Tensor, inverse_depth: Tensor) -> Tensor:
        other = HostPoints(
            *(inverse_depth if name == "inverse_depth" else getattr(points, name) for name in HostPoints.__slots__)
        )
        return direct.compute_residuals(direct.apply_step(frames, step), other, sightings).value

    in_step, in_depth = torch.autograd.functional.jacobian(
        value, (torch.zeros(3, 8, dtype=F64), points.inverse_depth), vectorize=True
    )
    found = direct.compute_residuals(frames, points, sightings)
    assert found.seen.float().mean() > 0.9
    steps, depths = full_slopes(found, frames, points, sightings)
    seen = found.seen
    assert_close(steps[seen], in_step[seen], atol=1e-6, rtol=1e-6)
    own = in_depth[torch.arange(len(sightings)), :, sightings.point]
    assert_close(depths[seen], own[seen], atol=1e-6, rtol=1e-6)
    assert in_step[seen].abs().amax((0, 1)).min() > 1e-3  # nothing was compared with nothing


def test_slopes_are_taken_at_the_first_estimate(window):
    frames, points, sightings = window
    x, y = pixel_grid(48, 96, dtype=F64)
    plane = (0.2 + 0.004 * x + 0.003 * y).expand(3, -1, -1)
    first = WindowFrames(plane, frames.K, frames.T_camera_world, frames.brightness)
    away = direct.apply_step(first, 0.01 * torch.randn(3, 8, dtype=F64))
    kept = WindowFrames(plane, frames.K, away.T_camera_world, frames.brightness, T_first=frames.T_camera_world)
    there, here = direct.compute_residuals(first, points, sightings), direct.compute_residuals(kept, points, sightings)
    assert_close(here.slope[..., :6], there.slope[..., :6], atol=1e-12, rtol=0)
    assert_close(direct.host_jacobians(kept)[..., :6, :6], direct.host_jacobians(first)[..., :6, :6])
    assert (here.value - there.value).abs().max() > 1e-3


def test_brightness_of_both_frames_is_undone(window):
    frames, points, _ = window
    a, b = frames.brightness[:, :1, None], frames.brightness[:, 1:, None]
    shown = a.exp() * waves(1) + b
    still = WindowFrames(shown, frames.K, torch.eye(4, dtype=F64).expand(3, 4, 4), frames.brightness)
    points = direct.make_host_points(shown[1], K, 1, points.pixel, NEAR + waves(1)[0], torch.ones(48, 96, dtype=F64))
    found = direct.compute_residuals(still, points, Observations(torch.arange(60), torch.full((60,), 2)))
    assert found.value.abs().max() < 1e-12


def test_a_pattern_that_leaves_the_image_or_lies_behind_is_not_visible(window):
    frames, points, _ = window
    T = torch.eye(4, dtype=F64).repeat(3, 1, 1)
    T[1, 2, 3], T[2, 0, 3] = -100.0, 100.0
    away = WindowFrames(frames.gray, frames.K, T, frames.brightness)
    first = torch.arange(20)
    for frame in (1, 2):
        found = direct.compute_residuals(away, points, Observations(first, torch.full((20,), frame)))
        assert not found.seen.any()
        assert found.slope.isfinite().all()


def test_huber_is_a_square_that_goes_on_as_a_line():
    r = torch.tensor([-3.0, -0.5, 0.0, 0.5, 1.0, 3.0], dtype=F64, requires_grad=True)
    cost, weight = direct.huber_cost(r, 1.0)
    assert_close(cost, torch.tensor([2.5, 0.125, 0, 0.125, 0.5, 2.5], dtype=F64))
    (slope,) = torch.autograd.grad(cost.sum(), r)
    assert_close(slope, (weight * r).detach())


def test_pixels_are_steep_spread_and_allowed():
    gray, allowed = waves(1)[0], torch.ones(48, 96, dtype=torch.bool)
    allowed[:, :30] = False
    pixel = direct.select_pixels(gray, allowed, 100)
    assert 40 <= len(pixel) <= 110
    assert pixel[:, 0].min() >= 30
    assert pixel[:, 0].max() <= 95 - direct.MARGIN
    squared = direct.squared_gradient(gray)
    assert squared[pixel[:, 1], pixel[:, 0]].mean() > 2 * squared.mean()
    halves = [int((pixel[:, 0] < 63).sum()), int((pixel[:, 0] >= 63).sum())]
    assert min(halves) > 0.6 * max(halves)
    assert len(direct.select_pixels(torch.full((48, 96), 0.5, dtype=F64), allowed, 100)) == 0


# -- virtual stereo, which holds the scale that a path alone leaves free

TWO_VIEWS, TWO_CAMERAS = waves(2), CAMERA.K.expand(2, 3, 3)
RIG = se3.se3_exp(torch.tensor([-0.5, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=F64))


def stereo_points(inverse_depth: Tensor) -> HostPoints:
    hosts, ones = [], torch.ones_like(inverse_depth)
    for host in range(2):
        pixel = torch.stack((torch.randint(25, 76, (20,)), torch.randint(12, 36, (20,))), -1)
        hosts.append(direct.make_host_points(TWO_VIEWS[host], CAMERA.K, host, pixel, inverse_depth, ones))
    return HostPoints(*(torch.cat([getattr(part, name) for part in hosts]) for name in HostPoints.__slots__))


@pytest.mark.slow
@pytest.mark.parametrize("rig", [RIG, se3.se3_exp(torch.tensor([-0.5, 0.03, 0.1, 0.01, 0.02, -0.01], dtype=F64))])
def test_stereo_slopes_are_autograds(rig):
    slanted = 0.1 + 0.001 * pixel_grid(48, 96, dtype=F64)[1] + 0.02 * TWO_VIEWS[0]
    window = stereo_points(slanted)
    stereo = VirtualStereo((slanted + 0.01 * TWO_VIEWS[1]).expand(2, -1, -1), rig)

    def value(inverse_depth: Tensor) -> Tensor:
        return compute_stereo_residuals(
            TWO_VIEWS, TWO_CAMERAS, replace(window, inverse_depth=inverse_depth), stereo
        ).value

    jacobian = torch.autograd.functional.jacobian(value, window.inverse_depth)
    found = compute_stereo_residuals(TWO_VIEWS, TWO_CAMERAS, window, stereo)
    rows = torch.arange(40)
    assert found.seen.all()
    assert_close(found.slope, jacobian[rows, :, rows], atol=1e-6, rtol=1e-6)
    assert found.slope.abs().median() > 0.1  # nothing was compared with nothing


def test_where_both_depths_agree_there_is_no_stereo_residual():
    wall = torch.full((48, 96), 1 / 8, dtype=F64)
    window, stereo = stereo_points(wall), VirtualStereo(wall.expand(2, -1, -1), RIG)
    at_rest = compute_stereo_residuals(TWO_VIEWS, TWO_CAMERAS, window, stereo)
    assert at_rest.value.abs().max() < 1e-12
    nearer = compute_stereo_residuals(
        TWO_VIEWS, TWO_CAMERAS, replace(window, inverse_depth=1.2 * window.inverse_depth), stereo
    )
    assert nearer.value.abs().mean() > 0.02
