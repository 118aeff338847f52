"""Place buildings, trees, hedges, fences, lamp posts and signs along the road."""

from __future__ import annotations

import numpy as np

from stadia.core.seeds import generator
from stadia.data.rendering.mesh import Mesh, Points, extent, transformed
from stadia.data.roadworld.buildings import block, house
from stadia.data.roadworld.classes import SemanticClass
from stadia.data.roadworld.plants import broadleaf, conifer, hedge
from stadia.data.roadworld.road import Course, Section, ground_up_m
from stadia.data.roadworld.scene import Thing
from stadia.data.roadworld.street_furniture import bollard, fence, lamp_post, sign


def _make_instance(mesh: Mesh, semantic: SemanticClass, T: Points) -> Thing:
    """Make an instance whose size is that of its mesh, and whose origin is on the ground under its middle."""
    low, high = extent(mesh)
    middle = np.array([0.5 * (low[0] + high[0]), high[1], 0.5 * (low[2] + high[2])])
    shift = np.eye(4)
    shift[:3, 3] = middle
    width, height, length = (float(q) for q in high - low)
    return Thing(transformed(mesh, np.linalg.inv(shift)), semantic, T @ shift, (height, width, length))


def _is_off_road(course: Course, T: Points, deep: float, wide: float, keep_m: float) -> bool:
    """Return whether a footprint (x 0 to deep, z over wide) keeps `keep_m` from the whole road, also in bends."""
    x, z = np.meshgrid(np.linspace(0.0, deep, 4), np.linspace(-0.5 * wide, 0.5 * wide, 7))
    points = np.stack([x.ravel(), np.zeros(x.size), z.ravel()], 1) @ T[:3, :3].T + T[:3, 3]
    return bool(course.beside(points[:, [0, 2]])[0].min() > keep_m)


def buildings(seed: int, course: Course, section: Section, town: bool, share: float) -> list[Thing]:
    """Place a row of buildings along each side: blocks at the sidewalk, houses behind a garden."""
    things = []
    for side in (-1, 1):
        random = generator(seed, "buildings", side)
        at = course.s[0]
        while at < course.s[-1]:
            wide = random.uniform(10.0, 24.0) if town else random.uniform(7.0, 13.0)
            deep = random.uniform(9.0, 14.0) if town else random.uniform(6.0, 9.0)
            setback = random.uniform(0.2, 1.0) if town else random.uniform(3.0, 7.5)
            mesh = (block if town else house)(random, wide, deep)
            d = section.sidewalk_edge_m + setback
            T = course.frame(at + 0.5 * wide, side * d, section.kerb_m, 0.0 if side > 0 else np.pi, upright=True)
            if random.random() < share and _is_off_road(course, T, deep, wide, section.sidewalk_edge_m - 0.3):
                things.append(Thing(mesh, SemanticClass.BUILDING, T))
            at += wide + (0.0 if town and random.random() < 0.6 else random.uniform(2.0, 10.0))
    return things


def trees(seed: int, course: Course, section: Section, town: bool, per_100_m: float, conifers: float) -> list[Thing]:
    """Place trees: in a town along the kerb, with crowns above traffic; else on the verge."""
    things = []
    for side in (-1, 1):
        random = generator(seed, "trees", side)
        at = course.s[0] + random.uniform(0.0, 8.0)
        while at < course.s[-1] - 2.0:
            tall = random.random() < conifers
            if town:
                mesh, out = broadleaf(random, 2.9, 1.5), section.half_width_m + 0.75
            elif tall:
                mesh, out = conifer(random), section.sidewalk_edge_m + random.uniform(2.0, 3.0)
            else:
                mesh, out = broadleaf(random), section.sidewalk_edge_m + random.uniform(0.3, 1.6)
            d = side * out
            T = course.frame(at, d, section.kerb_m, random.uniform(0, 2 * np.pi), upright=True)
            if course.beside(T[None, [0, 2], 3])[0][0] > section.half_width_m + 0.6:
                things.append(_make_instance(mesh, SemanticClass.VEGETATION, T))
            at += 3.0 + random.exponential(100.0 / per_100_m)
    return things


def woods(seed: int, course: Course, section: Section, count: int) -> list[Thing]:
    """Place trees on the terrain, away from the road."""
    random = generator(seed, "trees", "wood")
    things = []
    for _ in range(count):
        mesh = conifer(random) if random.random() < 0.4 else broadleaf(random)
        s, d = random.uniform(course.s[0], course.s[-1]), random.choice([-1, 1]) * random.uniform(22.0, 48.0)
        T = course.frame(s, d, 0.0, random.uniform(0, 2 * np.pi), upright=True)
        distance, nearest = course.beside(T[None, [0, 2], 3])
        if distance[0] > section.edge_m + 6.0:
            T[1, 3] = (
                float(np.interp(nearest[0], course.s, course.position[:, 1]))
                - float(ground_up_m(distance, section)[0])
                + 0.15
            )
            things.append(Thing(mesh, SemanticClass.VEGETATION, T))
    return things


def front_gardens(seed: int, course: Course, section: Section, share: float) -> list[Thing]:
    """Place hedges and fences along the sidewalk."""
    things = []
    for side in (-1, 1):
        random = generator(seed, "gardens", side)
        at = course.s[0]
        while at < course.s[-1] - 12.0:
            length = random.uniform(4.0, 9.0)
            tint = (random.uniform(0.7, 1.3),) * 3
            leafy = random.random() < 0.55
            mesh = hedge(random, length, random.uniform(0.7, 1.6), tint) if leafy else fence(random, length, tint)
            d = side * (section.sidewalk_edge_m + 2.1)
            T = course.frame(at + 0.5 * length, d, section.kerb_m, 0.0 if side > 0 else np.pi)
            if random.random() < share and _is_off_road(course, T, 0.5, length, section.sidewalk_edge_m):
                things.append(Thing(mesh, SemanticClass.VEGETATION if leafy else SemanticClass.FENCE, T))
            at += length + random.uniform(0.5, 5.0)
    return things


def furniture(seed: int, course: Course, section: Section) -> list[Thing]:
    """Place lamp posts, signs and bollards between the kerb and the pedestrians."""
    things = []
    d = section.half_width_m + 0.42
    for side in (-1, 1):
        random = generator(seed, "furniture", side)
        facing = 0.0 if side > 0 else np.pi
        spacing = random.uniform(18.0, 32.0)
        for at in np.arange(course.s[0] + random.uniform(2, spacing), course.s[-1], spacing):
            T = course.frame(float(at), side * d, section.kerb_m, facing, upright=True)
            things.append(_make_instance(lamp_post(random), SemanticClass.POLE, T))
        at = course.s[0] + random.uniform(5.0, 30.0)
        while at < course.s[-1] - 2.0:
            T = course.frame(at, side * d, section.kerb_m, facing + random.normal(0, 0.08), upright=True)
            things.append(_make_instance(sign(random), SemanticClass.SIGN, T))
            if random.random() < 0.5:
                for offset in np.arange(1.5, random.uniform(3.0, 12.0), 1.6):
                    T = course.frame(min(at + offset, course.s[-1]), side * d, section.kerb_m, upright=True)
                    things.append(_make_instance(bollard(random), SemanticClass.POLE, T))
            at += random.uniform(14.0, 55.0)
    return things
