"""Make the network's input worse: fog, rain, blur, noise. Losses compare the clean images.

A network that has seen only good images predicts nonsense in rain. With the clean images in the loss it learns the same
depth for the bad ones (Saunders et al., "Let's Talk About The Weather", ICCV 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

FOG_GRAY = 0.8
MAX_FOG = 3.0  # optical thickness of the farthest depth
MAX_DROPS = 900  # streaks of the strongest rain on an image of MAX_DROPS_PIXELS
MAX_DROPS_PIXELS = 640 * 192
MAX_BLUR_SHARE = 1 / 250  # deviation of the blur over the width
MAX_NOISE = 0.12  # deviation of the noise, of 1


@dataclass(frozen=True)
class WeatherDraw:
    """A kind of `WEATHERS`, its strength in (0, 1], and the seed of its drops and grains."""

    kind: str
    strength: float
    seed: int


def add_weather(images: NDArray[np.uint8], draw: WeatherDraw, horizon_row: float) -> NDArray[np.uint8]:
    """Return images (N, 3, H, W), each changed by the same kind and strength; drops and grains differ.

    horizon_row: of a camera that points along the road, its cy: fog is thickest there and above.
    """
    random = np.random.default_rng(draw.seed)
    change = _CHANGES[draw.kind]
    bad = []
    for planar in images:
        image: Image = np.ascontiguousarray(planar.transpose(1, 2, 0)).astype(np.float32) / np.float32(255)
        bad.append(np.clip(change(image, draw.strength, random, horizon_row), 0, 1))
    return np.ascontiguousarray((np.stack(bad) * 255).round().astype(np.uint8).transpose(0, 3, 1, 2))


def _add_fog(image: Image, strength: float, random: np.random.Generator, horizon_row: float) -> Image:
    """Blend with gray by exp(-thickness), where depth is that of a level road below the horizon."""
    height = len(image)
    below = np.clip(np.arange(height) - horizon_row, 0, None) / height
    thickness = strength * MAX_FOG / (1 + 8 * below)
    clear = np.exp(-thickness).astype(np.float32)[:, None, None]
    return image * clear + FOG_GRAY * (1 - clear)


def _add_rain(image: Image, strength: float, random: np.random.Generator, horizon_row: float) -> Image:
    """Draw slanted bright streaks, and take contrast away."""
    height, width = image.shape[:2]
    count = int(strength * MAX_DROPS * height * width / MAX_DROPS_PIXELS)
    streaks = np.zeros((height, width), np.uint8)
    length = np.array([0.04, 0.16]) * height
    for x, y, size in zip(*random.uniform(0, (width, height, 1), (count, 3)).T, strict=True):
        tip = (round(x + (0.3 + size) * length[0]), round(y + (0.3 + size) * length[1]))
        cv2.line(streaks, (round(x), round(y)), tip, 255, 1, cv2.LINE_AA)
    wet = cv2.GaussianBlur(streaks, (3, 3), 0).astype(np.float32)[..., None] / 255
    dull = image * (1 - 0.3 * strength) + 0.3 * strength * image.mean()
    return dull + 0.6 * wet * (0.9 - dull)


def _blur(image: Image, strength: float, random: np.random.Generator, horizon_row: float) -> Image:
    """Blur by a Gaussian, as a drop on the lens or a lens out of focus."""
    deviation = strength * MAX_BLUR_SHARE * image.shape[1]
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(deviation, 0.3)), np.float32)


def _add_noise(image: Image, strength: float, random: np.random.Generator, horizon_row: float) -> Image:
    """Add Gaussian grains, as of a dark night."""
    return image + random.normal(0, strength * MAX_NOISE, image.shape).astype(np.float32)


_CHANGES: dict[str, Callable[[Image, float, np.random.Generator, float], Image]] = {
    "fog": _add_fog,
    "rain": _add_rain,
    "blur": _blur,
    "noise": _add_noise,
}
