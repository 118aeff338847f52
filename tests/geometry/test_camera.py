"""Cameras: against OpenCV and by laws of projection under every change of the image."""

import math

import cv2
import numpy as np
import pytest
import torch
from tests import tensor_cameras
from torch.testing import assert_close

from stadia.core.errors import GeometryError
from stadia.core.types import Camera
from stadia.differentiable import images, view_synthesis
from stadia.geometry import cameras
from stadia.geometry import cameras as numpy_camera
from stadia.geometry.cameras import crop_window
from stadia.geometry.poses import so3_log

DTYPES = [(torch.float32, 2e-4), (torch.float64, 1e-10)]  # pixels: two steps of float32 at 1242


def scene_points(camera: Camera, n: int = 40, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """(3, 1, n) points in front of the camera."""
    xy = (torch.rand(2, 1, n, dtype=dtype) - 0.5) * 6
    return torch.cat((xy, 3 + 20 * torch.rand(1, 1, n, dtype=dtype)))


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_project_after_backproject_gives_every_pixel_back(kitti, dtype, tolerance):
    depth = 1 + 80 * torch.rand(2, 1, 375, 1242, dtype=dtype)
    pixels, z = cameras.project(cameras.backproject(depth, kitti), kitti)
    assert_close(
        pixels, tensor_cameras.pixel_grid(375, 1242, dtype=dtype).expand(2, -1, -1, -1), atol=tolerance, rtol=0
    )
    assert_close(z, depth, atol=0, rtol=0)


def test_project_is_opencvs(kitti, poses):
    T = poses(1, reach=2, turn=0.3)[0]
    points = scene_points(kitti)[:, 0].T  # (n, 3)
    expected, _ = cv2.projectPoints(points.numpy(), so3_log(T[:3, :3]).numpy(), T[:3, 3].numpy(), kitti.K.numpy(), None)
    moved = points @ T[:3, :3].T + T[:3, 3]
    pixels, _ = cameras.project(moved.T[:, None], kitti)
    assert_close(pixels[:, 0].T, torch.from_numpy(expected[:, 0]), atol=1e-8, rtol=0)


def test_backproject_is_opencvs_reprojection_of_disparity(kitti):
    f, b = kitti.fx.item(), 0.53273
    disparity = 5 + 60 * torch.rand(375, 1242)
    Q = np.array([[1, 0, 0, -kitti.cx], [0, 1, 0, -kitti.cy], [0, 0, 0, f], [0, 0, 1 / b, 0]])
    expected = torch.from_numpy(cv2.reprojectImageTo3D(disparity.numpy(), Q)).permute(2, 0, 1)
    assert_close(cameras.backproject((f * b / disparity)[None], kitti), expected, atol=1e-5, rtol=1e-5)


def test_a_skew_is_respected():
    camera = Camera(torch.tensor([[100.0, 7, 50], [0, 90, 40], [0, 0, 1]], dtype=torch.float64), 81, 101)
    assert_close(cameras.inverse_intrinsics(camera.K), torch.linalg.inv(camera.K))
    pixels, _ = cameras.project(cameras.backproject(torch.full((1, 81, 101), 3.0, dtype=torch.float64), camera), camera)
    assert_close(pixels, tensor_cameras.pixel_grid(81, 101, dtype=torch.float64))


def test_at_pixels_is_the_product_at_every_pixel():
    matrix = torch.randn(2, 3, 3, dtype=torch.float64)
    ones = torch.cat((tensor_cameras.pixel_grid(5, 7, dtype=torch.float64), torch.ones(1, 5, 7, dtype=torch.float64)))
    assert_close(cameras.apply_to_pixels(matrix, 5, 7), torch.einsum("brc,chw->brhw", matrix, ones))


# -- laws of every change of the image


@pytest.mark.parametrize(("height", "width"), [(192, 640), (187, 621), (375, 1242), (750, 2484), (1, 1)])
def test_resized_moves_every_projection(kitti, height, width):
    points = scene_points(kitti)
    before, _ = cameras.project(points, kitti)
    after, _ = cameras.project(points, cameras.resize_camera(kitti, height, width))
    scale = torch.tensor([width / 1242, height / 375], dtype=torch.float64).view(2, 1, 1)
    assert_close(after, (before + 0.5) * scale - 0.5)


def test_cropped_and_mirrored_move_every_projection(small):
    points = scene_points(small)
    before, z = cameras.project(points, small)
    offset = torch.tensor([5.0, 3.0], dtype=torch.float64).view(2, 1, 1)
    assert_close(cameras.project(points, cameras.crop_camera(small, 5, 3, 10, 20))[0], before - offset)
    mirrored, z_mirrored = cameras.project(
        points * points.new_tensor([-1, 1, 1]).view(3, 1, 1), cameras.mirror_camera(small)
    )
    assert_close(mirrored[0], 35 - before[0])
    assert_close(mirrored[1], before[1])
    assert_close(z_mirrored, z)


def test_backprojection_is_equivariant(small):
    depth = 1 + 9 * torch.rand(1, 24, 36, dtype=torch.float64)
    points = cameras.backproject(depth, small)
    assert_close(cameras.backproject(*images.crop(depth, small, 5, 3, 10, 20)), points[:, 3:13, 5:25])
    assert_close(
        cameras.backproject(*images.mirror(depth, small)), points.flip(-1) * points.new_tensor([-1, 1, 1]).view(3, 1, 1)
    )
    # Centers of a third of the size are every third center: resizing by 1/3 keeps the rays of pixels 1, 4, 7, ...
    assert_close(cameras.backproject(depth[:, 1::3, 1::3], cameras.resize_camera(small, 8, 12)), points[:, 1::3, 1::3])


def rendered(camera: Camera) -> torch.Tensor:
    """(1, 1, H, W) what the camera sees of a painted plane at infinity: a function of the ray alone, so of K alone."""
    x, y, _ = cameras.apply_to_pixels(cameras.inverse_intrinsics(camera.K), camera.height, camera.width)
    return (torch.sin(6 * x) * torch.cos(5 * y) + 0.3 * x)[None, None]


@pytest.mark.parametrize(("height", "width"), [(60, 90), (61, 77), (240, 360)])
def test_resize_shows_what_the_resized_camera_sees(height, width):
    camera = tensor_cameras.from_field_of_view(80, height=120, width=180)
    picture, resized = images.resize(rendered(camera), camera, height, width)
    inner = (..., slice(3, -3), slice(3, -3))  # a low-pass filter reads past the edge
    assert (picture - rendered(resized))[inner].abs().max() < 3e-3
    # The mistake: c' = c s. Its image is off by half a pixel's worth of change, which this test would see.
    wrong = Camera(
        resized.K + resized.K.new_tensor([[0, 0, 0.5 - width / 360], [0, 0, 0.5 - height / 240], [0, 0, 0]]),
        height,
        width,
    )
    assert (picture - rendered(wrong))[inner].abs().max() > 1e-2


# -- behind, gradients, errors


def test_points_behind_the_camera_are_finite_in_value_and_gradient(small):
    points = scene_points(small)
    points[2, 0, :3] = torch.tensor([0.0, -5.0, 1e-9])
    points.requires_grad_()
    pixels, z = cameras.project(points, small)
    assert pixels.isfinite().all()
    assert (z[0, 0, :3] <= view_synthesis.NEAR).all()
    pixels.sum().backward()
    assert points.grad.isfinite().all()


def test_gradients(small):
    depth = (1 + torch.rand(2, 1, 3, 4, dtype=torch.float64)).requires_grad_()
    K = small.K.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda d, k: cameras.backproject(d, Camera(k, 3, 4)), (depth, K))
    points = scene_points(small, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, k: cameras.project(p, Camera(k, 3, 4)), (points, K))


def test_field_of_view_and_lens():
    camera = tensor_cameras.from_field_of_view(82, height=192, width=640)
    left_edge = (-0.5 - camera.cx) / camera.fx
    assert math.isclose(math.degrees(2 * math.atan(-left_edge)), 82)
    assert camera.fy == camera.fx


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda c: tensor_cameras.intrinsics(0, 1, 0, 0, height=2, width=2), "fx 0"),
        (lambda c: tensor_cameras.intrinsics(1, math.nan, 0, 0, height=2, width=2), "nan"),
        (lambda c: tensor_cameras.from_field_of_view(180, height=2, width=2), "180"),
        (lambda c: cameras.crop_camera(c, 20, 0, 24, 36), "36x24 at (20, 0)"),
        (lambda c: cameras.crop_camera(c, -1, 0, 4, 4), "(-1, 0)"),
        (lambda c: images.resize(torch.zeros(1, 3, 36, 24), c, 4, 4), "24x36"),
        (lambda c: cameras.resize_camera(c, 0, 4), "4x0"),
        (lambda c: cameras.backproject(torch.zeros(1, 25, 36), c), "36x25"),
    ],
)
def test_mistakes_are_named_in_one_line(small, make, part):
    with pytest.raises(GeometryError) as caught:
        make(small)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


# -- the camera without torch is the camera with it


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((375, 1242), (192, 640)),
        ((30, 90), (64, 96)),
        ((33, 50), (32, 64)),
        ((64, 96), (64, 96)),
        ((97, 41), (32, 160)),
        ((5, 7), (1, 1)),
    ],
)
def test_an_image_is_resized_as_by_torch(before: tuple[int, int], after: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*before, 3), dtype=np.uint8)
    K = np.array([[300.0, 2, 44.5], [0, 310, 13], [0, 0, 1]])
    planar = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    expected, lens = images.resize(planar, Camera(torch.from_numpy(K), *before), *after)
    resized = numpy_camera.resize_to_planar(image, *after)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected[0], atol=1e-6)
    np.testing.assert_allclose(numpy_camera.resize_K(K, before, *after), lens.K, rtol=1e-12)
    np.testing.assert_allclose(numpy_camera.resize_K(np.stack([K, 2 * K]), before, *after)[0], lens.K, rtol=1e-12)


# -- where the part of an image lies that networks see: to the pixel, for KITTI's sizes


KB = {  # rows and columns by hand: H - 352 to H, floor((W - 1216) / 2) to 1216 further
    (375, 1242): ((23, 375), (13, 1229)),
    (370, 1224): ((18, 370), (4, 1220)),
    (370, 1226): ((18, 370), (5, 1221)),
    (374, 1238): ((22, 374), (11, 1227)),
    (376, 1241): ((24, 376), (12, 1228)),
    (352, 1216): ((0, 352), (0, 1216)),
}


@pytest.mark.parametrize(("height", "width"), KB)
def test_the_kb_crop_to_the_pixel(height: int, width: int) -> None:
    box = crop_window("kb", height, width)
    assert ((box.rows.start, box.rows.stop), (box.columns.start, box.columns.stop)) == KB[height, width]
    assert box.cut(np.zeros((height, width, 3))).shape == (352, 1216, 3)
    assert box.cut(torch.zeros(height, width)).shape == (352, 1216)
