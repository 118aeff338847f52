"""Buildings: town blocks with shops and cornices, and houses with gabled roofs."""

from __future__ import annotations

import numpy as np

from stadia.data.rendering.mesh import Color, Mesh, box, patch, quad
from stadia.data.roadworld.textures import FACADES, FLOOR_M

_FOUNDATION_M = 1.5  # walls reach below the ground, which may slope


def _draw_wall_tint(random: np.random.Generator) -> Color:
    return tuple(random.uniform(0.8, 1.15) * random.uniform(0.93, 1.07, 3))


def _make_walls(height: float, wide: float, deep: float, bottom: float, material: str, tint: Color, u: float) -> Mesh:
    """Make four walls of a box: front in the plane x = 0, depth to +x, width along z; texture rows start at the top."""
    up, down = np.array([0.0, -height, 0.0]), np.array([0.0, height - bottom, 0.0])
    corner = np.array([0.0, 0.0, -0.5 * wide])
    x, z = np.array([deep, 0.0, 0.0]), np.array([0.0, 0.0, wide])
    return [
        quad(corner + up, z, down, material, tint, (u, 0.0)),
        quad(corner + up, x, down, material, tint, (u + 1.3, 0.0)),
        quad(corner + z + up, x, down, material, tint, (u + 2.1, 0.0)),
        quad(corner + x + up, z, down, material, tint, (u, 0.0)),
    ]


def block(random: np.random.Generator, wide: float, deep: float) -> Mesh:
    """Make a town building of 2 to 6 storeys, front in the plane x = 0, depth to +x, standing on y = 0."""
    floors, material, tint, u = (
        int(random.integers(2, 7)),
        f"facade{random.integers(FACADES)}",
        _draw_wall_tint(random),
        random.uniform(0, 12),
    )
    height = floors * FLOOR_M + 0.4
    ground = FLOOR_M if random.random() < 0.55 else 0.0
    parts = _make_walls(height, wide, deep, ground if ground else -_FOUNDATION_M, material, tint, u)
    if ground:
        parts += _make_walls(ground, wide, deep, 0.0, "shopfront", tint, random.uniform(0, 24))
        parts += _make_walls(0.0, wide, deep, -_FOUNDATION_M, "concrete", tint, 0.0)
    parts.append(quad((0, -height, -0.5 * wide), (deep, 0, 0), (0, 0, wide), "concrete"))
    stone: Color = tuple(random.uniform(0.6, 1.3) * np.ones(3))
    parts += box((-0.25, -height - 0.35, -0.5 * wide), (deep, -height + 0.05, 0.5 * wide), "concrete", stone)  # cornice
    if ground:
        parts += box((-0.12, -ground - 0.15, -0.5 * wide), (0.0, -ground + 0.1, 0.5 * wide), "concrete", stone)
    if random.random() < 0.4:  # balconies
        pitch = random.uniform(3.5, 6.0)
        for floor in range(1, floors):
            for z in np.arange(-0.5 * wide + 2.0, 0.5 * wide - 2.0, pitch):
                parts += box((-0.9, -floor * FLOOR_M - 0.12, z - 1.1), (0.0, -floor * FLOOR_M, z + 1.1), "concrete")
                parts += box(
                    (-0.9, -floor * FLOOR_M - 1.0, z - 1.1), (-0.85, -floor * FLOOR_M - 0.12, z + 1.1), "metal"
                )
    if random.random() < 0.5:
        x, z = random.uniform(0.2, 0.8) * deep, random.uniform(-0.4, 0.4) * wide
        parts += box((x - 0.5, -height - 1.6, z - 0.5), (x + 0.5, -height, z + 0.5), "roof")
    return parts


def house(random: np.random.Generator, wide: float, deep: float) -> Mesh:
    """Make a house of one or two storeys with a gabled roof, front in the plane x = 0, standing on y = 0."""
    floors, material, tint = int(random.integers(1, 3)), f"facade{random.integers(FACADES)}", _draw_wall_tint(random)
    eaves = floors * FLOOR_M
    parts = _make_walls(eaves, wide, deep, -_FOUNDATION_M, material, tint, random.uniform(0, 12))
    rise, over, half = random.uniform(0.3, 0.5) * min(wide, deep), 0.45, 0.5 * wide
    slate: Color = tuple(random.uniform(0.6, 1.3) * np.ones(3))
    if random.random() < 0.5:  # the ridge along the street
        ridge = [(0.5 * deep, -eaves - rise, -half - over), (0.5 * deep, -eaves - rise, half + over)]
        for x in (-over, deep + over):
            parts.append(
                patch(
                    [(x, -eaves + 0.2, -half - over), (x, -eaves + 0.2, half + over), ridge[1], ridge[0]], "roof", slate
                )
            )
        for z in (-half, half):
            parts.append(
                patch(
                    [(0, -eaves, z), (deep, -eaves, z), (0.5 * deep, -eaves - rise, z), (0.5 * deep, -eaves - rise, z)],
                    "concrete",
                    tint,
                )
            )
    else:
        ridge = [(-over, -eaves - rise, 0.0), (deep + over, -eaves - rise, 0.0)]
        for z in (-half - over, half + over):
            parts.append(
                patch([(-over, -eaves + 0.2, z), (deep + over, -eaves + 0.2, z), ridge[1], ridge[0]], "roof", slate)
            )
        for x in (0.0, deep):
            parts.append(
                patch(
                    [(x, -eaves, -half), (x, -eaves, half), (x, -eaves - rise, 0.0), (x, -eaves - rise, 0.0)],
                    "concrete",
                    tint,
                )
            )
    x, z = random.uniform(0.3, 0.7) * deep, random.uniform(-0.3, 0.3) * wide
    parts += box((x - 0.3, -eaves - rise - 0.7, z - 0.3), (x + 0.3, -eaves, z + 0.3), "roof", slate)
    parts += box(
        (-0.06, -2.1, 0.12 * wide - 0.5), (0.0, 0.3, 0.12 * wide + 0.5), "wood", _draw_wall_tint(random)
    )  # a door
    return parts
