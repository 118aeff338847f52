"""Color, mirroring, zoom and resizing: each against what it must be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stadia.core.types import Camera
from stadia.data.config import WEATHERS, AugmentationConfig, ColorConfig, TiltConfig, WeatherConfig
from stadia.data.frame_store import resize_depth, resize_image, resize_sparse_depth
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.view_synthesis import synthesize_views
from stadia.geometry.cameras import resize_camera
from stadia.training.loading.samples import VideoSamples, stack_samples, unpack_batch
from stadia.training.loading.transforms import (
    WeatherDraw,
    ZoomWindow,
    add_weather,
    apply_color,
    compute_mean_gray,
    draw_augmentation,
    make_color_matrix,
    make_tilt,
    tilt_depth,
    zoom_depth,
    zoom_images,
)

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


K = torch.tensor([[80.0, 0, 79.5], [0, 80, 47.5], [0, 0, 1]], dtype=torch.float64)


def test_depth_of_a_level_plane_is_that_of_the_tilted_plane() -> None:
    """The plane y = 1.5 has another normal in the tilted camera, and depth there follows from it in closed form."""
    R = make_tilt(roll_deg=4, pitch_deg=3)
    y, x = np.mgrid[0:96, 0:160]
    rays = np.linalg.inv(K.numpy()) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])

    def depth_of_plane(normal: Any) -> Any:
        down = (normal @ rays).reshape(96, 160)
        return np.where(down > 0.05, 1.5 / np.maximum(down, 0.05), 0)

    level, expected = depth_of_plane(np.array([0.0, 1.0, 0.0])), depth_of_plane(R @ [0.0, 1.0, 0.0])
    found = tilt_depth(torch.from_numpy(level.astype(np.float32))[None], K, R)[0].numpy()
    both = (found > 0) & (expected > 0) & (expected < 8)
    assert both.sum() > 2000
    np.testing.assert_allclose(found[both], expected[both], rtol=0.05)


def test_every_source_of_a_tilted_sample_warps_onto_the_target(tmp_path: Path, world: Any) -> None:
    recording = open_recordings(world.recording(tmp_path / "a", 5))[0]
    tilt = TiltConfig(probability=1, roll_deg=8, pitch_deg=3)
    change = AugmentationConfig(mirror=0.5, color=ColorConfig(probability=0), zoom=1.2, tilt=tilt)
    made = VideoSamples([recording], height=96, width=160, augmentation=change, ground_truth_depth=True, stereo=True)
    for epoch in range(3):
        batch = unpack_batch(stack_samples([made.packed((epoch, 1))]))
        targets = batch.targets
        assert targets.ignored is not None
        assert 0 < targets.ignored.float().mean() < 0.4
        assert not targets.depth_m[targets.ignored].any(), "what the tilted image lacks has no depth"
        views = synthesize_views(
            targets.sources, targets.depth_m, targets.camera, targets.source_camera, targets.T_source_target_true
        )
        smooth = torch.nn.functional.max_pool2d(targets.depth_m, 5, 1, 2) < 1.1 * targets.depth_m
        kept = views.valid & (smooth & ~targets.ignored)[:, None]
        unwarped = ((targets.sources - targets.image[:, None]).abs() * kept).sum() / kept.sum()
        warped = ((views.image - targets.image[:, None]).abs() * kept).sum() / kept.sum()
        assert warped < 0.5 * unwarped


IMAGES_OF_WEATHER = np.random.default_rng(0).integers(0, 255, (2, 3, 96, 160)).astype(np.uint8)


@pytest.mark.parametrize("kind", WEATHERS)
def test_stronger_weather_changes_more_and_the_same_seed_the_same(kind: str) -> None:
    weak, strong, again = (
        add_weather(IMAGES_OF_WEATHER, WeatherDraw(kind, strength, 5), horizon_row=48) for strength in (0.2, 1.0, 1.0)
    )
    changes = [float(np.abs(bad.astype(int) - IMAGES_OF_WEATHER).mean()) for bad in (weak, strong)]
    assert 0 < changes[0] < changes[1]
    assert np.array_equal(strong, again)
    assert strong.dtype == np.uint8
    assert strong.shape == IMAGES_OF_WEATHER.shape


def test_the_network_sees_the_weather_and_the_loss_the_clean_image(tmp_path: Path, world: Any) -> None:
    recording = open_recordings(world.recording(tmp_path / "a", 5))[0]

    def samples(**weather: Any) -> VideoSamples:
        change = AugmentationConfig(mirror=0, color=ColorConfig(probability=0), weather=WeatherConfig(**weather))
        return VideoSamples([recording], height=96, width=160, augmentation=change, stereo=False)

    clean = unpack_batch(stack_samples([samples().packed((0, 1))]))
    bad = unpack_batch(stack_samples([samples(probability=1, kinds=("noise",)).packed((0, 1))]))
    torch.testing.assert_close(bad.targets.image, clean.targets.image)
    torch.testing.assert_close(bad.targets.sources, clean.targets.sources)
    assert (bad.inputs.image - clean.inputs.image).abs().mean() > 0.01
    assert (bad.inputs.sources - clean.inputs.sources).abs().mean() > 0.01
    half = samples(probability=0.5, kinds=("noise",))
    mixed = unpack_batch(stack_samples([half.packed((epoch, 1)) for epoch in range(6)]))
    changed = (mixed.inputs.image != mixed.targets.image).flatten(1).any(1)
    assert 0 < changed.sum() < 6
