"""Place buildings, trees, cars and people along the road, and assemble their triangles."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import make_generator
from stadia.synthetic.rendering.mesh import Mesh, Points, compute_bounds, transform_mesh
from stadia.synthetic.rendering.renderer import RenderScene
from stadia.synthetic.rendering.surfaces import Texture, assemble_parts
from stadia.synthetic.roadworld import street_models
from stadia.synthetic.roadworld.road_course import RoadCourse, StreetSection, compute_terrain_height_m

Size = tuple[float, float, float]
_MIN_GAP_M = 11.0  # distance from the camera to the middle of a car in its lane


class SemanticClass(IntEnum):
    """The class of a pixel, as in Cityscapes. `SKY` has depth 0. Kerbs are sidewalk, and lane markings are road."""

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
        """Return the name of the class in lower case."""
        return {"SIGN": "traffic sign"}.get(self.name, self.name.lower())


PALETTE = (  # RGB of each class in previews, in the order of SemanticClass
    (70, 130, 180), (128, 64, 128), (244, 35, 232), (152, 251, 152), (70, 70, 70), (107, 142, 35), (153, 153, 153),
    (220, 220, 0), (220, 20, 60), (0, 0, 142), (190, 153, 153),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SceneObject:
    """An object of the world.

    mesh: the mesh in its own frame (x right, y down, z to its front). An instance has its base at y = 0, centered above
        the origin.
    semantic: its class.
    T_world_object: (4, 4) pose of an object at rest, (F, 4, 4) poses of a moving object.
    size_hwl_m: height, width and length of an instance in metres; None for an object that is not counted.
    casts_shadow: False for the ground.
    """

    mesh: Mesh
    semantic: SemanticClass
    T_world_object: Points
    size_hwl_m: Size | None = None
    casts_shadow: bool = True

    @property
    def moves(self) -> bool:
        """Return whether the object moves during the recording."""
        return self.T_world_object.ndim == 3


@dataclass(frozen=True, slots=True)
class ObjectInstance:
    """A countable object.

    number: its number in instance maps, from 1.
    semantic: its class.
    size_hwl_m: height, width and length in metres.
    T_world_instance: (4, 4) pose, or (F, 4, 4) poses of a moving object.
    """

    number: int
    semantic: SemanticClass
    size_hwl_m: Size
    T_world_instance: Points

    @property
    def moves(self) -> bool:
        """Return whether the object moves during the recording."""
        return self.T_world_instance.ndim == 3


@dataclass(frozen=True)
class WorldGeometry(RenderScene):
    """The triangles of a world. Body 0 is the world itself. Each moving object is a body with its own frame.

    triangles: the ground first (`surfaces.ground`), then objects at rest up to `fixed`, then moving objects.
    semantic, instance: (M,) class and object number of each triangle.
    T_world_body: (F, B, 4, 4) poses.
    instances: the countable objects.
    """

    fixed: int
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    T_world_body: Points
    instances: tuple[ObjectInstance, ...]


def assemble_world(objects: Sequence[SceneObject], textures: dict[str, Texture], frames: int) -> WorldGeometry:
    """Join the triangles of all objects: the ground first, then objects at rest, then moving objects."""
    instances: list[ObjectInstance] = []
    numbers = [0] * len(objects)
    for i, item in enumerate(objects):
        if item.size_hwl_m is not None:
            numbers[i] = len(instances) + 1
            instances.append(ObjectInstance(numbers[i], item.semantic, item.size_hwl_m, item.T_world_object))
    poses: list[Points] = [np.broadcast_to(np.eye(4), (frames, 4, 4))]
    parts: Mesh = []
    rows: list[tuple[int, ...]] = []  # Columns: body, class, instance, whether it is ground, whether it is at rest.
    for i in sorted(range(len(objects)), key=lambda i: (objects[i].moves, objects[i].casts_shadow)):
        one, moves = objects[i], objects[i].moves
        if moves:
            poses.append(one.T_world_object)
        mesh = one.mesh if moves else transform_mesh(one.mesh, one.T_world_object)
        body = len(poses) - 1 if moves else 0
        parts += mesh
        rows += [(body, one.semantic, numbers[i], not moves and not one.casts_shadow, not moves)] * len(mesh)
    body_of_part, semantic, instance, ground, fixed = np.array(rows, np.int32).T
    scene = assemble_parts(parts, body_of_part, int(ground.sum()), textures)
    return WorldGeometry(
        **vars(scene),
        fixed=int(fixed[scene.part].sum()),
        semantic=semantic[scene.part].astype(np.uint8),
        instance=instance[scene.part].astype(np.uint16),
        T_world_body=np.ascontiguousarray(np.stack(poses, 1)),
        instances=tuple(instances),
    )


# -- Place buildings, trees, hedges, fences, lamp posts and signs along the road.


def _make_instance(mesh: Mesh, semantic: SemanticClass, T: Points) -> SceneObject:
    low, high = compute_bounds(mesh)
    middle = np.array([0.5 * (low[0] + high[0]), high[1], 0.5 * (low[2] + high[2])])
    shift = np.eye(4)
    shift[:3, 3] = middle
    width, height, length = (float(q) for q in high - low)
    return SceneObject(transform_mesh(mesh, np.linalg.inv(shift)), semantic, T @ shift, (height, width, length))


def _is_off_road(course: RoadCourse, T: Points, deep: float, wide: float, keep_m: float) -> bool:
    x, z = np.meshgrid(np.linspace(0.0, deep, 4), np.linspace(-0.5 * wide, 0.5 * wide, 7))
    points = np.stack([x.ravel(), np.zeros(x.size), z.ravel()], 1) @ T[:3, :3].T + T[:3, 3]
    return bool(course.find_nearest(points[:, [0, 2]])[0].min() > keep_m)


def place_buildings(
    seed: int, course: RoadCourse, section: StreetSection, town: bool, share: float
) -> list[SceneObject]:
    """Return a row of buildings along each side: blocks at the sidewalk, or houses behind a garden."""
    placed = []
    for side in (-1, 1):
        random = make_generator(seed, "buildings", side)
        at = course.s[0]
        while at < course.s[-1]:
            wide = random.uniform(10.0, 24.0) if town else random.uniform(7.0, 13.0)
            deep = random.uniform(9.0, 14.0) if town else random.uniform(6.0, 9.0)
            setback = random.uniform(0.2, 1.0) if town else random.uniform(3.0, 7.5)
            mesh = (street_models.make_block if town else street_models.make_house)(random, wide, deep)
            d = section.sidewalk_edge_m + setback
            T = course.frame(at + 0.5 * wide, side * d, section.kerb_m, 0.0 if side > 0 else np.pi, upright=True)
            if random.random() < share and _is_off_road(course, T, deep, wide, section.sidewalk_edge_m - 0.3):
                placed.append(SceneObject(mesh, SemanticClass.BUILDING, T))
            at += wide + (0.0 if town and random.random() < 0.6 else random.uniform(2.0, 10.0))
    return placed


def place_trees(
    seed: int, course: RoadCourse, section: StreetSection, town: bool, per_100_m: float, conifers: float
) -> list[SceneObject]:
    """Return trees: in a town along the kerb with crowns above the traffic, otherwise on the verge."""
    placed = []
    for side in (-1, 1):
        random = make_generator(seed, "trees", side)
        at = course.s[0] + random.uniform(0.0, 8.0)
        while at < course.s[-1] - 2.0:
            tall = random.random() < conifers
            if town:
                mesh, out = street_models.make_broadleaf(random, 2.9, 1.5), section.half_width_m + 0.75
            elif tall:
                mesh, out = street_models.make_conifer(random), section.sidewalk_edge_m + random.uniform(2.0, 3.0)
            else:
                mesh, out = street_models.make_broadleaf(random), section.sidewalk_edge_m + random.uniform(0.3, 1.6)
            d = side * out
            T = course.frame(at, d, section.kerb_m, random.uniform(0, 2 * np.pi), upright=True)
            if course.find_nearest(T[None, [0, 2], 3])[0][0] > section.half_width_m + 0.6:
                placed.append(_make_instance(mesh, SemanticClass.VEGETATION, T))
            at += 3.0 + random.exponential(100.0 / per_100_m)
    return placed


def place_woods(seed: int, course: RoadCourse, section: StreetSection, count: int) -> list[SceneObject]:
    """Return trees on the terrain, away from the road."""
    random = make_generator(seed, "trees", "wood")
    placed = []
    for _ in range(count):
        mesh = street_models.make_conifer(random) if random.random() < 0.4 else street_models.make_broadleaf(random)
        s, d = random.uniform(course.s[0], course.s[-1]), random.choice([-1, 1]) * random.uniform(22.0, 48.0)
        T = course.frame(s, d, 0.0, random.uniform(0, 2 * np.pi), upright=True)
        distance, nearest = course.find_nearest(T[None, [0, 2], 3])
        if distance[0] > section.edge_m + 6.0:
            road_y = float(np.interp(nearest[0], course.s, course.position[:, 1]))
            T[1, 3] = road_y - float(compute_terrain_height_m(distance, section)[0]) + 0.15
            placed.append(SceneObject(mesh, SemanticClass.VEGETATION, T))
    return placed


def place_gardens(seed: int, course: RoadCourse, section: StreetSection, share: float) -> list[SceneObject]:
    """Return hedges and fences along the sidewalk."""
    placed = []
    for side in (-1, 1):
        random = make_generator(seed, "gardens", side)
        at = course.s[0]
        while at < course.s[-1] - 12.0:
            length = random.uniform(4.0, 9.0)
            tint = (random.uniform(0.7, 1.3),) * 3
            leafy = random.random() < 0.55
            if leafy:
                mesh = street_models.make_hedge(random, length, random.uniform(0.7, 1.6), tint)
            else:
                mesh = street_models.make_fence(random, length, tint)
            d = side * (section.sidewalk_edge_m + 2.1)
            T = course.frame(at + 0.5 * length, d, section.kerb_m, 0.0 if side > 0 else np.pi)
            if random.random() < share and _is_off_road(course, T, 0.5, length, section.sidewalk_edge_m):
                placed.append(SceneObject(mesh, SemanticClass.VEGETATION if leafy else SemanticClass.FENCE, T))
            at += length + random.uniform(0.5, 5.0)
    return placed


def place_furniture(seed: int, course: RoadCourse, section: StreetSection) -> list[SceneObject]:
    """Return lamp posts, signs and bollards between the kerb and the pedestrians."""
    placed = []
    d = section.half_width_m + 0.42
    for side in (-1, 1):
        random = make_generator(seed, "furniture", side)
        facing = 0.0 if side > 0 else np.pi
        spacing = random.uniform(18.0, 32.0)
        for at in np.arange(course.s[0] + random.uniform(2, spacing), course.s[-1], spacing):
            T = course.frame(float(at), side * d, section.kerb_m, facing, upright=True)
            placed.append(_make_instance(street_models.make_lamp_post(random), SemanticClass.POLE, T))
        at = course.s[0] + random.uniform(5.0, 30.0)
        while at < course.s[-1] - 2.0:
            T = course.frame(at, side * d, section.kerb_m, facing + random.normal(0, 0.08), upright=True)
            placed.append(_make_instance(street_models.make_sign(random), SemanticClass.SIGN, T))
            if random.random() < 0.5:
                for offset in np.arange(1.5, random.uniform(3.0, 12.0), 1.6):
                    T = course.frame(min(at + offset, course.s[-1]), side * d, section.kerb_m, upright=True)
                    placed.append(_make_instance(street_models.make_bollard(random), SemanticClass.POLE, T))
            at += random.uniform(14.0, 55.0)
    return placed


# -- Place parked and driving cars, and people on the sidewalks. None of them touches the camera.


def _make_poses_along_road(course: RoadCourse, s: Points, d: float, up: float, yaw: float) -> Points:
    """Return poses (F, 4, 4) along the road; an object stops at the road's ends."""
    s = np.clip(s, course.s[0] + 3.0, course.s[-1] - 3.0)
    return np.stack([course.frame(float(at), d, up, yaw) for at in s])


def place_parked_cars(seed: int, course: RoadCourse, section: StreetSection, share: float) -> list[SceneObject]:
    """Return cars along both kerbs in `share` of the places, if the street is wide enough."""
    if section.half_width_m - section.lane_m < 2.0:
        return []
    placed = []
    for side in (-1, 1):
        random = make_generator(seed, "cars", "parked", side)
        at = course.s[0] + random.uniform(4.0, 10.0)
        while at < course.s[-1] - 8.0:
            mesh, size = street_models.make_car(random)
            d = side * (section.half_width_m - 0.25 - 0.5 * size[1] + random.uniform(-0.08, 0.08))
            yaw = random.normal(0.0, 0.02) + (np.pi if (side < 0) != (random.random() < 0.1) else 0.0)
            if random.random() < share:
                placed.append(SceneObject(mesh, SemanticClass.CAR, course.frame(at, d, 0.0, yaw), size))
            at += random.uniform(5.9, 8.5)
    return placed


def place_driving_cars(
    seed: int, course: RoadCourse, section: StreetSection, camera_s: Points, frame_rate_hz: float
) -> list[SceneObject]:
    """Return oncoming cars, and sometimes a car ahead in the camera's lane that keeps its distance.

    camera_s: (F,) arc length of the camera in each frame.
    """
    placed = []
    random = make_generator(seed, "cars", "oncoming")
    time = np.arange(len(camera_s)) / frame_rate_hz
    speed = random.uniform(4.0, 12.0)
    reach = camera_s[-1] + speed * time[-1]
    at = random.uniform(15.0, 60.0)
    while at < min(reach + 60.0, course.s[-1] + speed * time[-1] - 5.0):
        mesh, size = street_models.make_car(random)
        d = -0.5 * section.lane_m + random.uniform(-0.15, 0.15)
        s = at - speed * time
        if s.min() > course.s[0] + 6.0 and s.max() < course.s[-1] - 6.0:
            placed.append(SceneObject(mesh, SemanticClass.CAR, _make_poses_along_road(course, s, d, 0.0, np.pi), size))
        at += random.uniform(14.0, 60.0)
    random = make_generator(seed, "cars", "ahead")
    if random.random() < 0.4:
        mesh, size = street_models.make_car(random)
        middle, swing = random.uniform(20.0, 32.0), random.uniform(2.0, 8.0)
        gap = middle + swing * np.sin(2 * np.pi * random.uniform(0.05, 0.15) * time + random.uniform(0, 2 * np.pi))
        s = np.asarray(camera_s + np.maximum(gap, _MIN_GAP_M))
        d = 0.5 * section.lane_m + random.uniform(-0.15, 0.15)
        if s.max() < course.s[-1] - 6.0:
            placed.append(SceneObject(mesh, SemanticClass.CAR, _make_poses_along_road(course, s, d, 0.0, 0.0), size))
    return placed


def place_people(
    seed: int, course: RoadCourse, section: StreetSection, per_100_m: float, frames: int, frame_rate_hz: float
) -> list[SceneObject]:
    """Return people who stand or walk on the sidewalks in both directions."""
    placed = []
    time = np.arange(frames) / frame_rate_hz
    near, far = section.half_width_m + 1.3, section.sidewalk_edge_m - 0.4
    for side in (-1, 1):
        random = make_generator(seed, "people", side)
        at = course.s[0] + 5.0 + random.exponential(100.0 / per_100_m)
        while at < course.s[-1] - 8.0:
            mesh, size = street_models.make_person(random)
            d = side * random.uniform(near, far)
            if random.random() < 0.55:
                onward = random.random() < 0.5
                s = at + (1 if onward else -1) * random.uniform(0.8, 1.6) * time
                pose = _make_poses_along_road(course, s, d, section.kerb_m, 0.0 if onward else np.pi)
            else:
                pose = course.frame(at, d, section.kerb_m, random.uniform(-np.pi, np.pi))
            placed.append(SceneObject(mesh, SemanticClass.PERSON, pose, size))
            at += 0.8 + random.exponential(100.0 / per_100_m)
    return placed
