"""Make a world from a seed: street, light, objects, and the drive of the camera through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stadia.core.seeds import derive_seed, make_generator
from stadia.geometry.rasterizer import make_intrinsics
from stadia.synthetic.rendering.mesh import Points, make_direction
from stadia.synthetic.rendering.renderer import TextureAtlas
from stadia.synthetic.rendering.surfaces import pack_textures
from stadia.synthetic.roadworld import road_course, street_scene
from stadia.synthetic.roadworld.config import RoadWorldConfig
from stadia.synthetic.roadworld.road_course import RoadCourse, StreetSection
from stadia.synthetic.roadworld.road_textures import make_road_textures
from stadia.synthetic.roadworld.street_scene import SceneObject, SemanticClass, WorldGeometry, assemble_world

VIEW_M = 130.0  # how far the road goes on beyond the drive
_LATERAL_ACCELERATION = 3.0  # m/s^2, comfortable in a turn


# -- The camera's drive along the road, with weaving, bumps, roll and pitch.


@dataclass(frozen=True, slots=True)
class CameraDrive:
    """The drive over F frames: s, d (F,) along and across the road; T_world_camera (F, 4, 4); road_plane (F, 4).

    road_plane: unit normal in the camera's frame, towards the camera, and height of the camera over that plane in
        metres: road points p satisfy normal . p + height = 0.
    """

    s: Points
    d: Points
    T_world_camera: Points
    road_plane: Points


def _draw_smooth_noise(
    random: np.random.Generator, time_s: Points, deviation: float, hertz: tuple[float, float]
) -> Points:
    """Draw a smooth motion (F,) with this standard deviation: three sines of random frequency and phase."""
    total = np.zeros_like(time_s)
    for _ in range(3):
        total += np.sin(2 * np.pi * random.uniform(*hertz) * time_s + random.uniform(0, 2 * np.pi))
    return deviation * np.sqrt(2 / 3) * total


def compute_drive_s(
    seed: int, course: RoadCourse, frames: int, speed_m_per_frame: tuple[float, float], frame_rate_hz: float
) -> Points:
    """Compute s (F,) of each frame: a varying cruising speed, lower before turns."""
    random = make_generator(seed, "camera", "speed")
    cruise = random.uniform(*speed_m_per_frame)
    change = _draw_smooth_noise(random, np.arange(frames) / frame_rate_hz, 0.10, (0.05, 0.25))
    ahead = np.array([np.abs(course.curvature_per_m[i : i + 24]).max() for i in range(len(course.s))])  # the next 12 m
    limit = np.sqrt(_LATERAL_ACCELERATION / np.maximum(ahead, 1e-6)) / frame_rate_hz
    s = np.zeros(frames)
    pace = min(cruise, float(np.interp(0.0, course.s, limit)))
    for i in range(1, frames):
        goal = min(cruise * (1 + change[i]), float(np.interp(s[i - 1], course.s, limit)))
        pace += 0.3 * (goal - pace)
        s[i] = s[i - 1] + max(pace, 0.6 * speed_m_per_frame[0])
    return s


def _rotation_from_euler(pitch: float, yaw: float, roll: float) -> Points:
    """Return the intrinsic rotation about y by yaw, x by pitch, z by roll. Positive: right, up, clockwise."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def make_drive(
    seed: int, course: RoadCourse, s: Points, lane_m: float, height_m: float, frame_rate_hz: float
) -> CameraDrive:
    """Drive the camera in the middle of the right lane, on average `height_m` over the road."""
    random = make_generator(seed, "camera", "motion")
    time = np.arange(len(s)) / frame_rate_hz
    d = 0.5 * lane_m + _draw_smooth_noise(random, time, 0.12, (0.05, 0.25))
    yaw = np.gradient(d, s) if len(s) > 1 else np.zeros(1)
    yaw = yaw + _draw_smooth_noise(random, time, 0.004, (0.2, 0.6))
    pitch = random.uniform(-0.02, 0.01) + _draw_smooth_noise(random, time, 0.005, (0.5, 1.6))
    roll = random.uniform(-0.008, 0.008) + _draw_smooth_noise(random, time, 0.006, (0.3, 1.2))
    height = height_m + _draw_smooth_noise(random, time, 0.010, (0.8, 2.0))
    poses, planes = np.empty((len(s), 4, 4)), np.empty((len(s), 4))
    for i in range(len(s)):
        T = course.frame(s[i], d[i])
        up = -T[:3, 1]
        T[:3, 3] += height[i] * up
        T[:3, :3] = T[:3, :3] @ _rotation_from_euler(pitch[i], yaw[i], roll[i])
        poses[i] = T
        planes[i, :3], planes[i, 3] = T[:3, :3].T @ up, height[i]
    return CameraDrive(s, d, poses, planes)


# -- The street's style, section and light, and the whole world.


@dataclass(frozen=True, slots=True)
class StreetStyle:
    """Appearance of the street of a world.

    town: blocks of flats instead of houses.  built, parked, gardens: share of the places taken.
    trees_per_100_m, people_per_100_m: along each side.  conifers: share of the trees.
    overcast: soft light under cloud.  haze_per_m: extinction.
    """

    town: bool
    built: float
    parked: float
    gardens: float
    trees_per_100_m: float
    people_per_100_m: float
    conifers: float
    overcast: bool
    haze_per_m: float


@dataclass(frozen=True, slots=True)
class SunLight:
    """Sunlight. direction: towards the sun, in the world. sun, sky, haze: (3,) linear RGB."""

    direction: Points
    sun: Points
    sky: Points
    haze: Points
    haze_per_m: float


@dataclass(frozen=True, slots=True)
class RoadWorld:
    """A world: everything needed to render it. K: (3, 3) pixels, of both cameras."""

    seed: int
    course: RoadCourse
    section: StreetSection
    style: StreetStyle
    sun: SunLight
    drive: CameraDrive
    K: Points
    camera_height_m: float
    geometry: WorldGeometry
    textures: TextureAtlas
    sky_texture: int


def derive_world_seed(seed: int, split: str, index: int) -> int:
    """Derive the seed of a world from the split's name too, so that no two splits share a world."""
    return derive_seed(seed, "roadworld", split, index)


def make_style(seed: int) -> StreetStyle:
    """Draw town or country, and the densities of buildings, plants and people."""
    random = make_generator(seed, "style")
    town = bool(random.random() < 0.55)
    return StreetStyle(
        town=town,
        built=random.uniform(0.75, 1.0) if town else random.uniform(0.5, 0.95),
        parked=random.uniform(0.2, 0.85),
        gardens=random.uniform(0.0, 0.3) if town else random.uniform(0.4, 0.9),
        trees_per_100_m=random.uniform(2.0, 8.0),
        people_per_100_m=random.uniform(1.5, 7.0),
        conifers=0.0 if town else random.uniform(0.0, 0.5),
        overcast=bool(random.random() < 0.3),
        haze_per_m=float(random.uniform(0.0006, 0.0025)),
    )


def make_section(seed: int) -> StreetSection:
    """Draw widths of lane, parking and pavement, and the kerb's height, in metres."""
    random = make_generator(seed, "section")
    lane = random.uniform(3.0, 3.6)
    parking = random.uniform(2.15, 2.4) if random.random() < 0.8 else random.uniform(0.2, 0.6)
    return StreetSection(lane, lane + parking, random.uniform(0.10, 0.16), random.uniform(2.2, 4.0))


def make_sun(seed: int, style: StreetStyle) -> SunLight:
    """Draw the sun's direction, and the colors of sun, sky and haze."""
    random = make_generator(seed, "light")
    azimuth, elevation = random.uniform(0, 2 * np.pi), np.radians(random.uniform(22, 65))
    direction = make_direction(elevation, azimuth)
    warmth = random.uniform(0.0, 1.0)
    brightness = random.uniform(0.85, 1.15)
    sun, sky = np.array([1.55, 1.45 - 0.12 * warmth, 1.30 - 0.32 * warmth]), np.array([0.42, 0.46, 0.54])
    if style.overcast:
        sun, sky = 0.25 * sun, np.array([0.92, 0.95, 1.0])
    haze = np.array([0.62, 0.68, 0.75])
    return SunLight(direction, brightness * sun, brightness * sky, brightness * haze, style.haze_per_m)


def draw_rig(seed: int, config: RoadWorldConfig) -> tuple[float, float]:
    """Draw the camera's height over the road in metres and its horizontal field of view in degrees."""
    random = make_generator(seed, "camera", "rig")
    return float(random.choice(config.camera_height_m)), float(random.choice(config.field_of_view_deg))


def _make_ground(seed: int, course: RoadCourse, section: StreetSection) -> list[SceneObject]:
    random = make_generator(seed, "ground")
    crossings_s = np.arange(random.uniform(5.0, 50.0), course.s[-1] - 5.0, random.uniform(45.0, 110.0)).tolist()
    walks, verges = road_course.make_roadside(course, section)
    meshes = (
        (road_course.make_pavement(course, section, crossings_s), SemanticClass.ROAD),
        (walks, SemanticClass.SIDEWALK),
        (verges + road_course.make_terrain(course, section), SemanticClass.TERRAIN),
        (road_course.make_hills(course, make_generator(seed, "hills")), SemanticClass.TERRAIN),
    )
    return [SceneObject(mesh, semantic, np.eye(4), casts_shadow=False) for mesh, semantic in meshes]


def make_world(
    seed: int, config: RoadWorldConfig, *, flat: bool = False, straight: bool = False, with_people: bool = True
) -> RoadWorld:
    """Make the world of this seed for a camera of this configuration.

    Each subsystem has its own random stream, so that a world without people is otherwise the same.
    """
    style, section = make_style(seed), make_section(seed)
    longest = config.frames * config.speed_m_per_frame[1] * 1.3
    course = road_course.make_course(seed, longest + VIEW_M, flat=flat, straight=straight)
    s = compute_drive_s(seed, course, config.frames, config.speed_m_per_frame, config.frame_rate_hz)
    course = road_course.make_course(seed, float(s[-1]) + VIEW_M, flat=flat, straight=straight)
    height_m, field_of_view_deg = draw_rig(seed, config)
    street, rate_hz = (seed, course, section), config.frame_rate_hz
    objects = _make_ground(*street)
    objects += street_scene.place_buildings(*street, style.town, style.built)
    objects += street_scene.place_trees(*street, style.town, style.trees_per_100_m, style.conifers)
    objects += street_scene.place_woods(*street, 40)
    objects += street_scene.place_gardens(*street, style.gardens)
    objects += street_scene.place_furniture(*street)
    objects += street_scene.place_parked_cars(*street, style.parked)
    objects += street_scene.place_driving_cars(*street, s, rate_hz)
    if with_people:
        objects += street_scene.place_people(*street, style.people_per_100_m, config.frames, rate_hz)
    textures = make_road_textures(seed, section.half_width_m, section.lane_m, style.overcast)
    return RoadWorld(
        seed,
        course,
        section,
        style,
        make_sun(seed, style),
        make_drive(seed, course, s, section.lane_m, height_m, rate_hz),
        make_intrinsics(field_of_view_deg, config.height, config.width),
        height_m,
        assemble_world(objects, textures, config.frames),
        pack_textures(textures),
        list(textures).index("sky"),
    )
