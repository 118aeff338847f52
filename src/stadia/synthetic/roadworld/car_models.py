"""Meshes of cars: a lofted body and cabin with windows, wheels, lamps and plates, in the size of real models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from stadia.synthetic.rendering.mesh import (
    WHITE,
    Color,
    Mesh,
    fit_mesh_to_size,
    join_parts,
    make_ellipsoid,
    make_fan,
    make_loft,
    make_patch,
    make_tube,
)

PAINTS: list[Color] = [
    (0.85, 0.85, 0.85), (0.55, 0.57, 0.60), (0.28, 0.29, 0.31), (0.05, 0.05, 0.06), (0.50, 0.04, 0.04),
    (0.05, 0.11, 0.35), (0.10, 0.22, 0.14), (0.70, 0.62, 0.45), (0.65, 0.33, 0.05), (0.20, 0.32, 0.42),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CarModel:
    """A body style. `along` is a share of the car's length from the middle, forward positive; heights are metres.

    size_hwl_m: mean height, width, length.  body: (along, underside, top, share of the width) from rear to front.
    cabin: along of rear foot, rear roof, front roof, front foot.  pillars: along of those between the side windows.
    """

    size_hwl_m: tuple[float, float, float]
    belt_m: float
    body: tuple[tuple[float, float, float, float], ...]
    cabin: tuple[float, float, float, float]
    pillars: tuple[float, ...]
    wheel_m: float = 0.32


_TAIL = ((-0.5, 0.42, 0.80, 0.86), (-0.49, 0.32, 0.88, 0.93), (-0.44, 0.22, 0.93, 0.98))
_NOSE = ((0.40, 0.20, 0.82, 0.97), (0.465, 0.24, 0.74, 0.92), (0.492, 0.32, 0.66, 0.85), (0.5, 0.42, 0.58, 0.79))
_MIDDLE = ((-0.30, 0.17, 0.93, 1.0), (0.0, 0.17, 0.92, 1.0), (0.22, 0.18, 0.90, 0.99))
_SUV = tuple((along, low + 0.06, top + 0.13, share) for along, low, top, share in _TAIL + _MIDDLE + _NOSE)
_VAN = (
    (-0.5, 0.40, 1.05, 0.95), (-0.49, 0.28, 1.1, 0.98), (-0.30, 0.20, 1.1, 1.0), (0.20, 0.20, 1.1, 1.0),
    (0.36, 0.22, 1.06, 0.98), (0.46, 0.26, 0.92, 0.93), (0.5, 0.42, 0.78, 0.85),
)  # fmt: skip

MODELS: dict[str, CarModel] = {
    "sedan": CarModel((1.46, 1.82, 4.65), 0.92, _TAIL + _MIDDLE + _NOSE, (-0.40, -0.24, 0.05, 0.235), (-0.10,)),
    "hatchback": CarModel((1.50, 1.77, 4.05), 0.92, _TAIL + _MIDDLE + _NOSE, (-0.485, -0.40, 0.06, 0.25), (-0.09,)),
    "estate": CarModel((1.50, 1.83, 4.75), 0.92, _TAIL + _MIDDLE + _NOSE, (-0.485, -0.43, 0.05, 0.235), (-0.08, -0.29)),
    "suv": CarModel((1.70, 1.88, 4.60), 1.06, _SUV, (-0.485, -0.43, 0.08, 0.235), (-0.07, -0.27), 0.36),
    "van": CarModel((2.00, 1.95, 5.00), 1.10, _VAN, (-0.492, -0.475, 0.25, 0.42), (0.06, -0.2), 0.33),
}
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
    """Make a car standing on y = 0 and facing +z. Returns the mesh and its size (height, width, length) in metres."""
    name = str(random.choice(list(MODEL_SHARES), p=list(MODEL_SHARES.values())))
    tint = PAINTS[random.integers(len(PAINTS))]
    height, width, length = np.asarray(MODELS[name].size_hwl_m) * random.normal(1.0, (0.025, 0.02, 0.03))
    size = (float(height), float(width), float(length))
    painted = [replace(part, tint=tint) if part.material == "paint" else part for part in _make_unpainted(name)]
    return fit_mesh_to_size(painted, size), size
