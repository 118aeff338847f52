"""View synthesis: against the three steps written out and OpenCV, on known scenes, and where nothing is visible."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests import tensor_cameras
from tests.refusals import refuses
from torch import Tensor
from torch.testing import assert_close

from stadia.core.errors import GeometryError
from stadia.core.types import Camera
from stadia.differentiable.view_synthesis import inside_frame, sample_image, synthesize_views, warp_image
from stadia.geometry import cameras
from stadia.geometry import poses as se3

F64 = torch.float64


def smooth_image(camera: Camera, dtype: torch.dtype = F64) -> Tensor:
    """(1, 3, H, W) in [0, 1]: three waves."""
    x, y = tensor_cameras.pixel_grid(camera.height, camera.width, dtype=dtype)
    waves = (torch.sin(0.3 * x + 0.2 * y), torch.cos(0.25 * x - 0.4 * y), torch.sin(0.15 * x) * torch.sin(0.35 * y))
    return 0.5 + 0.5 * torch.stack(waves)[None]


def three_steps(
    source: Tensor, depth_m: Tensor, camera: Camera, source_camera: Camera, T: Tensor
) -> tuple[Tensor, Tensor]:
    """The readable twin: back-project, move, project, sample."""
    points = cameras.backproject(depth_m, camera)
    moved = se3.transform(T, points.flatten(2).mT).mT.reshape(points.shape)
    pixels, z = cameras.project(moved, source_camera)
    return sample_image(source, pixels), inside_frame(pixels, z, source_camera) & (depth_m > 0)


def translation(x: float, y: float = 0.0, z: float = 0.0, dtype: torch.dtype = F64) -> Tensor:
    return se3.from_rotation_translation(torch.eye(3, dtype=dtype), torch.tensor([x, y, z], dtype=dtype))[None]


# -- against other ways


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (F64, 1e-12)])
def test_warp_is_backproject_move_project_sample(small, poses, dtype, tolerance):
    source_camera = tensor_cameras.intrinsics(41.0, 39.0, 25.2, 14.1, height=31, width=50)
    source = smooth_image(source_camera, dtype).expand(4, -1, -1, -1)
    depth = (3 + 5 * torch.rand(4, 1, 24, 36, dtype=dtype)).requires_grad_()
    T = poses(4, dtype=dtype).requires_grad_()
    results = []
    for way in (warp_image, three_steps):
        image, valid = way(source, depth, small, source_camera, T)
        slope = torch.autograd.grad((image * valid * torch.linspace(0, 1, 36, dtype=dtype)).sum(), (depth, T))
        results.append((image, valid, *slope))
    (image, valid, by_depth, by_T), (image_2, valid_2, by_depth_2, by_T_2) = results
    assert 0.2 < valid.double().mean() < 0.99
    assert_close(valid, valid_2)
    assert_close(image, image_2, atol=tolerance, rtol=0)
    assert_close(by_depth, by_depth_2, atol=20 * tolerance, rtol=0)
    assert_close(by_T[:, :3], by_T_2[:, :3], atol=1e4 * tolerance, rtol=1e-3 if dtype == torch.float32 else 1e-9)


def test_synthesize_is_warp_of_each_source(small, poses):
    B, N = 2, 3
    sources = torch.rand(B, N, 3, 24, 36, dtype=F64)
    depth = 2 + 5 * torch.rand(B, 1, 24, 36, dtype=F64)
    T = poses(B * N).view(B, N, 4, 4)
    K = small.K * torch.tensor([[1.0, 1, 1], [1, 1, 1.1], [1, 1, 1]], dtype=F64)
    each = Camera(torch.stack((small.K, K)), 24, 36)
    source_camera = Camera(torch.stack((small.K, K, small.K, K, small.K, K)).view(B, N, 3, 3), 24, 36)
    views = synthesize_views(sources, depth, each, source_camera, T)
    assert views.image.shape == sources.shape
    assert views.valid.shape == (B, N, 1, 24, 36)
    for n in range(N):
        image, valid = warp_image(sources[:, n], depth, each, Camera(source_camera.K[:, n], 24, 36), T[:, n])
        assert_close(views.image[:, n], image)
        assert_close(views.valid[:, n], valid)


def test_sample_is_opencvs_remap():
    image = torch.rand(1, 1, 37, 53)
    pixels = torch.stack((torch.randint(-5 * 32, 58 * 32, (30, 40)), torch.randint(-5 * 32, 42 * 32, (30, 40)))) / 32
    expected = cv2.remap(
        image[0, 0].numpy(), pixels[0].numpy(), pixels[1].numpy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    assert_close(sample_image(image, pixels[None])[0, 0], torch.from_numpy(expected), atol=1e-5, rtol=0)


# -- known scenes


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (F64, 1e-12)])
@pytest.mark.parametrize("disparity", [1, 5, 13])
def test_a_wall_shifts_by_focal_times_baseline_over_depth(dtype, tolerance, disparity):
    camera = tensor_cameras.intrinsics(100.0, 100.0, 31.5, 11.5, height=24, width=64)
    baseline_m = 0.5
    texture = torch.rand(1, 3, 24, 64 + disparity, dtype=dtype)
    left, right = texture[..., :64], texture[..., disparity:]
    depth = torch.full((1, 1, 24, 64), 100.0 * baseline_m / disparity, dtype=dtype)

    image, valid = warp_image(right, depth, camera, camera, translation(-baseline_m, dtype=dtype))
    assert_close(image[..., disparity:], left[..., disparity:], atol=tolerance, rtol=0)
    assert valid[..., disparity:].all()
    assert not valid[..., :disparity].any()

    image, valid = warp_image(left, depth, camera, camera, translation(+baseline_m, dtype=dtype))
    assert_close(image[..., :-disparity], right[..., :-disparity], atol=tolerance, rtol=0)
    assert not valid[..., -disparity:].any()

    wrong, _ = warp_image(right, depth, camera, camera, translation(+baseline_m, dtype=dtype))
    assert (wrong - left)[..., disparity:-disparity].abs().mean() > 0.1


# -- where nothing is visible


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_no_depth_and_behind_the_camera_are_invalid_and_never_nan(small, dtype):
    depth = 5 + torch.rand(1, 1, 24, 36, dtype=dtype)
    odd = [
        0.0,
        -1.0,
        1e-30,
        1e-9,
        float("nan"),
        float("inf"),
        2.0,
        1e30,
    ]  # the last two: behind after the motion, beyond the sky
    depth[0, 0, 12, :8] = torch.tensor(odd, dtype=dtype)
    depth.requires_grad_()
    T = translation(0.1, 0.2, -3.0, dtype=dtype).requires_grad_()
    image, valid = warp_image(smooth_image(small, dtype), depth, small, small, T)
    assert image.isfinite().all()
    assert not valid[0, 0, 12, :7].any()
    assert valid[0, 0, 12, 7]
    (image * valid).sum().backward()
    assert depth.grad.isfinite().all()
    assert T.grad.isfinite().all()
    assert (depth.grad[0, 0, 12, :7] == 0).all()
    assert depth.grad.abs().sum() > 0


def test_the_frame_ends_half_a_pixel_outside_the_last_centers(small):
    x = torch.tensor([-0.51, -0.5, 0.0, 35.0, 35.5, 35.51])
    pixels = torch.stack((x, torch.full_like(x, 5)))[:, None]
    assert inside_frame(pixels, torch.ones(1, 1, 6), small).flatten().tolist() == [False, True, True, True, True, False]
    y = torch.tensor([-0.51, -0.5, 23.5, 23.51])
    pixels = torch.stack((torch.full_like(y, 5), y))[:, None]
    assert inside_frame(pixels, torch.ones(1, 1, 4), small).flatten().tolist() == [False, True, True, False]
    assert not inside_frame(pixels, torch.zeros(1, 1, 4), small).any()


# ---------------------------------------------------------------------------------------------------------------
# gradients


@pytest.mark.slow
def test_gradcheck_of_depth_pose_intrinsics_and_image(poses):
    camera = tensor_cameras.intrinsics(8.0, 7.0, 3.3, 2.6, height=6, width=7)
    source = torch.rand(1, 2, 2, 6, 7, dtype=F64, requires_grad=True)
    depth = (3 + torch.rand(1, 1, 6, 7, dtype=F64)).requires_grad_()
    T = poses(2, reach=0.3).view(1, 2, 4, 4).requires_grad_()
    K = camera.K.clone().requires_grad_()

    def image(source, depth, T, K):
        return synthesize_views(source, depth, Camera(K, 6, 7), Camera(K, 6, 7), T).image

    assert torch.autograd.gradcheck(image, (source, depth, T, K))


# -- bad conditions


def test_autocast_moves_no_pixel(small, poses):
    T = poses(2).float()
    depth = 3 + torch.rand(2, 1, 24, 36)
    image = torch.rand(2, 3, 24, 36)
    expected = warp_image(image, depth, small, small, T)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image_in_autocast = warp_image(image, depth, small, small, T)
        points = cameras.backproject(depth, small)
        pixels, _ = cameras.project(points, small)
    assert_close(image_in_autocast, expected, atol=0, rtol=0)
    assert_close(pixels, tensor_cameras.pixel_grid(24, 36).expand(2, -1, -1, -1), atol=1e-5, rtol=0)


def test_a_camera_of_another_size_is_named(small):
    image, depth, T = torch.rand(1, 3, 24, 36), torch.ones(1, 1, 24, 36), torch.eye(4)[None]
    half = cameras.resize_camera(small, 12, 18)
    with refuses(GeometryError, found=("18x12", "36x24")):
        warp_image(image, depth, small, half, T)
    with refuses(GeometryError, where="camera of the depth"):
        synthesize_views(image[None], depth, half, small, T[None])


# -- every convention at once on real images: 7-Scenes' depth and poses explain one image by another; each mistake


NOW, LATER = "frame-000000", "frame-000020"  # 2.4 cm and 1.6 degrees apart


def frame(folder: Path, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The image (1, 3, H, W), depth_m (1, 1, H, W), T_world_camera (4, 4)."""
    image = torch.from_numpy(cv2.imread(str(folder / f"{name}.color.jpg"))).flip(-1).permute(2, 0, 1)[None] / 255
    depth_mm = torch.from_numpy(cv2.imread(str(folder / f"{name}.depth.png"), cv2.IMREAD_UNCHANGED).astype(np.float32))[
        None, None
    ]
    depth_m = torch.where(depth_mm == 65535, 0, depth_mm / 1000)
    return image, depth_m, torch.from_numpy(np.loadtxt(folder / f"{name}.pose.txt"))


def test_positions_that_are_not_a_number_give_none_and_end_no_process() -> None:
    """The sampler of torch reads memory outside of the image for them in its backward pass."""
    image = torch.rand(2, 3, 96, 320, requires_grad=True)
    pixels = 90 * torch.rand(2, 2, 96, 320)
    pixels[:, :, ::2] = torch.nan
    sampled = sample_image(image, pixels.requires_grad_())
    assert sampled[:, :, ::2].isnan().all()
    assert sampled[:, :, 1::2].isfinite().all()
    sampled.nan_to_num().sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
