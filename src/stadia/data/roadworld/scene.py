"""What a world is made of: things with a class, perhaps an identity and a size, at rest or moving; and their triangles, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.data.roadworld.classes import SemanticClass
from stadia.data.roadworld.mesh import Mesh, Points, transformed
from stadia.data.roadworld.shade import Surfaces
from stadia.data.roadworld.textures import Texture

Size = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Thing:
    """Something in the world.

    mesh: in its own frame (x right, y down, z its front); what has a size stands on y = 0, centred over the origin.
    T_world_thing: (4, 4) at rest, (F, 4, 4) for each frame where it moves.
    size_hwl_m: height, width, length where it is an instance, whose number it then gets; None for the rest.
    casts_shadow: the ground need not.
    """

    mesh: Mesh
    semantic: SemanticClass
    T_world_thing: Points
    size_hwl_m: Size | None = None
    casts_shadow: bool = True

    @property
    def moves(self) -> bool:
        return self.T_world_thing.ndim == 3


@dataclass(frozen=True, slots=True)
class Instance:
    """A thing that can be counted. number: from 1, as in instance maps."""

    number: int
    semantic: SemanticClass
    size_hwl_m: Size
    T_world_instance: Points

    @property
    def moves(self) -> bool:
        return self.T_world_instance.ndim == 3


@dataclass(frozen=True, slots=True)
class Geometry:
    """The triangles of a world. Body 0 is the world itself; each moving thing is a body with its own frame.

    vertices: (N, 3) float64 in the frame of their body (N,).  triangles: (M, 3) int32; the ground first (`surfaces.ground`, it casts no
    shadow), then what is at rest up to `fixed`, then what moves.
    semantic, instance: (M,).  surfaces: see shade.py.  T_world_body: (B, 4, 4) or (F, B, 4, 4).
    """

    vertices: Points
    body: NDArray[np.int32]
    triangles: NDArray[np.int32]
    fixed: int
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    surfaces: Surfaces
    T_world_body: Points
    instances: tuple[Instance, ...]


def _affine_texture(corners: Points, uv: Points, texels_per_tile: Points) -> Points:
    """(M, 9) texture coordinates as affine functions of position on each triangle, and log2 of texels per metre.

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


def _sound(vertices: Points, triangles: NDArray[np.int32]) -> tuple[NDArray[np.bool_], Points]:
    """Which triangles have an area, and the normals (M, 3) of those: a ball's poles and a gable's ends make empty ones."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.sqrt((normal * normal).sum(1))
    sound = area > 1e-9
    return sound, normal[sound] / area[sound, None]


def assemble(things: Sequence[Thing], textures: dict[str, Texture], frames: int) -> Geometry:
    """Put the things together: the ground first, then what is at rest, then what moves."""
    order = sorted(range(len(things)), key=lambda i: (things[i].moves, things[i].casts_shadow))
    numbers = {i: n for n, i in enumerate((i for i, thing in enumerate(things) if thing.size_hwl_m is not None), start=1)}
    names = {name: i for i, name in enumerate(textures)}
    tiles = np.array([t.size_m[::-1] for t in textures.values()])
    poses: list[Points] = [np.broadcast_to(np.eye(4), (frames, 4, 4))]
    parts: Mesh = []
    rows = []  # of each part: texture, body, class, instance, whether it casts no shadow, whether it rests
    for i in order:
        thing = things[i]
        if thing.moves:
            poses.append(thing.T_world_thing)
        mesh = thing.mesh if thing.moves else transformed(thing.mesh, thing.T_world_thing)
        body = len(poses) - 1 if thing.moves else 0
        parts += mesh
        look = (body, thing.semantic, numbers.get(i, 0), not thing.moves and not thing.casts_shadow, not thing.moves)
        rows += [(names[part.material], *look) for part in mesh]
    texture, body_of, semantic, instance, ground, fixed = np.array(rows, np.int32).T
    vertex_counts, counts = (np.array([len(getattr(part, name)) for part in parts]) for name in ("vertices", "triangles"))
    first = np.cumsum(vertex_counts) - vertex_counts
    vertices = np.concatenate([part.vertices for part in parts])
    triangles = np.concatenate([part.triangles for part in parts]) + np.repeat(first, counts)[:, None].astype(np.int32)
    uv = np.concatenate([part.uv for part in parts]) / np.repeat(tiles[texture], vertex_counts, axis=0)
    sound, normal = _sound(vertices, triangles)
    triangles = np.ascontiguousarray(triangles[sound], dtype=np.int32)

    def each(values: NDArray) -> NDArray:
        """A part's value for each of its sound triangles."""
        return np.ascontiguousarray(np.repeat(values, counts, axis=0)[sound])

    side = np.array([np.sqrt(t.image.shape[0] * t.image.shape[1]) for t in textures.values()])
    surfaces = Surfaces(
        uv=_affine_texture(vertices[triangles], uv[triangles], each(side[texture])),
        normal=normal,
        tint=each(np.array([part.tint for part in parts], np.float32)),
        texture=each(texture),
        body=each(body_of),
        ground=int(each(ground).sum()),
    )
    return Geometry(
        vertices,
        np.repeat(body_of, vertex_counts),
        triangles,
        int(each(fixed).sum()),
        each(semantic).astype(np.uint8),
        each(instance).astype(np.uint16),
        surfaces,
        np.ascontiguousarray(np.stack(poses, 1)),
        tuple(Instance(n, things[i].semantic, things[i].size_hwl_m or (0, 0, 0), things[i].T_world_thing) for i, n in numbers.items()),
    )
