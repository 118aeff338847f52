"""Make a world from a seed: street, light, objects, and the drive through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stadia.core.seeds import derive, generator
from stadia.data.rendering.mesh import Points
from stadia.data.rendering.raster import intrinsics
from stadia.data.rendering.shade import Textures
from stadia.data.rendering.texture import pack
from stadia.data.roadworld import scenery, traffic
from stadia.data.roadworld.camera_motion import Drive, drive, speeds
from stadia.data.roadworld.classes import SemanticClass
from stadia.data.roadworld.presets import RoadWorldConfig
from stadia.data.roadworld.road import Course, Section, hills, make_course, pavement, roadside, terrain
from stadia.data.roadworld.scene import Geometry, Thing, assemble
from stadia.data.roadworld.textures import make_textures

VIEW_M = 130.0  # how far the road goes on beyond the drive


@dataclass(frozen=True, slots=True)
class Style:
    """Appearance of a street, drawn once a world.

    town: blocks of flats rather than houses.  built, parked, gardens: share of the places taken.
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
class Sun:
    """Sunlight. direction: towards the sun, in the world. sun, sky, haze: (3,) linear RGB."""

    direction: Points
    sun: Points
    sky: Points
    haze: Points
    haze_per_m: float


@dataclass(frozen=True, slots=True)
class World:
    """A world: everything needed to render it. K: (3, 3) pixels, of both cameras."""

    seed: int
    course: Course
    section: Section
    style: Style
    sun: Sun
    drive: Drive
    K: Points
    camera_height_m: float
    geometry: Geometry
    textures: Textures
    sky_texture: int


def world_seed(seed: int, split: str, index: int) -> int:
    """Derive the seed of a world. It contains the split's name, so that no two splits share a world."""
    return derive(seed, "roadworld", split, index)


def make_style(seed: int) -> Style:
    """Draw town or country, and the densities of buildings, plants and people."""
    random = generator(seed, "style")
    town = bool(random.random() < 0.55)
    return Style(
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


def make_section(seed: int) -> Section:
    """Draw widths of lane, parking and pavement, and the kerb's height, in metres."""
    random = generator(seed, "section")
    lane = random.uniform(3.0, 3.6)
    parking = random.uniform(2.15, 2.4) if random.random() < 0.8 else random.uniform(0.2, 0.6)
    return Section(lane, lane + parking, random.uniform(0.10, 0.16), random.uniform(2.2, 4.0))


def make_sun(seed: int, style: Style) -> Sun:
    """Draw the sun's direction, and the colors of sun, sky and haze."""
    random = generator(seed, "light")
    azimuth, elevation = random.uniform(0, 2 * np.pi), np.radians(random.uniform(22, 65))
    direction = np.array([np.cos(elevation) * np.sin(azimuth), -np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
    warmth = random.uniform(0.0, 1.0)
    brightness = random.uniform(0.85, 1.15)
    sun, sky = np.array([1.55, 1.45 - 0.12 * warmth, 1.30 - 0.32 * warmth]), np.array([0.42, 0.46, 0.54])
    if style.overcast:
        sun, sky = 0.25 * sun, np.array([0.92, 0.95, 1.0])
    haze = np.array([0.62, 0.68, 0.75])
    return Sun(direction, brightness * sun, brightness * sky, brightness * haze, style.haze_per_m)


def draw_rig(seed: int, config: RoadWorldConfig) -> tuple[float, float]:
    """Draw the camera's height over the road in metres and its horizontal field of view in degrees."""
    random = generator(seed, "camera", "rig")
    return float(random.choice(config.camera_height_m)), float(random.choice(config.field_of_view_deg))


def _make_ground(seed: int, course: Course, section: Section) -> list[Thing]:
    random = generator(seed, "ground")
    crossings = [
        float(at) for at in np.arange(random.uniform(5.0, 50.0), course.s[-1] - 5.0, random.uniform(45.0, 110.0))
    ]
    walks, verges = roadside(course, section)
    here = np.eye(4)
    return [
        Thing(pavement(course, section, crossings), SemanticClass.ROAD, here, casts_shadow=False),
        Thing(walks, SemanticClass.SIDEWALK, here, casts_shadow=False),
        Thing(verges + terrain(course, section), SemanticClass.TERRAIN, here, casts_shadow=False),
        Thing(hills(course, generator(seed, "hills")), SemanticClass.TERRAIN, here, casts_shadow=False),
    ]


def make_world(
    seed: int, config: RoadWorldConfig, *, flat: bool = False, straight: bool = False, with_people: bool = True
) -> World:
    """Make the world of this seed for a camera of this configuration.

    Each subsystem has its own random stream, so that a world without people is otherwise the same.
    """
    style, section = make_style(seed), make_section(seed)
    longest = config.frames * config.speed_m_per_frame[1] * 1.3
    course = make_course(seed, longest + VIEW_M, flat=flat, straight=straight)
    s = speeds(seed, course, config.frames, config.speed_m_per_frame, config.frame_rate_hz)
    course = make_course(seed, float(s[-1]) + VIEW_M, flat=flat, straight=straight)
    height_m, field_of_view_deg = draw_rig(seed, config)
    things = _make_ground(seed, course, section)
    things += scenery.buildings(seed, course, section, style.town, style.built)
    things += scenery.trees(seed, course, section, style.town, style.trees_per_100_m, style.conifers)
    things += scenery.woods(seed, course, section, 40)
    things += scenery.front_gardens(seed, course, section, style.gardens)
    things += scenery.furniture(seed, course, section)
    things += traffic.parked_cars(seed, course, section, style.parked)
    things += traffic.driving_cars(seed, course, section, s, config.frame_rate_hz)
    if with_people:
        things += traffic.people(seed, course, section, style.people_per_100_m, config.frames, config.frame_rate_hz)
    textures = make_textures(seed, section.half_width_m, section.lane_m, style.overcast)
    return World(
        seed,
        course,
        section,
        style,
        make_sun(seed, style),
        drive(seed, course, s, section.lane_m, height_m, config.frame_rate_hz),
        intrinsics(field_of_view_deg, config.height, config.width),
        height_m,
        assemble(things, textures, config.frames),
        pack(textures),
        list(textures).index("sky"),
    )
