"""Meshes of lamp posts, signs, bollards and fences. All stand on y = 0; the street is towards -x."""

from __future__ import annotations

import numpy as np

from stadia.data.rendering.mesh import Color, Mesh, ball, box, fan, tube
from stadia.data.roadworld.textures import SIGN_FACES


def lamp_post(random: np.random.Generator) -> Mesh:
    """Make a post of 5 to 8 m with an arm over the road."""
    height, reach, tint = random.uniform(5.0, 8.0), random.uniform(0.8, 2.2), (random.uniform(0.4, 1.6),) * 3
    parts = tube((0, 0, 0), (0, -0.9, 0), 0.11, "metal", tint, sides=10) + tube(
        (0, -0.9, 0), (0, -height, 0), (0.075, 0.05), "metal", tint, sides=10
    )
    parts += tube((0, -height, 0), (-reach, -height - 0.3, 0), 0.04, "metal", tint, sides=6)
    return [*parts, ball((-reach - 0.2, -height - 0.3, 0), (0.38, 0.09, 0.15), "lamp", around=8, along=5)]


def sign(random: np.random.Generator) -> Mesh:
    """Make a traffic sign that faces -z (visible to traffic towards +z)."""
    up, radius = random.uniform(2.1, 2.6), 0.33
    parts = tube((0, 0, 0), (0, -up - radius, 0), 0.035, "metal", sides=8, closed=True)
    corners = int(random.choice([3, 8, 24]))
    angle = 2 * np.pi * np.arange(corners) / corners + (np.pi / 2 if corners == 3 else np.pi / corners)
    rim = np.stack([radius * np.cos(angle), -up - radius * np.sin(angle), np.full(corners, -0.05)], -1)
    front, back = fan(rim, f"sign_face{random.integers(SIGN_FACES)}"), fan(rim + np.array([0, 0, 0.012]), "metal")
    front.uv[:] = np.stack(
        [front.vertices[:, 0] + 0.35, front.vertices[:, 1] + up + 0.35], -1
    )  # the tile's middle in the sign's
    return [*parts, front, back]


def bollard(random: np.random.Generator) -> Mesh:
    """Make a post of about a metre."""
    height = random.uniform(0.7, 1.1)
    return tube(
        (0, 0, 0), (0, -height, 0), (0.09, 0.07), "metal", (random.uniform(0.3, 1.2),) * 3, sides=10, closed=True
    )


def fence(random: np.random.Generator, length_m: float, tint: Color) -> Mesh:
    """Make posts and boards along z."""
    height, parts = random.uniform(0.9, 1.3), []
    for z in np.arange(-0.5 * length_m, 0.5 * length_m + 0.01, 2.0):
        parts += box((-0.05, -height, z - 0.05), (0.05, 0.0, z + 0.05), "wood", tint)
    for up in (0.3, 0.6, 0.9):
        parts += box(
            (-0.08, -up * height - 0.12, -0.5 * length_m), (-0.05, -up * height + 0.05, 0.5 * length_m), "wood", tint
        )
    return parts
