"""The camera without torch is the camera with it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from tests.refusals import refuses

from stadia.core.errors import ConfigError, GeometryError
from stadia.core.types import Camera
from stadia.dataloading.config import DataConfig
from stadia.geometry import camera, numpy_camera
from stadia.geometry.numpy_camera import IMAGE_CROPS, crop_window


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
    """Shrunk, enlarged, one of each, by whole and broken ratios; and K with it."""
    image = np.random.default_rng(0).integers(0, 256, (*before, 3), dtype=np.uint8)
    K = np.array([[300.0, 2, 44.5], [0, 310, 13], [0, 0, 1]])
    planar = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    expected, lens = camera.resize(planar, Camera(torch.from_numpy(K), *before), *after)
    resized = numpy_camera.resize_to_planar(image, *after)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected[0], atol=1e-6)
    np.testing.assert_allclose(numpy_camera.resize_K(K, before, *after), lens.K, rtol=1e-12)
    np.testing.assert_allclose(numpy_camera.resize_K(np.stack([K, 2 * K]), before, *after)[0], lens.K, rtol=1e-12)


def test_a_large_image_is_resized_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    whole = numpy_camera.resize_to_planar(image, 16, 24)
    monkeypatch.setattr(numpy_camera, "_MAX_VALUES", 33 * 7)
    np.testing.assert_array_equal(numpy_camera.resize_to_planar(image, 16, 24), whole)


def test_a_window_has_the_same_K() -> None:
    K = np.array([[300.0, 2, 44.5], [0, 310, 13], [0, 0, 1]])
    expected = camera.crop_camera(Camera(torch.from_numpy(K), 375, 1242), 13, 23, 352, 1216).K
    np.testing.assert_array_equal(numpy_camera.crop_K(K, 13, 23), expected)


def test_a_lens_has_the_same_K() -> None:
    focal = numpy_camera.focal_px_from_fov(70, 640)
    np.testing.assert_allclose(
        numpy_camera.centered_K(focal, 192, 640), camera.from_field_of_view(70, height=192, width=640).K
    )
    assert numpy_camera.focal_px_from_lens(24, 36, 150) == 100


def test_no_lens() -> None:
    with refuses(GeometryError, found="180"):
        numpy_camera.focal_px_from_fov(180, 640)
    with refuses(GeometryError, where="lens", expected="0"):
        numpy_camera.focal_px_from_lens(0, 36, 640)


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


def test_no_crop_is_the_whole() -> None:
    box = crop_window("none", 20, 30)
    assert (box.rows, box.columns) == (slice(0, 20), slice(0, 30))


@pytest.mark.parametrize(("height", "width"), [(351, 1242), (375, 1215), (192, 640)])
def test_a_smaller_image_is_refused(height: int, width: int) -> None:
    with refuses(GeometryError, where="kb", found=f"{width}x{height}", expected="1216x352"):
        crop_window("kb", height, width)


def test_an_unknown_crop() -> None:
    with refuses(ConfigError, where="crop", found="kitti"):
        crop_window("kitti", 375, 1242)


def test_configurable_crops_are_the_defined_ones() -> None:
    assert get_args(DataConfig.model_fields["crop"].annotation) == tuple(IMAGE_CROPS)
