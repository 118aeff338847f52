"""Random shapes of the six kinds of objects: bottles, bowls, cans, cups, boxes, laptops.

A shape stands in its own frame: metres, y up, centered in its box; an axis of revolution is y. A cup's handle is at
+x, its origin on the axis of its bowl; a box is longer along x than along z; a laptop's keys are towards +z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stadia.data.rendering.mesh import Color, Mesh, Part, Points, box, extent, loft, quad

SIDES = 36  # of a body of revolution
HALF_TURNS = ((0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of one object.

    mesh: parts of materials "label" and "paint" (its own textures) or of those that all share.  handle: parts that
        break a revolution.
    size_m: (3,) of the box about the origin that holds it, along x, y, z.
    symmetry: "none", "revolution" about y, or turns as quaternions w, x, y, z; of a cup, without its handle.
    """

    kind: str
    mesh: Mesh
    handle: Mesh
    size_m: Points
    symmetry: str | tuple[tuple[float, float, float, float], ...]


def _center_shape(
    kind: str, mesh: Mesh, symmetry: str | tuple[tuple[float, float, float, float], ...], handle: Mesh | None = None
) -> Shape:
    """Center the parts in y, and in x and z too where there is no axis of revolution."""
    handle = handle or []
    low, high = extent([*mesh, *handle])
    middle = (low + high) / 2
    if symmetry == "revolution":
        middle[[0, 2]] = 0
    mesh, handle = ([replace(part, vertices=part.vertices - middle) for part in parts] for parts in (mesh, handle))
    size = 2 * np.abs(np.concatenate([part.vertices for part in [*mesh, *handle]])).max(0)
    return Shape(kind, mesh, handle, size, symmetry)


def _revolve_profile(profile: ArrayLike, material: str, tint: Color = (1.0, 1.0, 1.0)) -> Part:
    """Sweep a profile (N, 2) of radius and height about y."""
    radius, height = np.asarray(profile, float).T
    angle = np.linspace(0, 2 * np.pi, SIDES + 1)
    x, z = radius[:, None] * np.cos(angle), radius[:, None] * np.sin(angle)
    return loft(np.stack([x, np.broadcast_to(height[:, None], x.shape), z], -1), material, tint)


def _draw_tint(random: np.random.Generator) -> Color:
    """Draw a linear RGB color, muted to vivid, dark to bright."""
    vivid, bright = random.uniform(0.1, 0.9), random.uniform(0.12, 0.95)
    red, green, blue = bright * (1 - vivid + vivid * random.random(3))
    return (red, green, blue)


def can(random: np.random.Generator) -> Shape:
    """Make a can: a printed cylinder between two rims."""
    r, h = random.uniform(0.028, 0.045), random.uniform(0.06, 0.15)
    top = [(r, h - 0.005), (0.92 * r, h), (0.88 * r, h - 0.003), (0.0, h - 0.003)]
    bottom = [(0.0, 0.003), (0.88 * r, 0.003), (0.92 * r, 0.0), (r, 0.005)]
    mesh = [
        _revolve_profile(bottom, "metal"),
        _revolve_profile([(r, 0.005), (r, h - 0.005)], "label"),
        _revolve_profile(top, "metal"),
    ]
    return _center_shape("can", mesh, "revolution")


def bottle(random: np.random.Generator) -> Shape:
    """Make a bottle: body with label, shoulder, neck and cap."""
    r, h = random.uniform(0.027, 0.042), random.uniform(0.17, 0.3)
    neck, waist = random.uniform(0.010, 0.016), random.uniform(0.88, 1.0)
    body, shoulder = random.uniform(0.42, 0.62) * h, random.uniform(0.72, 0.82) * h
    cap = h - random.uniform(0.012, 0.03)
    part = np.linspace(0, 1, 9)
    curve = np.stack(
        [neck + (r - neck) * np.cos(part * np.pi / 2) ** random.uniform(0.7, 1.6), body + part * (shoulder - body)], 1
    )
    tint = _draw_tint(random)
    low, high = random.uniform(0.12, 0.25) * h, body - 0.006
    mesh = [
        _revolve_profile([(0, 0.002), (0.8 * r, 0.0), (0.97 * r, 0.004), (r, 0.012), (waist * r, low)], "paint", tint),
        _revolve_profile([(waist * r, low), (waist * r, high)], "label"),
        _revolve_profile([(waist * r, high), *curve, (neck, cap)], "paint", tint),
        _revolve_profile([(neck * 1.15, cap - 0.002), (neck * 1.15, h), (0.0, h)], "plastic", _draw_tint(random)),
    ]
    return _center_shape("bottle", mesh, "revolution")


def _make_vessel_profiles(
    outer: NDArray, wall: float, floor: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return outer and inner profile of an open vessel from its outside (N, 2), foot to rim."""
    inner = [(max(r - wall, 0.001), max(y, floor)) for r, y in outer[::-1]]
    return [(0.0, 0.001), *map(tuple, outer)], [tuple(outer[-1]), *inner, (0.0, floor)]


def bowl(random: np.random.Generator) -> Shape:
    """Make a bowl: wider than high, open above."""
    r, h = random.uniform(0.06, 0.105), random.uniform(0.04, 0.085)
    foot, bend = random.uniform(0.35, 0.6) * r, random.uniform(0.6, 1.5)
    t = np.linspace(0, 1, 12)
    outer = np.stack([foot + (r - foot) * np.sin(t * np.pi / 2) ** bend, h * t], 1)
    outside, inside = _make_vessel_profiles(outer, 0.004, 0.006)
    return _center_shape(
        "bowl",
        [
            _revolve_profile(outside, "paint", _draw_tint(random)),
            _revolve_profile(inside, "ceramic", _draw_tint(random)),
        ],
        "revolution",
    )


def cup(random: np.random.Generator) -> Shape:
    """Make a mug with a handle at +x."""
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
    return _center_shape("cup", body, "revolution", [loft(rings, "ceramic", tint)])


def carton(random: np.random.Generator) -> Shape:
    """Make a printed box, longer along x than along z."""
    z = random.uniform(0.03, 0.1)
    size = np.array([z * random.uniform(1.2, 2.6), random.uniform(0.04, 0.22), z])
    return _center_shape("box", box(-size / 2, size / 2, "label"), HALF_TURNS)


def laptop(random: np.random.Generator) -> Shape:
    """Open by 95 to 130 degrees."""
    w, d, thick = random.uniform(0.27, 0.36), random.uniform(0.19, 0.25), random.uniform(0.012, 0.02)
    tint = _draw_tint(random)
    base = box((-w / 2, 0, -d / 2), (w / 2, thick, d / 2), "plastic", tint)
    edge = random.uniform(0.012, 0.022)
    keys = quad((-w / 2 + edge, thick + 4e-4, -d / 2 + edge), (w - 2 * edge, 0, 0), (0, 0, 0.55 * d), "keys")
    pad = quad(
        (-0.16 * w, thick + 4e-4, 0.62 * d - d / 2 + edge),
        (0.32 * w, 0, 0),
        (0, 0, 0.24 * d),
        "plastic",
        (0.25, 0.25, 0.26),
    )
    lean = np.radians(random.uniform(5, 40))  # of the lid from upright
    up, front = np.array([0, np.cos(lean), -np.sin(lean)]), np.array([0, np.sin(lean), np.cos(lean)])
    hinge = np.array([0, thick, -d / 2 + 0.004])
    lid: Mesh = []
    for part in box((-w / 2, 0, -0.006), (w / 2, random.uniform(0.9, 1.0) * d, 0), "plastic", tint):
        turned = hinge + part.vertices[:, :1] * [1, 0, 0] + part.vertices[:, 1:2] * up + part.vertices[:, 2:] * front
        lid.append(replace(part, vertices=turned))
    height = 0.9 * d - 0.02
    screen = quad(
        hinge + up * (0.012 + height) + front * 4e-4 + [-w / 2 + 0.012, 0, 0], (w - 0.024, 0, 0), -up * height, "label"
    )
    return _center_shape("laptop", [*base, keys, pad, *lid, screen], "none")


KINDS: dict[str, Callable[[np.random.Generator], Shape]] = {
    "bottle": bottle,
    "bowl": bowl,
    "can": can,
    "cup": cup,
    "box": carton,
    "laptop": laptop,
}


def footprint(shape: Shape, margin_m: float) -> Points:
    """Return the (4, 2) corners x, z of the rectangle that a shape occupies on the table, in its own frame."""
    x, z = shape.size_m[0] / 2 + margin_m, shape.size_m[2] / 2 + margin_m
    return np.array([[-x, -z], [x, -z], [x, z], [-x, z]])


def overlapping(a: Points, b: Points) -> bool:
    """Return whether two rectangles (4, 2) overlap, by the separating axis theorem."""
    for rectangle in (a, b):
        for edge in (rectangle[1] - rectangle[0], rectangle[2] - rectangle[1]):
            first, second = a @ edge, b @ edge
            if first.max() < second.min() or second.max() < first.min():
                return False
    return True


def outside(corners: Points, half: Points) -> bool:
    """Return whether a rectangle (4, 2) exceeds a table of half sizes (2,)."""
    return bool((np.abs(corners) > half).any())
