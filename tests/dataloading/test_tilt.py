"""Tilted samples: image, depth and motion of another camera at the same place, against what geometry says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stadia.dataloading.config import AugmentationConfig, ColorConfig, DataConfig, TiltConfig
from stadia.dataloading.samples import VideoSamples, stack_samples, unpack_batch
from stadia.dataloading.transforms import make_tilt, tilt_depth
from stadia.datasets.open_dataset import open_recordings
from stadia.geometry.warp import synthesize_views

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


def test_the_crop_of_the_recipe_of_midas_keeps_the_aspect(tmp_path: Path, world: Any) -> None:
    """The image is resized until it just covers the crop; K follows, and validation sees the whole image."""
    recording = open_recordings(world.recording(tmp_path / "a", 5))[0]
    change = AugmentationConfig(mirror=0, color=ColorConfig(probability=0), crop=(64, 64))
    config = DataConfig(path="x", height=64, width=96, augmentation=change, stereo=False)
    training = VideoSamples.from_config([recording], config, training=True)
    focal = recording.camera(0).K[0, 0] * 64 / 96  # the shorter side of 160x96 becomes 64
    lefts = set()
    for epoch in range(6):
        packed = training.packed((epoch, 1))
        assert packed.images.shape[-2:] == (64, 64)
        assert packed.K[0, 0, 0] == pytest.approx(float(focal), rel=0.01)
        assert packed.K[0, 1, 1] == pytest.approx(float(focal), rel=0.01)
        lefts.add(float(packed.K[0, 0, 2]))
    assert len(lefts) > 2, "the crop is drawn"
    assert VideoSamples.from_config([recording], config, training=False).packed((0, 1)).images.shape[-2:] == (64, 96)
