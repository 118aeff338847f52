"""Textures of a room by name, each from its own random stream. Linear RGB reflectance."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from stadia.core.seeds import make_generator
from stadia.synthetic.household_objects import (
    make_cloth,
    make_keys,
    make_label,
    make_paint,
    make_stone,
    make_tiles,
    make_wood,
)
from stadia.synthetic.rendering.mesh import Color
from stadia.synthetic.rendering.surfaces import Texture, make_fractal_noise, make_plain_texture, make_texel_grid
from stadia.synthetic.roadworld.road_textures import (
    CLOTHS,
    PLAIN_LOOKS,
    make_bark,
    make_clothing,
    make_facade,
    make_foliage,
    make_grass,
    make_sky,
)

FABRICS, PAINTS, PRINTS = 4, 5, 6


def draw_tint(random: np.random.Generator) -> Color:
    """Draw a linear RGB color: dark to bright, mostly muted, sometimes vivid."""
    vivid, bright = random.random() ** 2, random.uniform(0.15, 1.1)
    red, green, blue = bright * (1 - vivid + vivid * random.random(3))
    return (red, green, blue)


def make_picture(random: np.random.Generator) -> Texture:
    """Make a picture or a screen: clouds of several colors, discs, bars and lines that resemble text."""
    n = 128
    down, across = make_texel_grid(n, n, (1.0, 1.0))
    image = np.broadcast_to(np.array(draw_tint(random), np.float32), (n, n, 3)).copy()
    for _ in range(random.integers(2, 7)):
        cells = (int(random.integers(1, 5)), int(random.integers(1, 5)))
        cloud = make_fractal_noise(random, n, n, cells=cells, octaves=int(random.integers(2, 8)))
        share = 1 / (1 + np.exp(-random.uniform(1, 12) * (cloud - random.uniform(-1, 1.5))))
        image += share[..., None] * (np.array(draw_tint(random), np.float32) - image)
    for _ in range(random.integers(0, 6)):
        y, x, radius = random.random(3) * (1, 1, 0.3)
        inside = np.hypot(down - y, across - x) < radius
        if random.random() < 0.5:
            inside = (abs(down - y) < radius) & (abs(across - x) < random.random() * 0.4)
        image[inside] = draw_tint(random)
    side = random.uniform(0.2, 1.2)
    return Texture(np.clip(image, 0, 1).astype(np.float32), (side, side * random.uniform(0.7, 1.6)))


def make_wallpaper(random: np.random.Generator) -> Texture:
    """Make a wall with stripes, lozenges or blobs."""
    n = 256
    side = random.uniform(0.4, 1.6)
    down, across = make_texel_grid(n, n, (1.0, 1.0))
    count = 2 ** int(random.integers(1, 5))
    wave_x, wave_y = np.sin(2 * np.pi * count * across), np.sin(2 * np.pi * count * down)
    kind = random.integers(4)
    pattern = (wave_x + 0 * wave_y, wave_x * wave_y, wave_x + wave_y, make_fractal_noise(random, n, n, cells=(8, 8)))[
        kind
    ]
    share = (1 / (1 + np.exp(-random.uniform(1, 10) * pattern)))[..., None].astype(np.float32)
    first = np.array(draw_tint(random), np.float32)
    second = first * np.float32(random.uniform(0.5, 1.0)) if random.random() < 0.7 else np.array(draw_tint(random))
    grain = 1 + 0.05 * make_fractal_noise(random, n, n)[..., None]
    return Texture(np.clip((first * share + second * (1 - share)) * grain, 0, 1).astype(np.float32), (side, side))


_SURFACES: dict[str, tuple[Callable[[np.random.Generator], Texture], ...]] = {
    "floor": (make_wood, make_wood, make_tiles, make_paint, make_stone, make_cloth),
    "ceiling": (make_paint, make_tiles, make_wood),
    "wall0": (make_paint, make_paint, make_wallpaper, make_tiles, make_wood),
    "wall1": (make_paint, make_wallpaper, make_stone),
    "rug": (make_cloth, make_wallpaper, make_picture),
    "wood": (make_wood,),
    "bark": (make_bark,),
    "foliage": (make_foliage,),
    "keys": (make_keys,),
    "outside": (make_facade, make_foliage, make_grass, make_picture),
    **{f"fabric{i}": (make_cloth, make_paint, make_wallpaper) for i in range(FABRICS)},
    **{f"paint{i}": (make_paint, make_stone) for i in range(PAINTS)},
    **{f"print{i}": (make_label, make_picture, make_picture) for i in range(PRINTS)},
    **{f"cloth{i}": (make_clothing,) for i in range(CLOTHS)},
}


_PLAIN: dict[str, tuple[tuple[float, float, float], float, float]] = {  # linear RGB, contrast, metres of a tile
    "metal": ((0.5, 0.5, 0.5), 0.12, 0.2),
    "plastic": ((0.9, 0.9, 0.9), 0.05, 0.2),
    "ceramic": ((0.95, 0.95, 0.95), 0.04, 0.2),
    **{name: PLAIN_LOOKS[name] for name in ("skin", "hair", "rubber")},
}


def make_room_textures(seed: int, names: Iterable[str]) -> dict[str, Texture]:
    """Make the textures of these names, and the sky. The n-th small thing has "label_of<n>" and "paint_of<n>"."""
    made = {"sky": make_sky(make_generator(seed, "textures", "sky"), overcast=False)}
    for name in sorted(set(names)):
        random = make_generator(seed, "textures", name)
        if name.startswith("label_of"):
            made[name] = make_label(random)
        elif name.startswith("paint_of"):
            made[name] = make_plain_texture(random, (0.95, 0.95, 0.95), 0.06, 0.1)
        elif name in _PLAIN:
            made[name] = make_plain_texture(random, *_PLAIN[name])
        else:
            choices = _SURFACES[name]
            made[name] = choices[random.integers(len(choices))](random)
    return made
