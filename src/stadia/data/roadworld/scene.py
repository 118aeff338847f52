"""Objects of a world, static or moving, some of them instances with a size; and their assembled triangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.data.rendering.assembly import assemble_parts
from stadia.data.rendering.mesh import Mesh, Points, transformed
from stadia.data.rendering.shade import Surfaces
from stadia.data.rendering.texture import Texture
from stadia.data.roadworld.classes import SemanticClass

Size = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of the world.

    mesh: in its own frame (x right, y down, z its front); what has a size stands on y = 0, centered over the origin.
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
    """A countable object. number: from 1, as in instance maps."""

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

    vertices: (N, 3) float64 in the frame of their body (N,).  triangles: (M, 3) int32; the ground first
        (`surfaces.ground`, it casts no shadow), then what is at rest up to `fixed`, then what moves.
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


def assemble(things: Sequence[Thing], textures: dict[str, Texture], frames: int) -> Geometry:
    """Put the things together: the ground first, then what is at rest, then what moves."""
    order = sorted(range(len(things)), key=lambda i: (things[i].moves, things[i].casts_shadow))
    numbers = {
        i: n for n, i in enumerate((i for i, thing in enumerate(things) if thing.size_hwl_m is not None), start=1)
    }
    poses: list[Points] = [np.broadcast_to(np.eye(4), (frames, 4, 4))]
    parts: Mesh = []
    rows = []  # of each part: body, class, instance, whether it casts no shadow, whether it rests
    for i in order:
        thing = things[i]
        if thing.moves:
            poses.append(thing.T_world_thing)
        mesh = thing.mesh if thing.moves else transformed(thing.mesh, thing.T_world_thing)
        body = len(poses) - 1 if thing.moves else 0
        parts += mesh
        rows += [
            (body, thing.semantic, numbers.get(i, 0), not thing.moves and not thing.casts_shadow, not thing.moves)
        ] * len(mesh)
    body_of, semantic, instance, ground, fixed = np.array(rows, np.int32).T
    together = assemble_parts(parts, body_of, int(ground.sum()), textures)
    return Geometry(
        together.vertices,
        together.body,
        together.triangles,
        int(fixed[together.part].sum()),
        semantic[together.part].astype(np.uint8),
        instance[together.part].astype(np.uint16),
        together.surfaces,
        np.ascontiguousarray(np.stack(poses, 1)),
        tuple(
            Instance(n, things[i].semantic, things[i].size_hwl_m or (0, 0, 0), things[i].T_world_thing)
            for i, n in numbers.items()
        ),
    )
