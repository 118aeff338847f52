"""Random shapes of household objects (bottle, bowl, can, cup, box, laptop), and textures of a table and its objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from stadia.core.seeds import make_generator
from stadia.synthetic.rendering.mesh import (
    Color,
    Mesh,
    MeshPart,
    Points,
    compute_bounds,
    make_box,
    make_loft,
    make_quad,
)
from stadia.synthetic.rendering.surfaces import (
    Image,
    Texture,
    as_linear_rgb,
    make_fractal_noise,
    make_plain_texture,
    make_texel_grid,
)

# -- Shapes.
#
# A shape stands in its own frame: metres, y up, centered in its box; an axis of revolution is y. A cup's handle is at
# +x, its origin on the axis of its bowl; a box is longer along x than along z; a laptop's keys are towards +z.

SIDES = 36  # sides of a body of revolution
Symmetry = str | tuple[tuple[float, float, float, float], ...]
# Half turns about the axes x, y and z, as quaternions w, x, y, z.
HALF_TURNS = ((0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """Describe the shape of one object, whose bounding box is centered at the origin.

    kind: name of the category, such as "cup".
    mesh: parts of the body. Their materials are "label" or "paint", which are drawn for each object, or ones that all
        objects share.
    handle: parts that break a rotational symmetry of the body, such as a cup's handle; empty for most objects.
    size_m: (3,) edge lengths of the bounding box of body and handle along x, y and z, in metres.
    symmetry: rotations that leave the body without its handle unchanged: "none", "revolution" for any rotation about
        y, or single rotations as quaternions w, x, y, z.
    """

    kind: str
    mesh: Mesh
    handle: Mesh
    size_m: Points
    symmetry: Symmetry


def _center_shape(kind: str, mesh: Mesh, symmetry: Symmetry, handle: Sequence[MeshPart] = ()) -> ObjectShape:
    low, high = compute_bounds([*mesh, *handle])
    middle = (low + high) / 2
    if symmetry == "revolution":
        middle[[0, 2]] = 0
    parts = [replace(part, vertices=part.vertices - middle) for part in [*mesh, *handle]]
    size = 2 * np.abs(np.concatenate([part.vertices for part in parts])).max(0)
    return ObjectShape(kind, parts[: len(mesh)], parts[len(mesh) :], size, symmetry)


def _revolve_profile(profile: ArrayLike, material: str, tint: Color = (1.0, 1.0, 1.0)) -> MeshPart:
    radius, height = np.asarray(profile, float).T
    angle = np.linspace(0, 2 * np.pi, SIDES + 1)
    x, z = radius[:, None] * np.cos(angle), radius[:, None] * np.sin(angle)
    return make_loft(np.stack([x, np.broadcast_to(height[:, None], x.shape), z], -1), material, tint)


def _draw_tint(random: np.random.Generator) -> Color:
    vivid, bright = random.uniform(0.1, 0.9), random.uniform(0.12, 0.95)
    red, green, blue = bright * (1 - vivid + vivid * random.random(3))
    return (red, green, blue)


def make_can(random: np.random.Generator) -> ObjectShape:
    """Return a can: a printed cylinder between two rims."""
    r, h = random.uniform(0.028, 0.045), random.uniform(0.06, 0.15)
    top = [(r, h - 0.005), (0.92 * r, h), (0.88 * r, h - 0.003), (0.0, h - 0.003)]
    bottom = [(0.0, 0.003), (0.88 * r, 0.003), (0.92 * r, 0.0), (r, 0.005)]
    mesh = [
        _revolve_profile(bottom, "metal"),
        _revolve_profile([(r, 0.005), (r, h - 0.005)], "label"),
        _revolve_profile(top, "metal"),
    ]
    return _center_shape("can", mesh, "revolution")


def make_bottle(random: np.random.Generator) -> ObjectShape:
    """Return a bottle: a body with a label, a shoulder, a neck and a cap."""
    r, h = random.uniform(0.027, 0.042), random.uniform(0.17, 0.3)
    neck, waist = random.uniform(0.010, 0.016), random.uniform(0.88, 1.0)
    body, shoulder = random.uniform(0.42, 0.62) * h, random.uniform(0.72, 0.82) * h
    cap = h - random.uniform(0.012, 0.03)
    part = np.linspace(0, 1, 9)
    radius = neck + (r - neck) * np.cos(part * np.pi / 2) ** random.uniform(0.7, 1.6)
    curve = np.stack([radius, body + part * (shoulder - body)], 1)
    tint = _draw_tint(random)
    low, high = random.uniform(0.12, 0.25) * h, body - 0.006
    mesh = [
        _revolve_profile([(0, 0.002), (0.8 * r, 0.0), (0.97 * r, 0.004), (r, 0.012), (waist * r, low)], "paint", tint),
        _revolve_profile([(waist * r, low), (waist * r, high)], "label"),
        _revolve_profile([(waist * r, high), *curve, (neck, cap)], "paint", tint),
        _revolve_profile([(neck * 1.15, cap - 0.002), (neck * 1.15, h), (0.0, h)], "plastic", _draw_tint(random)),
    ]
    return _center_shape("bottle", mesh, "revolution")


def _make_vessel_profiles(outer: Points, wall: float, floor: float) -> tuple[ArrayLike, ArrayLike]:
    """Return outer and inner profile of an open vessel from its outside (N, 2), foot to rim."""
    inner = [(max(r - wall, 0.001), max(y, floor)) for r, y in outer[::-1]]
    return [(0.0, 0.001), *outer], [outer[-1], *inner, (0.0, floor)]


def make_bowl(random: np.random.Generator) -> ObjectShape:
    """Return a bowl, which is wider than high and open above."""
    r, h = random.uniform(0.06, 0.105), random.uniform(0.04, 0.085)
    foot, bend = random.uniform(0.35, 0.6) * r, random.uniform(0.6, 1.5)
    t = np.linspace(0, 1, 12)
    outer = np.stack([foot + (r - foot) * np.sin(t * np.pi / 2) ** bend, h * t], 1)
    outside, inside = _make_vessel_profiles(outer, 0.004, 0.006)
    sides = ((outside, "paint"), (inside, "ceramic"))
    mesh = [_revolve_profile(profile, material, _draw_tint(random)) for profile, material in sides]
    return _center_shape("bowl", mesh, "revolution")


def make_cup(random: np.random.Generator) -> ObjectShape:
    """Return a mug with a handle at +x."""
    r, h = random.uniform(0.033, 0.048), random.uniform(0.07, 0.115)
    taper = random.uniform(0.75, 1.0)
    t = np.linspace(0, 1, 6)
    outer = np.stack([r * (taper + (1 - taper) * t ** random.uniform(0.5, 1.0)), h * t], 1)
    outside, inside = _make_vessel_profiles(outer, 0.0035, 0.006)
    tint = _draw_tint(random)
    printed = "label" if random.random() < 0.5 else "paint"
    reach, half, thick = random.uniform(0.02, 0.034), random.uniform(0.24, 0.36) * h, random.uniform(0.004, 0.0065)
    start = float(np.interp(0.5 * h, outer[:, 1], outer[:, 0])) - 0.004
    bow = np.linspace(-np.pi / 2, np.pi / 2, 13)[:, None]
    turn = np.linspace(0, 2 * np.pi, 9)[None]
    away, across = (reach + thick * np.cos(turn)) * np.cos(bow), np.broadcast_to(thick * np.sin(turn), (13, 9))
    rings = np.stack([start + away, 0.5 * h + (half + thick * np.cos(turn)) * np.sin(bow), across], -1)
    body = [
        _revolve_profile(outside, printed, (1.0, 1.0, 1.0) if printed == "label" else tint),
        _revolve_profile(inside, "ceramic", tint),
    ]
    return _center_shape("cup", body, "revolution", [make_loft(rings, "ceramic", tint)])


def make_box_shape(random: np.random.Generator) -> ObjectShape:
    """Return a printed box, which is longer along x than along z."""
    z = random.uniform(0.03, 0.1)
    size = np.array([z * random.uniform(1.2, 2.6), random.uniform(0.04, 0.22), z])
    return _center_shape("box", make_box(-size / 2, size / 2, "label"), HALF_TURNS)


def make_laptop(random: np.random.Generator) -> ObjectShape:
    """Return a laptop that is open by 95 to 130 degrees."""
    w, d, thick = random.uniform(0.27, 0.36), random.uniform(0.19, 0.25), random.uniform(0.012, 0.02)
    tint = _draw_tint(random)
    base = make_box((-w / 2, 0, -d / 2), (w / 2, thick, d / 2), "plastic", tint)
    edge = random.uniform(0.012, 0.022)
    keys = make_quad((-w / 2 + edge, thick + 4e-4, -d / 2 + edge), (w - 2 * edge, 0, 0), (0, 0, 0.55 * d), "keys")
    pad_corner, dark = (-0.16 * w, thick + 4e-4, 0.62 * d - d / 2 + edge), (0.25, 0.25, 0.26)
    pad = make_quad(pad_corner, (0.32 * w, 0, 0), (0, 0, 0.24 * d), "plastic", dark)
    lean = np.radians(random.uniform(5, 40))  # angle of the lid from upright
    up, front = np.array([0, np.cos(lean), -np.sin(lean)]), np.array([0, np.sin(lean), np.cos(lean)])
    hinge = np.array([0, thick, -d / 2 + 0.004])
    lid: Mesh = []
    for part in make_box((-w / 2, 0, -0.006), (w / 2, random.uniform(0.9, 1.0) * d, 0), "plastic", tint):
        turned = hinge + part.vertices[:, :1] * [1, 0, 0] + part.vertices[:, 1:2] * up + part.vertices[:, 2:] * front
        lid.append(replace(part, vertices=turned))
    height = 0.9 * d - 0.02
    screen_corner = hinge + up * (0.012 + height) + front * 4e-4 + [-w / 2 + 0.012, 0, 0]
    screen = make_quad(screen_corner, (w - 0.024, 0, 0), -up * height, "label")
    return _center_shape("laptop", [*base, keys, pad, *lid, screen], "none")


SHAPES: dict[str, Callable[[np.random.Generator], ObjectShape]] = {
    "bottle": make_bottle,
    "bowl": make_bowl,
    "can": make_can,
    "cup": make_cup,
    "box": make_box_shape,
    "laptop": make_laptop,
}


def compute_footprint(shape: ObjectShape, margin_m: float) -> Points:
    """Return the corners, (4, 2) x and z in metres, of the rectangle that an object covers on the table.

    The rectangle is in the object's own coordinates.

    shape: shape of the object.
    margin_m: metres that the rectangle extends beyond the object on each side.
    """
    return (shape.size_m[[0, 2]] / 2 + margin_m) * [[-1, -1], [1, -1], [1, 1], [-1, 1]]


def has_overlap(a: Points, b: Points) -> bool:
    """Return whether two rectangles overlap, by the separating axis theorem.

    a: (4, 2) corners of one rectangle, in order around it.
    b: (4, 2) corners of the second rectangle.
    """
    for rectangle in (a, b):
        for edge in (rectangle[1] - rectangle[0], rectangle[2] - rectangle[1]):
            first, second = a @ edge, b @ edge
            if first.max() < second.min() or second.max() < first.min():
                return False
    return True


def make_upright_pose(yaw: float, x: float, z: float, height_m: float) -> Points:
    """Return the pose of an object that stands upright on the table, (4, 4) from object to world coordinates in metres.

    The object's y axis points up, while the world's y axis points down and is 0 on the table.

    yaw: rotation of the object about the vertical, radians.
    x: position of the object on the table along the world's x axis in metres.
    z: position along the world's z axis in metres.
    height_m: height of the object in metres.
    """
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0, -s, x], [0, -1.0, 0, -height_m / 2], [-s, 0, -c, z], [0, 0, 0, 1]])


def name_object_textures(mesh: Mesh, number: int) -> Mesh:
    """Rename the materials "label" and "paint" of a mesh to one object's materials, such as "label0"; return the new
    mesh.

    mesh: parts of the object.
    number: number of the object on its table, counted from 0.
    """
    return [
        replace(part, material=f"{part.material}{number}" if part.material in ("label", "paint") else part.material)
        for part in mesh
    ]


# -- Textures, made for each table. Linear RGB reflectance in [0, 1].


def _draw_color(random: np.random.Generator, low: float = 0.05, high: float = 0.85) -> Image:
    vivid = 0.85 * random.random() ** 2
    return (random.uniform(low, high) * (1 - vivid + vivid * random.random(3))).astype(np.float32)


def _draw_print_color(random: np.random.Generator) -> Image:
    vivid = random.uniform(0.0, 0.9)
    return (random.uniform(0.05, 0.9) * (1 - vivid + vivid * random.random(3))).astype(np.float32)


def make_wood(random: np.random.Generator) -> Texture:
    """Return a texture of wooden boards with grain along them."""
    n, size = 256, (1.0, 1.0)
    down, _ = make_texel_grid(n, n, size)
    boards = random.choice([1, 4, 8])
    tone = random.uniform(0.85, 1.12, boards).astype(np.float32)[(down * boards).astype(int) % boards]
    grain = make_fractal_noise(random, n, n, cells=(32, 2), octaves=4, persistence=0.7)
    fine = make_fractal_noise(random, n, n, cells=(64, 8), octaves=3, persistence=0.8)
    seam = np.where((down * boards) % 1 < 0.012 * boards, np.float32(0.6 if boards > 1 else 1.0), np.float32(1))
    value = tone * seam * (1 + 0.12 * grain + 0.06 * fine)
    dark = as_linear_rgb(0.45, 0.27, 0.14) * random.uniform(0.35, 1.3)
    return Texture(value[..., None] * dark, size)


def make_cloth(random: np.random.Generator) -> Texture:
    """Return a texture of a woven table cloth: checks, stripes, dots or plain."""
    n, size = 256, (0.32, 0.32)
    down, across = make_texel_grid(n, n, size)
    pitch = size[0] / random.choice([2, 4, 8])
    kind = random.choice(["checks", "stripes", "dots", "plain"])
    a, b = (down % pitch < pitch / 2), (across % pitch < pitch / 2)
    dots = np.hypot(down % pitch - pitch / 2, across % pitch - pitch / 2) < 0.3 * pitch
    pattern = {"checks": 0.5 * a + 0.5 * b, "stripes": a + 0.0 * b, "dots": dots, "plain": 0.0 * (a + b)}[kind]
    share = pattern[..., None].astype(np.float32)
    weave = 1 + 0.07 * make_fractal_noise(random, n, n, cells=(64, 64), octaves=2)
    weave = weave + 0.05 * make_fractal_noise(random, n, n)
    return Texture((_draw_color(random) * share + _draw_color(random, 0.3) * (1 - share)) * weave[..., None], size)


def make_stone(random: np.random.Generator) -> Texture:
    """Return a texture of marble or a worktop, with blotches and veins."""
    n = 256
    cloud = make_fractal_noise(random, n, n, cells=(3, 3), octaves=7, persistence=0.65)
    vein = np.exp(-((make_fractal_noise(random, n, n, cells=(3, 3), octaves=5) / 0.12) ** 2))
    value = 1 + 0.1 * cloud - random.uniform(0, 0.4) * vein
    return Texture(value[..., None] * _draw_color(random, 0.12, 0.8) * as_linear_rgb(1, 0.98, 0.95), (0.8, 0.8))


def make_tiles(random: np.random.Generator) -> Texture:
    """Return a texture of a floor or wall of square tiles."""
    n, size = 256, (1.2, 1.2)
    down, across = make_texel_grid(n, n, size)
    count = int(random.choice([2, 3, 4, 6]))
    pitch = size[0] / count
    row, column = (down / pitch).astype(int) % count, (across / pitch).astype(int) % count
    tone = random.uniform(0.85, 1.1, (count, count)).astype(np.float32)[row, column]
    joint = (down % pitch < 0.008) | (across % pitch < 0.008)
    value = tone * np.where(joint, np.float32(0.6), np.float32(1)) * (1 + 0.06 * make_fractal_noise(random, n, n))
    return Texture(value[..., None] * _draw_color(random, 0.15, 0.8), size)


def make_paint(random: np.random.Generator) -> Texture:
    """Return a texture of a wall or carpet of one color with blotches."""
    red, green, blue = _draw_color(random, 0.15, 0.85)
    return make_plain_texture(random, (red, green, blue), random.uniform(0.03, 0.25), random.uniform(0.3, 2.0))


def make_label(random: np.random.Generator) -> Texture:
    """Return a texture of a printed label 0.12 m high: a ground, bands, a disc, and lines that resemble text."""
    n, size = 128, (0.12, random.uniform(0.1, 0.28))
    down, across = make_texel_grid(n, n, (1.0, 1.0))
    image = np.broadcast_to(_draw_print_color(random), (n, n, 3)).copy()
    for _ in range(random.integers(0, 4)):
        at, half = random.random(), random.uniform(0.02, 0.15)
        band = (abs((down if random.random() < 0.7 else across) - at) < half) & np.ones((n, n), bool)
        image[band] = _draw_print_color(random)
    if random.random() < 0.6:
        radius = np.hypot((down - random.uniform(0.25, 0.75)), (across - random.uniform(0.25, 0.75)))
        disc = radius < random.uniform(0.1, 0.24)
        image[disc] = _draw_print_color(random)
    for _ in range(random.integers(1, 4)):
        top, left = random.uniform(0.05, 0.8), random.uniform(0.02, 0.5)
        tall, wide = random.uniform(0.03, 0.14), random.uniform(0.2, 0.48)
        letters = make_fractal_noise(random, n, n, cells=(8, 32), octaves=2) > 0.1
        text = (down > top) & (down < top + tall) & (across > left) & (across < left + wide) & letters
        image[text] = _draw_print_color(random)
    return Texture(image * (1 + 0.05 * make_fractal_noise(random, n, n))[..., None], size)


def make_keys(random: np.random.Generator) -> Texture:
    """Return a texture of a keyboard with 16 mm keys."""
    n, pitch = 64, 0.016
    size = (2 * pitch, 2 * pitch)
    down, across = make_texel_grid(n, n, size)
    gap = (down % pitch < 0.0022) | (across % pitch < 0.0022)
    dark = random.uniform(0.02, 0.1)
    light = random.uniform(0.3, 0.6) if random.random() < 0.4 else 1.6 * dark
    return Texture(np.where(gap[..., None], as_linear_rgb(dark, dark, dark), as_linear_rgb(light, light, light)), size)


SURFACE_TEXTURES = {
    "table": (make_wood, make_cloth, make_stone, make_paint),
    "floor": (make_wood, make_tiles, make_paint, make_stone),
    "wall": (make_paint, make_paint, make_tiles, make_wood),
}


def make_table_textures(seed: int, objects: int) -> dict[str, Texture]:
    """Return all textures of a table by name. "label0" and "paint0" belong to the first object."""

    def stream(*names: object) -> np.random.Generator:
        return make_generator(seed, "textures", *names)

    made = {}
    for name, choices in SURFACE_TEXTURES.items():
        random = stream(name)
        made[name] = choices[random.integers(len(choices))](random)
    for name, gray, contrast in (("metal", 0.5, 0.1), ("plastic", 0.9, 0.04), ("ceramic", 0.95, 0.03)):
        made[name] = make_plain_texture(stream(name), (gray, gray, gray), contrast, 0.2)
    made["keys"] = make_keys(stream("keys"))
    made["sky"] = make_plain_texture(stream("sky"), (0.7, 0.7, 0.7), 0.02, 1.0)
    for number in range(objects):
        made[f"label{number}"] = make_label(stream("label", number))
        made[f"paint{number}"] = make_plain_texture(stream("paint", number), (0.95, 0.95, 0.95), 0.06, 0.1)
    return made
