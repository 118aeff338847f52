"""Color, mirroring, zoom and resizing: each against what it must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stadia.core.types import Camera
from stadia.dataloading.config import AugmentationConfig, ColorConfig
from stadia.dataloading.transforms import (
    ZoomWindow,
    apply_color,
    compute_mean_gray,
    draw_augmentation,
    make_color_matrix,
    zoom_depth,
    zoom_images,
)
from stadia.datasets.frame_store import resize_depth, resize_image, resize_sparse_depth
from stadia.geometry.camera import resize_camera

IMAGES = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
GRAY = torch.tensor([0.299, 0.587, 0.114])


def gray(images: torch.Tensor) -> torch.Tensor:
    return torch.einsum("c,nchw->nhw", GRAY, images)[:, None]


def changed_by(images: torch.Tensor, *factors: float) -> torch.Tensor:
    return apply_color(images, make_color_matrix(*factors), compute_mean_gray(images[0]))


def test_brightness_contrast_and_saturation_are_torchvisions_blends() -> None:
    torch.testing.assert_close(changed_by(IMAGES, 1.2, 1, 1, 0), (1.2 * IMAGES).clamp(0, 1))
    mean = gray(IMAGES)[0].mean()
    torch.testing.assert_close(changed_by(IMAGES, 1, 0.8, 1, 0), 0.8 * IMAGES + 0.2 * mean)
    torch.testing.assert_close(changed_by(IMAGES, 1, 1, 0.7, 0), 0.7 * IMAGES + 0.3 * gray(IMAGES))
    both = changed_by(IMAGES, 1.2, 0.8, 1, 0)
    torch.testing.assert_close(both, 0.8 * 1.2 * IMAGES + 0.2 * 1.2 * mean)


def test_draws_stay_in_their_ranges_and_are_independent() -> None:
    config = AugmentationConfig(mirror=0.5, color=ColorConfig(probability=1), zoom=1.2)
    drawn = [draw_augmentation(config, 96, 160, np.random.default_rng(seed)) for seed in range(400)]
    assert 0.4 < np.mean([d.mirror for d in drawn]) < 0.6
    for d in drawn:
        assert d.window is not None
        assert d.window.left + d.window.width <= 160
        assert d.window.top + d.window.height <= 96
        assert d.window.width >= 160 / 1.2 - 1
    without = AugmentationConfig(mirror=0.5, color=ColorConfig(probability=0))
    plain = [draw_augmentation(without, 96, 160, np.random.default_rng(seed)) for seed in range(400)]
    assert [d.mirror for d in plain] == [d.mirror for d in drawn]
    assert all(d.color is None and d.window is None for d in plain)
    some = AugmentationConfig(color=ColorConfig(probability=0.3))
    assert (
        0.2
        < np.mean([draw_augmentation(some, 96, 160, np.random.default_rng(s)).color is not None for s in range(400)])
        < 0.4
    )


def test_shrinking_averages_and_agrees_with_the_camera() -> None:
    """A bright column of 2 px: after shrinking by 2 its center is at (c + 0.5) / 2 - 0.5, and nothing is lost."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, 30:32] = 200
    small = resize_image(image, 32, 48)
    assert small[0, :, 0].argmax() == 15
    assert small[0, 15, 0] == 200
    before = Camera(torch.tensor([[50.0, 0, 30.5], [0, 50, 31.5], [0, 0, 1]]), 64, 96)
    assert float(resize_camera(before, 32, 48).cx) == 15
    fine = np.tile(np.array([[0, 255]], np.uint8).repeat(64, 0), (1, 48))[..., None].repeat(3, 2)
    assert np.abs(resize_image(fine, 32, 30).astype(int) - 127).max() < 60, "stripes of 1 px must not alias"
    assert np.ptp(resize_image(fine, 128, 48)) <= 1, "also where only one axis shrinks"


def test_depth_is_resized_by_the_nearest_pixel() -> None:
    depth = np.random.default_rng(0).choice([0, 5, 50], (60, 80)).astype(np.float32)
    small = resize_depth(depth, 20, 40)
    assert set(np.unique(small)) <= {0, 5, 50}
    assert small[4, 7] in depth[12:15, 14:16]


@pytest.mark.parametrize("size", [(24, 80), (12, 31), (37, 113), (74, 240), (50, 70)])
def test_sparse_returns_agree_with_the_resized_camera_and_keep_the_nearest(size: tuple[int, int]) -> None:
    """The law of returns: what stands at a pixel is the nearest of those that its camera projects into that pixel, and
    no other.
    """
    random = np.random.default_rng(0)
    depth_m = np.where(random.random((37, 113)) < 0.06, random.uniform(2, 80, (37, 113)), 0).astype(np.float32)
    K = torch.tensor([[90.0, 0, 55.3], [0, 80.0, 17.1], [0, 0, 1]], dtype=torch.float64)
    small, camera = resize_sparse_depth(depth_m, *size), resize_camera(Camera(K, 37, 113), *size)
    expected = np.full(size, np.inf, np.float32)
    for row, column in np.argwhere(depth_m):
        x, y = (column - K[0, 2]) / K[0, 0], (row - K[1, 2]) / K[1, 1]  # the ray
        at = [int(torch.floor(v + 0.5 + 1e-9)) for v in (camera.fy * y + camera.cy, camera.fx * x + camera.cx)]
        expected[at[0], at[1]] = min(expected[at[0], at[1]], depth_m[row, column])
    assert np.array_equal(small, np.where(np.isinf(expected), 0, expected))
    if size == depth_m.shape:
        assert np.array_equal(small, depth_m)
    if size[0] < 20:
        assert np.count_nonzero(small) > 4 * np.count_nonzero(resize_depth(depth_m, *size)), (
            "most returns would be dropped"
        )


def test_zoom_takes_the_window_and_its_camera() -> None:
    ramp = torch.arange(160, dtype=torch.uint8).expand(1, 3, 96, 160)
    camera = Camera(torch.tensor([[[100.0, 0, 80], [0, 100, 48], [0, 0, 1]]]), 96, 160)
    window = ZoomWindow(left=40, top=24, height=48, width=80, to_height=96, to_width=160)
    larger, larger_camera = zoom_images(ramp, camera, window)
    assert larger.shape == ramp.shape
    assert float(larger_camera.fx) == 200
    assert float(larger_camera.cx) == pytest.approx((80 - 40 + 0.5) * 2 - 0.5)
    assert float(larger[0, 0, 0, 79]) == pytest.approx((79 + 0.5) / 2 - 0.5 + 40, abs=0.51)
    depth = zoom_depth(torch.arange(160.0).expand(1, 96, 160), window)
    assert depth[0, 0, 79] in (79, 80)
    assert depth.shape == (1, 96, 160)
