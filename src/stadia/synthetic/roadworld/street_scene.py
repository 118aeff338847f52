"""Place buildings, trees, cars and people along the road and assemble their triangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.synthetic.rendering.mesh import Mesh, Points, compute_bounds, transform_mesh
from stadia.synthetic.rendering.renderer import SurfaceTable
from stadia.synthetic.rendering.surfaces import Texture, assemble_parts
from stadia.synthetic.roadworld.road_course import RoadCourse, StreetSection, compute_terrain_height_m
from stadia.synthetic.roadworld.roadside_models import (
    make_block,
    make_bollard,
    make_broadleaf,
    make_conifer,
    make_fence,
    make_hedge,
    make_house,
    make_lamp_post,
    make_sign,
)
from stadia.synthetic.roadworld.traffic_models import make_car, make_person

# -- The semantic classes of RoadWorld, by the names of Cityscapes.


class SemanticClass(IntEnum):
    """The class of a pixel. `SKY` has depth 0; a kerb belongs to the sidewalk, a lane marking to the road."""

    SKY = 0
    ROAD = 1
    SIDEWALK = 2
    TERRAIN = 3
    BUILDING = 4
    VEGETATION = 5
    POLE = 6
    SIGN = 7
    PERSON = 8
    CAR = 9
    FENCE = 10

    @property
    def label(self) -> str:
        return {"SIGN": "traffic sign"}.get(self.name, self.name.lower())


PALETTE: dict[SemanticClass, tuple[int, int, int]] = {
    SemanticClass.SKY: (70, 130, 180),
    SemanticClass.ROAD: (128, 64, 128),
    SemanticClass.SIDEWALK: (244, 35, 232),
    SemanticClass.TERRAIN: (152, 251, 152),
    SemanticClass.BUILDING: (70, 70, 70),
    SemanticClass.VEGETATION: (107, 142, 35),
    SemanticClass.POLE: (153, 153, 153),
    SemanticClass.SIGN: (220, 220, 0),
    SemanticClass.PERSON: (220, 20, 60),
    SemanticClass.CAR: (0, 0, 142),
    SemanticClass.FENCE: (190, 153, 153),
}
"""RGB of each class in previews."""


# -- Objects of a world, static or moving, some of them instances with a size; and their assembled triangles.


Size = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class SceneObject:
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
class ObjectInstance:
    """A countable object. number: from 1, as in instance maps."""

    number: int
    semantic: SemanticClass
    size_hwl_m: Size
    T_world_instance: Points

    @property
    def moves(self) -> bool:
        return self.T_world_instance.ndim == 3


@dataclass(frozen=True, slots=True)
class WorldGeometry:
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
    surfaces: SurfaceTable
    T_world_body: Points
    instances: tuple[ObjectInstance, ...]


def assemble_world(things: Sequence[SceneObject], textures: dict[str, Texture], frames: int) -> WorldGeometry:
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
        mesh = thing.mesh if thing.moves else transform_mesh(thing.mesh, thing.T_world_thing)
        body = len(poses) - 1 if thing.moves else 0
        parts += mesh
        rows += [
            (body, thing.semantic, numbers.get(i, 0), not thing.moves and not thing.casts_shadow, not thing.moves)
        ] * len(mesh)
    body_of, semantic, instance, ground, fixed = np.array(rows, np.int32).T
    together = assemble_parts(parts, body_of, int(ground.sum()), textures)
    return WorldGeometry(
        together.vertices,
        together.body,
        together.triangles,
        int(fixed[together.part].sum()),
        semantic[together.part].astype(np.uint8),
        instance[together.part].astype(np.uint16),
        together.surfaces,
        np.ascontiguousarray(np.stack(poses, 1)),
        tuple(
            ObjectInstance(n, things[i].semantic, things[i].size_hwl_m or (0, 0, 0), things[i].T_world_thing)
            for i, n in numbers.items()
        ),
    )


# -- Place buildings, trees, hedges, fences, lamp posts and signs along the road.


def _make_instance(mesh: Mesh, semantic: SemanticClass, T: Points) -> SceneObject:
    """Make an instance whose size is that of its mesh, and whose origin is on the ground under its middle."""
    low, high = compute_bounds(mesh)
    middle = np.array([0.5 * (low[0] + high[0]), high[1], 0.5 * (low[2] + high[2])])
    shift = np.eye(4)
    shift[:3, 3] = middle
    width, height, length = (float(q) for q in high - low)
    return SceneObject(transform_mesh(mesh, np.linalg.inv(shift)), semantic, T @ shift, (height, width, length))


def _is_off_road(course: RoadCourse, T: Points, deep: float, wide: float, keep_m: float) -> bool:
    """Return whether a footprint (x 0 to deep, z over wide) keeps `keep_m` from the whole road, also in bends."""
    x, z = np.meshgrid(np.linspace(0.0, deep, 4), np.linspace(-0.5 * wide, 0.5 * wide, 7))
    points = np.stack([x.ravel(), np.zeros(x.size), z.ravel()], 1) @ T[:3, :3].T + T[:3, 3]
    return bool(course.beside(points[:, [0, 2]])[0].min() > keep_m)


def place_buildings(
    seed: int, course: RoadCourse, section: StreetSection, town: bool, share: float
) -> list[SceneObject]:
    """Place a row of buildings along each side: blocks at the sidewalk, houses behind a garden."""
    things = []
    for side in (-1, 1):
        random = make_generator(seed, "buildings", side)
        at = course.s[0]
        while at < course.s[-1]:
            wide = random.uniform(10.0, 24.0) if town else random.uniform(7.0, 13.0)
            deep = random.uniform(9.0, 14.0) if town else random.uniform(6.0, 9.0)
            setback = random.uniform(0.2, 1.0) if town else random.uniform(3.0, 7.5)
            mesh = (make_block if town else make_house)(random, wide, deep)
            d = section.sidewalk_edge_m + setback
            T = course.frame(at + 0.5 * wide, side * d, section.kerb_m, 0.0 if side > 0 else np.pi, upright=True)
            if random.random() < share and _is_off_road(course, T, deep, wide, section.sidewalk_edge_m - 0.3):
                things.append(SceneObject(mesh, SemanticClass.BUILDING, T))
            at += wide + (0.0 if town and random.random() < 0.6 else random.uniform(2.0, 10.0))
    return things


def place_trees(
    seed: int, course: RoadCourse, section: StreetSection, town: bool, per_100_m: float, conifers: float
) -> list[SceneObject]:
    """Place trees: in a town along the kerb, with crowns above traffic; else on the verge."""
    things = []
    for side in (-1, 1):
        random = make_generator(seed, "trees", side)
        at = course.s[0] + random.uniform(0.0, 8.0)
        while at < course.s[-1] - 2.0:
            tall = random.random() < conifers
            if town:
                mesh, out = make_broadleaf(random, 2.9, 1.5), section.half_width_m + 0.75
            elif tall:
                mesh, out = make_conifer(random), section.sidewalk_edge_m + random.uniform(2.0, 3.0)
            else:
                mesh, out = make_broadleaf(random), section.sidewalk_edge_m + random.uniform(0.3, 1.6)
            d = side * out
            T = course.frame(at, d, section.kerb_m, random.uniform(0, 2 * np.pi), upright=True)
            if course.beside(T[None, [0, 2], 3])[0][0] > section.half_width_m + 0.6:
                things.append(_make_instance(mesh, SemanticClass.VEGETATION, T))
            at += 3.0 + random.exponential(100.0 / per_100_m)
    return things


def place_woods(seed: int, course: RoadCourse, section: StreetSection, count: int) -> list[SceneObject]:
    """Place trees on the terrain, away from the road."""
    random = make_generator(seed, "trees", "wood")
    things = []
    for _ in range(count):
        mesh = make_conifer(random) if random.random() < 0.4 else make_broadleaf(random)
        s, d = random.uniform(course.s[0], course.s[-1]), random.choice([-1, 1]) * random.uniform(22.0, 48.0)
        T = course.frame(s, d, 0.0, random.uniform(0, 2 * np.pi), upright=True)
        distance, nearest = course.beside(T[None, [0, 2], 3])
        if distance[0] > section.edge_m + 6.0:
            T[1, 3] = (
                float(np.interp(nearest[0], course.s, course.position[:, 1]))
                - float(compute_terrain_height_m(distance, section)[0])
                + 0.15
            )
            things.append(SceneObject(mesh, SemanticClass.VEGETATION, T))
    return things


def place_gardens(seed: int, course: RoadCourse, section: StreetSection, share: float) -> list[SceneObject]:
    """Place hedges and fences along the sidewalk."""
    things = []
    for side in (-1, 1):
        random = make_generator(seed, "gardens", side)
        at = course.s[0]
        while at < course.s[-1] - 12.0:
            length = random.uniform(4.0, 9.0)
            tint = (random.uniform(0.7, 1.3),) * 3
            leafy = random.random() < 0.55
            mesh = (
                make_hedge(random, length, random.uniform(0.7, 1.6), tint)
                if leafy
                else make_fence(random, length, tint)
            )
            d = side * (section.sidewalk_edge_m + 2.1)
            T = course.frame(at + 0.5 * length, d, section.kerb_m, 0.0 if side > 0 else np.pi)
            if random.random() < share and _is_off_road(course, T, 0.5, length, section.sidewalk_edge_m):
                things.append(SceneObject(mesh, SemanticClass.VEGETATION if leafy else SemanticClass.FENCE, T))
            at += length + random.uniform(0.5, 5.0)
    return things


def place_furniture(seed: int, course: RoadCourse, section: StreetSection) -> list[SceneObject]:
    """Place lamp posts, signs and bollards between the kerb and the pedestrians."""
    things = []
    d = section.half_width_m + 0.42
    for side in (-1, 1):
        random = make_generator(seed, "furniture", side)
        facing = 0.0 if side > 0 else np.pi
        spacing = random.uniform(18.0, 32.0)
        for at in np.arange(course.s[0] + random.uniform(2, spacing), course.s[-1], spacing):
            T = course.frame(float(at), side * d, section.kerb_m, facing, upright=True)
            things.append(_make_instance(make_lamp_post(random), SemanticClass.POLE, T))
        at = course.s[0] + random.uniform(5.0, 30.0)
        while at < course.s[-1] - 2.0:
            T = course.frame(at, side * d, section.kerb_m, facing + random.normal(0, 0.08), upright=True)
            things.append(_make_instance(make_sign(random), SemanticClass.SIGN, T))
            if random.random() < 0.5:
                for offset in np.arange(1.5, random.uniform(3.0, 12.0), 1.6):
                    T = course.frame(min(at + offset, course.s[-1]), side * d, section.kerb_m, upright=True)
                    things.append(_make_instance(make_bollard(random), SemanticClass.POLE, T))
            at += random.uniform(14.0, 55.0)
    return things


# -- Place parked and driving cars, and people on the sidewalks. None of them touches the camera.

_GAP_M = 11.0  # least distance from the camera to the middle of a car in its lane


def _poses_along_road(course: RoadCourse, s: Points, d: float, up: float, yaw: float) -> Points:
    """Return poses (F, 4, 4) along the road; an object stops at the road's ends."""
    s = np.clip(s, course.s[0] + 3.0, course.s[-1] - 3.0)
    return np.stack([course.frame(float(at), d, up, yaw) for at in s])


def place_parked_cars(seed: int, course: RoadCourse, section: StreetSection, share: float) -> list[SceneObject]:
    """Place cars along both kerbs; `share` of the places are taken. Empty where the street is too narrow."""
    if section.half_width_m - section.lane_m < 2.0:
        return []
    things = []
    for side in (-1, 1):
        random = make_generator(seed, "cars", "parked", side)
        at = course.s[0] + random.uniform(4.0, 10.0)
        while at < course.s[-1] - 8.0:
            mesh, size = make_car(random)
            d = side * (section.half_width_m - 0.25 - 0.5 * size[1] + random.uniform(-0.08, 0.08))
            yaw = random.normal(0.0, 0.02) + (np.pi if (side < 0) != (random.random() < 0.1) else 0.0)
            if random.random() < share:
                things.append(SceneObject(mesh, SemanticClass.CAR, course.frame(at, d, 0.0, yaw), size))
            at += random.uniform(5.9, 8.5)
    return things


def place_driving_cars(
    seed: int, course: RoadCourse, section: StreetSection, camera_s: Points, frame_rate_hz: float
) -> list[SceneObject]:
    """Place oncoming cars, and sometimes one ahead in the camera's lane that keeps its distance."""
    things = []
    random = make_generator(seed, "cars", "oncoming")
    time = np.arange(len(camera_s)) / frame_rate_hz
    speed = random.uniform(4.0, 12.0)
    reach = camera_s[-1] + speed * time[-1]
    at = random.uniform(15.0, 60.0)
    while at < min(reach + 60.0, course.s[-1] + speed * time[-1] - 5.0):
        mesh, size = make_car(random)
        d = -0.5 * section.lane_m + random.uniform(-0.15, 0.15)
        s = at - speed * time
        if s.min() > course.s[0] + 6.0 and s.max() < course.s[-1] - 6.0:
            things.append(SceneObject(mesh, SemanticClass.CAR, _poses_along_road(course, s, d, 0.0, np.pi), size))
        at += random.uniform(14.0, 60.0)
    random = make_generator(seed, "cars", "ahead")
    if random.random() < 0.4:
        mesh, size = make_car(random)
        middle, swing = random.uniform(20.0, 32.0), random.uniform(2.0, 8.0)
        gap = middle + swing * np.sin(2 * np.pi * random.uniform(0.05, 0.15) * time + random.uniform(0, 2 * np.pi))
        s = np.asarray(camera_s + np.maximum(gap, _GAP_M))
        d = 0.5 * section.lane_m + random.uniform(-0.15, 0.15)
        if s.max() < course.s[-1] - 6.0:
            things.append(SceneObject(mesh, SemanticClass.CAR, _poses_along_road(course, s, d, 0.0, 0.0), size))
    return things


def place_people(
    seed: int, course: RoadCourse, section: StreetSection, per_100_m: float, frames: int, frame_rate_hz: float
) -> list[SceneObject]:
    """Place people who stand or walk on the sidewalks, both ways."""
    things = []
    time = np.arange(frames) / frame_rate_hz
    near, far = section.half_width_m + 1.3, section.sidewalk_edge_m - 0.4
    for side in (-1, 1):
        random = make_generator(seed, "people", side)
        at = course.s[0] + 5.0 + random.exponential(100.0 / per_100_m)
        while at < course.s[-1] - 8.0:
            pose: Points
            mesh, size = make_person(random)
            d = side * random.uniform(near, far)
            if random.random() < 0.55:
                onward = random.random() < 0.5
                s = at + (1 if onward else -1) * random.uniform(0.8, 1.6) * time
                pose = _poses_along_road(course, s, d, section.kerb_m, 0.0 if onward else np.pi)
            else:
                pose = course.frame(at, d, section.kerb_m, random.uniform(-np.pi, np.pi))
            things.append(SceneObject(mesh, SemanticClass.PERSON, pose, size))
            at += 0.8 + random.exponential(100.0 / per_100_m)
    return things
