"""Meshes of buildings, trees, street furniture and pedestrians, in real sizes; cars are in `car_models`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stadia.synthetic.rendering.mesh import (
    Color,
    Mesh,
    MeshPart,
    compute_bounds,
    fit_mesh_to_size,
    make_box,
    make_ellipsoid,
    make_fan,
    make_loft,
    make_patch,
    make_quad,
    make_sheet,
    make_tube,
)
from stadia.synthetic.roadworld.road_textures import CLOTHS, FACADES, FLOOR_M, SIGN_FACES

# -- Buildings: town blocks with shops and cornices, and houses with gabled roofs.

_FOUNDATION_M = 1.5  # walls reach below the ground, which may slope


def _draw_wall_tint(random: np.random.Generator) -> Color:
    return tuple(random.uniform(0.8, 1.15) * random.uniform(0.93, 1.07, 3))


def _make_walls(height: float, wide: float, deep: float, bottom: float, material: str, tint: Color, u: float) -> Mesh:
    """Make four walls of a box: front in the plane x = 0, depth to +x, width along z."""
    up, down = np.array([0.0, -height, 0.0]), np.array([0.0, height - bottom, 0.0])
    corner = np.array([0.0, 0.0, -0.5 * wide])
    x, z = np.array([deep, 0.0, 0.0]), np.array([0.0, 0.0, wide])
    return [
        make_quad(corner + up, z, down, material, tint, (u, 0.0)),
        make_quad(corner + up, x, down, material, tint, (u + 1.3, 0.0)),
        make_quad(corner + z + up, x, down, material, tint, (u + 2.1, 0.0)),
        make_quad(corner + x + up, z, down, material, tint, (u, 0.0)),
    ]


def make_block(random: np.random.Generator, wide: float, deep: float) -> Mesh:
    """Make a town building of 2 to 6 storeys, front in the plane x = 0, depth to +x, standing on y = 0."""
    floors, material = int(random.integers(2, 7)), f"facade{random.integers(FACADES)}"
    tint, u = _draw_wall_tint(random), random.uniform(0, 12)
    height = floors * FLOOR_M + 0.4
    ground = FLOOR_M if random.random() < 0.55 else 0.0
    parts = _make_walls(height, wide, deep, ground if ground else -_FOUNDATION_M, material, tint, u)
    if ground:
        parts += _make_walls(ground, wide, deep, 0.0, "shopfront", tint, random.uniform(0, 24))
        parts += _make_walls(0.0, wide, deep, -_FOUNDATION_M, "concrete", tint, 0.0)
    parts.append(make_quad((0, -height, -0.5 * wide), (deep, 0, 0), (0, 0, wide), "concrete"))
    stone: Color = tuple(random.uniform(0.6, 1.3) * np.ones(3))
    cornice = (-0.25, -height - 0.35, -0.5 * wide), (deep, -height + 0.05, 0.5 * wide)
    parts += make_box(*cornice, "concrete", stone)
    if ground:
        parts += make_box((-0.12, -ground - 0.15, -0.5 * wide), (0.0, -ground + 0.1, 0.5 * wide), "concrete", stone)
    if random.random() < 0.4:  # balconies
        pitch = random.uniform(3.5, 6.0)
        for floor in range(1, floors):
            y = -floor * FLOOR_M
            for z in np.arange(-0.5 * wide + 2.0, 0.5 * wide - 2.0, pitch):
                parts += make_box((-0.9, y - 0.12, z - 1.1), (0.0, y, z + 1.1), "concrete")
                parts += make_box((-0.9, y - 1.0, z - 1.1), (-0.85, y - 0.12, z + 1.1), "metal")
    if random.random() < 0.5:
        x, z = random.uniform(0.2, 0.8) * deep, random.uniform(-0.4, 0.4) * wide
        parts += make_box((x - 0.5, -height - 1.6, z - 0.5), (x + 0.5, -height, z + 0.5), "roof")
    return parts


def make_house(random: np.random.Generator, wide: float, deep: float) -> Mesh:
    """Make a house of one or two storeys with a gabled roof, front in the plane x = 0, standing on y = 0."""
    floors, material, tint = int(random.integers(1, 3)), f"facade{random.integers(FACADES)}", _draw_wall_tint(random)
    eaves = floors * FLOOR_M
    parts = _make_walls(eaves, wide, deep, -_FOUNDATION_M, material, tint, random.uniform(0, 12))
    rise, over, half = random.uniform(0.3, 0.5) * min(wide, deep), 0.45, 0.5 * wide
    slate: Color = tuple(random.uniform(0.6, 1.3) * np.ones(3))
    along_street = random.random() < 0.5  # the ridge
    (near, far), (start, end) = ((0.0, deep), (-half, half)) if along_street else ((-half, half), (0.0, deep))

    def put(across: float, up: float, along: float) -> tuple[float, float, float]:
        """Return the point at these places across and along the ridge."""
        return (across, -up, along) if along_street else (along, -up, across)

    middle, top = 0.5 * (near + far), eaves + rise
    for edge in (near - over, far + over):
        corners = [(edge, eaves - 0.2, start), (edge, eaves - 0.2, end), (middle, top, end), (middle, top, start)]
        parts.append(make_patch([put(x, up, z + (over if z == end else -over)) for x, up, z in corners], "roof", slate))
    for z in (start, end):
        gable = (near, eaves), (far, eaves), (middle, top), (middle, top)
        parts.append(make_patch([put(x, up, z) for x, up in gable], "concrete", tint))
    x, z = random.uniform(0.3, 0.7) * deep, random.uniform(-0.3, 0.3) * wide
    parts += make_box((x - 0.3, -eaves - rise - 0.7, z - 0.3), (x + 0.3, -eaves, z + 0.3), "roof", slate)
    door = (-0.06, -2.1, 0.12 * wide - 0.5), (0.0, 0.3, 0.12 * wide + 0.5)
    return parts + make_box(*door, "wood", _draw_wall_tint(random))


# -- Trees, conifers and hedges, with loose leaves round their outline.


def _draw_radius_factors(random: np.random.Generator, along: int, around: int, depth: float) -> NDArray[np.float64]:
    swell = 1 + depth * random.uniform(-1, 1, (along + 1, around + 1))
    swell[:, -1] = swell[:, 0]
    swell[0], swell[-1] = swell[0, 0], swell[-1, 0]
    return swell


def _make_loose_leaves(
    random: np.random.Generator, center: NDArray, radii: NDArray, count: int, size_m: float, material: str, tint: Color
) -> MeshPart:
    direction = random.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    root = center + direction * radii * random.uniform(0.85, 1.0, (count, 1))
    spread = random.normal(size=(count, 2, 3)) * size_m + direction[:, None] * size_m * 0.6
    vertices = np.concatenate([root[:, None], root[:, None] + spread], 1).reshape(-1, 3)
    uv = random.uniform(0, 2.2, (count, 1, 2)) + random.uniform(-0.3, 0.3, (count, 3, 2))
    return MeshPart(vertices, np.arange(3 * count, dtype=np.int32).reshape(-1, 3), uv.reshape(-1, 2), material, tint)


def _draw_leaf_color(random: np.random.Generator) -> Color:
    if random.random() < 0.12:
        return (1.7, 0.75, 0.8)
    return tuple(random.uniform(0.75, 1.25) * random.uniform((0.8, 0.9, 0.7), (1.35, 1.1, 1.2)))


def make_broadleaf(random: np.random.Generator, clear_m: float = 2.0, reach_m: float = 2.0) -> Mesh:
    """Make a tree of 5 to 9 m on y = 0, with leaves from `clear_m` up and within `reach_m`."""
    trunk, radius = clear_m + random.uniform(0.0, 1.0), reach_m * random.uniform(0.6, 1.0)
    tint, material = _draw_leaf_color(random), f"foliage{random.integers(2)}"
    lean = random.normal(0, 0.12, 2)
    girth = 0.09 * radius
    top = (lean[0], -trunk - 0.8 * radius, lean[1])
    parts = make_tube((0, 0, 0), (0.5 * lean[0], -0.5 * trunk, 0.5 * lean[1]), (1.25 * girth, girth), "bark", sides=9)
    parts += make_tube((0.5 * lean[0], -0.5 * trunk, 0.5 * lean[1]), top, (girth, 0.5 * girth), "bark", sides=9)
    for blob in range(random.integers(6, 9)):
        angle, out = random.uniform(0, 2 * np.pi), (0.0 if blob == 0 else random.uniform(0.25, 0.65)) * radius
        size = radius * random.uniform(0.5, 0.75) * np.array([1.0, random.uniform(0.75, 0.95), 1.0])
        up = trunk + size[1] + random.uniform(0.0, 1.3) * radius * (1 - 0.35 * out / radius)
        center = np.array([top[0] + out * np.cos(angle), -up, top[2] + out * np.sin(angle)])
        shade: Color = tuple(np.array(tint) * random.uniform(0.8, 1.15))
        swell = _draw_radius_factors(random, 9, 13, 0.14)
        parts.append(make_ellipsoid(center, size, material, shade, around=13, along=9, swell=swell))
        parts.append(_make_loose_leaves(random, center, size, 80, 0.11 * radius, material, shade))
    return parts


def make_conifer(random: np.random.Generator) -> Mesh:
    """Make a spruce of 5 to 10 m from overlapping tiers of branches."""
    height, tint = random.uniform(5.0, 10.0), tuple(random.uniform(0.5, 0.9) * np.array([0.8, 1.0, 1.1]))
    parts = make_tube((0, 0, 0), (0, -0.35 * height, 0), (0.18, 0.12), "bark", sides=8)
    tiers, points = random.integers(6, 9), 18
    base = random.uniform(0.9, 1.6)
    for tier in range(tiers):
        share = tier / tiers
        low, high = base + (height - base) * share * 0.92, base + (height - base) * min(1.0, share + 1.7 / tiers)
        reach = 0.24 * height * (1 - share) ** 0.85 + 0.15
        angle = np.linspace(0, 2 * np.pi, points + 1) + random.uniform(0, 6)
        jag = random.uniform(0.72, 1.05, points + 1) * np.where(np.arange(points + 1) % 2, 1.0, 0.8)
        jag[-1] = jag[0]
        rim = np.stack([reach * jag * np.cos(angle), -low + 0.12 * reach * jag, reach * jag * np.sin(angle)], -1)
        tip = np.broadcast_to([0.0, -high, 0.0], rim.shape)
        parts.append(make_loft([rim, 0.45 * rim + 0.55 * tip, tip], "foliage0", tint))
    return parts


def make_hedge(random: np.random.Generator, length_m: float, height_m: float, tint: Color) -> Mesh:
    """Make a clipped hedge along z, standing on y = 0."""
    steps, half = max(3, int(length_m / 0.5)), random.uniform(0.3, 0.5)
    side = [(half, 0.0), (half * 1.05, 0.5), (half * 0.9, 0.95)]
    profile = np.array([*((-x, y) for x, y in side), (0.0, 1.0), *side[::-1]])
    z = np.linspace(-0.5 * length_m, 0.5 * length_m, steps + 1)
    points = np.zeros((steps + 1, len(profile), 3))
    points[..., 0], points[..., 1], points[..., 2] = profile[:, 0], -profile[:, 1] * height_m, z[:, None]
    lump = random.uniform(-0.07, 0.07, points.shape)
    lump[:, [0, -1], 1] = 0.0
    points += lump
    points[..., 1] = np.minimum(points[..., 1], 0.0)
    u = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(profile * [1, height_m], axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(u[None], z[:, None]), -1)
    ends = [make_loft([ring[:4], ring[:2:-1]], "foliage1", tint) for ring in (points[0], points[-1])]
    return [make_sheet(points, uv, "foliage1", tint), *ends]


# -- Lamp posts, signs, bollards and fences. All stand on y = 0; the street is towards -x.


def make_lamp_post(random: np.random.Generator) -> Mesh:
    """Make a post of 5 to 8 m with an arm over the road."""
    height, reach, tint = random.uniform(5.0, 8.0), random.uniform(0.8, 2.2), (random.uniform(0.4, 1.6),) * 3
    parts = make_tube((0, 0, 0), (0, -0.9, 0), 0.11, "metal", tint, sides=10)
    parts += make_tube((0, -0.9, 0), (0, -height, 0), (0.075, 0.05), "metal", tint, sides=10)
    parts += make_tube((0, -height, 0), (-reach, -height - 0.3, 0), 0.04, "metal", tint, sides=6)
    return [*parts, make_ellipsoid((-reach - 0.2, -height - 0.3, 0), (0.38, 0.09, 0.15), "lamp", around=8, along=5)]


def make_sign(random: np.random.Generator) -> Mesh:
    """Make a traffic sign that faces -z (visible to traffic towards +z)."""
    up, radius = random.uniform(2.1, 2.6), 0.33
    parts = make_tube((0, 0, 0), (0, -up - radius, 0), 0.035, "metal", sides=8, closed=True)
    corners = int(random.choice([3, 8, 24]))
    angle = 2 * np.pi * np.arange(corners) / corners + (np.pi / 2 if corners == 3 else np.pi / corners)
    rim = np.stack([radius * np.cos(angle), -up - radius * np.sin(angle), np.full(corners, -0.05)], -1)
    front = make_fan(rim, f"sign_face{random.integers(SIGN_FACES)}")
    back = make_fan(rim + np.array([0, 0, 0.012]), "metal")
    x, y = front.vertices[:, 0], front.vertices[:, 1]
    front.uv[:] = np.stack([x + 0.35, y + up + 0.35], -1)  # the middle of the tile is the middle of the sign
    return [*parts, front, back]


def make_bollard(random: np.random.Generator) -> Mesh:
    """Make a post of about a metre."""
    height, tint = random.uniform(0.7, 1.1), (random.uniform(0.3, 1.2),) * 3
    return make_tube((0, 0, 0), (0, -height, 0), (0.09, 0.07), "metal", tint, sides=10, closed=True)


def make_fence(random: np.random.Generator, length_m: float, tint: Color) -> Mesh:
    """Make posts and boards along z."""
    height, half, parts = random.uniform(0.9, 1.3), 0.5 * length_m, []
    for z in np.arange(-half, half + 0.01, 2.0):
        parts += make_box((-0.05, -height, z - 0.05), (0.05, 0.0, z + 0.05), "wood", tint)
    for up in (0.3, 0.6, 0.9):
        y = -up * height
        parts += make_box((-0.08, y - 0.12, -half), (-0.05, y + 0.05, half), "wood", tint)
    return parts


# -- Walking pedestrians.

_STATURE_M = 1.75  # of the figure as modeled; it is scaled to its own height


def _make_ring(up: float, half_width: float, half_depth: float, lean: float = 0.0) -> list[tuple[float, float, float]]:
    angle = np.linspace(0, 2 * np.pi, 11)
    return [(half_width * np.cos(a), -up, lean + half_depth * np.sin(a)) for a in angle]


def _make_limb(points: list[tuple[float, float, float]], radii: list[float], material: str, tint: Color) -> Mesh:
    joints = list(zip(points, radii, strict=True))
    tubes = (make_tube(a, b, (ra, rb), material, tint, sides=8, closed=True) for (a, ra), (b, rb) in pairwise(joints))
    return [part for tube in tubes for part in tube]


def make_person(random: np.random.Generator) -> tuple[Mesh, tuple[float, float, float]]:
    """Make a person standing on y = 0 and facing +z. Returns the mesh and its size (height, width, length), metres."""
    shirt, trousers = (f"cloth{i}" for i in random.choice(CLOTHS, 2, replace=False))
    dye: Color = tuple(random.uniform(0.7, 1.3) * random.uniform(0.85, 1.15, 3))
    complexion: Color = tuple(random.uniform(0.35, 1.15) * np.array([1.0, 0.97, 0.94]))
    stride, skirt = random.uniform(0.05, 0.28), random.random() < 0.2
    parts: Mesh = []
    for side, step in ((-1, stride), (1, -stride)):
        leg = [(0.09 * side, -0.90, 0.0), (0.10 * side, -0.48, 0.75 * step + 0.05), (0.10 * side, -0.07, step)]
        parts += _make_limb(leg, [0.095, 0.07, 0.05], trousers, (1.0, 1.0, 1.0))
        shoe = (0.10 * side, -0.05, step + 0.06)
        parts.append(make_ellipsoid(shoe, (0.05, 0.05, 0.13), "rubber", (1.5, 1.2, 1.0), around=8, along=5))
        hand = (0.25 * side, -0.86, -0.7 * step + 0.08)
        arm = [(0.20 * side, -1.42, 0.0), (0.25 * side, -1.12, -0.4 * step), hand]
        parts += _make_limb(arm, [0.06, 0.05, 0.04], shirt, dye)
        palm = (hand[0], hand[1] + 0.05, hand[2])
        parts.append(make_ellipsoid(palm, (0.035, 0.07, 0.04), "skin", complexion, around=6, along=4))
    rings = ((0.84, 0.16, 0.11), (1.02, 0.145, 0.10), (1.28, 0.19, 0.12), (1.42, 0.20, 0.10), (1.48, 0.10, 0.07))
    torso = [_make_ring(*ring) for ring in (*rings, (1.49, 0.0, 0.0))]
    parts.append(make_loft(torso, shirt, dye))
    if skirt:
        parts.append(make_loft([_make_ring(0.52, 0.24, 0.22), _make_ring(0.98, 0.16, 0.12)], trousers))
    parts += make_tube((0, -1.46, 0), (0, -1.56, 0.01), 0.055, "skin", complexion, sides=8)
    parts.append(make_ellipsoid((0, -1.635, 0.02), (0.082, 0.115, 0.10), "skin", complexion, around=10, along=8))
    tone: Color = tuple(random.uniform(0.3, 3.0) * np.array([1.0, 0.9, 0.75]))
    parts.append(make_ellipsoid((0, -1.67, -0.005), (0.09, 0.085, 0.105), "hair", tone, around=10, along=6))
    if random.random() < 0.35:  # a rucksack
        cloth = f"cloth{random.integers(CLOTHS)}"
        parts.append(make_ellipsoid((0, -1.25, -0.16), (0.14, 0.21, 0.10), cloth, around=8, along=6))
    low, high = compute_bounds(parts)
    scale = float(np.clip(random.normal(1.72, 0.08), 1.5, 1.95)) / _STATURE_M
    width, _, length = (high - low) * scale
    size = (_STATURE_M * scale, float(width), float(length))
    return fit_mesh_to_size(parts, size), size
