"""Meshes of cars, buildings, trees, street furniture and pedestrians in real sizes."""

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stadia.synthetic.rendering.mesh import (
    WHITE,
    Color,
    Mesh,
    MeshPart,
    compute_bounds,
    fit_mesh_to_size,
    join_parts,
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
    """Return a town building of 2 to 6 storeys.

    Its front is in the plane x = 0, its depth is along +x, and its base is at y = 0.
    """
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
    """Return a house of one or two storeys with a gabled roof.

    Its front is in the plane x = 0, and its base is at y = 0.
    """
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
    """Return a tree of 5 to 9 m with its base at y = 0, leaves above `clear_m` and within `reach_m` of the trunk."""
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
    """Return a spruce of 5 to 10 m, made of overlapping tiers of branches."""
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
    """Return a clipped hedge along z with its base at y = 0."""
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
    """Return a post of 5 to 8 m with an arm over the road."""
    height, reach, tint = random.uniform(5.0, 8.0), random.uniform(0.8, 2.2), (random.uniform(0.4, 1.6),) * 3
    parts = make_tube((0, 0, 0), (0, -0.9, 0), 0.11, "metal", tint, sides=10)
    parts += make_tube((0, -0.9, 0), (0, -height, 0), (0.075, 0.05), "metal", tint, sides=10)
    parts += make_tube((0, -height, 0), (-reach, -height - 0.3, 0), 0.04, "metal", tint, sides=6)
    return [*parts, make_ellipsoid((-reach - 0.2, -height - 0.3, 0), (0.38, 0.09, 0.15), "lamp", around=8, along=5)]


def make_sign(random: np.random.Generator) -> Mesh:
    """Return a traffic sign that faces -z, so that traffic towards +z sees it."""
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
    """Return a post of about a metre."""
    height, tint = random.uniform(0.7, 1.1), (random.uniform(0.3, 1.2),) * 3
    return make_tube((0, 0, 0), (0, -height, 0), (0.09, 0.07), "metal", tint, sides=10, closed=True)


def make_fence(random: np.random.Generator, length_m: float, tint: Color) -> Mesh:
    """Return posts and boards along z."""
    height, half, parts = random.uniform(0.9, 1.3), 0.5 * length_m, []
    for z in np.arange(-half, half + 0.01, 2.0):
        parts += make_box((-0.05, -height, z - 0.05), (0.05, 0.0, z + 0.05), "wood", tint)
    for up in (0.3, 0.6, 0.9):
        y = -up * height
        parts += make_box((-0.08, y - 0.12, -half), (-0.05, y + 0.05, half), "wood", tint)
    return parts


# -- Walking pedestrians.

_STATURE_M = 1.75  # height of the figure as modeled; each person scales it to their own height


def _make_ring(up: float, half_width: float, half_depth: float, lean: float = 0.0) -> list[tuple[float, float, float]]:
    angle = np.linspace(0, 2 * np.pi, 11)
    return [(half_width * np.cos(a), -up, lean + half_depth * np.sin(a)) for a in angle]


def _make_limb(points: list[tuple[float, float, float]], radii: list[float], material: str, tint: Color) -> Mesh:
    joints = list(zip(points, radii, strict=True))
    tubes = (make_tube(a, b, (ra, rb), material, tint, sides=8, closed=True) for (a, ra), (b, rb) in pairwise(joints))
    return [part for tube in tubes for part in tube]


def make_person(random: np.random.Generator) -> tuple[Mesh, tuple[float, float, float]]:
    """Return a person with the feet at y = 0 who faces +z, and the person's (height, width, length) in metres."""
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


PAINTS: list[Color] = [
    (0.85, 0.85, 0.85), (0.55, 0.57, 0.60), (0.28, 0.29, 0.31), (0.05, 0.05, 0.06), (0.50, 0.04, 0.04),
    (0.05, 0.11, 0.35), (0.10, 0.22, 0.14), (0.70, 0.62, 0.45), (0.65, 0.33, 0.05), (0.20, 0.32, 0.42),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CarModel:
    """A body style of cars. `along` is a share of the car's length from its middle, positive forwards; heights are in
    metres.

    size_hwl_m: mean height, width and length.
    belt_m: height of the lower edge of the windows.
    body: (along, underside, top, share of the width) of cross-sections from rear to front.
    cabin: `along` of the rear foot, the rear of the roof, the front of the roof, and the front foot.
    pillars: `along` of the pillars between the side windows.
    wheel_m: radius of the wheels.
    """

    size_hwl_m: tuple[float, float, float]
    belt_m: float
    body: tuple[tuple[float, float, float, float], ...]
    cabin: tuple[float, float, float, float]
    pillars: tuple[float, ...]
    wheel_m: float = 0.32


# Profiles of car bodies from tail to nose: place along the length, lower and upper edge, share of the width.
_TAIL = ((-0.5, 0.42, 0.80, 0.86), (-0.49, 0.32, 0.88, 0.93), (-0.44, 0.22, 0.93, 0.98))
_NOSE = ((0.40, 0.20, 0.82, 0.97), (0.465, 0.24, 0.74, 0.92), (0.492, 0.32, 0.66, 0.85), (0.5, 0.42, 0.58, 0.79))
_MIDDLE = ((-0.30, 0.17, 0.93, 1.0), (0.0, 0.17, 0.92, 1.0), (0.22, 0.18, 0.90, 0.99))
_SUV = tuple((along, low + 0.06, top + 0.13, share) for along, low, top, share in _TAIL + _MIDDLE + _NOSE)
_VAN = (
    (-0.5, 0.40, 1.05, 0.95), (-0.49, 0.28, 1.1, 0.98), (-0.30, 0.20, 1.1, 1.0), (0.20, 0.20, 1.1, 1.0),
    (0.36, 0.22, 1.06, 0.98), (0.46, 0.26, 0.92, 0.93), (0.5, 0.42, 0.78, 0.85),
)  # fmt: skip

# Height, width and length in metres, then the shape.
MODELS: dict[str, CarModel] = {
    "sedan": CarModel((1.46, 1.82, 4.65), 0.92, _TAIL + _MIDDLE + _NOSE, (-0.40, -0.24, 0.05, 0.235), (-0.10,)),
    "hatchback": CarModel((1.50, 1.77, 4.05), 0.92, _TAIL + _MIDDLE + _NOSE, (-0.485, -0.40, 0.06, 0.25), (-0.09,)),
    "estate": CarModel((1.50, 1.83, 4.75), 0.92, _TAIL + _MIDDLE + _NOSE, (-0.485, -0.43, 0.05, 0.235), (-0.08, -0.29)),
    "suv": CarModel((1.70, 1.88, 4.60), 1.06, _SUV, (-0.485, -0.43, 0.08, 0.235), (-0.07, -0.27), 0.36),
    "van": CarModel((2.00, 1.95, 5.00), 1.10, _VAN, (-0.492, -0.475, 0.25, 0.42), (0.06, -0.2), 0.33),
}
# Shares of the models among the cars of a street.
MODEL_SHARES = {"sedan": 0.3, "hatchback": 0.3, "estate": 0.13, "suv": 0.17, "van": 0.1}


def _make_body(model: CarModel, tint: Color) -> Mesh:
    _, width, length = model.size_hwl_m
    rings = []
    for along, low, top, share in model.body:
        w, tall = 0.5 * width * share, top - low
        half = [(x * w, low + up * tall) for x, up in ((0.80, 0.0), (0.95, 0.10), (1.0, 0.38), (0.985, 0.74))]
        half += [(0.93 * w, top - 0.02), (0.80 * w, top), (0.0, top + 0.025)]
        across = half + [(-x, y) for x, y in half[-2::-1]]
        rings.append([(x, -y, along * length) for x, y in [*across, across[0]]])
    ends = [make_fan(ring[:-1], "paint", tint) for ring in (rings[0], rings[-1])]
    return [make_loft(rings, "paint", tint), *ends]


def _locate_cabin_side(model: CarModel, along: float, share: float) -> tuple[float, float]:
    """Return z (metres) and half-width of the cabin's side at a share of its length and of its height."""
    length, half = model.size_hwl_m[2], 0.5 * model.size_hwl_m[1]
    foot_rear, roof_rear, roof_front, foot_front = model.cabin
    rear, front = foot_rear + share * (roof_rear - foot_rear), foot_front + share * (roof_front - foot_front)
    return (rear + along * (front - rear)) * length, half * (0.93 - 0.19 * share)


def _make_cabin(model: CarModel, tint: Color) -> Mesh:
    height = model.size_hwl_m[0]
    belt, rail = model.belt_m - 0.02, height - 0.07

    def put(along: float, share: float, side: float, proud: float = 0.0) -> tuple[float, float, float]:
        z, half = _locate_cabin_side(model, along, share)
        return side * (half + proud), -(belt + share * (rail - belt)), z

    shell = [make_loft([[put(0, s, side), put(1, s, side)] for s in (0.0, 1.0)], "paint", tint) for side in (-1.0, 1.0)]
    shell += [make_patch([put(a, 0, -1), put(a, 0, 1), put(a, 1, 1), put(a, 1, -1)], "paint", tint) for a in (0.0, 1.0)]
    rings = []
    bows = ((-1, 0), (-0.8, 0.75), (0, 1), (0.8, 0.75), (1, 0))
    for along, up in ((0.0, 0.0), (0.06, 0.05), (0.35, 0.07), (0.7, 0.07), (0.94, 0.05), (1.0, 0.0)):
        z, half = _locate_cabin_side(model, along, 1.0)
        rings.append([(x * half, -(rail + up * bow), z) for x, bow in bows])
    shell.append(make_loft(rings, "paint", tint))
    glass: Mesh = []
    low, high = 0.08, 0.90
    for a, lean in ((0.0, -1.0), (1.0, 1.0)):  # rear window and windscreen
        corners = [np.array(put(a, share, side * 0.9)) for share, side in ((low, -1), (low, 1), (high, 1), (high, -1))]
        glass.append(make_patch([c + np.array([0.0, -0.012, lean * 0.012]) for c in corners], "glass"))
    posts = sorted((p - model.cabin[0]) / (model.cabin[3] - model.cabin[0]) for p in model.pillars)
    panes = zip([0.07, *(p + 0.015 for p in posts)], [*(p - 0.015 for p in posts), 0.93], strict=True)
    for start, end in panes:
        for side in (-1.0, 1.0):
            pane = ((start, low), (end, low), (end, high), (start, high))
            glass.append(make_patch([put(along, share, side, 0.008) for along, share in pane], "glass"))
    return shell + glass


def _make_wheels(model: CarModel) -> Mesh:
    half, length, r = 0.5 * model.size_hwl_m[1], model.size_hwl_m[2], model.wheel_m
    angle = np.linspace(0, 2 * np.pi, 17)[:-1]
    parts: Mesh = []
    for along in (-0.29, 0.315):
        z = along * length
        for side in (-1.0, 1.0):

            def disc(radius: float, x: float, z: float = z, side: float = side) -> list[tuple[float, float, float]]:
                return [(side * x, -r + radius * np.sin(a), z + radius * np.cos(a)) for a in angle]

            arch = [(x, min(y, -0.2), q) for x, y, q in disc(1.16 * r, half + 0.004)]
            parts.append(make_fan(arch, "rubber", (0.5, 0.5, 0.5)))
            inner, outer = (side * (half - 0.2), -r, z), (side * (half + 0.012), -r, z)
            parts += make_tube(inner, outer, r, "rubber", sides=16, closed=True)
            parts.append(make_fan(disc(0.66 * r, half + 0.016), "metal", (1.5, 1.5, 1.5)))
            for spoke in range(5):
                a = 2 * np.pi * spoke / 5
                hole = [
                    (side * (half + 0.018), -r + 0.42 * r * np.sin(a + b) * q, z + 0.42 * r * np.cos(a + b) * q)
                    for b, q in ((-0.3, 0.6), (-0.35, 1.35), (0.35, 1.35), (0.3, 0.6))
                ]
                parts.append(make_patch(hole, "rubber"))
    return parts


def _make_details(model: CarModel) -> Mesh:
    _, width, length = model.size_hwl_m
    half = 0.5 * width
    nose, tail = model.body[-1], model.body[0]
    lamp_up, tail_up = model.body[-2][2] - 0.06, tail[2] - 0.02
    parts: Mesh = []
    for side in (-1.0, 1.0):
        for center, radii, material in (
            ((side * 0.64 * half, -lamp_up, 0.486 * length), (0.17, 0.075, 0.09), "lamp"),
            ((side * 0.74 * half, -tail_up, -0.487 * length), (0.15, 0.10, 0.07), "red"),
        ):
            parts.append(make_ellipsoid(center, radii, material, around=8, along=5))
        for along in (*model.pillars, model.cabin[2] + 0.07):
            x, y, z = side * (half + 0.003), -model.belt_m + 0.05, along * length
            parts.append(make_patch([(x, y, z), (x, y, z + 0.02), (x, -0.3, z + 0.02), (x, -0.3, z)], "rubber"))
    front, back = 0.5 * length + 0.004, -0.5 * length - 0.004
    grille = ((-0.5, -nose[2] + 0.01), (0.5, -nose[2] + 0.01), (0.55, -nose[1]), (-0.55, -nose[1]))
    parts.append(make_patch([(share * half, y, front) for share, y in grille], "rubber"))
    for z, up in ((front + 0.004, nose[1] + 0.03), (back, tail[1] + 0.18)):  # the plates
        plate = ((-0.26, -up - 0.11), (0.26, -up - 0.11), (0.26, -up), (-0.26, -up))
        parts.append(make_patch([(x, y, z) for x, y in plate], "lamp"))
    return parts


@cache
def _make_unpainted(name: str) -> Mesh:
    model = MODELS[name]
    return join_parts(_make_body(model, WHITE) + _make_cabin(model, WHITE) + _make_wheels(model) + _make_details(model))


def make_car(random: np.random.Generator) -> tuple[Mesh, tuple[float, float, float]]:
    """Return a car with its base at y = 0 that faces +z, and its (height, width, length) in metres."""
    name = str(random.choice(list(MODEL_SHARES), p=list(MODEL_SHARES.values())))
    tint = PAINTS[random.integers(len(PAINTS))]
    height, width, length = np.asarray(MODELS[name].size_hwl_m) * random.normal(1.0, (0.025, 0.02, 0.03))
    size = (float(height), float(width), float(length))
    painted = [replace(part, tint=tint) if part.material == "paint" else part for part in _make_unpainted(name)]
    return fit_mesh_to_size(painted, size), size
