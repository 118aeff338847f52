"""Direct alignment: the motion of exact views comes back, and the laws that hold whatever the images."""

import numpy as np
import pytest
import torch
from tests import tensor_cameras
from torch import Tensor
from torch.testing import assert_close

from stadia.core.types import Camera
from stadia.differentiable.direct_alignment import _exponential, _Pair, align_direct
from stadia.differentiable.view_synthesis import reproject
from stadia.geometry import cameras
from stadia.geometry import poses as se3

F64 = torch.float64
CAMERA = tensor_cameras.intrinsics(60.0, 58.0, 47.3, 22.8, height=48, width=96)


def many(camera: Camera, count: int = 1) -> Camera:
    return Camera(camera.K.expand(count, 3, 3), camera.height, camera.width)


def texture(pixels: Tensor) -> Tensor:
    """(B, 2, H, W) to (B, 3, H, W) in [0, 1]: waves of 8 to 60 pixels, none a multiple of another, over several
    directions.
    """
    x, y = pixels[:, 0], pixels[:, 1]
    directions = torch.tensor(
        [[0.11, 0.05], [-0.23, 0.31], [0.47, 0.21], [0.05, -0.13], [0.62, -0.4]], dtype=pixels.dtype
    )
    waves = [torch.sin(a * x + b * y + k) for k, (a, b) in enumerate(directions)]
    return (
        torch.stack((waves[0] + waves[1] + waves[2], waves[1] + waves[3], waves[2] + waves[3] + waves[4]), 1) / 6 + 0.5
    )


def scene(T: Tensor, camera: Camera = CAMERA) -> tuple[Tensor, Tensor, Tensor]:
    """Target, source and depth (of the target) exactly: the source has the texture, the target shows where its points
    are seen there.
    """
    x, y = tensor_cameras.pixel_grid(camera.height, camera.width, dtype=F64)
    depth = (4 + 0.03 * x + 1.5 * torch.sin(0.07 * x + 0.1 * y)).expand(len(T), 1, -1, -1)
    pixels, _ = reproject(depth, many(camera, len(T)), many(camera, len(T)), T)
    source = texture(tensor_cameras.pixel_grid(camera.height, camera.width, dtype=F64)[None]).expand(len(T), -1, -1, -1)
    return texture(pixels), source, depth


@pytest.fixture
def motions(poses) -> Tensor:
    """Up to 0.4 m and 2.3 degrees: 10 pixels."""
    return poses(6, reach=0.4, turn=0.04)


def aligned(target: Tensor, source: Tensor, depth: Tensor, start: Tensor, camera: Camera = CAMERA) -> Tensor:
    camera = many(camera, len(target))
    return align_direct(target, source, depth, camera, camera, start).T_source_target


def identities(count: int) -> Tensor:
    return torch.eye(4, dtype=F64).repeat(count, 1, 1)


def errors(found: Tensor, true: Tensor) -> tuple[float, float]:
    """The largest, in metres and in degrees."""
    difference = se3.compose(se3.invert_pose(found), true)
    return float(difference[:, :3, 3].norm(dim=1).max()), float(se3.rotation_angle_deg(difference[:, :3, :3]).max())


def test_the_motion_of_exact_views_comes_back(motions):
    metres, degrees = errors(aligned(*scene(motions), identities(6)), motions)
    assert metres < 0.003  # what bilinear reading of the texture costs
    assert degrees < 0.03


def test_equal_images_have_no_motion_between_them():
    _, source, depth = scene(identities(1))
    assert_close(aligned(source, source, depth, identities(1)), identities(1), atol=1e-5, rtol=0)


def test_another_exposure_moves_nothing(motions):
    target, source, depth = scene(motions)
    found = align_direct(target, 0.8 * source + 0.05, depth, many(CAMERA, 6), many(CAMERA, 6), identities(6))
    metres, degrees = errors(found.T_source_target, motions)
    assert metres < 0.003
    assert degrees < 0.03
    assert_close(found.gain, torch.full((6,), 0.8, dtype=F64), atol=0.02, rtol=0)
    assert_close(found.offset, torch.full((6,), 0.05, dtype=F64), atol=0.01, rtol=0)


def test_something_that_moves_by_itself_is_an_outlier(motions):
    target, source, depth = scene(motions)
    source = source.clone()
    source[..., 15:35, 30:50] = texture(tensor_cameras.pixel_grid(20, 20, dtype=F64)[None] * 1.7)
    metres, degrees = errors(aligned(target, source, depth, identities(6)), motions)
    assert metres < 0.03
    assert degrees < 0.3


def test_twice_the_depth_is_twice_the_translation(motions):
    target, source, depth = scene(motions)
    once, twice = aligned(target, source, depth, identities(6)), aligned(target, source, 2 * depth, identities(6))
    assert_close(twice[:, :3, 3], 2 * once[:, :3, 3], atol=1e-4, rtol=0)
    assert_close(twice[:, :3, :3], once[:, :3, :3], atol=1e-5, rtol=0)


def test_in_a_mirror_the_motion_is_mirrored(motions):
    target, source, depth = scene(motions)
    there = aligned(target, source, depth, identities(6))
    mirrored = aligned(target.flip(-1), source.flip(-1), depth.flip(-1), identities(6), cameras.mirror_camera(CAMERA))
    assert_close(mirrored, se3.mirror_x(there), atol=1e-4, rtol=0)


def test_a_pair_does_not_feel_the_others_of_its_batch(motions):
    target, source, depth = scene(motions)
    start = identities(6)
    start[2] = motions[2]  # done long before the others
    together = aligned(target, source, depth, start)
    assert_close(together[2:3], aligned(target[2:3], source[2:3], depth[2:3], start[2:3]), atol=0, rtol=0)
    assert_close(together[4:5], aligned(target[4:5], source[4:5], depth[4:5], start[4:5]), atol=0, rtol=0)


def test_the_slope_is_the_residuals_derivative(poses):
    x, y = tensor_cameras.pixel_grid(CAMERA.height, CAMERA.width, dtype=F64)
    source = (0.3 + 0.004 * x - 0.003 * y).expand(1, 3, -1, -1)
    camera = Camera(CAMERA.K.clone(), CAMERA.height, CAMERA.width)
    camera.K[0, 1] = 3.0  # a skew too
    _, _, depth = scene(identities(1))
    depth[..., :10, :], depth[..., -10:, :], depth[..., :10], depth[..., -10:] = 0, 0, 0, 0
    target = texture(tensor_cameras.pixel_grid(48, 96, dtype=F64)[None]).mean(1, keepdim=True)
    images = (image.float() for image in (target, source[:, :1], torch.where(depth > 0, 1 / depth, 0.0)))
    (pair,) = _Pair.downsample(*images, many(camera), many(camera), 0)
    T, brightness, step = poses(1, reach=0.1, turn=0.02)[0].numpy(), np.array([0.1, 0.02]), 1e-3
    slopes = []
    for move in step * np.eye(8):
        there, back = (
            pair.linearize(_exponential(sign * move[:6]) @ T, brightness + sign * move[6:]).residual for sign in (1, -1)
        )
        slopes.append(((there.astype(np.float64) - back) / (2 * step)).ravel())
    state, slope = pair.linearize(T, brightness), np.stack(slopes)
    curvature, downhill = pair.normal_equations(state, 0.0)
    np.testing.assert_allclose(curvature, slope @ slope.T, rtol=2e-3, atol=1e-3 * abs(curvature).max())
    np.testing.assert_allclose(downhill, -slope @ state.residual.ravel(), rtol=2e-3, atol=1e-3 * abs(downhill).max())


def test_where_nothing_is_detected_the_start_is_kept():
    target, source, depth = scene(identities(1))
    away = identities(1)
    away[:, 0, 3] = 1000.0
    found = align_direct(target, source, depth, many(CAMERA), many(CAMERA), away)
    assert_close(found.T_source_target, away)
    assert float(found.seen) == 0


@pytest.mark.parametrize("brightness", [3e-4, 1e-4, 1e-5])
def test_a_nearly_black_image_is_aligned_or_refused(brightness: float):
    target, source, depth = (image.float() for image in scene(identities(1)))
    found = align_direct(brightness * target, source, depth, many(CAMERA), many(CAMERA), identities(1))
    assert bool(found.T_source_target.isfinite().all())
    assert float(found.gain) > 1.4, "no plausible change of brightness"
