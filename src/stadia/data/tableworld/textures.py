"""Procedural textures of a table and its objects, made for each table. Linear RGB reflectance in [0, 1]."""

from __future__ import annotations

import numpy as np

from stadia.core.seeds import generator
from stadia.data.rendering.noise import fractal
from stadia.data.rendering.texture import Image, Texture, axes, linear_rgb, plain


def _draw_color(random: np.random.Generator, low: float = 0.05, high: float = 0.85) -> Image:
    """Draw a color, mostly muted, sometimes vivid; dark to bright."""
    vivid = 0.85 * random.random() ** 2
    return (random.uniform(low, high) * (1 - vivid + vivid * random.random(3))).astype(np.float32)


def _draw_print_color(random: np.random.Generator) -> Image:
    """Draw a printing color: gray to vivid, dark to bright."""
    vivid = random.uniform(0.0, 0.9)
    return (random.uniform(0.05, 0.9) * (1 - vivid + vivid * random.random(3))).astype(np.float32)


def wood(random: np.random.Generator) -> Texture:
    """Make boards with grain along them."""
    n, size = 256, (1.0, 1.0)
    down, _ = axes(n, n, size)
    boards = random.choice([1, 4, 8])
    tone = random.uniform(0.85, 1.12, boards).astype(np.float32)[(down * boards).astype(int) % boards]
    grain = fractal(random, n, n, cells=(32, 2), octaves=4, persistence=0.7)
    fine = fractal(random, n, n, cells=(64, 8), octaves=3, persistence=0.8)
    seam = np.where((down * boards) % 1 < 0.012 * boards, np.float32(0.6 if boards > 1 else 1.0), np.float32(1))
    value = tone * seam * (1 + 0.12 * grain + 0.06 * fine)
    dark = linear_rgb(0.45, 0.27, 0.14) * random.uniform(0.35, 1.3)
    return Texture(value[..., None] * dark, size)


def cloth(random: np.random.Generator) -> Texture:
    """Make a woven table cloth: checks, stripes, dots or plain."""
    n, size = 256, (0.32, 0.32)
    down, across = axes(n, n, size)
    pitch = size[0] / random.choice([2, 4, 8])
    kind = random.choice(["checks", "stripes", "dots", "plain"])
    a, b = (down % pitch < pitch / 2), (across % pitch < pitch / 2)
    dots = np.hypot(down % pitch - pitch / 2, across % pitch - pitch / 2) < 0.3 * pitch
    share = {"checks": 0.5 * a + 0.5 * b, "stripes": a + 0.0 * b, "dots": dots, "plain": 0.0 * (a + b)}[kind][
        ..., None
    ].astype(np.float32)
    weave = 1 + 0.07 * fractal(random, n, n, cells=(64, 64), octaves=2) + 0.05 * fractal(random, n, n)
    return Texture((_draw_color(random) * share + _draw_color(random, 0.3) * (1 - share)) * weave[..., None], size)


def stone(random: np.random.Generator) -> Texture:
    """Make marble or a worktop: blotches and veins."""
    n = 256
    cloud = fractal(random, n, n, cells=(3, 3), octaves=7, persistence=0.65)
    vein = np.exp(-((fractal(random, n, n, cells=(3, 3), octaves=5) / 0.12) ** 2))
    value = 1 + 0.1 * cloud - random.uniform(0, 0.4) * vein
    return Texture(value[..., None] * _draw_color(random, 0.12, 0.8) * linear_rgb(1, 0.98, 0.95), (0.8, 0.8))


def tiles(random: np.random.Generator) -> Texture:
    """Make a floor or wall of square tiles."""
    n, size = 256, (1.2, 1.2)
    down, across = axes(n, n, size)
    count = int(random.choice([2, 3, 4, 6]))
    pitch = size[0] / count
    row, column = (down / pitch).astype(int) % count, (across / pitch).astype(int) % count
    tone = random.uniform(0.85, 1.1, (count, count)).astype(np.float32)[row, column]
    joint = (down % pitch < 0.008) | (across % pitch < 0.008)
    value = tone * np.where(joint, np.float32(0.6), np.float32(1)) * (1 + 0.06 * fractal(random, n, n))
    return Texture(value[..., None] * _draw_color(random, 0.15, 0.8), size)


def paint(random: np.random.Generator) -> Texture:
    """Make a wall or carpet of one color with blotches."""
    red, green, blue = _draw_color(random, 0.15, 0.85)
    return plain(random, (red, green, blue), random.uniform(0.03, 0.25), random.uniform(0.3, 2.0))


def label(random: np.random.Generator) -> Texture:
    """Make a printed label 0.12 m high: a ground, bands, a disc, and lines that resemble text."""
    n, size = 128, (0.12, random.uniform(0.1, 0.28))
    down, across = axes(n, n, (1.0, 1.0))
    image = np.broadcast_to(_draw_print_color(random), (n, n, 3)).copy()
    for _ in range(random.integers(0, 4)):
        at, half = random.random(), random.uniform(0.02, 0.15)
        band = (abs((down if random.random() < 0.7 else across) - at) < half) & np.ones((n, n), bool)
        image[band] = _draw_print_color(random)
    if random.random() < 0.6:
        disc = np.hypot((down - random.uniform(0.25, 0.75)), (across - random.uniform(0.25, 0.75))) < random.uniform(
            0.1, 0.24
        )
        image[disc] = _draw_print_color(random)
    for _ in range(random.integers(1, 4)):
        top, left = random.uniform(0.05, 0.8), random.uniform(0.02, 0.5)
        tall, wide = random.uniform(0.03, 0.14), random.uniform(0.2, 0.48)
        letters = fractal(random, n, n, cells=(8, 32), octaves=2) > 0.1
        image[(down > top) & (down < top + tall) & (across > left) & (across < left + wide) & letters] = (
            _draw_print_color(random)
        )
    return Texture(image * (1 + 0.05 * fractal(random, n, n))[..., None], size)


def keys(random: np.random.Generator) -> Texture:
    """Make a keyboard of 16 mm keys."""
    n, pitch = 64, 0.016
    down, across = axes(n, n, (2 * pitch, 2 * pitch))
    gap = (down % pitch < 0.0022) | (across % pitch < 0.0022)
    dark = random.uniform(0.02, 0.1)
    light = random.uniform(0.3, 0.6) if random.random() < 0.4 else 1.6 * dark
    return Texture(
        np.where(gap[..., None], linear_rgb(dark, dark, dark), linear_rgb(light, light, light)), (2 * pitch, 2 * pitch)
    )


SURFACES = {
    "table": (wood, cloth, stone, paint),
    "floor": (wood, tiles, paint, stone),
    "wall": (paint, paint, tiles, wood),
}


def make_textures(seed: int, objects: int) -> dict[str, Texture]:
    """Make all textures of a table by name, "label0" and "paint0" for the first object; each has its own random
    stream.
    """
    made = {}
    for name, choices in SURFACES.items():
        random = generator(seed, "textures", name)
        made[name] = choices[random.integers(len(choices))](random)
    for name, rgb, contrast in (
        ("metal", (0.5, 0.5, 0.5), 0.1),
        ("plastic", (0.9, 0.9, 0.9), 0.04),
        ("ceramic", (0.95, 0.95, 0.95), 0.03),
    ):
        made[name] = plain(generator(seed, "textures", name), rgb, contrast, 0.2)
    made["keys"] = keys(generator(seed, "textures", "keys"))
    made["sky"] = plain(generator(seed, "textures", "sky"), (0.7, 0.7, 0.7), 0.02, 1.0)
    for number in range(objects):
        made[f"label{number}"] = label(generator(seed, "textures", "label", number))
        made[f"paint{number}"] = plain(generator(seed, "textures", "paint", number), (0.95, 0.95, 0.95), 0.06, 0.1)
    return made
