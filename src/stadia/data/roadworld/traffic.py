"""Place parked and driving cars, and people on the sidewalks. None of them touches the camera."""

from __future__ import annotations

import numpy as np

from stadia.core.seeds import generator
from stadia.data.rendering.mesh import Points
from stadia.data.roadworld.classes import SemanticClass
from stadia.data.roadworld.people import person
from stadia.data.roadworld.road import Course, Section
from stadia.data.roadworld.scene import Thing
from stadia.data.roadworld.vehicles import car

_GAP_M = 11.0  # least distance from the camera to the middle of a car in its lane


def _poses_along_road(course: Course, s: Points, d: float, up: float, yaw: float) -> Points:
    """Return poses (F, 4, 4) along the road; an object stops at the road's ends."""
    s = np.clip(s, course.s[0] + 3.0, course.s[-1] - 3.0)
    return np.stack([course.frame(float(at), d, up, yaw) for at in s])


def parked_cars(seed: int, course: Course, section: Section, share: float) -> list[Thing]:
    """Place cars along both kerbs; `share` of the places are taken. Empty where the street is too narrow."""
    if section.half_width_m - section.lane_m < 2.0:
        return []
    things = []
    for side in (-1, 1):
        random = generator(seed, "cars", "parked", side)
        at = course.s[0] + random.uniform(4.0, 10.0)
        while at < course.s[-1] - 8.0:
            mesh, size = car(random)
            d = side * (section.half_width_m - 0.25 - 0.5 * size[1] + random.uniform(-0.08, 0.08))
            yaw = random.normal(0.0, 0.02) + (np.pi if (side < 0) != (random.random() < 0.1) else 0.0)
            if random.random() < share:
                things.append(Thing(mesh, SemanticClass.CAR, course.frame(at, d, 0.0, yaw), size))
            at += random.uniform(5.9, 8.5)
    return things


def driving_cars(seed: int, course: Course, section: Section, camera_s: Points, frame_rate_hz: float) -> list[Thing]:
    """Place oncoming cars, and sometimes one ahead in the camera's lane that keeps its distance."""
    things = []
    random = generator(seed, "cars", "oncoming")
    time = np.arange(len(camera_s)) / frame_rate_hz
    speed = random.uniform(4.0, 12.0)
    reach = camera_s[-1] + speed * time[-1]
    at = random.uniform(15.0, 60.0)
    while at < min(reach + 60.0, course.s[-1] + speed * time[-1] - 5.0):
        mesh, size = car(random)
        d = -0.5 * section.lane_m + random.uniform(-0.15, 0.15)
        s = at - speed * time
        if s.min() > course.s[0] + 6.0 and s.max() < course.s[-1] - 6.0:
            things.append(Thing(mesh, SemanticClass.CAR, _poses_along_road(course, s, d, 0.0, np.pi), size))
        at += random.uniform(14.0, 60.0)
    random = generator(seed, "cars", "ahead")
    if random.random() < 0.4:
        mesh, size = car(random)
        middle, swing = random.uniform(20.0, 32.0), random.uniform(2.0, 8.0)
        gap = middle + swing * np.sin(2 * np.pi * random.uniform(0.05, 0.15) * time + random.uniform(0, 2 * np.pi))
        s = np.asarray(camera_s + np.maximum(gap, _GAP_M))
        d = 0.5 * section.lane_m + random.uniform(-0.15, 0.15)
        if s.max() < course.s[-1] - 6.0:
            things.append(Thing(mesh, SemanticClass.CAR, _poses_along_road(course, s, d, 0.0, 0.0), size))
    return things


def people(
    seed: int, course: Course, section: Section, per_100_m: float, frames: int, frame_rate_hz: float
) -> list[Thing]:
    """Place people who stand or walk on the sidewalks, both ways."""
    things = []
    time = np.arange(frames) / frame_rate_hz
    near, far = section.half_width_m + 1.3, section.sidewalk_edge_m - 0.4
    for side in (-1, 1):
        random = generator(seed, "people", side)
        at = course.s[0] + 5.0 + random.exponential(100.0 / per_100_m)
        while at < course.s[-1] - 8.0:
            pose: Points
            mesh, size = person(random)
            d = side * random.uniform(near, far)
            if random.random() < 0.55:
                onward = random.random() < 0.5
                s = at + (1 if onward else -1) * random.uniform(0.8, 1.6) * time
                pose = _poses_along_road(course, s, d, section.kerb_m, 0.0 if onward else np.pi)
            else:
                pose = course.frame(at, d, section.kerb_m, random.uniform(-np.pi, np.pi))
            things.append(Thing(mesh, SemanticClass.PERSON, pose, size))
            at += 0.8 + random.exponential(100.0 / per_100_m)
    return things
