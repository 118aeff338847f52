"""Meshes of trees, conifers and hedges, with loose leaves round their outline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stadia.data.rendering.mesh import Color, Mesh, Part, ball, loft, sheet, tube


def _draw_radius_factors(random: np.random.Generator, along: int, around: int, depth: float) -> NDArray[np.float64]:
    """Draw (along + 1, around + 1) radius factors of a ball, equal along its seam and at its poles."""
    swell = 1 + depth * random.uniform(-1, 1, (along + 1, around + 1))
    swell[:, -1] = swell[:, 0]
    swell[0], swell[-1] = swell[0, 0], swell[-1, 0]
    return swell


def _make_loose_leaves(
    random: np.random.Generator, center: NDArray, radii: NDArray, count: int, size_m: float, material: str, tint: Color
) -> Part:
    """Make triangles of leaves standing off an ellipsoid."""
    direction = random.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    root = center + direction * radii * random.uniform(0.85, 1.0, (count, 1))
    spread = random.normal(size=(count, 2, 3)) * size_m + direction[:, None] * size_m * 0.6
    vertices = np.concatenate([root[:, None], root[:, None] + spread], 1).reshape(-1, 3)
    uv = random.uniform(0, 2.2, (count, 1, 2)) + random.uniform(-0.3, 0.3, (count, 3, 2))
    return Part(vertices, np.arange(3 * count, dtype=np.int32).reshape(-1, 3), uv.reshape(-1, 2), material, tint)


def _draw_leaf_color(random: np.random.Generator) -> Color:
    """Draw a color from fresh to dull green, sometimes the brown of a copper beech or of autumn."""
    if random.random() < 0.12:
        return (1.7, 0.75, 0.8)
    return tuple(random.uniform(0.75, 1.25) * random.uniform((0.8, 0.9, 0.7), (1.35, 1.1, 1.2)))


def broadleaf(random: np.random.Generator, clear_m: float = 2.0, reach_m: float = 2.0) -> Mesh:
    """Make a tree of 5 to 9 m on y = 0.

    clear_m: minimum height of its leaves; reach_m: maximum radius of its crown's parts.
    """
    trunk, radius = clear_m + random.uniform(0.0, 1.0), reach_m * random.uniform(0.6, 1.0)
    tint, material = _draw_leaf_color(random), f"foliage{random.integers(2)}"
    lean = random.normal(0, 0.12, 2)
    girth = 0.09 * radius
    top = (lean[0], -trunk - 0.8 * radius, lean[1])
    parts = tube((0, 0, 0), (0.5 * lean[0], -0.5 * trunk, 0.5 * lean[1]), (1.25 * girth, girth), "bark", sides=9)
    parts += tube((0.5 * lean[0], -0.5 * trunk, 0.5 * lean[1]), top, (girth, 0.5 * girth), "bark", sides=9)
    for blob in range(random.integers(6, 9)):
        angle, out = random.uniform(0, 2 * np.pi), (0.0 if blob == 0 else random.uniform(0.25, 0.65)) * radius
        size = radius * random.uniform(0.5, 0.75) * np.array([1.0, random.uniform(0.75, 0.95), 1.0])
        up = trunk + size[1] + random.uniform(0.0, 1.3) * radius * (1 - 0.35 * out / radius)
        center = np.array([top[0] + out * np.cos(angle), -up, top[2] + out * np.sin(angle)])
        shade: Color = tuple(np.array(tint) * random.uniform(0.8, 1.15))
        parts.append(
            ball(center, size, material, shade, around=13, along=9, swell=_draw_radius_factors(random, 9, 13, 0.14))
        )
        parts.append(_make_loose_leaves(random, center, size, 80, 0.11 * radius, material, shade))
    return parts


def conifer(random: np.random.Generator) -> Mesh:
    """Make a spruce of 5 to 10 m from overlapping tiers of branches."""
    height, tint = random.uniform(5.0, 10.0), tuple(random.uniform(0.5, 0.9) * np.array([0.8, 1.0, 1.1]))
    parts = tube((0, 0, 0), (0, -0.35 * height, 0), (0.18, 0.12), "bark", sides=8)
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
        parts.append(loft([rim, 0.45 * rim + 0.55 * tip, tip], "foliage0", tint))
    return parts


def hedge(random: np.random.Generator, length_m: float, height_m: float, tint: Color) -> Mesh:
    """Make a clipped hedge along z, standing on y = 0."""
    steps, half = max(3, int(length_m / 0.5)), random.uniform(0.3, 0.5)
    profile = np.array(
        [
            (-half, 0.0),
            (-half * 1.05, 0.5),
            (-half * 0.9, 0.95),
            (0.0, 1.0),
            (half * 0.9, 0.95),
            (half * 1.05, 0.5),
            (half, 0.0),
        ]
    )
    z = np.linspace(-0.5 * length_m, 0.5 * length_m, steps + 1)
    points = np.zeros((steps + 1, len(profile), 3))
    points[..., 0], points[..., 1], points[..., 2] = profile[:, 0], -profile[:, 1] * height_m, z[:, None]
    lump = random.uniform(-0.07, 0.07, points.shape)
    lump[:, [0, -1], 1] = 0.0
    points += lump
    points[..., 1] = np.minimum(points[..., 1], 0.0)
    u = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(profile * [1, height_m], axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(u[None], z[:, None]), -1)
    return [
        sheet(points, uv, "foliage1", tint),
        loft([points[0, :4], points[0, :2:-1]], "foliage1", tint),
        loft([points[-1, :4], points[-1, :2:-1]], "foliage1", tint),
    ]
