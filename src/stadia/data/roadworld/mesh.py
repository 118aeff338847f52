"""Triangle meshes: a few primitives, almost all of them rectangular sheets of points bent into shape.

A mesh is a list of parts, each of one material. Frames: x right, y down, z forward, metres. Texture coordinates are metres on the
surface, so that a texture keeps its true size whatever it is put on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.floating]
Colour = tuple[float, float, float]
WHITE: Colour = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Part:
    """Triangles of one material.

    vertices: (N, 3) metres.  triangles: (M, 3) indices.  uv: (N, 2) metres on the surface.
    material: a texture's name.  tint: linear RGB, multiplied with the texture.
    """

    vertices: Points
    triangles: NDArray[np.int32]
    uv: Points
    material: str
    tint: Colour = WHITE


Mesh = list[Part]


def sheet(points: ArrayLike, uv: ArrayLike, material: str, tint: Colour = WHITE) -> Part:
    """A grid of points, two triangles a cell. points: (R, C, 3); uv: (R, C, 2)."""
    grid = np.asarray(points, float)
    rows, columns = grid.shape[:2]
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)[None]).ravel()
    right, below, across = first + 1, first + columns, first + columns + 1
    triangles = np.concatenate([np.stack([first, right, across], 1), np.stack([first, across, below], 1)])
    return Part(grid.reshape(-1, 3), triangles.astype(np.int32), np.asarray(uv, float).reshape(-1, 2), material, tint)


def _arc_lengths(points: Points, axis: int) -> Points:
    """(R, C) length travelled along an axis of a grid of points."""
    steps = np.linalg.norm(np.diff(points, axis=axis), axis=-1)
    start = np.zeros_like(np.take(points[..., 0], [0], axis=axis))
    return np.concatenate([start, np.cumsum(steps, axis=axis)], axis=axis)


def loft(rings: ArrayLike, material: str, tint: Colour = WHITE) -> Part:
    """A skin over rings of points, (R, C, 3); texture coordinates are arc lengths, along the rings (v) and across them (u)."""
    points = np.asarray(rings, float)
    return sheet(points, np.stack([_arc_lengths(points, 0), _arc_lengths(points, 1)], -1), material, tint)


def quad(
    corner: ArrayLike, edge_u: ArrayLike, edge_v: ArrayLike, material: str, tint: Colour = WHITE, uv: Sequence[float] = (0, 0)
) -> Part:
    """The parallelogram corner + a edge_u + b edge_v; `uv` is the texture coordinate at its corner."""
    c, a, b = (np.asarray(q, float) for q in (corner, edge_u, edge_v))
    u, v = np.linalg.norm(a), np.linalg.norm(b)
    corners = np.array([[[0.0, 0.0], [u, 0.0]], [[0.0, v], [u, v]]]) + np.asarray(uv, float)
    return sheet([[c, c + a], [c + b, c + a + b]], corners, material, tint)


def patch(corners: ArrayLike, material: str, tint: Colour = WHITE) -> Part:
    """A quadrilateral by its four corners (4, 3), in order round it."""
    a, b, c, d = np.asarray(corners, float)
    return loft([[a, b], [d, c]], material, tint)


def fan(rim: ArrayLike, material: str, tint: Colour = WHITE) -> Part:
    """Triangles from the centre of a rim of points (N, 3) to its edges: the lid of a ring."""
    points = np.asarray(rim, float)
    vertices = np.vstack([points, points.mean(0)])
    index = np.arange(len(points))
    triangles = np.stack([index, np.roll(index, -1), np.full_like(index, len(points))], 1).astype(np.int32)
    extent = np.ptp(vertices, axis=0)
    keep = np.sort(np.argsort(extent, kind="stable")[1:])  # the two axes along which the lid extends most
    return Part(vertices, triangles, vertices[:, keep], material, tint)


def box(low: ArrayLike, high: ArrayLike, material: str, tint: Colour = WHITE) -> Mesh:
    """An axis-aligned box between two corners."""
    a, b = np.minimum(low, high), np.maximum(low, high)
    x, y, z = np.diag(np.asarray(b, float) - a)
    return [
        quad(a, x, y, material, tint),
        quad(a + z, x, y, material, tint),
        quad(a, z, y, material, tint),
        quad(a + x, z, y, material, tint),
        quad(a, x, z, material, tint),
        quad(a + y, x, z, material, tint),
    ]


def tube(
    start: ArrayLike,
    end: ArrayLike,
    radius: float | tuple[float, float],
    material: str,
    tint: Colour = WHITE,
    *,
    sides: int = 10,
    closed: bool = False,
) -> Mesh:
    """A straight tube or cone frustum between two points, with lids where `closed`."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    along = (b - a) / np.linalg.norm(b - a)
    across = np.cross(along, (1.0, 0, 0) if abs(along[0]) < 0.9 else (0, 0, 1.0))
    across /= np.linalg.norm(across)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    circle = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * np.cross(along, across)
    first, last = radius if isinstance(radius, tuple) else (radius, radius)
    rings = np.stack([a + first * circle, b + last * circle])
    parts = [loft(rings, material, tint)]
    if closed:
        parts += [fan(rings[0, :-1], material, tint), fan(rings[1, :-1], material, tint)]
    return parts


def ball(
    centre: ArrayLike, radii: ArrayLike, material: str, tint: Colour = WHITE, *, around: int = 10, along: int = 7, swell: ArrayLike = 1.0
) -> Part:
    """An ellipsoid. `swell`: (along + 1, around + 1) factors on its radius, to make it lumpy."""
    longitude, latitude = np.meshgrid(np.linspace(0, 2 * np.pi, around + 1), np.linspace(0, np.pi, along + 1))
    unit = np.stack([np.cos(longitude) * np.sin(latitude), -np.cos(latitude), np.sin(longitude) * np.sin(latitude)], -1)
    scale = np.broadcast_to(np.asarray(radii, float), 3)
    points = unit * np.asarray(swell)[..., None] * scale + np.asarray(centre, float)
    uv = np.stack([longitude * scale.mean(), latitude * scale.mean()], -1)
    return sheet(points, uv, material, tint)


def transformed(mesh: Iterable[Part], T: Points) -> Mesh:
    """The mesh in another frame; T: (4, 4)."""
    return [replace(part, vertices=part.vertices @ T[:3, :3].T + T[:3, 3]) for part in mesh]


def extent(mesh: Iterable[Part]) -> tuple[Points, Points]:
    """Lowest and highest x, y, z, each (3,)."""
    vertices = np.concatenate([part.vertices for part in mesh])
    return vertices.min(0), vertices.max(0)


def fitted(mesh: Mesh, size_hwl_m: tuple[float, float, float]) -> Mesh:
    """The mesh stretched to exactly this height, width and length, standing on y = 0 and centred over the origin."""
    low, high = extent(mesh)
    height, width, length = size_hwl_m
    scale = np.array([width, height, length]) / (high - low)
    foot = np.array([(low[0] + high[0]) / 2, high[1], (low[2] + high[2]) / 2])
    return [replace(part, vertices=(part.vertices - foot) * scale) for part in mesh]
