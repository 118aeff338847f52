"""Triangle meshes from a few primitives. A mesh is a list of parts, each with one material.

Frames have x right, y down and z forward, in metres. Texture coordinates are metres on the surface.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.floating]
Color = tuple[float, float, float]
WHITE: Color = (1.0, 1.0, 1.0)  # lets the color of a texture through


def make_direction(elevation_rad: float, azimuth_rad: float) -> Points:
    """Return the unit vector, (3,), with a given elevation and azimuth. The y axis points down.

    elevation_rad: angle above the horizontal plane in radians.
    azimuth_rad: angle in the horizontal plane in radians, from the z axis towards the x axis.

    Examples:
        >>> make_direction(np.pi / 2, 0.0).round(6)[1].item()  # straight up
        -1.0
    """
    horizontal = np.cos(elevation_rad)
    return np.array([horizontal * np.sin(azimuth_rad), -np.sin(elevation_rad), horizontal * np.cos(azimuth_rad)])


def make_camera_pose(eye: Points, target: Points, roll: float) -> Points:
    """Return the pose of a camera that points at a target, (4, 4) camera to world. The world's y axis points down.

    eye: (3,) position of the camera in the world.
    target: (3,) point of the world on the optical axis.
    roll: rotation of the camera about its optical axis, radians.
    """
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross((0.0, 1.0, 0.0), z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    T = np.eye(4)
    T[:3, :3] = np.stack([np.cos(roll) * x + np.sin(roll) * y, np.cos(roll) * y - np.sin(roll) * x, z], 1)
    T[:3, 3] = eye
    return T


@dataclass(frozen=True, slots=True)
class MeshPart:
    """Hold triangles that have one material.

    vertices: (N, 3) positions in metres.
    triangles: (M, 3) indices of the three vertices of each triangle.
    uv: (N, 2) texture coordinates of the vertices, in metres on the surface.
    material: name of the texture.
    tint: linear RGB factor on the texture's color.
    """

    vertices: Points
    triangles: NDArray[np.int32]
    uv: Points
    material: str
    tint: Color = WHITE


Mesh = list[MeshPart]


@cache
def _grid_triangles(rows: int, columns: int) -> NDArray[np.int32]:
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)[None]).ravel()
    right, below, across = first + 1, first + columns, first + columns + 1
    return np.concatenate([np.stack([first, right, across], 1), np.stack([first, across, below], 1)]).astype(np.int32)


def make_sheet(points: ArrayLike, uv: ArrayLike, material: str, tint: Color = WHITE) -> MeshPart:
    """Return a grid of points as a surface with two triangles per cell.

    points: (R, C, 3) positions.
    uv: (R, C, 2) texture coordinates.
    """
    grid = np.asarray(points, float)
    triangles = _grid_triangles(grid.shape[0], grid.shape[1])
    return MeshPart(grid.reshape(-1, 3), triangles, np.asarray(uv, float).reshape(-1, 2), material, tint)


def make_loft(rings: ArrayLike, material: str, tint: Color = WHITE) -> MeshPart:
    """Return the surface that connects rings of points (R, C, 3).

    Texture coordinates are the arc lengths across (u) and along (v) the rings.
    """
    points = np.asarray(rings, float)
    uv = np.zeros((*points.shape[:2], 2))
    steps_u, steps_v = points[:, 1:] - points[:, :-1], points[1:] - points[:-1]
    uv[:, 1:, 0] = np.sqrt((steps_u * steps_u).sum(-1)).cumsum(1)
    uv[1:, :, 1] = np.sqrt((steps_v * steps_v).sum(-1)).cumsum(0)
    return make_sheet(points, uv, material, tint)


def make_quad(
    corner: ArrayLike,
    edge_u: ArrayLike,
    edge_v: ArrayLike,
    material: str,
    tint: Color = WHITE,
    uv: tuple[float, float] = (0, 0),
) -> MeshPart:
    """Return the parallelogram with one corner at `corner` and the edges `edge_u` and `edge_v`, (3,) each.

    uv: texture coordinate at the corner.
    """
    c, a, b = (np.asarray(q, float) for q in (corner, edge_u, edge_v))
    part = make_loft([[c, c + a], [c + b, c + a + b]], material, tint)
    part.uv[:] += uv
    return part


def make_patch(corners: ArrayLike, material: str, tint: Color = WHITE) -> MeshPart:
    """Return a quadrilateral with four corners (4, 3), in order around it."""
    return make_loft(np.asarray(corners, float)[[[0, 1], [3, 2]]], material, tint)


def make_fan(rim: ArrayLike, material: str, tint: Color = WHITE) -> MeshPart:
    """Return the triangles from the center of a rim of points (N, 3) to its edges."""
    points = np.asarray(rim, float)
    vertices = np.vstack([points, points.mean(0)])
    index = np.arange(len(points))
    triangles = np.stack([index, np.roll(index, -1), np.full_like(index, len(points))], 1).astype(np.int32)
    extent = vertices.max(0) - vertices.min(0)
    keep = np.sort(np.argsort(extent, kind="stable")[1:])  # the two axes along which the lid extends most
    return MeshPart(vertices, triangles, vertices[:, keep], material, tint)


# The corners of each face by their bits x, y, z.
_BOX_FACES = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 4, 6, 2], [1, 5, 7, 3], [0, 1, 5, 4], [2, 3, 7, 6]])
_BOX_PLANES = np.array([[0, 1], [0, 1], [2, 1], [2, 1], [0, 2], [0, 2]])  # the two axes of each face, for its texture


def make_box(low: ArrayLike, high: ArrayLike, material: str, tint: Color = WHITE) -> Mesh:
    """Return an axis-aligned box between two opposite corners, (3,) each.

    Examples:
        >>> low, high = compute_bounds(make_box((0, 0, 0), (1, 2, 3), "plastic", (1.0, 1.0, 1.0)))
        >>> low.tolist(), high.tolist()
        ([0, 0, 0], [1, 2, 3])
    """
    a, b = np.minimum(low, high), np.maximum(low, high)
    bits = np.stack([np.arange(8) & 1, np.arange(8) >> 1 & 1, np.arange(8) >> 2], 1)
    faces = (a + bits * (b - a))[_BOX_FACES]  # (6, 4, 3)
    uv = np.take_along_axis(faces, _BOX_PLANES[:, None].repeat(4, 1), -1)
    halves = np.array([[0, 1, 2], [0, 2, 3]])
    triangles = (4 * np.arange(6)[:, None, None] + halves).reshape(-1, 3).astype(np.int32)
    return [MeshPart(faces.reshape(-1, 3), triangles, uv.reshape(-1, 2), material, tint)]


def make_tube(
    start: ArrayLike,
    end: ArrayLike,
    radius: float | tuple[float, float],
    material: str,
    tint: Color = WHITE,
    *,
    sides: int = 10,
    closed: bool = False,
) -> Mesh:
    """Return a straight tube or cone frustum between two points (3,), with lids if `closed`.

    radius: one radius, or the radii at the start and at the end.
    sides: number of sides of the cross-section.
    """
    a, b = np.asarray(start, float), np.asarray(end, float)
    x, y, z = (b - a) / np.linalg.norm(b - a)
    across = np.array([0.0, z, -y] if abs(x) < 0.9 else [y, -x, 0.0]) / np.hypot(z if abs(x) < 0.9 else x, y)
    other = np.array([y * across[2] - z * across[1], z * across[0] - x * across[2], x * across[1] - y * across[0]])
    angle = np.linspace(0, 2 * np.pi, sides + 1)[:, None]
    circle = np.cos(angle) * across + np.sin(angle) * other
    first, last = radius if isinstance(radius, tuple) else (radius, radius)
    rings = np.stack([a + first * circle, b + last * circle])
    parts = [make_loft(rings, material, tint)]
    if closed:
        parts += [make_fan(rings[0, :-1], material, tint), make_fan(rings[1, :-1], material, tint)]
    return parts


@cache
def _sphere(around: int, along: int) -> tuple[Points, Points]:
    """Return (along + 1, around + 1, 3) points of the unit sphere, and their (longitude, latitude) in radians."""
    longitude, latitude = np.meshgrid(np.linspace(0, 2 * np.pi, around + 1), np.linspace(0, np.pi, along + 1))
    unit = np.stack([np.cos(longitude) * np.sin(latitude), -np.cos(latitude), np.sin(longitude) * np.sin(latitude)], -1)
    return unit, np.stack([longitude, latitude], -1)


def make_ellipsoid(
    center: ArrayLike,
    radii: ArrayLike,
    material: str,
    tint: Color = WHITE,
    *,
    around: int = 10,
    along: int = 7,
    swell: ArrayLike = 1.0,
) -> MeshPart:
    """Return an ellipsoid.

    center, radii: (3,) each, in metres.
    swell: (along + 1, around + 1) factors on the radius.
    """
    unit, angles = _sphere(around, along)
    scale = np.asarray(radii, float)
    points = unit * np.asarray(swell)[..., None] * scale + np.asarray(center, float)
    return make_sheet(points, angles * scale.mean(), material, tint)


def join_parts(mesh: Iterable[MeshPart]) -> Mesh:
    """Join all triangles with the same material and tint into one part."""
    groups: dict[tuple[str, Color], list[MeshPart]] = {}
    for part in mesh:
        groups.setdefault((part.material, part.tint), []).append(part)
    result = []
    for (material, tint), parts in groups.items():
        first = np.cumsum([0, *(len(p.vertices) for p in parts[:-1])])
        triangles = np.concatenate([p.triangles + np.int32(n) for p, n in zip(parts, first, strict=True)])
        vertices, uv = np.concatenate([p.vertices for p in parts]), np.concatenate([p.uv for p in parts])
        result.append(MeshPart(vertices, triangles, uv, material, tint))
    return result


def transform_mesh(mesh: Iterable[MeshPart], T: Points) -> Mesh:
    """Return the mesh transformed by T (4, 4).

    Examples:
        >>> T = np.eye(4)
        >>> T[0, 3] = 5
        >>> box = make_box((0, 0, 0), (1, 1, 1), "plastic", (1.0, 1.0, 1.0))
        >>> compute_bounds(transform_mesh(box, T))[0].tolist()
        [5.0, 0.0, 0.0]
    """
    return [replace(part, vertices=part.vertices @ T[:3, :3].T + T[:3, 3]) for part in mesh]


def compute_bounds(mesh: Iterable[MeshPart]) -> tuple[Points, Points]:
    """Return the smallest and the largest x, y, z of a mesh, (3,) each."""
    vertices = np.concatenate([part.vertices for part in mesh])
    return vertices.min(0), vertices.max(0)


def fit_mesh_to_size(mesh: Mesh, size_hwl_m: tuple[float, float, float]) -> Mesh:
    """Scale the mesh to exactly this height, width and length in metres.

    The result has its lowest point at y = 0 and is centered above the origin.

    Examples:
        >>> box = make_box((0, 0, 0), (1, 1, 1), "plastic", (1.0, 1.0, 1.0))
        >>> low, high = compute_bounds(fit_mesh_to_size(box, (1.5, 1.8, 4.2)))
        >>> (high - low).round(3).tolist()  # width, height, length along x, y, z
        [1.8, 1.5, 4.2]
    """
    low, high = compute_bounds(mesh)
    height, width, length = size_hwl_m
    scale = np.array([width, height, length]) / (high - low)
    foot = np.array([(low[0] + high[0]) / 2, high[1], (low[2] + high[2]) / 2])
    return [replace(part, vertices=(part.vertices - foot) * scale) for part in mesh]
