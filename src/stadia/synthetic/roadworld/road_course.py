"""The course of the road, its cross-section, and the ground around it.

The center line is a curve in space with the arc length s as parameter. d is the distance to its right in metres. The
world has x right, y down and z forward.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from stadia.core.seeds import make_generator
from stadia.synthetic.rendering.mesh import Mesh, MeshPart, Points, make_sheet

STEP_M = 0.5  # distance of the points of a course
_BEHIND_M = 30.0  # length of the road behind the first frame
_MAX_TURN_RAD = np.radians(115)  # With smaller turns, the road never crosses itself.
MIN_RADIUS_M = 17.0  # smallest radius of a turn


@dataclass(frozen=True, slots=True)
class StreetSection:
    """Describe the cross-section of a street in metres, which is equal on both sides of its center line.

    lane_m: width of a lane.
    half_width_m: distance from the center line to the kerb.
    kerb_m: height of kerb, sidewalk and verge above the road.
    sidewalk_m: width of the sidewalk.
    verge_m: width of the verge beyond the sidewalk.
    """

    lane_m: float
    half_width_m: float
    kerb_m: float
    sidewalk_m: float
    verge_m: float = 7.0

    @property
    def sidewalk_edge_m(self) -> float:
        """Return the distance of the sidewalk's outer edge from the middle of the road, in metres."""
        return self.half_width_m + self.sidewalk_m

    @property
    def edge_m(self) -> float:
        """Return the distance of the verge's outer edge from the middle of the road, in metres."""
        return self.sidewalk_edge_m + self.verge_m


@dataclass(frozen=True, slots=True)
class RoadCourse:
    """Describe the center line of a road by N points, one every half metre.

    s: (N,) arc length from the start in metres.
    position: (N, 3) positions in the world in metres; y points down.
    heading_rad: (N,) horizontal direction of the road in radians, from the z axis, positive to the right.
    grade: (N,) metres up per metre along the road.
    curvature_per_m: (N,) change of the heading in radians per metre.
    is_ring: whether the end of the road joins its start.
    """

    s: Points
    position: Points
    heading_rad: Points
    grade: Points
    curvature_per_m: Points
    is_ring: bool = False

    def wrap(self, s: ArrayLike) -> Points:
        """Return arc lengths s (...) within the range of the samples; on a ring they are wrapped around."""
        return np.asarray(s, float) % self.s[-1] if self.is_ring else np.asarray(s, float)

    def axes(self, s: float | Points) -> tuple[Points, Points, Points]:
        """Return the unit vectors (..., 3) at arc lengths s (...): right, down (into the road), forward."""
        s = self.wrap(s)
        heading, slope = np.interp(s, self.s, self.heading_rad), np.arctan(np.interp(s, self.s, self.grade))
        forward = np.stack([np.sin(heading) * np.cos(slope), -np.sin(slope), np.cos(heading) * np.cos(slope)], -1)
        right = np.stack([np.cos(heading), np.zeros_like(heading), -np.sin(heading)], -1)
        return right, np.cross(forward, right), forward

    def point(self, s: ArrayLike, d: ArrayLike, up: ArrayLike = 0.0) -> Points:
        """Return the world points (..., 3) at arc length s, `d` to the right of the center line and `up` above the
        road.

        s, d, up: arrays in metres that broadcast to (...).
        """
        s, d, up = np.broadcast_arrays(*(np.asarray(q, float) for q in (s, d, up)))
        center = np.stack([np.interp(self.wrap(s), self.s, self.position[:, k]) for k in range(3)], -1)
        point = center + d[..., None] * self.axes(s)[0]
        point[..., 1] -= up
        return point

    def frame(self, s: float, d: float, up: float = 0.0, yaw_rad: float = 0.0, *, upright: bool = False) -> Points:
        """Return the pose T_world_object (4, 4) of an object on the road.

        s, d, up: arc length, distance to the right, and height above the road, in metres.
        yaw_rad: rotation of the object to the right.
        upright: ignore the slope of the road.
        """
        right, down, forward = self.axes(s)
        if upright:
            forward = np.cross(right, (0.0, 1.0, 0.0))
            down = np.array([0.0, 1.0, 0.0])
        c, w = np.cos(yaw_rad), np.sin(yaw_rad)
        T = np.eye(4)
        T[:3, 0], T[:3, 1], T[:3, 2] = c * right - w * forward, down, w * right + c * forward
        T[:3, 3] = self.point(s, d, up)
        return T

    def find_nearest(self, points_xz: Points) -> tuple[Points, Points]:
        """Return the distance (N,) from the center line, and the arc length s (N,) of its nearest sample.

        points_xz: (N, 2) x and z in the world.
        """
        distance, index = cKDTree(self.position[:, [0, 2]]).query(points_xz)
        return distance, self.s[index]


def _smooth_events(length: int, events: list[tuple[float, float, float]]) -> Points:
    """Return (N,) the sum of smoothed boxes (start, end, height) over samples every STEP_M from -_BEHIND_M on."""
    s = np.arange(length) * STEP_M - _BEHIND_M
    values = np.zeros(length)
    for start, end, height in events:
        values += np.where((s >= start) & (s < end), height, 0.0)
    kernel = np.ones(int(8.0 / STEP_M)) / int(8.0 / STEP_M)  # 8 m to go from straight to curved
    return np.convolve(np.pad(values, len(kernel), mode="edge"), kernel, mode="same")[len(kernel) : -len(kernel)]


def _draw_bends(random: np.random.Generator, length_m: float) -> list[tuple[float, float, float]]:
    """Draw curves and turns along a road: (start, end, curvature to the right)."""
    events: list[tuple[float, float, float]] = []
    at, heading = random.uniform(2.0, 30.0), 0.0
    while at < length_m:
        sharp = random.random() < 0.3
        angle = np.radians(random.uniform(50, 90) if sharp else random.uniform(6, 40)) * random.choice([-1, 1])
        if abs(heading + angle) > _MAX_TURN_RAD:
            angle = -angle
        if abs(heading + angle) > _MAX_TURN_RAD:
            continue
        radius = random.uniform(MIN_RADIUS_M, 24.0) if sharp else random.uniform(45.0, 220.0)
        arc = max(radius * abs(angle), 8.0)
        events.append((at, at + arc, angle / arc))
        heading += angle
        at += arc + random.uniform(5.0, 60.0)
    return events


def _midpoints(samples: Points) -> Points:
    return 0.5 * (samples[1:] + samples[:-1])


def make_course(seed: int, length_m: float, *, flat: bool = False) -> RoadCourse:
    """Return a random road from 30 m behind s = 0 to `length_m`, with curves, turns and grades of at most 5 %.

    flat: make a road without grades.
    """
    count = int(np.ceil((length_m + _BEHIND_M) / STEP_M)) + 1
    s = np.arange(count) * STEP_M - _BEHIND_M
    curvature = _smooth_events(count, _draw_bends(make_generator(seed, "course", "bends"), length_m))
    grade = np.zeros(count)
    if not flat:
        random = make_generator(seed, "course", "grades")
        knots = np.arange(-_BEHIND_M - 100.0, length_m + 100.0, random.uniform(35.0, 70.0))
        steepness = np.cumsum(random.uniform(-0.035, 0.035, len(knots)))
        grade = np.interp(s, knots, np.clip(0.7 * steepness, -0.05, 0.05))
    heading = np.concatenate([[0.0], np.cumsum(_midpoints(curvature) * STEP_M)])
    slope = np.arctan(grade)
    steps = np.stack([np.sin(heading) * np.cos(slope), -np.sin(slope), np.cos(heading) * np.cos(slope)], 1)
    position = np.concatenate([np.zeros((1, 3)), np.cumsum(_midpoints(steps) * STEP_M, axis=0)])
    origin = round(_BEHIND_M / STEP_M)
    turn = heading[origin]
    heading = heading - turn
    position = position - position[origin]
    x, z = position[:, 0].copy(), position[:, 2].copy()
    position[:, 0], position[:, 2] = np.cos(turn) * x - np.sin(turn) * z, np.sin(turn) * x + np.cos(turn) * z
    return RoadCourse(s, position, heading, grade, curvature)


def make_ring(length_m: float) -> RoadCourse:
    """Return a road that closes to a circle, with grades of at most 2 %.

    Raises ValueError for a circle that is too narrow.
    """
    radius_m = length_m / (2 * np.pi)
    if radius_m < MIN_RADIUS_M:
        raise ValueError(f"a ring of {length_m} m is narrower than a radius of {MIN_RADIUS_M} m")
    s = np.linspace(0.0, length_m, int(np.ceil(length_m / STEP_M)) + 1)
    turn = 2 * np.pi * s / length_m
    rise_m = 0.02 * radius_m * (1 - np.cos(turn))
    position = np.stack([radius_m * (1 - np.cos(turn)), -rise_m, radius_m * np.sin(turn)], 1)
    return RoadCourse(s, position, turn, 0.02 * np.sin(turn), np.full_like(s, 1 / radius_m), is_ring=True)


def _make_strip(
    course: RoadCourse, s: Points, near: tuple[float, float], far: tuple[float, float], material: str
) -> MeshPart:
    """Make a ribbon along the road between two (d, up). Its texture runs along s, of grass along x and z."""
    points = np.stack([course.point(s, *near), course.point(s, *far)], 1)
    if material == "grass":
        return make_sheet(points, points[..., [0, 2]], material)
    width = np.hypot(far[0] - near[0], far[1] - near[1])
    uv = np.stack(np.broadcast_arrays(np.array([0.0, width])[None], s[:, None]), -1)
    return make_sheet(points, uv, material)


def make_pavement(course: RoadCourse, section: StreetSection, crossings_s: list[float]) -> Mesh:
    """Return the road surface. A zebra crossing 3 m long begins at each arc length of `crossings_s`."""
    cuts = [course.s[0], *(cut for s in sorted(crossings_s) for cut in (s, s + 3.0)), course.s[-1]]
    parts: Mesh = []
    edges = np.linspace(-section.half_width_m, section.half_width_m, 5)
    for index, (start, end) in enumerate(pairwise(cuts)):
        inner = np.arange(np.ceil(start) + 1, end, 1.0)
        s = np.concatenate([[start], inner, [end]])
        grid = np.stack([course.point(s, edge) for edge in edges], 1)
        uv = np.stack(np.broadcast_arrays((edges + section.half_width_m)[None], s[:, None]), -1)
        parts.append(make_sheet(grid, uv, "zebra" if index % 2 else "asphalt"))
    return parts


def make_roadside(course: RoadCourse, section: StreetSection) -> tuple[Mesh, Mesh]:
    """Return two meshes for both sides of the road: kerbs with sidewalks, and verges."""
    s = np.arange(course.s[0], course.s[-1], 1.0)
    k, kerb_m = section.kerb_m, section.half_width_m
    stone_m, walk_m, verge_m = kerb_m + 0.16, section.sidewalk_edge_m, section.edge_m - 4.0
    strips = [
        ((kerb_m, 0.0), (kerb_m, k), "concrete"), ((kerb_m, k), (stone_m, k), "concrete"),
        ((stone_m, k), (walk_m, k), "paving"),
        ((walk_m, k), (verge_m, k), "grass"), ((verge_m, k), (section.edge_m, k - 0.5), "grass"),
    ]  # fmt: skip
    made = [
        _make_strip(course, s, (side * near, low), (side * far, high), material)
        for side in (-1, 1)
        for (near, low), (far, high), material in strips
    ]
    return [part for part in made if part.material != "grass"], [part for part in made if part.material == "grass"]


def compute_terrain_height_m(distance: Points, section: StreetSection) -> Points:
    """Return the height (N,) in metres of the terrain above the road, at distances (N,) from the center line."""
    near = np.clip((distance - (section.edge_m - 4.0)) / 4.0, 0, 1)
    rise = 0.04 * np.maximum(distance - 70.0, 0.0)
    return section.kerb_m - 0.8 * (1 - near) + rise


TERRAIN_MARGIN_M = 160.0
"""The ground goes this far beyond the road, behind the ridge of `make_hills`."""

TERRAIN_CELL_M = 5.0
"""Width of a cell of its grid."""


def make_terrain(course: RoadCourse, section: StreetSection) -> Mesh:
    """Return the ground beyond the verges: a grid that follows the height of the road."""
    low, high = course.position.min(0) - TERRAIN_MARGIN_M, course.position.max(0) + TERRAIN_MARGIN_M
    x, z = (np.arange(low[axis], high[axis] + TERRAIN_CELL_M, TERRAIN_CELL_M) for axis in (0, 2))
    grid = np.stack(np.meshgrid(x, z), -1)
    distance, s = course.find_nearest(grid.reshape(-1, 2))
    height = -np.interp(s, course.s, course.position[:, 1]) + compute_terrain_height_m(distance, section)
    wave = np.sin(grid[..., 0] * 0.031 + 1.0) * np.sin(grid[..., 1] * 0.027)
    height = height.reshape(grid.shape[:2]) + np.clip((distance.reshape(grid.shape[:2]) - 50) / 60, 0, 1) * 2.0 * wave
    points = np.stack([grid[..., 0], -height, grid[..., 1]], -1)
    return [make_sheet(points, grid, "grass")]


def make_hills(course: RoadCourse, random: np.random.Generator) -> Mesh:
    """Return a wooded ridge around the world, which hides the world's edge."""
    angle = np.linspace(0, 2 * np.pi, 97)
    center = 0.5 * (course.position.min(0) + course.position.max(0))
    radius = 150.0 + 0.5 * np.ptp(course.position[:, [0, 2]], axis=0).max()
    waves = [random.uniform(0.3, 1.0) / k * np.sin(k * angle + random.uniform(0, 6.28)) for k in (2, 3, 5, 9, 17, 31)]
    top = center[1] - random.uniform(6.0, 16.0) - 5.0 * np.asarray(sum(waves))
    ring = np.stack([center[0] + radius * np.cos(angle), np.zeros_like(angle), center[2] + radius * np.sin(angle)], -1)
    points = np.stack([ring, ring * [1.06, 1, 1.06]])
    points[0, :, 1], points[1, :, 1] = center[1] + 25.0, top
    uv = np.stack(np.broadcast_arrays((angle * radius / 8)[None], np.array([0.0, 5.0])[:, None]), -1)
    return [make_sheet(points, uv, "foliage0")]
