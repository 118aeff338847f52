r"""Worlds of simple shapes with photographic textures, rendered by ray casting on the device that trains on them.

Streets, rooms, table tops, land from above and shapes at random. Each scene is drawn from its own seed. A scene is at
most `BOXES` turned boxes, `ELLIPSOIDS` and `CYLINDERS`, on a ground of strips or within a room, with one light. Both
RoadWorld and `room_worlds.py` are more plausible; these differ more.

World frame: x right along the road's width, y down with the ground at 0, z along the road, metres. Camera frame: x
right, y down, z forward.

    python experiments/shape_worlds.py --textures runs/base/textures.npz --out shapes.png
"""

# mypy: disable-error-code="arg-type, assignment, index, operator"

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from world_textures import GROUPS

Floats = NDArray[np.float32]

BOXES, ELLIPSOIDS, CYLINDERS, STRIPS = 112, 48, 32, 10
SHAPE_VALUES = 13
"""Of a shape: center (3), half sizes (3), cos and sin of its yaw, texture, metres of a tile, RGB tint; the row of a
shape that is absent has half sizes of 0."""

NEAR_M, FAR_M = 0.08, 400.0


# -- textures on the device


class Atlas:
    """All textures at all their sizes, as one table of texels.

    groups: group -> numbers of its textures.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        file = np.load(path, allow_pickle=False)
        starts = np.concatenate([[0], file["end"][:-1]])
        jpeg = file["jpeg"]
        images = [
            cv2.imdecode(jpeg[a:b], cv2.IMREAD_COLOR)[..., ::-1] for a, b in zip(starts, file["end"], strict=True)
        ]
        level = torch.from_numpy(np.stack(images)).to(device)
        self.groups = {name: np.flatnonzero(file["group"] == index) for index, name in enumerate(GROUPS)}
        sides, levels = [], []
        while True:
            sides.append(level.shape[1])
            levels.append(level.reshape(-1, 3))
            if level.shape[1] < 6:
                break
            image = torch.nn.functional.avg_pool2d(level.permute(0, 3, 1, 2).float(), 2)
            level = image.permute(0, 2, 3, 1).round().to(torch.uint8)
        self.texels = torch.cat(levels)
        self.sides = torch.tensor(sides, device=device)
        counts = torch.tensor([0, *(len(rows) for rows in levels[:-1])], device=device)
        self.starts = counts.cumsum(0)

    def sample(self, texture: Tensor, uv: Tensor, texels_per_pixel: Tensor) -> Tensor:
        """Return linear RGB (..., 3) at uv (..., 2) in tiles; texture: (...) numbers; bilinear, with a random level."""
        level = (texels_per_pixel.clamp(min=1.0).log2() + torch.rand_like(texels_per_pixel)).floor().long()
        level = level.clamp(0, len(self.sides) - 1)
        side = self.sides[level]
        place = (uv - uv.floor()) * side[..., None] - 0.5
        low = place.floor()
        share = place - low
        x0, y0 = low.long().unbind(-1)
        base = self.starts[level] + texture.long() * side * side
        color = torch.zeros(*uv.shape[:-1], 3, device=uv.device)
        for dy in (0, 1):
            for dx in (0, 1):
                weight = (share[..., 0] if dx else 1 - share[..., 0]) * (share[..., 1] if dy else 1 - share[..., 1])
                row = base + ((y0 + dy) % side) * side + (x0 + dx) % side
                color += weight[..., None] * self.texels[row]
        return (color / 255).pow(2.2)


# -- a scene, drawn by numpy


@dataclass
class Scene:
    """A scene and its camera, arrays of float32.

    boxes, ellipsoids, cylinders: (N, SHAPE_VALUES).  strips: (STRIPS, 7) least and greatest x, texture, metres of a
    tile, brightness, period and length of a dash, later ones over earlier ones.
    room: (6) center and half sizes, 0 for outdoors; room_textures: (4) floor, ceiling, walls, and metres of a tile.
    light: (8) position, RGB, ambient share, whether it fades with the square of the distance.
    haze: (4) RGB and share per metre.  sky: (6) texture, RGB of horizon and brightness, share of the texture.
    T_world_camera, T_world_next: (4, 4) of the camera, and of a second view nearby.  focal: fx / width.
    """

    boxes: Floats
    ellipsoids: Floats
    cylinders: Floats
    strips: Floats
    room: Floats
    room_textures: Floats
    light: Floats
    haze: Floats
    sky: Floats
    T_world_camera: Floats
    T_world_next: Floats
    focal: Floats


@dataclass
class SceneBuilder:
    """Collects shapes; x, y of positions are metres in the world frame, `base` is the height of the lower end."""

    random: np.random.Generator
    groups: dict[str, Any]
    boxes: list[list[float]] = field(default_factory=list)
    ellipsoids: list[list[float]] = field(default_factory=list)
    cylinders: list[list[float]] = field(default_factory=list)

    def texture(self, *names: str) -> int:
        name = names[self.random.integers(len(names))]
        return int(self.random.choice(self.groups[name]))

    def tint(self, vivid: float = 0.3) -> list[float]:
        """Draw a factor of reflectance: mostly grey and bright."""
        bright, share = self.random.uniform(0.35, 1.25), self.random.random() ** 2 * vivid
        return [float(bright * (1 - share + share * 2 * value)) for value in self.random.random(3)]

    def add(
        self,
        kind: str,
        place: tuple[float, float],
        base: float,
        size: tuple[float, float, float],
        texture: int,
        tile_m: float,
        *,
        yaw: float = 0.0,
        tint: list[float] | None = None,
    ) -> None:
        """Add a box, ellipsoid or cylinder. place: x, z of its middle.  size: full width, height, depth."""
        x, z = place
        y = -(base + size[1] / 2)
        row = [x, y, z, *(value / 2 for value in size), math.cos(yaw), math.sin(yaw), texture, tile_m]
        getattr(self, kind).append([*row, *(tint or self.tint())])

    def table(self, rows: list[list[float]], count: int) -> Floats:
        kept = np.zeros((count, SHAPE_VALUES), np.float32)
        kept[:, 6], kept[:, 9] = 1.0, 1.0
        if rows:
            kept[: min(len(rows), count)] = np.array(rows[:count], np.float32)
        return kept


EVERYTHING = ("ground", "wall", "plant", "photograph", "facade", "asphalt", "cloth", "wood", "print", "plain")


def add_car(b: SceneBuilder, x: float, z: float, yaw: float) -> None:
    r = b.random
    kind = r.random()
    paint, rubber = b.texture("plain"), b.texture("asphalt")
    tint = b.tint(0.9)
    if kind < 0.72:
        long, wide, high = r.uniform(3.6, 4.9), r.uniform(1.6, 1.95), r.uniform(0.55, 0.8)
        base = r.uniform(0.2, 0.35)
        b.add("boxes", (x, z), base, (wide, high, long), paint, 3.0, yaw=yaw, tint=tint)
        shift = r.uniform(-0.5, 0.3)
        place = (x + math.sin(yaw) * shift, z + math.cos(yaw) * shift)
        glass = [0.15, 0.17, 0.2] if r.random() < 0.8 else tint
        cabin = r.uniform(0.45, 0.75) * long
        b.add("boxes", place, base + high, (wide * 0.88, r.uniform(0.4, 0.65), cabin), paint, 3.0, yaw=yaw, tint=glass)
        b.add("boxes", place, base + high + 0.4, (wide * 0.8, 0.15, cabin * 0.8), paint, 3.0, yaw=yaw, tint=tint)
    else:
        long, wide, high = r.uniform(4.5, 12), r.uniform(1.9, 2.6), r.uniform(1.6, 3.3)
        base = r.uniform(0.3, 0.8)
        skin = b.texture("plain", "print", "photograph")
        b.add("boxes", (x, z), base, (wide, high, long), skin, r.uniform(2, 6), yaw=yaw, tint=tint)
    dark = [0.08, 0.08, 0.08]
    b.add("boxes", (x, z), 0.0, (wide * 0.9, base, long * 0.7), rubber, 1.0, yaw=yaw, tint=dark)


def add_tree(b: SceneBuilder, x: float, z: float) -> None:
    r = b.random
    high = r.uniform(2.0, 14)
    leaves, tint = b.texture("plant", "ground"), b.tint(0.2)
    trunk = r.uniform(0.3, 0.55) * high
    width = r.uniform(0.06, 0.3)
    b.add("cylinders", (x, z), 0, (width, trunk + 0.2 * high, width), b.texture("wood", "plant"), 1.0)
    for _ in range(r.integers(1, 5)):
        wide = (high - trunk) * r.uniform(0.4, 0.9)
        place = (x + r.normal(0, 0.2) * wide, z + r.normal(0, 0.2) * wide)
        size = (wide, (high - trunk) * r.uniform(0.4, 1), wide)
        b.add("ellipsoids", place, trunk + r.uniform(0, 0.3) * high, size, leaves, r.uniform(1, 4), tint=tint)


def add_person(b: SceneBuilder, x: float, z: float) -> None:
    r = b.random
    high = r.uniform(1.1, 1.95)
    b.add("cylinders", (x, z), 0, (0.28, 0.5 * high, 0.22), b.texture("cloth", "plain"), 0.8)
    b.add("ellipsoids", (x, z), 0.42 * high, (0.5, 0.46 * high, 0.3), b.texture("cloth", "plain", "print"), 0.8)
    b.add("ellipsoids", (x, z), 0.86 * high, (0.17, 0.14 * high, 0.2), b.texture("plain"), 0.5, tint=[0.7, 0.5, 0.4])


def make_street(b: SceneBuilder) -> dict[str, Any]:
    """A road with lanes, buildings, walls, trees, poles, cars and people on both sides."""
    r = b.random
    lanes = int(r.integers(1, 5))
    half = lanes * r.uniform(2.7, 3.7) / 2 + r.uniform(0, 2)
    edge = half + r.uniform(0.5, 4)
    grass = b.texture("ground")
    strips = [[-1e4, 1e4, grass, r.uniform(2, 8), r.uniform(0.5, 1.1), 0, 0]]
    strips.append([-edge, edge, b.texture("asphalt", "ground", "plain"), r.uniform(1, 4), r.uniform(0.6, 1.1), 0, 0])
    road = b.texture("asphalt") if r.random() < 0.8 else b.texture("ground")
    strips.append([-half, half, road, r.uniform(2, 5), r.uniform(0.4, 1.0), 0, 0])
    if r.random() < 0.8:
        plain = b.texture("plain")
        for index in range(lanes + 1):
            x = -half + 0.3 + index * (2 * half - 0.6) / lanes
            period = 0.0 if index in (0, lanes) and r.random() < 0.8 else r.uniform(4, 18)
            strips.append([x - 0.08, x + 0.08, plain, 1.0, r.uniform(1.0, 2.0), period, period * r.uniform(0.3, 0.6)])
    open_land = r.random() < 0.3
    for side in (-1, 1):
        z, setback = r.uniform(-20, 0), edge + r.uniform(0, 12)
        while z < 160 and len(b.boxes) < 40 and not open_land:
            wide, deep, high = (
                r.uniform(5, 30),
                r.uniform(6, 16),
                r.uniform(3, 9) if r.random() < 0.6 else r.uniform(8, 40),
            )
            if r.random() < 0.8:
                x = side * (setback + deep / 2 + r.uniform(0, 2))
                skin = b.texture("facade", "facade", "wall", "photograph", "plain")
                b.add("boxes", (x, z + wide / 2), 0, (deep, high, wide), skin, r.uniform(3, 12))
                if r.random() < 0.3:
                    b.add(
                        "boxes",
                        (x, z + wide / 2),
                        high,
                        (deep * 0.7, r.uniform(1, 3), wide * 0.9),
                        b.texture("wall"),
                        3.0,
                    )
            z += wide + (r.uniform(0, 3) if r.random() < 0.6 else r.uniform(3, 30))
        if r.random() < 0.5:
            x = side * (edge + r.uniform(0.1, 3))
            size = (r.uniform(0.1, 1.2), r.uniform(0.5, 3.0), r.uniform(10, 150))
            b.add("boxes", (x, r.uniform(5, 60)), 0, size, b.texture("plant", "wall", "wood"), r.uniform(1, 3))
        for _ in range(r.integers(0, 9)):
            place = (side * (edge + r.uniform(0.3, 15 if open_land else 3)), r.uniform(3, 110))
            add_tree(b, *place)
        gap = r.uniform(8, 40)
        for index in range(r.integers(0, 6)):
            x, thick, high = side * (half + r.uniform(0.3, 1.5)), r.uniform(0.08, 0.35), r.uniform(2, 9)
            z = index * gap + r.uniform(2, 8)
            b.add("cylinders", (x, z), 0, (thick, high, thick), b.texture("plain"), 1.0)
            if r.random() < 0.5:
                size = (r.uniform(0.4, 1.6), r.uniform(0.4, 1.2), 0.06)
                b.add("boxes", (x, z), high - 1, size, b.texture("print", "plain"), 1.0, tint=b.tint(0.9))
    for _ in range(r.integers(0, 11)):
        lane = r.integers(lanes + 2) - 0.5
        x = -half + lane * 2 * half / lanes + r.normal(0, 0.2)
        z = r.uniform(4, 12) if r.random() < 0.15 else r.uniform(8, 90)
        add_car(b, x, z, r.normal(0, 0.05) if r.random() < 0.9 else r.uniform(-3, 3))
    for _ in range(r.integers(0, 6)):
        add_person(b, r.choice([-1, 1]) * r.uniform(half * 0.5, edge + 1), r.uniform(4, 40))
    return {
        "strips": strips,
        "camera": (
            r.uniform(-half * 0.7, half * 0.7),
            r.uniform(0.5, 2.6) if r.random() < 0.85 else r.uniform(2, 7),
            0.0,
        ),
        "angles": (
            r.normal(0, 0.06),
            r.normal(0, 0.1) if r.random() < 0.8 else r.uniform(-3.1, 3.1),
            r.normal(0, 0.02),
        ),
        "motion": (r.normal(0, 0.03), r.normal(0, 0.02), r.uniform(0.1, 1.6)),
    }


def add_clutter(
    b: SceneBuilder, x: float, z: float, base: float, spread: tuple[float, float], count: int, size: float
) -> None:
    """Put small boxes, balls and cylinders on a surface."""
    r = b.random
    for _ in range(count):
        s = size * r.uniform(0.3, 1.6, 3)
        kind = ("boxes", "boxes", "cylinders", "ellipsoids")[r.integers(4)]
        if kind == "cylinders":
            s[2] = s[0]
        place = (x + r.uniform(-0.5, 0.5) * spread[0], z + r.uniform(-0.5, 0.5) * spread[1])
        skin = b.texture("print", "photograph", "plain", "cloth", "wood")
        b.add(kind, place, base, tuple(map(float, s)), skin, float(s.max()), yaw=r.uniform(-3, 3), tint=b.tint(0.9))


def add_furniture(b: SceneBuilder, x: float, z: float, yaw: float) -> None:
    r = b.random
    kind, skin, tint = r.random(), b.texture("wood", "cloth", "plain"), b.tint(0.5)
    c, s = math.cos(yaw), math.sin(yaw)

    def put(dx: float, dz: float, base: float, size: tuple[float, float, float], tile_m: float = 1.0) -> None:
        b.add("boxes", (x + c * dx + s * dz, z - s * dx + c * dz), base, size, skin, tile_m, yaw=yaw, tint=tint)

    if kind < 0.3:  # table
        wide, deep, high = r.uniform(0.5, 2), r.uniform(0.4, 1), r.uniform(0.4, 1.05)
        put(0, 0, high - 0.04, (wide, 0.04, deep))
        for dx in (-1, 1):
            if r.random() < 0.5:
                put(dx * (wide / 2 - 0.04), 0, 0, (0.05, high - 0.04, deep * r.uniform(0.1, 0.9)))
            else:
                for dz in (-1, 1):
                    put(dx * (wide / 2 - 0.04), dz * (deep / 2 - 0.04), 0, (0.05, high - 0.04, 0.05))
        add_clutter(b, x, z, high, (wide * 0.8, deep * 0.8), int(r.integers(0, 7)), 0.15)
    elif kind < 0.5:  # chair
        wide, high = r.uniform(0.38, 0.6), r.uniform(0.38, 0.5)
        put(0, 0, high, (wide, 0.05, wide))
        put(0, wide / 2, high, (wide, r.uniform(0.3, 0.6), 0.05))
        put(0, 0, 0, (wide * 0.8, high, wide * 0.8) if r.random() < 0.3 else (0.08, high, 0.08))
    elif kind < 0.65:  # sofa, bed
        wide, deep, high = r.uniform(1.2, 2.2), r.uniform(0.7, 2.0), r.uniform(0.3, 0.5)
        put(0, 0, 0, (wide, high, deep))
        put(0, deep / 2, 0, (wide, high + r.uniform(0.2, 0.6), 0.2))
        for dx in (-1, 1):
            put(dx * wide / 2, 0, 0, (0.18, high + 0.2, deep))
    elif kind < 0.9:  # cupboard, shelf
        wide, deep, high = r.uniform(0.4, 2.4), r.uniform(0.25, 0.7), r.uniform(0.5, 2.3)
        if r.random() < 0.6:
            put(0, 0, 0, (wide, high, deep))
            put(0, -deep / 2, high * 0.1, (wide * 0.9, high * 0.35, 0.03))
        else:
            put(0, deep / 2, 0, (wide, high, 0.02))
            for base in np.arange(0.05, high, r.uniform(0.3, 0.5)):
                put(0, 0, float(base), (wide, 0.03, deep))
                add_clutter(b, x, z, float(base) + 0.03, (wide * 0.8, deep * 0.6), int(r.integers(0, 4)), 0.15)
        if high < 1.4:
            add_clutter(b, x, z, high, (wide * 0.8, deep * 0.6), int(r.integers(0, 5)), 0.2)
    else:  # lamp
        high = r.uniform(0.4, 1.9)
        b.add("cylinders", (x, z), 0, (0.05, high, 0.05), skin, 1.0, tint=tint)
        b.add("ellipsoids", (x, z), high, (0.4, 0.35, 0.4), skin, 1.0, tint=[1.6, 1.5, 1.3])


def make_room(b: SceneBuilder) -> dict[str, Any]:
    """A room or a corridor with furniture along the walls and within."""
    r = b.random
    corridor = r.random() < 0.15
    wide = r.uniform(1.4, 2.6) if corridor else r.uniform(2.5, 9)
    deep = r.uniform(8, 40) if corridor else r.uniform(2.5, 10)
    high = r.uniform(2.2, 3.4) if r.random() < 0.85 else r.uniform(3, 7)
    for side in range(4):
        length, across = (wide, deep) if side % 2 == 0 else (deep, wide)
        for _ in range(r.integers(0, 6)):
            along, off = r.uniform(-0.5, 0.5) * length, across / 2
            flat = r.random() < 0.6
            kind = r.random()
            size = (r.uniform(0.7, 1.1), 2.0) if kind < 0.25 else (r.uniform(0.2, 1.8), r.uniform(0.2, 1.4))
            base = 0.0 if kind < 0.25 else r.uniform(0.3, max(high - size[1], 0.4))
            thick = 0.03 if flat else r.uniform(0.05, 0.4)
            skin = b.texture("wood", "photograph", "print", "sky", "photograph", "plain", "wall")
            x, z = (
                (along, off)
                if side == 0
                else (off, along)
                if side == 1
                else (along, -off)
                if side == 2
                else (-off, along)
            )
            b.add("boxes", (x, z), base, (size[0], size[1], thick), skin, max(size), yaw=side * math.pi / 2)
    for _ in range(0 if corridor else r.integers(2, 11)):
        side, yaw = r.integers(5), 0.0
        x, z = r.uniform(-0.42, 0.42) * wide, r.uniform(-0.42, 0.42) * deep
        if side < 4:
            x, z = [(x, deep / 2 - 0.4), (wide / 2 - 0.4, z), (x, -deep / 2 + 0.4), (-wide / 2 + 0.4, z)][side]
            yaw = side * math.pi / 2
        add_furniture(b, x, z, yaw + (r.uniform(-3, 3) if r.random() < 0.25 else r.normal(0, 0.03)))
    for _ in range(r.integers(0, 3)):
        add_person(b, r.uniform(-0.4, 0.4) * wide, r.uniform(-0.4, 0.4) * deep)
    add_clutter(b, 0, 0, 0, (wide * 0.9, deep * 0.9), int(r.integers(0, 8)), 0.3)
    x, z = r.uniform(-0.42, 0.42) * wide, r.uniform(-0.42, 0.42) * deep
    height = min(r.uniform(0.7, 1.9) if r.random() < 0.8 else r.uniform(0.2, 0.8), high - 0.3)
    yaw = math.atan2(-x, -z) + r.normal(0, 0.8) if r.random() < 0.8 else r.uniform(-3.1, 3.1)
    floor = b.texture("wood", "ground", "cloth", "plain", "asphalt")
    walls = b.texture("plain", "wall", "plain", "wood", "wall")
    return {
        "room": [0, -high / 2, 0, wide / 2, high / 2, deep / 2],
        "room_textures": [floor, b.texture("plain"), walls, r.uniform(0.5, 3)],
        "camera": (x, height, z),
        "angles": (r.normal(-0.15, 0.25), yaw, r.normal(0, 0.07)),
        "motion": tuple(r.normal(0, 0.07, 3)),
        "lamp": (r.uniform(-0.4, 0.4) * wide, -high + 0.2, r.uniform(-0.4, 0.4) * deep),
    }


def make_table_top(b: SceneBuilder) -> dict[str, Any]:
    """Small things on a table, seen from near, within a room."""
    r = b.random
    wide, deep, high = r.uniform(0.6, 2), r.uniform(0.5, 1.2), r.uniform(0.4, 1.0)
    b.add(
        "boxes",
        (0, 0),
        high - 0.05,
        (wide, 0.05, deep),
        b.texture("wood", "cloth", "plain", "ground"),
        r.uniform(0.3, 1.5),
    )
    b.add("boxes", (0, 0), 0, (wide * 0.8, high - 0.05, deep * 0.8), b.texture("wood", "plain"), 1.0)
    add_clutter(b, 0, 0, high, (wide * 0.8, deep * 0.8), int(r.integers(3, 25)), r.uniform(0.06, 0.16))
    room = r.uniform(1.5, 4, 2)
    for _ in range(r.integers(0, 5)):
        add_furniture(b, r.choice([-1, 1]) * room[0] * 0.8, r.uniform(-0.8, 0.8) * room[1], r.uniform(-3, 3))
    far, height, around = r.uniform(0.35, 1.3), high + r.uniform(0.15, 0.9), r.uniform(-math.pi, math.pi)
    x, z = -far * math.sin(around), -far * math.cos(around)
    pitch = -math.atan2(height - high, far) + r.normal(0, 0.12)
    return {
        "room": [0, -1.35, 0, room[0], 1.35, room[1]],
        "room_textures": [b.texture("wood", "cloth", "ground"), b.texture("plain"), b.texture("plain", "wall"), 1.5],
        "camera": (x, height, z),
        "angles": (pitch, around + r.normal(0, 0.15), r.normal(0, 0.1)),
        "motion": tuple(r.normal(0, 0.04, 3)),
        "lamp": (r.uniform(-1, 1), -2.5, r.uniform(-1, 1)),
    }


def make_open_land(b: SceneBuilder) -> dict[str, Any]:
    """Land from a drone: fields, houses, trees and cars."""
    r = b.random
    strips, x = [[-1e4, 1e4, b.texture("ground"), r.uniform(3, 12), r.uniform(0.5, 1.1), 0, 0]], -80.0
    while x < 80 and len(strips) < STRIPS:
        wide = r.uniform(3, 40)
        strips.append([x, x + wide, b.texture("ground", "asphalt"), r.uniform(2, 10), r.uniform(0.5, 1.1), 0, 0])
        x += wide + r.uniform(0, 30)
    reach = r.uniform(30, 150)
    for _ in range(r.integers(0, 40)):
        size = (r.uniform(4, 25), r.uniform(2.5, 12) if r.random() < 0.8 else r.uniform(10, 40), r.uniform(4, 25))
        place = (r.uniform(-1, 1) * reach, r.uniform(-0.3, 1.7) * reach)
        b.add(
            "boxes",
            place,
            0,
            size,
            b.texture("facade", "wall", "ground", "plain"),
            r.uniform(2, 9),
            yaw=r.uniform(-3, 3),
        )
    for _ in range(r.integers(0, 16)):
        add_tree(b, r.uniform(-1, 1) * reach, r.uniform(-0.3, 1.7) * reach)
    for _ in range(r.integers(0, 8)):
        add_car(b, r.uniform(-0.6, 0.6) * reach, r.uniform(0, 1) * reach, r.uniform(-3, 3))
    height = math.exp(r.uniform(math.log(4), math.log(80)))
    return {
        "strips": strips,
        "camera": (0.0, height, 0.0),
        "angles": (-r.uniform(0.1, 1.4), r.normal(0, 0.4), r.normal(0, 0.05)),
        "motion": tuple(r.normal(0, 0.04, 3) * height),
    }


def make_shapes(b: SceneBuilder) -> dict[str, Any]:
    """Shapes of every size at random, some in the air, with every texture."""
    r = b.random
    scale = math.exp(r.uniform(math.log(0.3), math.log(8)))
    strips = [[-1e4, 1e4, b.texture(*EVERYTHING), scale * r.uniform(0.5, 3), r.uniform(0.4, 1.2), 0, 0]]
    for _ in range(r.integers(5, 70)):
        z = scale * math.exp(r.uniform(math.log(1.5), math.log(25)))
        size = tuple(float(v) for v in scale * np.exp(r.normal(-0.8, 0.8, 3)) * (1 + z / scale / 8))
        kind = ("boxes", "boxes", "ellipsoids", "cylinders")[r.integers(4)]
        base = 0.0 if r.random() < 0.7 else scale * r.uniform(0, 3)
        skin = b.texture(*EVERYTHING)
        tile = max(size) * r.uniform(0.2, 1.2)
        b.add(kind, (r.normal(0, 0.5) * z, z), base, size, skin, tile, yaw=r.uniform(-3, 3), tint=b.tint(0.8))
    room = {}
    if r.random() < 0.4:
        half = scale * r.uniform(4, 14, 3)
        walls = [b.texture(*EVERYTHING) for _ in range(3)]
        room = {"room": [0, -half[1], 0, *half], "room_textures": [*walls, scale * r.uniform(0.5, 3)]}
    return {
        "strips": strips,
        **room,
        "camera": (0.0, scale * r.uniform(0.3, 2.0), 0.0),
        "angles": (r.normal(-0.1, 0.25), r.normal(0, 0.3), r.normal(0, 0.12)),
        "motion": tuple(r.normal(0, 0.06, 3) * scale),
    }


KINDS = {make_street: 0.33, make_room: 0.32, make_table_top: 0.09, make_open_land: 0.1, make_shapes: 0.16}
"""Function -> share of the scenes."""


def make_pose(position: tuple[float, float, float], angles: tuple[float, float, float]) -> Floats:
    """Return T_world_camera of x, height, z, and of pitch upwards, yaw to the right, and roll, in radians."""
    pitch, yaw, roll = angles
    cp, sp, cy, sy, cr, sr = (f(v) for v in (pitch, yaw, roll) for f in (math.cos, math.sin))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    lift = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    T = np.eye(4, dtype=np.float32)
    T[:3, :3] = turn @ lift @ lean
    T[:3, 3] = position[0], -position[1], position[2]
    return T


def make_light(b: SceneBuilder, drawn: dict[str, Any]) -> tuple[list[float], list[float], list[float]]:
    """Draw the light, the haze and the sky of a scene."""
    r = b.random
    if "lamp" in drawn:
        warm = r.uniform(0.6, 1.1)
        light = [*drawn["lamp"], 1.3, 1.2, 1.0 * warm, r.uniform(0.35, 0.9), 1.0]
        return light, [0.5, 0.5, 0.5, 0.0], [b.texture("sky"), 0.7, 0.8, 0.9, 1.0, 0.5]
    height, around = r.uniform(0.12, 1.4), r.uniform(-3.1, 3.1)
    toward = (math.cos(height) * math.sin(around), -math.sin(height), math.cos(height) * math.cos(around))
    overcast = r.random() < 0.35
    color = [0.2, 0.2, 0.2] if overcast else [r.uniform(1.0, 1.6), r.uniform(0.9, 1.3), r.uniform(0.6, 1.2)]
    light = [*(1e4 * value for value in toward), *color, r.uniform(0.6, 1) if overcast else r.uniform(0.25, 0.6), 0.0]
    grey = r.uniform(0.3, 1.2)
    horizon = [grey * r.uniform(0.8, 1.05), grey, grey * r.uniform(0.95, 1.3)]
    share = 1 / r.uniform(30, 300) if r.random() < 0.2 else 1 / r.uniform(400, 5000)
    sky = [b.texture("sky"), *horizon, r.uniform(0.6, 1.5), r.uniform(0, 1) if r.random() < 0.7 else 0.0]
    return light, [*horizon, share], sky


def make_scene(seed: int, groups: dict[str, Any]) -> Scene:
    """Draw a scene; the same seed and textures give the same one."""
    random = np.random.default_rng(seed)
    b = SceneBuilder(random, groups)
    shares = np.array(list(KINDS.values()))
    drawn = list(KINDS)[random.choice(len(KINDS), p=shares / shares.sum())](b)
    light, haze, sky = make_light(b, drawn)
    strips = np.zeros((STRIPS, 7), np.float32)
    strips[:, 0], strips[:, 1], strips[:, 3] = 1, -1, 1
    rows = drawn.get("strips", [[-1e4, 1e4, 0, 1.0, 1.0, 0, 0]])[:STRIPS]
    strips[: len(rows)] = rows
    T = make_pose(drawn["camera"], drawn["angles"])
    step = make_pose((0.0, 0.0, 0.0), tuple(random.normal(0, (0.012, 0.03, 0.01))))
    step[:3, 3] = drawn["motion"]
    fov = math.radians(random.uniform(35, 120) if random.random() < 0.4 else random.uniform(50, 90))
    return Scene(
        boxes=b.table(b.boxes, BOXES),
        ellipsoids=b.table(b.ellipsoids, ELLIPSOIDS),
        cylinders=b.table(b.cylinders, CYLINDERS),
        strips=strips,
        room=np.array(drawn.get("room", [0] * 6), np.float32),
        room_textures=np.array(drawn.get("room_textures", [0, 0, 0, 1]), np.float32),
        light=np.array(light, np.float32),
        haze=np.array(haze, np.float32),
        sky=np.array(sky, np.float32),
        T_world_camera=T,
        T_world_next=(T @ step).astype(np.float32),
        focal=np.array([0.5 / math.tan(fov / 2)], np.float32),
    )


def stack_scenes(scenes: list[Scene]) -> dict[str, Floats]:
    """Return the arrays of several scenes, (B, ...) each."""
    return {entry.name: np.stack([getattr(scene, entry.name) for scene in scenes]) for entry in fields(Scene)}


# -- ray casting. Rays are o (B, P or 1, 3) and d (B, P, 3); shapes (B, N, SHAPE_VALUES).


def to_shapes(o: Tensor, d: Tensor, shapes: Tensor) -> tuple[Tensor, ...]:
    """Return the rays in the frame of each shape, in which it is the unit box, ball or cylinder: six (B, P, N)."""
    cx, cy, cz, hx, hy, hz, c, s = (shapes[:, None, :, i] for i in range(8))
    hx, hy, hz = (h.clamp(min=1e-6) for h in (hx, hy, hz))
    x, y, z = (o[..., None, i] - center for i, center in enumerate((cx, cy, cz)))
    dx, dy, dz = (d[..., None, i] for i in range(3))
    return (c * x - s * z) / hx, y / hy, (s * x + c * z) / hz, (c * dx - s * dz) / hx, dy / hy, (s * dx + c * dz) / hz


def hit_boxes(rays: tuple[Tensor, ...], near: float) -> Tensor:
    """Return the distance along each ray to each box, inf without a hit, (B, P, N)."""
    entry, leave = None, None
    for o, d in zip(rays[:3], rays[3:], strict=True):
        d = torch.where(d.abs() < 1e-9, 1e-9, d)
        one, other = (-1 - o) / d, (1 - o) / d
        low, high = torch.minimum(one, other), torch.maximum(one, other)
        entry = low if entry is None else torch.maximum(entry, low)
        leave = high if leave is None else torch.minimum(leave, high)
    return torch.where((entry < leave) & (entry > near), entry, torch.inf)


def hit_ellipsoids(rays: tuple[Tensor, ...], near: float) -> Tensor:
    x, y, z, dx, dy, dz = rays
    a, b, c = dx * dx + dy * dy + dz * dz, x * dx + y * dy + z * dz, x * x + y * y + z * z - 1
    root = b * b - a * c
    t = (-b - root.clamp(min=0).sqrt()) / a
    return torch.where((root > 0) & (t > near), t, torch.inf)


def hit_cylinders(rays: tuple[Tensor, ...], near: float) -> Tensor:
    x, y, z, dx, dy, dz = rays
    a, b, c = (dx * dx + dz * dz).clamp(min=1e-12), x * dx + z * dz, x * x + z * z - 1
    root = b * b - a * c
    side = (-b - root.clamp(min=0).sqrt()) / a
    side = torch.where((root > 0) & (side > near) & ((y + side * dy).abs() < 1), side, torch.inf)
    dy = torch.where(dy.abs() < 1e-9, 1e-9, dy)
    cap = (-dy.sign() - y) / dy
    within = (x + cap * dx).square() + (z + cap * dz).square() < 1
    return torch.minimum(side, torch.where(within & (cap > near), cap, torch.inf))


HITS = {"boxes": hit_boxes, "ellipsoids": hit_ellipsoids, "cylinders": hit_cylinders}


def find_nearest(o: Tensor, d: Tensor, scene: dict[str, Tensor], near: float, chunk: int = 16) -> tuple[Tensor, Tensor]:
    """Return distance (B, P), inf without a hit, and the number of the shape among all of the scene."""
    best = torch.full(d.shape[:2], torch.inf, device=d.device)
    index = torch.zeros(d.shape[:2], dtype=torch.long, device=d.device)
    start = 0
    for name, hit in HITS.items():
        shapes = scene[name]
        for first in range(0, shapes.shape[1], chunk):
            part = shapes[:, first : first + chunk]
            t, number = hit(to_shapes(o, d, part), near).min(2)
            nearer = t < best
            best, index = torch.where(nearer, t, best), torch.where(nearer, number + start + first, index)
        start += shapes.shape[1]
    return best, index


def describe_hits(o: Tensor, d: Tensor, t: Tensor, index: Tensor, scene: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Return world normal (B, P, 3), uv in tiles, texture, tint and metres of a tile of hits on shapes."""
    shapes = torch.cat([scene[name] for name in HITS], 1)
    rows = shapes.gather(1, index[..., None].expand(-1, -1, SHAPE_VALUES))
    c, s, half = rows[..., 6], rows[..., 7], rows[..., 3:6].clamp(min=1e-6)
    at = o + t.clamp(max=FAR_M)[..., None] * d - rows[..., :3]
    local = torch.stack([c * at[..., 0] - s * at[..., 2], at[..., 1], s * at[..., 0] + c * at[..., 2]], -1) / half
    box, cylinder = index < BOXES, index >= BOXES + ELLIPSOIDS
    axis = local.abs().argmax(-1, keepdim=True)
    face = torch.zeros_like(local).scatter(-1, axis, local.gather(-1, axis).sign())
    round_normal = torch.where(cylinder[..., None], local * local.new_tensor([1, 0, 1]), local) / half
    cap = cylinder & (local[..., 1].abs() > 0.999)
    up = torch.stack([torch.zeros_like(t), local[..., 1].sign(), torch.zeros_like(t)], -1)
    normal = torch.where(box[..., None], face, torch.where(cap[..., None], up, round_normal))
    normal = torch.nn.functional.normalize(normal, dim=-1)
    metres = local * half
    flat = torch.where(axis == 0, metres[..., [2, 1]], torch.where(axis == 1, metres[..., [0, 2]], metres[..., [0, 1]]))
    around = torch.atan2(local[..., 0], local[..., 2]) * half[..., 0]
    curved = torch.where(cap[..., None], metres[..., [0, 2]], torch.stack([around, metres[..., 1]], -1))
    uv = torch.where(box[..., None], flat, curved) / rows[..., 9:10]
    x = c * normal[..., 0] + s * normal[..., 2]
    z = -s * normal[..., 0] + c * normal[..., 2]
    return torch.stack([x, normal[..., 1], z], -1), uv, rows[..., 8], rows[..., 10:13], rows[..., 9]


def paint_ground(at: Tensor, scene: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return uv, texture, brightness and metres of a tile of points (B, P, 3) on the ground."""
    strips = scene["strips"]
    chosen = strips[:, :1].expand(-1, at.shape[1], -1)
    for i in range(1, STRIPS):
        strip = strips[:, None, i]
        within = (at[..., 0] > strip[..., 0]) & (at[..., 0] < strip[..., 1])
        dash = torch.remainder(at[..., 2], strip[..., 5].clamp(min=1e-3)) < strip[..., 6]
        within &= dash | (strip[..., 5] == 0)
        chosen = torch.where(within[..., None], strip.expand_as(chosen), chosen)
    return at[..., [0, 2]] / chosen[..., 3:4], chosen[..., 2], chosen[..., 4], chosen[..., 3]


def hit_room(o: Tensor, d: Tensor, scene: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return distance to the walls, inf outdoors, with normal, uv in metres and kind (0 floor, 1 ceiling, 2 wall)."""
    center, half = scene["room"][:, None, :3], scene["room"][:, None, 3:]
    d = torch.where(d.abs() < 1e-9, 1e-9, d)
    t, axis = (((d.sign() * half) - (o - center)) / d).min(-1, keepdim=True)
    normal = torch.zeros_like(d).scatter(-1, axis, -d.gather(-1, axis).sign())
    at = o + t.clamp(max=FAR_M) * d
    uv = torch.where(axis == 0, at[..., [2, 1]], torch.where(axis == 1, at[..., [0, 2]], at[..., [0, 1]]))
    kind = torch.where(axis[..., 0] == 1, (d[..., 1] < 0).long(), 2)
    indoors = half[..., 0] > 0
    return torch.where(indoors & (t[..., 0] > 0), t[..., 0], torch.inf), normal, uv, kind


@torch.no_grad()
def render(
    scene: dict[str, Tensor], T_world_camera: Tensor, atlas: Atlas, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Return images (B, 3, H, W), sRGB in [0, 1], and z (B, 1, H, W) in metres, 0 for the sky. Pixels are square.

    scene: `stack_scenes` on the device.
    """
    device, count = T_world_camera.device, len(T_world_camera)
    focal = scene["focal"][:, 0] * width
    row, column = torch.meshgrid(*(torch.arange(n, device=device) for n in (height, width)), indexing="ij")
    x = (column.flatten() - (width - 1) / 2) / focal[:, None]
    y = (row.flatten() - (height - 1) / 2) / focal[:, None]
    in_camera = torch.stack([x, y, torch.ones_like(x)], -1)  # z of the hit is its distance in these units
    d = in_camera @ T_world_camera[:, :3, :3].transpose(1, 2)
    o = T_world_camera[:, None, :3, 3]
    t, index = find_nearest(o, d, scene, NEAR_M)
    normal, uv, texture, tint, tile_m = describe_hits(o, d, t, index, scene)
    ground = torch.where(
        (d[..., 1] > 1e-6) & (scene["room"][:, None, 3] == 0), -o[..., 1] / d[..., 1].clamp(min=1e-6), torch.inf
    )
    on_ground = ground < t
    ground_at = o + ground.clamp(max=FAR_M)[..., None] * d
    ground_uv, ground_texture, bright, ground_tile = paint_ground(ground_at, scene)
    wall, wall_normal, wall_uv, kind = hit_room(o, d, scene)
    on_wall = wall < t
    t = torch.minimum(t, torch.minimum(ground, wall))
    up = d.new_tensor([0.0, -1.0, 0.0]).expand_as(d)
    normal = torch.where(on_ground[..., None], up, torch.where(on_wall[..., None], wall_normal, normal))
    wall_tile = scene["room_textures"][:, None, 3].expand_as(t)
    tile_m = torch.where(on_ground, ground_tile, torch.where(on_wall, wall_tile, tile_m))
    uv = torch.where(
        on_ground[..., None], ground_uv, torch.where(on_wall[..., None], wall_uv / wall_tile[..., None], uv)
    )
    wall_texture = scene["room_textures"].gather(1, kind)
    texture = torch.where(on_ground, ground_texture, torch.where(on_wall, wall_texture, texture))
    tint = torch.where(on_ground[..., None], bright[..., None], torch.where(on_wall[..., None], 1.0, tint))
    sky = t > FAR_M
    t = torch.where(sky, FAR_M, t)
    slope = (normal * d).sum(-1).abs() / d.norm(dim=-1)
    footprint = t / focal[:, None] / tile_m * float(atlas.sides[0]) / slope.clamp(min=0.1).sqrt()
    color = atlas.sample(texture, uv, footprint) * tint
    color = color * light_points(o + t[..., None] * d, normal, scene)
    haze, share = scene["haze"][:, None, :3], scene["haze"][:, None, 3:]
    clear = (-t[..., None] * share).exp()
    color = color * clear + haze * (1 - clear)
    color = torch.where(sky[..., None], paint_sky(d, scene, atlas, focal), color)
    return develop(color, height, width), torch.where(sky, 0.0, t).view(count, 1, height, width)


def light_points(at: Tensor, normal: Tensor, scene: dict[str, Tensor]) -> Tensor:
    """Return the light (B, P, 3) at points: ambient from above, and the lamp or sun where nothing is between."""
    light = scene["light"][:, None]
    to_light = light[..., :3] - at
    far = to_light.norm(dim=-1, keepdim=True)
    toward = to_light / far
    facing = (normal * toward).sum(-1).clamp(min=0)
    shade, _ = find_nearest(at + normal * 0.02, toward, scene, 0.01)
    lit = (shade > far[..., 0]).float() * facing
    fading = torch.where(light[..., 7:] > 0, 6 / (1 + far.square()), 1.0)
    ambient = light[..., 6:7] * (0.75 - 0.25 * normal[..., 1:2])
    return ambient + lit[..., None] * light[..., 3:6] * fading


def paint_sky(d: Tensor, scene: dict[str, Tensor], atlas: Atlas, focal: Tensor) -> Tensor:
    """Return the linear RGB of the sky in the directions d."""
    sky = scene["sky"][:, None]
    unit = torch.nn.functional.normalize(d, dim=-1)
    up = (-unit[..., 1:2]).clamp(min=0)
    plain = sky[..., 1:4] * (1 + (sky[..., 4:5] - 1) * up.sqrt())
    uv = torch.stack([torch.atan2(unit[..., 0], unit[..., 2]) / 1.57, 0.95 - 0.9 * up[..., 0].clamp(max=1)], -1)
    texture = sky[..., 0].expand(-1, d.shape[1])
    photograph = atlas.sample(texture, uv, 1.2 * float(atlas.sides[0]) / 1.57 / focal[:, None].expand_as(texture))
    return plain + sky[..., 5:6] * (photograph * sky[..., 4:5] - plain)


def develop(color: Tensor, height: int, width: int) -> Tensor:
    """Expose linear RGB (B, P, 3) by the mean of the image, and return sRGB (B, 3, H, W) in [0, 1]."""
    mean = color.clamp(max=4).mean((1, 2), keepdim=True)
    color = color * 0.28 / mean.clamp(min=1e-3)
    image = (color / (1 + 0.25 * color)).clamp(0, 1).pow(1 / 2.2)
    return image.transpose(1, 2).reshape(len(color), 3, height, width)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--textures", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("shapes.png"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=24)
    arguments = parser.parse_args()
    atlas = Atlas(arguments.textures, torch.device("cpu"))
    tiles = []
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        arrays = stack_scenes([make_scene(seed, atlas.groups)])
        scene = {name: torch.from_numpy(value) for name, value in arrays.items()}
        image, z = render(scene, scene["T_world_camera"], atlas, 180, 240)
        depth = (1 - (z.clamp(0.2, 200).log() - math.log(0.2)) / math.log(1000)).where(z > 0, 0.0)
        drawn = cv2.applyColorMap((255 * depth[0, 0]).to(torch.uint8).numpy(), cv2.COLORMAP_INFERNO)
        photo = (255 * image[0].permute(1, 2, 0)).to(torch.uint8).numpy()[..., ::-1]
        tiles.append(np.concatenate([photo, drawn], 0))
    rows = [np.concatenate(tiles[i : i + 6], 1) for i in range(0, len(tiles) - 5, 6)]
    cv2.imwrite(str(arguments.out), np.concatenate(rows, 0))


if __name__ == "__main__":
    main()
