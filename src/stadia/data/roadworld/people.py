"""Meshes of walking pedestrians."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stadia.data.rendering.mesh import Color, Mesh, ball, fitted, loft, tube
from stadia.data.roadworld.textures import CLOTHS

_STATURE_M = 1.75  # of the figure as modeled; it is fitted to its own size


def _make_ring(up: float, half_width: float, half_depth: float, lean: float = 0.0) -> list[tuple[float, float, float]]:
    """Return a horizontal ring of a torso."""
    angle = np.linspace(0, 2 * np.pi, 11)
    return [(half_width * np.cos(a), -up, lean + half_depth * np.sin(a)) for a in angle]


def _make_limb(points: list[tuple[float, float, float]], radii: list[float], material: str, tint: Color) -> Mesh:
    """Make tubes from joint to joint."""
    joints = list(zip(points, radii, strict=True))
    return [
        part
        for (a, ra), (b, rb) in pairwise(joints)
        for part in tube(a, b, (ra, rb), material, tint, sides=8, closed=True)
    ]


def person(random: np.random.Generator) -> tuple[Mesh, tuple[float, float, float]]:
    """Make a person standing on y = 0 and facing +z.

    Returns the mesh and its size (height, width, length) in metres.
    """
    shirt, trousers = (f"cloth{i}" for i in random.choice(CLOTHS, 2, replace=False))
    dye: Color = tuple(random.uniform(0.7, 1.3) * random.uniform(0.85, 1.15, 3))
    complexion: Color = tuple(random.uniform(0.35, 1.15) * np.array([1.0, 0.97, 0.94]))
    stride, skirt = random.uniform(0.05, 0.28), random.random() < 0.2
    parts: Mesh = []
    for side, step in ((-1, stride), (1, -stride)):
        hip, knee, ankle = (
            (0.09 * side, -0.90, 0.0),
            (0.10 * side, -0.48, 0.75 * step + 0.05),
            (0.10 * side, -0.07, step),
        )
        parts += _make_limb([hip, knee, ankle], [0.095, 0.07, 0.05], trousers, (1.0, 1.0, 1.0))
        parts.append(
            ball((0.10 * side, -0.05, step + 0.06), (0.05, 0.05, 0.13), "rubber", (1.5, 1.2, 1.0), around=8, along=5)
        )
        shoulder, elbow, hand = (
            (0.20 * side, -1.42, 0.0),
            (0.25 * side, -1.12, -0.4 * step),
            (0.25 * side, -0.86, -0.7 * step + 0.08),
        )
        parts += _make_limb([shoulder, elbow, hand], [0.06, 0.05, 0.04], shirt, dye)
        parts.append(
            ball((hand[0], hand[1] + 0.05, hand[2]), (0.035, 0.07, 0.04), "skin", complexion, around=6, along=4)
        )
    rings = ((0.84, 0.16, 0.11), (1.02, 0.145, 0.10), (1.28, 0.19, 0.12), (1.42, 0.20, 0.10), (1.48, 0.10, 0.07))
    torso = [_make_ring(*ring) for ring in (*rings, (1.49, 0.0, 0.0))]
    parts.append(loft(torso, shirt, dye))
    if skirt:
        parts.append(loft([_make_ring(0.52, 0.24, 0.22), _make_ring(0.98, 0.16, 0.12)], trousers))
    parts += tube((0, -1.46, 0), (0, -1.56, 0.01), 0.055, "skin", complexion, sides=8)
    parts.append(ball((0, -1.635, 0.02), (0.082, 0.115, 0.10), "skin", complexion, around=10, along=8))
    tone: Color = tuple(random.uniform(0.3, 3.0) * np.array([1.0, 0.9, 0.75]))
    parts.append(ball((0, -1.67, -0.005), (0.09, 0.085, 0.105), "hair", tone, around=10, along=6))
    if random.random() < 0.35:
        parts.append(
            ball((0, -1.25, -0.16), (0.14, 0.21, 0.10), f"cloth{random.integers(CLOTHS)}", around=8, along=6)
        )  # a rucksack
    low = np.min([p.vertices.min(0) for p in parts], axis=0)
    high = np.max([p.vertices.max(0) for p in parts], axis=0)
    scale = float(np.clip(random.normal(1.72, 0.08), 1.5, 1.95)) / _STATURE_M
    width, _, length = (high - low) * scale
    size = (_STATURE_M * scale, float(width), float(length))
    return fitted(parts, size), size
