"""Rooms, corridors and halls with furniture and a hand-held camera, rendered on the processor with exact depth.

`make_room(seed, config)` makes a room, and `RoomRenderer` renders its frames.

World: x right, y down, z forward; the floor is y = 0, the room extends from the origin to (width, -height, depth).
Furniture has its own frame: x right, y down, z front, on y = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from stadia.core.seeds import derive_seed, make_generator
from stadia.synthetic.household_objects import (
    SHAPES,
    compute_footprint,
    has_overlap,
    make_cloth,
    make_keys,
    make_label,
    make_paint,
    make_stone,
    make_tiles,
    make_upright_pose,
    make_wood,
)
from stadia.synthetic.rendering.mesh import (
    Color,
    Mesh,
    Points,
    compute_bounds,
    make_box,
    make_camera_pose,
    make_direction,
    make_ellipsoid,
    make_quad,
    make_tube,
    transform_mesh,
)
from stadia.synthetic.rendering.rasterizer import make_intrinsics
from stadia.synthetic.rendering.renderer import RenderedImage, StillRenderer, StillScene
from stadia.synthetic.rendering.shading_kernels import SunLight
from stadia.synthetic.rendering.surfaces import (
    Texture,
    assemble_parts,
    make_fractal_noise,
    make_plain_texture,
    make_texel_grid,
)
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
from stadia.synthetic.roadworld.street_models import make_person

_MAX_SMALL = 14  # small things in a room
_MIN_CLEAR_M = 0.3  # from the camera to furniture, and to the walls
_SHADOW_SIDE, _SHADOW_BIAS_M = 1024, 0.01
FABRICS, PAINTS, PRINTS = 4, 5, 6


@dataclass(frozen=True, kw_only=True)
class RoomWorldConfig:
    """Frames of a room, and the camera.

    height, width: of an image, pixels.
    field_of_view_deg, camera_height_m: ranges of the horizontal angle and of the height over the floor.
    supersampling: N for N x N samples a pixel; odd, so that the middle sample is the pixel's center.
    noise: shot and read noise of a sensor.
    """

    frames: int
    height: int
    width: int
    field_of_view_deg: tuple[float, float] = (45.0, 95.0)
    camera_height_m: tuple[float, float] = (0.4, 1.9)
    supersampling: int = 3
    noise: bool = True


# -- tints, textures


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


# -- pieces of furniture


@dataclass(frozen=True, slots=True)
class Furniture:
    """A piece of furniture.

    tops: (x0, z0, x1, z1, height_m) of surfaces that carry things. against_wall: its back is.
    """

    mesh: Mesh
    tops: tuple[tuple[float, float, float, float, float], ...] = ()
    against_wall: bool = True

    @property
    def footprint(self) -> Points:
        """Return the (4, 2) corners x, z of the rectangle that it occupies."""
        low, high = compute_bounds(self.mesh)
        return np.array([[low[0], low[2]], [high[0], low[2]], [high[0], high[2]], [low[0], high[2]]])


def _legs(half_x: float, half_z: float, height: float, thick: float, material: str, tint: Color) -> Mesh:
    parts: Mesh = []
    for x in (-half_x, half_x - thick):
        for z in (-half_z, half_z - thick):
            parts += make_box((x, -height, z), (x + thick, 0, z + thick), material, tint)
    return parts


def _wooden(random: np.random.Generator) -> tuple[str, Color]:
    if random.random() < 0.6:
        return "wood", tuple(random.uniform(0.6, 1.5) * np.ones(3))
    return f"paint{random.integers(PAINTS)}", draw_tint(random)


def _covered(random: np.random.Generator) -> tuple[str, Color]:
    return f"fabric{random.integers(FABRICS)}", draw_tint(random)


def make_table(random: np.random.Generator) -> Furniture:
    """Make a dining or coffee table, rectangular or round."""
    low = random.random() < 0.35
    height, wide, deep = random.uniform(0.35, 0.5) if low else random.uniform(0.68, 0.78), *random.uniform(0.6, 1.6, 2)
    material, tint = _wooden(random)
    thick = random.uniform(0.02, 0.06)
    if random.random() < 0.3:
        radius = 0.5 * min(wide, deep)
        mesh = make_tube((0, -height, 0), (0, thick - height, 0), radius, material, tint, sides=28, closed=True)
        mesh += make_tube((0, thick - height, 0), (0, 0, 0), (0.05, 0.25 * radius), "metal", tint)
        reach = 0.65 * radius
        return Furniture(mesh, ((-reach, -reach, reach, reach, height),), against_wall=False)
    x, z = wide / 2, deep / 2
    mesh = make_box((-x, -height, -z), (x, thick - height, z), material, tint)
    mesh += _legs(x - 0.04, z - 0.04, height - thick, random.uniform(0.03, 0.08), material, tint)
    return Furniture(mesh, ((-x, -z, x, z, height),), against_wall=False)


def make_chair(random: np.random.Generator) -> Furniture:
    """Make a chair with a seat and a back."""
    seat, wide, deep, back = random.uniform(0.42, 0.48), *random.uniform(0.38, 0.5, 2), random.uniform(0.35, 0.6)
    material, tint = _wooden(random) if random.random() < 0.6 else _covered(random)
    x, z = wide / 2, deep / 2
    mesh = make_box((-x, -seat, -z), (x, 0.04 - seat, z), material, tint)
    mesh += make_box((-x, -seat - back, -z), (x, -seat - random.uniform(0.0, 0.15), 0.03 - z), material, tint)
    mesh += _legs(x, z, seat - 0.04, 0.035, "metal" if random.random() < 0.4 else "wood", tint)
    return Furniture(mesh, against_wall=False)


def make_sofa(random: np.random.Generator) -> Furniture:
    """Make a sofa or an armchair with cushions."""
    wide, deep, seat = random.uniform(0.8, 2.4), random.uniform(0.75, 1.0), random.uniform(0.36, 0.46)
    back, arm = random.uniform(0.7, 0.95), random.uniform(0.12, 0.22)
    material, tint = _covered(random)
    x, z = wide / 2, deep / 2
    mesh = make_box((-x, -seat, -z), (x, -0.06, z), material, tint)
    mesh += make_box((-x, -back, -z), (x, -seat, 0.22 - z), material, tint)
    for side in (-x, x - arm):
        mesh += make_box((side, -seat - 0.2, -z), (side + arm, -0.06, z), material, tint)
    for _ in range(int(random.integers(0, 4))):
        center = (random.uniform(0.3 - x, x - 0.3), -seat - 0.18, 0.3 - z)
        size = random.uniform(0.15, 0.25)
        mesh.append(make_ellipsoid(center, (size, size, 0.09), *_covered(random)))
    return Furniture(mesh)


def make_bed(random: np.random.Generator) -> Furniture:
    """Make a bed with a blanket and pillows."""
    wide, long, height = random.uniform(0.9, 1.8), random.uniform(1.9, 2.1), random.uniform(0.4, 0.6)
    x, z = wide / 2, long / 2
    material, tint = _wooden(random)
    mesh = make_box((-x, 0.15 - height, -z), (x, -0.1, z), material, tint)
    mesh += make_box((0.02 - x, -height, 0.02 - z), (x - 0.02, 0.15 - height, z - 0.02), "fabric0", (0.9, 0.9, 0.9))
    mesh += make_box(
        (-x, -height - 0.04, -0.4 * z),
        (x, 0.2 - height, z + 0.02),
        f"fabric{random.integers(FABRICS)}",
        draw_tint(random),
    )
    mesh += make_box((-x, -random.uniform(0.7, 1.2), -z - 0.05), (x, 0, -z), material, tint)
    for side in (-0.5, 0.5) if wide > 1.3 else (0.0,):
        center = (side * x, -height - 0.08, 0.3 - z)
        mesh.append(make_ellipsoid(center, (0.34, 0.11, 0.22), *_covered(random)))
    return Furniture(mesh)


def make_shelf(random: np.random.Generator) -> Furniture:
    """Make a shelf with books and boxes, or a low board."""
    wide, deep, height = random.uniform(0.5, 2.0), random.uniform(0.25, 0.45), random.uniform(0.7, 2.2)
    boards = int(random.integers(2, 7))
    material, tint = _wooden(random)
    x, z, thick = wide / 2, deep / 2, 0.02
    mesh = make_box((-x, -height, -z), (x, 0, 0.015 - z), material, tint)
    for side in (-x, x - thick):
        mesh += make_box((side, -height, -z), (side + thick, 0, z), material, tint)
    rise = height / boards
    for board in range(boards + 1):
        y = -board * rise
        mesh += make_box((-x, y - thick, -z), (x, y, z), material, tint)
        at = -x + 0.04
        while board < boards and at < x - 0.1:
            if random.random() < 0.8:
                thin, tall = random.uniform(0.015, 0.06), random.uniform(0.4, 0.85) * rise
                front = z - random.uniform(0.02, 0.3 * deep)
                look = f"print{random.integers(PRINTS)}" if random.random() < 0.3 else f"paint{random.integers(PAINTS)}"
                mesh += make_box(
                    (at, y - thick - tall, 0.03 - z), (at + thin, y - thick, front), look, draw_tint(random)
                )
                at += thin + 0.002
            else:
                at += random.uniform(0.03, 0.3)
    return Furniture(mesh, ((-x, -z, x, z, height + thick),) if height < 1.3 else ())


def make_cabinet(random: np.random.Generator) -> Furniture:
    """Make a wardrobe, a chest of drawers, a kitchen unit or a fridge: a box whose front has doors and handles."""
    wide, deep = random.uniform(0.5, 2.2), random.uniform(0.4, 0.65)
    height = random.uniform(0.75, 1.0) if random.random() < 0.5 else random.uniform(1.4, 2.2)
    material, tint = _wooden(random)
    x, z = wide / 2, deep / 2
    mesh = make_box((-x, -height, -z), (x, 0, z), material, tint)
    columns, rows = max(1, round(wide / random.uniform(0.4, 0.7))), int(random.integers(1, 5))
    front: Color = tuple(np.clip(np.array(tint) * random.uniform(0.7, 1.2), 0, 1.5))
    for i in range(columns):
        for j in range(rows):
            left, top = -x + wide * i / columns + 0.01, -height + height * j / rows + 0.01
            right, bottom = left + wide / columns - 0.02, top + height / rows - 0.02
            mesh += make_box((left, top, z), (right, bottom, z + 0.018), material, front)
            middle = (top + bottom) / 2
            mesh += make_box((right - 0.06, middle - 0.05, z + 0.018), (right - 0.04, middle + 0.05, z + 0.04), "metal")
    return Furniture(mesh, ((-x, -z, x, z, height),) if height < 1.2 else ())


def make_desk(random: np.random.Generator) -> Furniture:
    """Make a desk with one or two screens."""
    wide, deep, height = random.uniform(1.0, 1.8), random.uniform(0.6, 0.8), random.uniform(0.7, 0.76)
    material, tint = _wooden(random)
    x, z = wide / 2, deep / 2
    mesh = make_box((-x, -height, -z), (x, 0.03 - height, z), material, tint)
    mesh += _legs(x, z, height - 0.03, 0.05, "metal", (0.8, 0.8, 0.8))
    for center in (0.0,) if random.random() < 0.6 else (-0.32, 0.32):
        half, tall, y = random.uniform(0.22, 0.31), random.uniform(0.28, 0.38), -height - random.uniform(0.08, 0.16)
        mesh += make_box((center - half, y - tall, 0.14 - z), (center + half, y, 0.17 - z), "plastic", (0.1, 0.1, 0.1))
        screen = f"print{random.integers(PRINTS)}"
        mesh += make_box(
            (center - half + 0.01, y - tall + 0.01, 0.17 - z), (center + half - 0.01, y - 0.01, 0.172 - z), screen
        )
        mesh += make_box((center - 0.03, y, 0.14 - z), (center + 0.03, -height, 0.16 - z), "plastic", (0.1, 0.1, 0.1))
    return Furniture(mesh, ((-x, 0.3 - z, x, z, height),))


def make_plant(random: np.random.Generator) -> Furniture:
    """Make a potted plant."""
    pot, tall = random.uniform(0.12, 0.22), random.uniform(0.4, 1.6)
    mesh = make_tube((0, 0, 0), (0, -1.6 * pot, 0), (0.8 * pot, pot), "ceramic", draw_tint(random), closed=True)
    mesh += make_tube((0, -1.6 * pot, 0), (0, -tall, 0), 0.02, "bark")
    for _ in range(int(random.integers(5, 18))):
        direction = random.normal(size=3) * (0.16, 0.25 * tall, 0.16)
        size = random.uniform(0.05, 0.2) * (0.4 + 0.6 * tall)
        center = (direction[0], -tall - 0.3 * abs(direction[1]), direction[2])
        green: Color = tuple(random.uniform(0.7, 1.4) * np.ones(3))
        mesh.append(make_ellipsoid(center, (size, 0.5 * size, size), "foliage", green, around=8, along=5))
    return Furniture(mesh)


def make_lamp(random: np.random.Generator) -> Furniture:
    """Make a floor lamp."""
    tall, shade = random.uniform(1.2, 1.8), random.uniform(0.12, 0.25)
    mesh = make_tube((0, 0, 0), (0, -0.03, 0), 0.15, "metal", closed=True)
    mesh += make_tube((0, -0.03, 0), (0, -tall, 0), 0.012, "metal")
    bright: Color = (1.3, 1.2, 1.0)
    mesh += make_tube((0, 0.05 - tall, 0), (0, -tall - 0.25, 0), (shade, 0.6 * shade), "plastic", bright, sides=16)
    return Furniture(mesh)


def make_clutter(random: np.random.Generator) -> Furniture:
    """Make a heap of boxes, bags and balls on the floor."""
    mesh: Mesh = []
    for _ in range(int(random.integers(1, 5))):
        x, z = random.uniform(-0.3, 0.3, 2)
        size = random.uniform(0.08, 0.3, 3)
        look = f"print{random.integers(PRINTS)}" if random.random() < 0.5 else f"paint{random.integers(PAINTS)}"
        if random.random() < 0.7:
            low, high = (x - size[0], -2 * size[1], z - size[2]), (x + size[0], 0, z + size[2])
            mesh += make_box(low, high, look, draw_tint(random))
        else:
            radius = float(size[0])
            mesh.append(make_ellipsoid((x, -radius, z), (radius,) * 3, look, draw_tint(random), around=16, along=10))
    return Furniture(mesh, against_wall=False)


FURNITURE: dict[str, Callable[[np.random.Generator], Furniture]] = {
    "table": make_table,
    "chair": make_chair,
    "sofa": make_sofa,
    "bed": make_bed,
    "shelf": make_shelf,
    "cabinet": make_cabinet,
    "desk": make_desk,
    "plant": make_plant,
    "lamp": make_lamp,
    "clutter": make_clutter,
}


# -- walls, windows, doors and pictures


def _draw_room_size(random: np.random.Generator) -> Points:
    kind = random.choice(["room", "corridor", "hall"], p=[0.65, 0.2, 0.15])
    if kind == "corridor":
        return np.array([random.uniform(1.6, 2.8), random.uniform(2.2, 3.0), random.uniform(7, 20)])
    if kind == "hall":
        return np.array([random.uniform(6, 14), random.uniform(3, 6), random.uniform(8, 18)])
    return np.array([random.uniform(2.8, 6.5), random.uniform(2.3, 3.2), random.uniform(3, 7.5)])


def _make_wall_frame(size: Points, wall: int) -> tuple[Points, float]:
    """Return T_world_wall (4, 4) and the length of a wall: x along it from the middle, y down, z into the room."""
    width, _, depth = size
    yaw = (0.0, np.pi / 2, np.pi, -np.pi / 2)[wall]
    c, s = np.cos(yaw), np.sin(yaw)
    T = np.eye(4)
    T[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    T[:3, 3] = [(width / 2, 0, 0), (0, 0, depth / 2), (width / 2, 0, depth), (width, 0, depth / 2)][wall]
    return T, float(depth if wall % 2 else width)


def _make_shell(random: np.random.Generator, size: Points) -> Mesh:
    width, height, depth = size
    along_x, along_z, up = (width, 0, 0), (0, 0, depth), (0, height, 0)
    second = random.choice(["wall0", "wall1"])
    return [
        make_quad((0, 0, 0), along_x, along_z, "floor"),
        make_quad((0, -height, 0), along_x, along_z, "ceiling", (0.95, 0.95, 0.95)),
        make_quad((0, -height, 0), along_x, up, "wall0"),
        make_quad((0, -height, depth), along_x, up, second),
        make_quad((0, -height, 0), along_z, up, "wall0"),
        make_quad((width, -height, 0), along_z, up, second),
    ]


def _make_fittings(random: np.random.Generator, size: Points) -> Mesh:
    parts: Mesh = []
    height = size[1]
    tint = draw_tint(random)
    for wall in range(4):
        T, length = _make_wall_frame(size, wall)
        own: Mesh = []
        at = -length / 2 + random.uniform(0.3, 1.2)
        while at < length / 2 - 1.2:
            wide = random.uniform(0.7, min(2.2, length / 2 - at - 0.1))
            kind = random.choice(["window", "door", "picture", "none"], p=[0.25, 0.2, 0.3, 0.25])
            if kind == "window":
                low, high = -random.uniform(0.3, 1.1), -min(height - 0.2, random.uniform(1.7, 2.3))
                bright = tuple(random.uniform(1.5, 3.0) * np.ones(3))
                own.append(make_quad((at, high, 0.02), (wide, 0, 0), (0, low - high, 0), "outside", bright))
                for x in np.linspace(at, at + wide, int(random.integers(2, 5))):
                    own += make_box((x - 0.03, high, 0.01), (x + 0.03, low, 0.06), "plastic")
                own += make_box((at, low - 0.03, 0.01), (at + wide, low + 0.03, 0.2), "plastic")
                own += make_box((at, high - 0.03, 0.01), (at + wide, high + 0.03, 0.06), "plastic")
                if random.random() < 0.5:
                    for x in (at - 0.25, at + wide - 0.05):
                        own += make_box((x, high - 0.1, 0.08), (x + 0.3, -0.05, 0.16), "fabric1", tint)
            elif kind == "door":
                wide = min(wide, 1.0)
                own += make_box((at, -2.03, 0.01), (at + wide, 0, 0.05), "wood", draw_tint(random))
                own += make_box((at + wide - 0.12, -1.05, 0.05), (at + wide - 0.06, -0.98, 0.1), "metal")
            elif kind == "picture":
                tall, middle = random.uniform(0.3, 1.1), -random.uniform(1.3, 1.7)
                top = max(middle - tall / 2, 0.1 - height)
                own += make_box((at, top, 0.005), (at + wide, top + tall, 0.03), f"print{random.integers(PRINTS)}")
            at += wide + random.uniform(0.1, 1.5)
        own += make_box((-length / 2, -0.09, 0.0), (length / 2, 0, 0.015), "wood", tint)
        parts += transform_mesh(own, T)
    for _ in range(int(random.integers(0, 5))):
        x, z = random.uniform((0.5, 0.5), (size[0] - 0.5, size[2] - 0.5))
        half = random.uniform(0.1, 0.5)
        corner, opposite = (x - half, -height, z - 0.15), (x + half, 0.07 - height, z + 0.15)
        parts += make_box(corner, opposite, "plastic", (2.5, 2.4, 2.2))
    return parts


# -- where furniture, people and small things are


def _pose_on_floor(yaw: float, x: float, z: float) -> Points:
    """Return T_world_object (4, 4) of an upright object, turned by `yaw` from z towards x."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0, s, x], [0, 1.0, 0, 0], [-s, 0, c, z], [0, 0, 0, 1]])


def _place_furniture(seed: int, size: Points) -> list[tuple[Furniture, Points]]:
    random = make_generator(seed, "furniture")
    placed: list[tuple[Furniture, Points]] = []
    taken: list[Points] = []
    wanted = int(size[0] * size[2] * random.uniform(0.1, 0.55)) + 2
    kinds = random.choice(list(FURNITURE), size=int(random.integers(3, len(FURNITURE) + 1)), replace=False)
    for number in range(min(wanted, 30)):
        own = make_generator(seed, "piece", number)
        piece = FURNITURE[str(own.choice(kinds))](own)
        for _ in range(12):
            if piece.against_wall:
                T_wall, length = _make_wall_frame(size, int(own.integers(4)))
                T: Points = T_wall @ _pose_on_floor(0.0, own.uniform(-length / 2, length / 2), 0.0)
                T[:3, 3] += T[:3, 2] * (0.03 - piece.footprint[:, 1].min())
            else:
                T = _pose_on_floor(own.uniform(0, 2 * np.pi), *own.uniform((0, 0), (size[0], size[2])))
            corners = piece.footprint @ T[[0, 2]][:, [0, 2]].T + T[[0, 2], 3]
            inside = (corners > 0.01).all() and (corners < size[[0, 2]] - 0.01).all()
            if inside and not any(has_overlap(corners, other) for other in taken):
                placed.append((piece, T))
                taken.append(corners)
                break
    return placed


def _place_people(seed: int, size: Points) -> Mesh:
    random = make_generator(seed, "people")
    parts: Mesh = []
    for _ in range(int(random.choice([0, 1, 2, 3], p=[0.65, 0.2, 0.1, 0.05]))):
        mesh, _ = make_person(random)
        x, z = random.uniform((0.4, 0.4), (size[0] - 0.4, size[2] - 0.4))
        parts += transform_mesh(mesh, _pose_on_floor(random.uniform(0, 2 * np.pi), x, z))
    return parts


def _place_small_things(seed: int, furniture: list[tuple[Furniture, Points]]) -> Mesh:
    random = make_generator(seed, "small")
    parts: Mesh = []
    tops = [(top, T) for piece, T in furniture for top in piece.tops]
    count = 0
    for (x0, z0, x1, z1, height), T_piece in tops:
        taken: list[Points] = []
        for _ in range(int(random.integers(0, 6))):
            if count >= _MAX_SMALL:
                return parts
            shape = SHAPES[str(random.choice(list(SHAPES)))](random)
            x, z = random.uniform((x0, z0), (x1, z1))
            T = make_upright_pose(random.uniform(0, 2 * np.pi), x, z, float(shape.size_m[1]))
            corners = compute_footprint(shape, 0.005) @ T[[0, 2]][:, [0, 2]].T + T[[0, 2], 3]
            inside = (corners > (x0, z0)).all() and (corners < (x1, z1)).all()
            if not inside or any(has_overlap(corners, other) for other in taken):
                continue
            taken.append(corners)
            T[1, 3] -= height
            own = {"label": f"label_of{count}", "paint": f"paint_of{count}"}
            mesh = [replace(part, material=own.get(part.material, part.material)) for part in shape.mesh + shape.handle]
            parts += transform_mesh(mesh, T_piece @ T)
            count += 1
    return parts


# -- light and the camera's path


def _make_light(seed: int) -> SunLight:
    random = make_generator(seed, "light")
    azimuth, elevation = random.uniform(0, 2 * np.pi), np.radians(random.uniform(20, 80))
    hard, warm = random.uniform(0.05, 0.7), random.uniform(-0.15, 0.35)
    bright = float(np.exp(random.normal(0.0, 0.35)))
    color = np.array([1 + warm, 1.0, 1 - warm])
    ambient = bright * (1 - 0.7 * hard) * color ** random.uniform(0, 1)
    return SunLight(make_direction(elevation, azimuth), bright * hard * 1.5 * color, ambient, np.zeros(3), 0.0)


def _distance_to_boxes(point: Points, boxes: list[tuple[Points, Points]]) -> float:
    gaps = [np.linalg.norm(np.maximum(np.maximum(low - point, point - high), 0)) for low, high in boxes]
    return float(min(gaps, default=np.inf))


def _draw_path(
    random: np.random.Generator, config: RoomWorldConfig, is_free: Callable[[Points], bool], size: Points
) -> Points:
    for attempt in range(400):
        eye = random.uniform((0.3, 0, 0.3), (size[0] - 0.3, 0, size[2] - 0.3))
        eye[1] = -random.uniform(config.camera_height_m[0], min(config.camera_height_m[1], size[1] - 0.2))
        if not is_free(eye):
            continue
        target = random.uniform((0, -1.7, 0), (size[0], 0.0, size[2]))
        away = target - eye
        if np.hypot(away[0], away[2]) < min(1.0, 0.3 * size[[0, 2]].min()):
            continue
        roll, pace = random.normal(0, np.radians(5)), random.uniform(0.005, 0.06) * (1 - attempt / 400)
        heading = away / np.linalg.norm(away) * random.choice([1, -1, 0.3]) + random.normal(0, 0.5, 3) * (1, 0.2, 1)
        steps = pace * (heading + random.normal(0, 0.15, (config.frames, 3)))
        eyes = eye + np.cumsum(steps, 0) - steps[0]
        targets = target + np.cumsum(random.normal(0, 0.02, (config.frames, 3)), 0)
        if all(is_free(point) for point in eyes):
            rolls = roll + np.cumsum(random.normal(0, np.radians(0.3), config.frames))
            return np.stack([make_camera_pose(*pose) for pose in zip(eyes, targets, rolls, strict=True)])
    raise ValueError("no place in the room is free")


def _make_path(
    seed: int, config: RoomWorldConfig, size: Points, furniture: list[tuple[Furniture, Points]], others: Mesh
) -> Points:
    boxes = []
    for mesh in [transform_mesh(piece.mesh, T) for piece, T in furniture] + [[part] for part in others]:
        vertices = np.concatenate([part.vertices for part in mesh])
        boxes.append((vertices.min(0), vertices.max(0)))

    def is_free(point: Points) -> bool:
        inside = (point > (_MIN_CLEAR_M, -size[1] + 0.1, _MIN_CLEAR_M)).all()
        inside &= (point < (size[0] - _MIN_CLEAR_M, -0.1, size[2] - _MIN_CLEAR_M)).all()
        return bool(inside and _distance_to_boxes(point, boxes) > _MIN_CLEAR_M)

    return _draw_path(make_generator(seed, "path"), config, is_free, size)


def make_room(seed: int, config: RoomWorldConfig) -> StillScene:
    """Make the room of this seed, or of the next one if no camera fits. Each subsystem has its own random stream."""
    for attempt in range(20):
        own = seed if attempt == 0 else derive_seed(seed, "again", attempt)
        random = make_generator(own, "room")
        size = _draw_room_size(random)
        furniture = _place_furniture(own, size)
        people, small = _place_people(own, size), _place_small_things(own, furniture)
        try:
            path = _make_path(own, config, size, furniture, people)
        except ValueError:
            continue
        shell = _make_shell(random, size)
        parts = [*shell, *_make_fittings(make_generator(own, "fittings"), size), *people, *small]
        for piece, T in furniture:
            parts += transform_mesh(piece.mesh, T)
        if random.random() < 0.4:
            low = random.uniform(0, 0.5 * size[[0, 2]])
            extent = random.uniform(0.3, 0.5, 2) * size[[0, 2]]
            rug = make_quad((low[0], -0.004, low[1]), (extent[0], 0, 0), (0, 0, extent[1]), "rug")
            parts.insert(0, rug)
            shell = [rug, *shell]
        textures = make_room_textures(own, (part.material for part in parts))
        field_of_view = make_generator(own, "lens").uniform(*config.field_of_view_deg)
        return StillScene(
            **vars(assemble_parts(parts, np.zeros(len(parts), np.int32), len(shell), textures)),
            seed=own,
            lamp=_make_light(own),
            T_world_camera=path,
            gains=np.exp(make_generator(own, "exposure").normal(0.0, 0.1) + np.zeros(config.frames)),
            K=make_intrinsics(field_of_view, config.height, config.width),
        )
    raise AssertionError("20 rooms without a free place")  # the chance is below 1e-9: rooms hold at most 30 pieces


class RoomRenderer(StillRenderer):
    """Renders the frames of one room; depth 0 is beyond a window."""

    def __init__(self, room: StillScene, config: RoomWorldConfig) -> None:
        super().__init__(
            room,
            height=config.height,
            width=config.width,
            samples=config.supersampling,
            shadow_side=_SHADOW_SIDE,
            shadow_bias_m=_SHADOW_BIAS_M,
        )
        self.room, self.config = room, config

    def render(self, frame: int) -> RenderedImage:
        """Render one frame with its depth."""
        return self.render_view(frame, has_noise=self.config.noise)
