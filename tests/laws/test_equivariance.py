"""Laws: view synthesis commutes with every change of image and camera."""

import pytest
import torch
from tests import tensor_cameras
from torch import Tensor
from torch.testing import assert_close

from stadia.core.types import Camera
from stadia.differentiable import images
from stadia.differentiable.view_synthesis import reproject, warp_image
from stadia.geometry import cameras, poses

H, W = 27, 45


@pytest.fixture
def scene() -> tuple[Tensor, Tensor, Camera, Camera, Tensor]:
    """A source (2, 3, H, W), depth (2, 1, H, W), camera, source camera, T_source_target (2, 4, 4): all in float64."""
    torch.manual_seed(0)
    source, depth = torch.rand(2, 3, H, W, dtype=torch.float64), 2 + 6 * torch.rand(2, 1, H, W, dtype=torch.float64)
    camera = tensor_cameras.intrinsics(40.0, 37.0, 20.3, 14.8, height=H, width=W)
    source_camera = tensor_cameras.intrinsics(43.0, 45.0, 24.3, 12.2, height=H, width=W)
    twist = torch.tensor([[0.2, -0.1, 0.3, 0.02, -0.05, 0.03], [-0.5, 0, 0, 0, 0.04, -0.02]], dtype=torch.float64)
    return source, depth, camera, source_camera, poses.se3_exp(twist)


def test_mirror(scene):
    source, depth, camera, source_camera, T = scene
    image, valid = warp_image(source, depth, camera, source_camera, T)
    mirrored, mirrored_valid = warp_image(
        images.mirror(source, source_camera)[0],
        *images.mirror(depth, camera),
        cameras.mirror_camera(source_camera),
        poses.mirror_x(T),
    )
    assert_close(mirrored, image.flip(-1))
    assert_close(mirrored_valid, valid.flip(-1))
    forgotten, _ = warp_image(
        source.flip(-1), depth.flip(-1), camera, source_camera, poses.mirror_x(T)
    )  # K left as it was
    assert (forgotten - image.flip(-1)).abs().max() > 0.1


def test_crop_of_target(scene):
    source, depth, camera, source_camera, T = scene
    image, valid = warp_image(source, depth, camera, source_camera, T)
    window = (..., slice(4, 20), slice(7, 38))
    cropped, cropped_valid = warp_image(source, *images.crop(depth, camera, 7, 4, 16, 31), source_camera, T)
    assert_close(cropped, image[window])
    assert_close(cropped_valid, valid[window])


def test_crop_of_source(scene):
    source, depth, camera, source_camera, T = scene
    image, valid = warp_image(source, depth, camera, source_camera, T)
    part, its_camera = images.crop(source, source_camera, 7, 4, 16, 31)
    cropped, cropped_valid = warp_image(part, depth, camera, its_camera, T)
    pixels, _ = reproject(depth, camera, its_camera, T)
    within = ((pixels >= 0) & (pixels <= pixels.new_tensor([30, 15]).view(2, 1, 1))).all(
        1, keepdim=True
    )  # between its centers
    assert within.any()
    assert_close(cropped[within.expand_as(cropped)], image[within.expand_as(image)])
    assert (cropped_valid <= valid).all()
    assert (within <= cropped_valid).all()


def test_resize(scene):
    _, depth, camera, source_camera, T = scene
    pixels, nearness = reproject(depth, camera, source_camera, T)
    third = reproject(
        depth[..., 1::3, 1::3],
        cameras.resize_camera(camera, H // 3, W // 3),
        cameras.resize_camera(source_camera, H // 3, W // 3),
        T,
    )
    assert_close(third[0], (pixels[..., 1::3, 1::3] + 0.5) / 3 - 0.5)
    assert_close(third[1], nearness[..., 1::3, 1::3])
    forgotten, _ = reproject(
        depth[..., 1::3, 1::3],
        Camera(camera.K, H // 3, W // 3),
        cameras.resize_camera(source_camera, H // 3, W // 3),
        T,
    )
    assert (forgotten - third[0]).abs().max() > 1


def test_unit_of_length(scene):
    source, depth, camera, source_camera, T = scene
    longer = T.clone()
    longer[:, :3, 3] *= 5.4
    assert_close(
        warp_image(source, 5.4 * depth, camera, source_camera, longer),
        warp_image(source, depth, camera, source_camera, T),
    )
