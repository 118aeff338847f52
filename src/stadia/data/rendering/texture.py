"""Periodic textures with a true size, packed with their half-size copies for the shader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.data.rendering.noise import Map, fractal
from stadia.data.rendering.shade import Textures

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Texture:
    """image: (H, W, 3) linear RGB, sides powers of two.  size_m: (height, width) that one tile covers."""

    image: Image
    size_m: tuple[float, float]


def linear_rgb(*rgb: float) -> Image:
    """Return (3,) linear RGB as float32."""
    return np.asarray(rgb, np.float32)


def axes(height: int, width: int, size_m: tuple[float, float]) -> tuple[Map, Map]:
    """Return metres down (H, 1) and across (1, W) of each texel's center."""
    down = ((np.arange(height) + 0.5) * size_m[0] / height).astype(np.float32)[:, None]
    across = ((np.arange(width) + 0.5) * size_m[1] / width).astype(np.float32)[None]
    return down, across


def plain(random: np.random.Generator, rgb: tuple[float, float, float], contrast: float, size_m: float) -> Texture:
    """Make one color with blotches: paint, rubber, metal, wood, skin."""
    value = 1 + contrast * fractal(random, 128, 128, cells=(4, 4), octaves=6, persistence=0.75)
    return Texture(value[..., None] * linear_rgb(*rgb), (size_m, size_m))


def pack(textures: dict[str, Texture]) -> Textures:
    """Pack all textures with their half-size copies (means of 2 x 2 in linear light) for the shader."""
    texels, log2_height, log2_width = [], [], []
    start = np.zeros((len(textures), 16), np.int64)
    total = 0
    for number, texture in enumerate(textures.values()):
        level = np.clip(texture.image, 0, 1).astype(np.float32)
        log2_height.append(level.shape[0].bit_length() - 1)
        log2_width.append(level.shape[1].bit_length() - 1)
        for detail in range(start.shape[1]):
            start[number, detail] = total
            encoded = np.zeros((level.shape[0] * level.shape[1], 4), np.uint8)
            encoded[:, :3] = (np.sqrt(level) * 255 + 0.5).reshape(-1, 3)
            texels.append(encoded)
            total += len(encoded)
            if min(level.shape[:2]) == 1:
                break
            level = 0.25 * (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2])
    return Textures(np.concatenate(texels), start, np.array(log2_height), np.array(log2_width))
