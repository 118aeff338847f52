"""Weather: the network's input is worse, the loss sees the clean images, and a sample depends on its key alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stadia.dataloading.config import WEATHERS, AugmentationConfig, ColorConfig, WeatherConfig
from stadia.dataloading.samples import VideoSamples, stack_samples, unpack_batch
from stadia.dataloading.transforms import WeatherDraw, add_weather
from stadia.datasets.open_dataset import open_recordings

IMAGES = np.random.default_rng(0).integers(0, 255, (2, 3, 96, 160)).astype(np.uint8)


@pytest.mark.parametrize("kind", WEATHERS)
def test_stronger_weather_changes_more_and_the_same_seed_the_same(kind: str) -> None:
    weak, strong, again = (
        add_weather(IMAGES, WeatherDraw(kind, strength, 5), horizon_row=48) for strength in (0.2, 1.0, 1.0)
    )
    changes = [float(np.abs(bad.astype(int) - IMAGES).mean()) for bad in (weak, strong)]
    assert 0 < changes[0] < changes[1]
    assert np.array_equal(strong, again)
    assert strong.dtype == np.uint8
    assert strong.shape == IMAGES.shape


def test_fog_is_thickest_at_the_horizon_and_noise_differs_between_images() -> None:
    gray = np.zeros((1, 3, 96, 160), np.uint8)
    fog = add_weather(gray, WeatherDraw("fog", 1.0, 0), horizon_row=48)[0, 0].mean(axis=1)
    assert (np.diff(fog[48:]) <= 0).all()
    assert fog[50] > 2 * fog[-1]
    same = np.repeat(IMAGES[:1], 2, axis=0)
    first, second = add_weather(same, WeatherDraw("noise", 1.0, 0), horizon_row=48)
    assert not np.array_equal(first, second)


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
