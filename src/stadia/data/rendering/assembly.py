"""Assemble the triangles of many parts for rasterizer and shader."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stadia.data.rendering.mesh import Mesh, Points
from stadia.data.rendering.shade import Surfaces
from stadia.data.rendering.texture import Texture


class Assembly(NamedTuple):
    """vertices: (N, 3) float64 in the frame of their body (N,).  triangles: (M, 3) int32, those of parts in order;
    part: (M,) whose.

    Empty triangles are left out.
    """

    vertices: Points
    body: NDArray[np.int32]
    triangles: NDArray[np.int32]
    part: NDArray[np.int64]
    surfaces: Surfaces


def _fit_affine_texture(corners: Points, uv: Points, texels_per_tile: Points) -> Points:
    """Return (M, 9) affine texture coordinates of each triangle, and log2 of texels per metre.

    corners: (M, 3, 3); uv: (M, 3, 2) in tiles; texels_per_tile: (M,) geometric mean of the texture's sides.
    """
    first = corners[:, 0]
    e1, e2 = corners[:, 1] - first, corners[:, 2] - first
    a, b, c = (e1 * e1).sum(1), (e1 * e2).sum(1), (e2 * e2).sum(1)
    determinant = a * c - b * b
    dual1 = (c[:, None] * e1 - b[:, None] * e2) / determinant[:, None]
    dual2 = (a[:, None] * e2 - b[:, None] * e1) / determinant[:, None]
    out = np.empty((len(corners), 9))
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    for k in (0, 1):
        gradient = dual1 * d1[:, None, k] + dual2 * d2[:, None, k]
        out[:, 4 * k + 1 : 4 * k + 4] = gradient
        out[:, 4 * k] = uv[:, 0, k] - (gradient * first).sum(1)
    tiles_per_metre = np.sqrt(np.abs(d1[:, 0] * d2[:, 1] - d2[:, 0] * d1[:, 1]) / np.sqrt(determinant))
    out[:, 8] = np.log2(np.maximum(tiles_per_metre * texels_per_tile, 1e-6))
    return out


def _find_nonempty_triangles(vertices: Points, triangles: NDArray[np.int32]) -> tuple[NDArray[np.bool_], Points]:
    """Return which triangles have an area, and their normals (M, 3): poles of balls and ends of gables make empty
    ones.
    """
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.sqrt((normal * normal).sum(1))
    sound = area > 1e-9
    return sound, normal[sound] / area[sound, None]


def assemble_parts(parts: Mesh, body: NDArray[np.int32], ground: int, textures: dict[str, Texture]) -> Assembly:
    """Put parts together.

    Args:
        body: (P,) whose frame each part is in.
        ground: how many of the parts, the first ones, are the ground (see `Surfaces`).
        textures: by the names that the parts' materials have; the shader's `Textures` are packed in this order.
    """
    names = {name: i for i, name in enumerate(textures)}
    texture = np.array([names[part.material] for part in parts], np.int32)
    tiles = np.array([t.size_m[::-1] for t in textures.values()])
    vertex_counts, counts = (
        np.array([len(getattr(part, name)) for part in parts]) for name in ("vertices", "triangles")
    )
    first = np.cumsum(vertex_counts) - vertex_counts
    vertices = np.concatenate([part.vertices for part in parts])
    triangles = np.concatenate([part.triangles for part in parts]) + np.repeat(first, counts)[:, None].astype(np.int32)
    uv = np.concatenate([part.uv for part in parts]) / np.repeat(tiles[texture], vertex_counts, axis=0)
    sound, normal = _find_nonempty_triangles(vertices, triangles)
    triangles = np.ascontiguousarray(triangles[sound], dtype=np.int32)
    part_of = np.repeat(np.arange(len(parts)), counts)[sound]
    side = np.array([np.sqrt(t.image.shape[0] * t.image.shape[1]) for t in textures.values()])
    surfaces = Surfaces(
        uv=_fit_affine_texture(vertices[triangles], uv[triangles], side[texture][part_of]),
        normal=normal,
        tint=np.array([part.tint for part in parts], np.float32)[part_of],
        texture=texture[part_of],
        body=body[part_of],
        ground=int((part_of < ground).sum()),
    )
    return Assembly(vertices, np.repeat(body, vertex_counts), triangles, part_of, surfaces)
