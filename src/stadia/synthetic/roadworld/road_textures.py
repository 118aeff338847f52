"""Procedural periodic textures, generated for each world from its seed, with linear RGB reflectance in [0, 1]."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.synthetic.rendering.surfaces import (
    Image,
    Map,
    Texture,
    as_linear_rgb,
    make_fractal_noise,
    make_plain_texture,
    make_texel_grid,
)

FLOOR_M = 3.0  # height of a storey
FACADES = 6  # different facades of a world
CLOTHS = 6  # different cloths of a world
SIGN_FACES = 4  # different signs of a world
_WALLS = [
    (0.45, 0.20, 0.14), (0.55, 0.48, 0.38), (0.62, 0.60, 0.56), (0.50, 0.38, 0.24), (0.36, 0.38, 0.42),
    (0.60, 0.52, 0.30), (0.40, 0.30, 0.26),
]  # fmt: skip
_SIGNS = [  # rim, ground, symbol
    ((0.6, 0.02, 0.02), (0.75, 0.75, 0.75), (0.03, 0.03, 0.03)),
    ((0.02, 0.08, 0.5), (0.02, 0.08, 0.5), (0.75, 0.75, 0.75)),
]


def make_asphalt(random: np.random.Generator, half_width_m: float, lane_m: float) -> Texture:
    """Return the texture of a two-lane road from above, v along it, with stains, cracks, manholes and markings."""
    n, length = 1024, 16.0
    size = (length, 2 * half_width_m)
    along, across = make_texel_grid(n, n, size)
    across = across - half_width_m
    grain = make_fractal_noise(random, n, n, cells=(6, 4), octaves=9, persistence=random.uniform(0.78, 0.88))
    stain = make_fractal_noise(random, n, n, cells=(3, 3), octaves=5, persistence=0.55)
    value = 1 + 0.17 * grain + 0.09 * stain + 0.09 * random.standard_normal((n, n), np.float32)
    for wheel in (-0.5 * lane_m - 0.75, -0.5 * lane_m + 0.75, 0.5 * lane_m - 0.75, 0.5 * lane_m + 0.75):
        value *= 1 - 0.10 * np.exp(-(((across - wheel) / 0.35) ** 2))
    for _ in range(random.integers(4, 14)):
        x, z, half_x, half_z = random.uniform((-half_width_m, 0, 0.25, 0.3), (half_width_m, length, 1.3, 2.2))
        inside = (abs(across - x) < half_x) & (abs((along - z + length / 2) % length - length / 2) < half_z)
        patch = np.float32(random.choice([random.uniform(0.6, 0.85), random.uniform(1.1, 1.25)]))
        value *= np.where(inside, patch, np.float32(1))
    for _ in range(random.integers(0, 3)):
        x, z = random.uniform((-lane_m, 0.5), (lane_m, length - 0.5))
        radius = np.hypot(across - x, along - z)
        value *= np.where(radius < 0.32, np.float32(0.55), np.float32(1))
        value *= np.where(abs(radius - 0.32) < 0.03, np.float32(0.5), np.float32(1))
    cracks = abs(stain + 0.35 * grain) < random.uniform(0.008, 0.03)
    value *= np.where(cracks, np.float32(0.45), np.float32(1))
    image = (random.uniform(0.17, 0.30) * value)[..., None] * (1 + random.uniform(-0.05, 0.05, 3)).astype(np.float32)
    dash, gap = random.choice([(3.0, 5.0), (4.0, 4.0), (2.0, 2.0), (16.0, 0.0)])
    edge = random.choice([half_width_m - 0.35, lane_m + 0.05])
    has_edge_line = random.random() < 0.8
    paint = (abs(across) < 0.075) & (along % (dash + gap) < dash) | (abs(abs(across) - edge) < 0.06) & has_edge_line
    worn = grain + 1.5 * stain > random.uniform(1.2, 2.8)
    color = as_linear_rgb(0.75, 0.75, 0.72) if random.random() < 0.8 else as_linear_rgb(0.75, 0.60, 0.18)
    image = np.where((paint & ~worn)[..., None], color * (0.9 + 0.08 * grain[..., None]), image)
    return Texture(image, size)


def make_zebra(random: np.random.Generator, road: Texture) -> Texture:
    """Return the texture of a zebra crossing: broad bars along the road."""
    height, width = road.image.shape[:2]
    _, across = make_texel_grid(height, width, road.size_m)
    bars = across % 1.0 < 0.5
    worn = make_fractal_noise(random, height, width, cells=(8, 8), octaves=6, persistence=0.7) > 1.3
    bare = np.roll(road.image, 300, axis=0)
    return Texture(np.where((bars & ~worn)[..., None], as_linear_rgb(0.7, 0.7, 0.68), bare), road.size_m)


def make_paving(random: np.random.Generator) -> Texture:
    """Return the texture of a sidewalk's slabs."""
    n, size = 512, 6.0
    down, across = make_texel_grid(n, n, (size, size))
    rows, columns = random.choice([4, 6, 10, 12, 15]), random.choice([6, 8, 10, 12])
    row = (down * rows / size).astype(int)
    column = (across * columns / size + 0.5 * (row % 2)).astype(int) % columns
    slab = random.uniform(0.72, 1.2, (rows, columns)).astype(np.float32)[row, column]
    joint = (down % (size / rows) < 0.03) | ((across + 0.5 * (row % 2) * size / columns) % (size / columns) < 0.03)
    grain = 1 + 0.16 * make_fractal_noise(random, n, n, cells=(4, 4), octaves=8, persistence=0.75)
    value = random.uniform(0.3, 0.5) * (grain * slab * np.where(joint, np.float32(0.5), np.float32(1)))[..., None]
    color = as_linear_rgb(1, 0.97, 0.92) + random.uniform(-0.05, 0.05, 3).astype(np.float32)
    return Texture(value * color, (size, size))


def make_grass(random: np.random.Generator) -> Texture:
    """Return the texture of a lawn or meadow with blades, bare spots and dry patches."""
    n = 512
    blades = make_fractal_noise(random, n, n, cells=(6, 6), octaves=7, persistence=0.85)
    patches = make_fractal_noise(random, n, n, cells=(3, 3), octaves=5, persistence=0.6)
    green, dry = as_linear_rgb(0.13, 0.22, 0.06), as_linear_rgb(0.34, 0.28, 0.13)
    share = np.clip(0.35 + 0.3 * patches + random.uniform(-0.25, 0.25), 0, 1)[..., None]
    return Texture((green * (1 - share) + dry * share) * np.clip(1 + 0.45 * blades, 0.1, 3)[..., None], (7.0, 7.0))


def make_foliage(random: np.random.Generator) -> Texture:
    """Return the texture of leaves in light and shade."""
    n = 256
    leaves = make_fractal_noise(random, n, n, cells=(12, 12), octaves=5, persistence=0.9)
    tone = make_fractal_noise(random, n, n, cells=(4, 4), octaves=4, persistence=0.6)
    dark, bright = as_linear_rgb(0.05, 0.11, 0.03), as_linear_rgb(0.24, 0.33, 0.08)
    share = np.clip(0.45 + 0.25 * tone + 0.25 * leaves, 0, 1)[..., None]
    return Texture((dark * (1 - share) + bright * share) * np.clip(1 + 0.4 * leaves, 0.25, 2)[..., None], (2.2, 2.2))


def make_bark(random: np.random.Generator) -> Texture:
    """Return the texture of bark with ridges along the trunk."""
    ridges = make_fractal_noise(random, 128, 128, cells=(3, 20), octaves=5, persistence=0.7)
    return Texture(np.clip(1 + 0.4 * ridges, 0.2, 2)[..., None] * as_linear_rgb(0.17, 0.13, 0.09), (1.5, 1.5))


def _make_wall(random: np.random.Generator, height: int, width: int, size_m: tuple[float, float]) -> Image:
    down, across = make_texel_grid(height, width, size_m)
    value = 1 + 0.10 * make_fractal_noise(random, height, width, cells=(4, 4), octaves=8, persistence=0.75)
    # Rain leaves these streaks.
    streaks = make_fractal_noise(random, height, width, cells=(2, 16), octaves=4, persistence=0.6)
    value *= 1 + 0.06 * streaks
    kind = random.choice(["brick", "plaster", "panel"], p=[0.45, 0.35, 0.2])
    if kind == "brick":
        tall, wide = random.choice([(0.1, 0.25), (0.15, 0.4), (0.3, 0.6)])
        row = (down / tall).astype(int)
        column = (across / wide + 0.5 * (row % 2)).astype(int)
        value *= random.uniform(0.72, 1.22, (97, 89)).astype(np.float32)[row % 97, column % 89]
    elif kind == "panel":
        seam = (down % (FLOOR_M / 2) < 0.04) | (across % 1.5 < 0.04)
        value *= np.where(seam, np.float32(0.6), np.float32(1))
    color = as_linear_rgb(*_WALLS[random.integers(len(_WALLS))]) * random.uniform(0.8, 1.15)
    return value[..., None] * (color * random.uniform(0.9, 1.1, 3).astype(np.float32))


def _make_glass(random: np.random.Generator, row: NDArray, column: NDArray, tone: Map) -> Image:
    dark = random.uniform(0.02, 0.14, (16, 16)).astype(np.float32)
    curtain = np.where(random.random((16, 16)) < 0.25, random.uniform(0.25, 0.55, (16, 16)), 0).astype(np.float32)
    value = (dark + curtain)[row % 16, column % 16] * (1 + 0.35 * tone)
    return value[..., None] * as_linear_rgb(0.85, 0.95, 1.05)


def make_facade(random: np.random.Generator) -> Texture:
    """Return the texture of four storeys of windows with a random grid, frames, bars, sills and lintels."""
    n, size = 512, (4 * FLOOR_M, 4 * FLOOR_M)
    down, across = make_texel_grid(n, n, size)
    image = _make_wall(random, n, n, size)
    tone = make_fractal_noise(random, n, n, cells=(8, 8), octaves=5, persistence=0.6)
    pitch = size[1] / random.choice([3, 4, 5, 6, 8])
    half_w, half_h = 0.5 * pitch * random.uniform(0.38, 0.68), 0.5 * FLOOR_M * random.uniform(0.42, 0.66)
    row, column = (down / FLOOR_M).astype(int), (across / pitch).astype(int)
    x, y = across % pitch - pitch / 2, down % FLOOR_M - FLOOR_M / 2
    window = (abs(x) < half_w) & (abs(y) < half_h)
    frame = (abs(x) < half_w + 0.09) & (abs(y) < half_h + 0.09) & ~window
    bars = window & ((abs(x) < 0.035) | (abs(y + half_h * random.uniform(0, 0.4)) < 0.035))
    sill = (abs(x) < half_w + 0.15) & (abs(y - half_h - 0.13) < 0.06)
    trim = as_linear_rgb(*(random.uniform(0.15, 0.75) * random.uniform(0.85, 1.1, 3)))
    image = np.where(window[..., None], _make_glass(random, row, column, tone), image)
    image = np.where((frame | bars | sill)[..., None], trim * (1 + 0.08 * tone[..., None]), image)
    if random.random() < 0.6:
        image = np.where(np.broadcast_to(down % FLOOR_M < 0.16, (n, n))[..., None], image * 0.7, image)
    return Texture(image, size)


def make_shopfront(random: np.random.Generator) -> Texture:
    """Return the texture of a ground floor with large panes, doors and a band for the sign."""
    height, width, size = 256, 1024, (FLOOR_M, 24.0)
    down, across = make_texel_grid(height, width, size)
    image = _make_wall(random, height, width, size)
    tone = make_fractal_noise(random, height, width, cells=(4, 32), octaves=5, persistence=0.6)
    pitch = 24.0 / random.choice([5, 6, 8, 10])
    shop = (across / pitch).astype(int) + 0 * (down / FLOOR_M).astype(int)
    x = across % pitch - pitch / 2
    pane = (abs(x) < 0.42 * pitch) & (down > 0.75) & (down < FLOOR_M - random.uniform(0.15, 0.8))
    pane = pane & (abs(abs(x) - 0.14 * pitch) > 0.05)
    door = (abs(x) < 0.14 * pitch - 0.1) & (down > 0.75)
    band = (abs(x) < 0.46 * pitch) & (down > 0.12) & (down < 0.62)
    colors = random.uniform(0.05, 0.6, (16, 3)).astype(np.float32)
    image = np.where(pane[..., None], _make_glass(random, shop, shop, tone), image)
    image = np.where(door[..., None], colors[(shop + 5) % 16] * (0.6 + 0.1 * tone[..., None]), image)
    letters = band & (abs(down - 0.37) < 0.13) & (tone > 0.2)
    image = np.where(band[..., None], colors[shop % 16], image)
    return Texture(np.where(letters[..., None], as_linear_rgb(0.8, 0.8, 0.75), image), size)


def make_roof(random: np.random.Generator) -> Texture:
    """Return the texture of roof tiles in rows. Each second row is shifted by half a tile."""
    down, across = make_texel_grid(256, 256, (4.0, 4.0))
    row = (down / 0.25).astype(int)
    column = (across / 0.25 + 0.5 * (row % 2)).astype(int)
    tile = random.uniform(0.7, 1.25, (16, 16)).astype(np.float32)[row % 16, column % 16]
    joint = np.where(down % 0.25 < 0.04, np.float32(0.5), np.float32(1))
    value = tile * joint * (1 + 0.12 * make_fractal_noise(random, 256, 256))
    color = [(0.35, 0.13, 0.08), (0.15, 0.14, 0.14), (0.25, 0.18, 0.13)][random.integers(3)]
    return Texture(value[..., None] * as_linear_rgb(*color), (4.0, 4.0))


def make_clothing(random: np.random.Generator) -> Texture:
    """Return the texture of cloth with folds, sometimes with stripes."""
    folds = make_fractal_noise(random, 64, 64, cells=(4, 6), octaves=4, persistence=0.8)
    first, second = (random.uniform(0.03, 0.5) * random.uniform(0.45, 1.0, 3) for _ in range(2))
    stripes = (np.arange(64) // int(random.choice([4, 8, 16]))) % 2 * (random.random() < 0.35)
    image = np.where(stripes[:, None, None] > 0, first, second) * (1 + 0.22 * folds[..., None])
    return Texture(image.astype(np.float32), (0.6, 0.6))


def make_sign_face(random: np.random.Generator) -> Texture:
    """Return the texture of a traffic sign's front, 0.7 m per tile: a disc with a rim and a symbol."""
    down, across = make_texel_grid(128, 128, (0.7, 0.7))
    radius = np.hypot(down - 0.35, across - 0.35)
    rim, ground, mark = _SIGNS[random.integers(2)]
    symbol = make_fractal_noise(random, 128, 128, cells=(4, 4), octaves=3, persistence=0.4) > 0.4
    image = np.where((radius > 0.27)[..., None], as_linear_rgb(*rim), as_linear_rgb(*ground))
    return Texture(np.where((symbol & (radius < 0.22))[..., None], as_linear_rgb(*mark), image), (0.7, 0.7))


def make_sky(random: np.random.Generator, overcast: bool) -> Texture:
    """Return the texture of the sky: the full circle across, from the zenith down to the horizon."""
    height, width = 256, 1024
    cloud = make_fractal_noise(random, height, width, cells=(3, 8), octaves=7, persistence=0.58)
    elevation = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    clear = as_linear_rgb(0.18, 0.34, 0.68) * (1 - elevation) + as_linear_rgb(0.62, 0.74, 0.86) * elevation
    cover = random.uniform(-0.2, 0.5) if overcast else random.uniform(0.6, 1.8)
    share = np.clip((cloud - cover) * 0.9, 0, 1)[..., None]
    clouds = as_linear_rgb(0.85, 0.86, 0.88) * (0.85 + 0.08 * cloud[..., None])
    return Texture(clear * (1 - share) + clouds * share, (2 * np.pi * height / width, 2 * np.pi))


def make_road_textures(seed: int, half_width_m: float, lane_m: float, overcast: bool) -> dict[str, Texture]:
    """Return all textures of a world by name. Each has its own random stream."""

    def stream(name: str) -> np.random.Generator:
        return make_generator(seed, "textures", name)

    made = {"asphalt": make_asphalt(stream("asphalt"), half_width_m, lane_m), "sky": make_sky(stream("sky"), overcast)}
    made["zebra"] = make_zebra(stream("zebra"), made["asphalt"])
    for kind, count, make in _DRAWN:
        names = [kind] if count == 1 else [f"{kind}{i}" for i in range(count)]
        made |= {name: make(stream(name)) for name in names}
    return made | {name: make_plain_texture(stream(name), *look) for name, look in PLAIN_LOOKS.items()}


_DRAWN: tuple[tuple[str, int, Callable[[np.random.Generator], Texture]], ...] = (
    ("paving", 1, make_paving), ("grass", 1, make_grass), ("bark", 1, make_bark), ("shopfront", 1, make_shopfront),
    ("roof", 1, make_roof), ("foliage", 2, make_foliage), ("facade", FACADES, make_facade),
    ("cloth", CLOTHS, make_clothing), ("sign_face", SIGN_FACES, make_sign_face),
)  # fmt: skip
PLAIN_LOOKS = {  # linear RGB, contrast, metres of a tile
    "paint": ((0.85, 0.85, 0.85), 0.07, 3.0),
    "glass": ((0.07, 0.08, 0.09), 0.45, 2.5),
    "rubber": ((0.03, 0.03, 0.03), 0.3, 1.0),
    "metal": ((0.30, 0.30, 0.31), 0.15, 2.0),
    "lamp": ((0.80, 0.80, 0.76), 0.1, 0.5),
    "red": ((0.45, 0.03, 0.02), 0.2, 0.5),
    "skin": ((0.55, 0.36, 0.26), 0.1, 0.5),
    "hair": ((0.10, 0.07, 0.05), 0.4, 0.3),
    "concrete": ((0.42, 0.41, 0.39), 0.18, 3.0),
    "wood": ((0.28, 0.19, 0.11), 0.3, 1.5),
}
