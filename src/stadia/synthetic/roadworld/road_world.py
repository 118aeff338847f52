"""Generate a world from a seed (street, light, objects, drive of the camera), and render it with its ground truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.core.seeds import derive_seed, make_generator
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.rendering.mesh import Points, make_direction
from stadia.synthetic.rendering.rasterizer import (
    RasterCamera,
    compute_depth_and_normals,
    make_intrinsics,
    rasterize_depth_along_light,
)
from stadia.synthetic.rendering.renderer import (
    light_bodies,
    make_shadow_map,
    make_shadow_projection,
    make_sun_frame,
    render_image,
    transform_to_frame,
)
from stadia.synthetic.rendering.shading_kernels import SceneLight, SunLight, add_contact_shadow
from stadia.synthetic.roadworld import road_course, street_scene
from stadia.synthetic.roadworld.road_course import RoadCourse, StreetSection
from stadia.synthetic.roadworld.road_textures import make_road_textures
from stadia.synthetic.roadworld.street_scene import SceneObject, SemanticClass, WorldGeometry, assemble_world

VIEW_M = 130.0  # length of the road beyond the drive
_LATERAL_ACCELERATION = 3.0  # m/s^2, comfortable in a turn


# -- The camera's drive along the road, with weaving, bumps, roll and pitch.


@dataclass(frozen=True, slots=True)
class CameraDrive:
    """Describe the drive of a camera over F video frames.

    T_world_camera: (F, 4, 4) camera poses, from camera to world coordinates in metres.
    road_plane: (F, 4) plane of the road below the camera, in camera coordinates: unit normal n and height h above it
        in metres, so that n . p + h = 0 for points p of the road.
    """

    T_world_camera: Points
    road_plane: Points


def _draw_smooth_noise(
    random: np.random.Generator, time_s: Points, deviation: float, hertz: tuple[float, float]
) -> Points:
    total = np.zeros_like(time_s)
    for _ in range(3):
        total += np.sin(2 * np.pi * random.uniform(*hertz) * time_s + random.uniform(0, 2 * np.pi))
    return deviation * np.sqrt(2 / 3) * total


def compute_drive_s(
    seed: int, course: RoadCourse, frames: int, speed_m_per_frame: tuple[float, float], frame_rate_hz: float
) -> Points:
    """Return the arc length along the road, (F,) in metres, that the camera has reached at each video frame.

    The cruising speed varies and is lower before turns.

    seed: seed of the random speeds.
    course: center line of the road.
    frames: number F of video frames.
    speed_m_per_frame: smallest and largest cruising speed in metres per video frame.
    frame_rate_hz: video frames per second.
    """
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


CAR_PITCH_RAD = (-0.02, 0.01)  # range of a car camera's mean pitch


def _rotation_from_euler(pitch: float, yaw: float, roll: float) -> Points:
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def make_drive(
    seed: int,
    course: RoadCourse,
    s: Points,
    lane_m: float,
    height_m: float,
    frame_rate_hz: float,
    pitch_rad: tuple[float, float] = CAR_PITCH_RAD,
) -> CameraDrive:
    """Return a drive in the middle of the right lane, with the camera on average `height_m` above the road.

    seed: seed of the random swaying and pitch.
    course: center line of the road.
    s: (F,) arc length along the road at each video frame, in metres.
    lane_m: width of a lane in metres.
    height_m: mean height of the camera above the road in metres.
    frame_rate_hz: video frames per second.
    pitch_rad: smallest and largest mean pitch of the camera in radians; one value in between is drawn; positive is
        upwards.
    """
    random = make_generator(seed, "camera", "motion")
    time = np.arange(len(s)) / frame_rate_hz
    d = 0.5 * lane_m + _draw_smooth_noise(random, time, 0.12, (0.05, 0.25))
    yaw = np.gradient(d, s) if len(s) > 1 else np.zeros(1)
    yaw = yaw + _draw_smooth_noise(random, time, 0.004, (0.2, 0.6))
    pitch = random.uniform(*pitch_rad) + _draw_smooth_noise(random, time, 0.005, (0.5, 1.6))
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
    return CameraDrive(poses, planes)


# -- The street's style, section and light, and the whole world.


@dataclass(frozen=True, slots=True)
class StreetStyle:
    """The appearance of a world's street.

    town: blocks of flats instead of houses.
    built, parked, gardens: share of the possible places that have a building, a parked car or a garden.
    trees_per_100_m, people_per_100_m: density along each side.
    conifers: share of conifers among the trees.
    overcast: soft light under clouds.
    haze_per_m: extinction per metre.
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
class RoadWorld:
    """Everything that is needed to render a world.

    K: (3, 3) intrinsics of both cameras in pixels.
    """

    seed: int
    course: RoadCourse
    section: StreetSection
    sun: SunLight
    drive: CameraDrive
    K: Points
    camera_height_m: float
    geometry: WorldGeometry


def derive_world_seed(seed: int, split: str, index: int) -> int:
    """Return the seed of a world. It depends on the name of the split too, so that no two splits share a world."""
    return derive_seed(seed, "roadworld", split, index)


def make_style(seed: int) -> StreetStyle:
    """Return a random style: town or country, and the densities of buildings, plants and people."""
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
    """Return random widths of lane, parking and sidewalk, and a random height of the kerb, in metres."""
    random = make_generator(seed, "section")
    lane = random.uniform(3.0, 3.6)
    parking = random.uniform(2.15, 2.4) if random.random() < 0.8 else random.uniform(0.2, 0.6)
    return StreetSection(lane, lane + parking, random.uniform(0.10, 0.16), random.uniform(2.2, 4.0))


def make_sun(seed: int, style: StreetStyle) -> SunLight:
    """Return a random direction of the sun, and the colors of sun, sky and haze."""
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
    """Return a random camera height above the road in metres, and a random horizontal field of view in degrees."""
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
    seed: int, config: RoadWorldConfig, *, flat: bool = False, with_people: bool = True, ring_m: float | None = None
) -> RoadWorld:
    """Return the world of this seed for a camera of this configuration.

    Each part of the world has its own random stream. So a world without people is otherwise the same.

    flat: make a road without grades.
    with_people: place pedestrians.
    ring_m: length of a road that closes to a ring; None makes an open road.
    """
    style, section = make_style(seed), make_section(seed)
    longest = config.frames * config.speed_m_per_frame[1] * 1.3
    ring = None if ring_m is None else road_course.make_ring(ring_m)
    course = ring or road_course.make_course(seed, longest + VIEW_M, flat=flat)
    s = compute_drive_s(seed, course, config.frames, config.speed_m_per_frame, config.frame_rate_hz)
    course = ring or road_course.make_course(seed, float(s[-1]) + VIEW_M, flat=flat)
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
    pitch_rad = CAR_PITCH_RAD if config.pitch_deg is None else tuple(np.radians(config.pitch_deg).tolist())
    drive = make_drive(seed, course, s, section.lane_m, height_m, rate_hz, pitch_rad)
    K = make_intrinsics(field_of_view_deg, config.height, config.width)
    geometry = assemble_world(objects, textures, config.frames)
    return RoadWorld(*street, make_sun(seed, style), drive, K, height_m, geometry)


# -- Render the frames of a world with their ground truth.

_SHADOW_TEXEL_M = 0.08  # side of a texel of the static shadow map
_SHADOW_MAX_SIDE = 4096  # largest side of this map, texels
_MOVING_SHADOW_SIDE = 1024  # side of the shadow map of moving objects, texels
_WINDOW_M = 70.0  # side of the window that it covers, which follows the camera
_AHEAD_M = 28.0  # distance of the window's middle ahead of the camera
_CONTACT_SIDE = 512  # side of the map of contact shade, over the same window
_CONTACT_DEPTH = {SemanticClass.CAR: 0.75, SemanticClass.PERSON: 0.35}  # share of ambient light taken
_CONTACT_FADE_M = 0.3  # distance at which contact shade fades
_SHADOW_BIAS_M = 0.05  # a surface this close behind the one that the light sees is lit


@dataclass(frozen=True, slots=True)
class RoadView:
    """Hold one rendered image of a road and its ground truth.

    image: (H, W, 3) uint8 RGB.
    depth_m: (H, W) float32 z in metres; 0 for the sky.
    normals: (H, W, 3) float32 unit normals of the surfaces, towards the camera and in camera coordinates; 0 for the
        sky.
    semantic: (H, W) uint8 class of each pixel, a value of `SemanticClass`.
    instance: (H, W) uint16 number of the object at each pixel; 0 for no object.
    """

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    normals: NDArray[np.float32]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]


def draw_exposure_gains(seed: int, frames: int, cameras: int) -> Points:
    """Return random factors (cameras, F) on linear light: a slow drift with jumps, and a factor for each camera."""
    random = make_generator(seed, "exposure")
    steps = random.normal(0.0, 0.035, frames)
    steps = steps + np.where(random.random(frames) < 0.05, random.normal(0.0, 0.2, frames), 0.0)
    drift = np.zeros(frames)
    for i in range(1, frames):
        drift[i] = 0.93 * drift[i - 1] + steps[i]
    return np.exp(drift[None] + random.normal(0.0, 0.02, (cameras, 1)))


class RoadRenderer:
    """Renders the frames of one world. Several threads may use it at once."""

    def __init__(self, world: RoadWorld, config: RoadWorldConfig) -> None:
        self.world, self.config = world, config
        K, geometry = world.K, world.geometry
        self.lens = RasterCamera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], config.height, config.width, config.supersampling)
        self.sides = ("left", "right") if config.stereo else ("left",)
        self.gains: Points = np.ones((len(self.sides), config.frames))
        if config.exposure:
            self.gains = draw_exposure_gains(world.seed, config.frames, len(self.sides))
        self._T_sun_world = make_sun_frame(world.sun.direction)
        self._fixed_shadow, self._fixed_map = make_shadow_map(
            geometry.vertices, geometry.triangles[geometry.surfaces.ground : geometry.fixed], self._T_sun_world,
            min_texel_m=_SHADOW_TEXEL_M, max_texels=_SHADOW_MAX_SIDE - 1,
        )  # fmt: skip

    def make_light(self, frame: int) -> SceneLight:
        """Return the sun and the shadows of a frame for each body. Both cameras share them."""
        geometry, sun = self.world.geometry, self.world.sun
        T_world_body = geometry.T_world_body[frame]
        moving, moving_map = np.empty((0, 0), np.float32), self._fixed_map
        if len(geometry.triangles) > geometry.fixed:
            pose = self.world.drive.T_world_camera[frame]
            center = (self._T_sun_world[:3, :3] @ (pose[:3, 3] + _AHEAD_M * pose[:3, 2]))[:2]
            texel = _WINDOW_M / _MOVING_SHADOW_SIDE
            corner = np.floor((center - 0.5 * _WINDOW_M) / texel) * texel  # whole texels, or shadows would shimmer
            moving_map = make_shadow_projection(self._T_sun_world, corner, texel)
            moving = np.full((_MOVING_SHADOW_SIDE, _MOVING_SHADOW_SIDE), np.inf, np.float32)
            to_map = np.zeros_like(T_world_body)
            to_map[:, :3] = moving_map @ T_world_body
            vertices = transform_to_frame(geometry.vertices, geometry.body, to_map)
            rasterize_depth_along_light(vertices, geometry.triangles[geometry.fixed :], moving)
        fixed, contact = (self._fixed_shadow, self._fixed_map), self._make_contact_map(frame)
        return light_bodies(sun, T_world_body, fixed, (moving, moving_map), _SHADOW_BIAS_M, contact)

    def _make_contact_map(self, frame: int) -> tuple[NDArray[np.float32], Points]:
        per_metre = _CONTACT_SIDE / _WINDOW_M
        T = self.world.drive.T_world_camera[frame]
        corner = T[[0, 2], 3] + _AHEAD_M * T[[0, 2], 2] - 0.5 * _WINDOW_M
        contact_map = np.array([*(np.floor(corner * per_metre) / per_metre), per_metre])
        contact = np.zeros((_CONTACT_SIDE, _CONTACT_SIDE), np.float32)
        for instance in self.world.geometry.instances:
            if instance.semantic in _CONTACT_DEPTH:
                pose = instance.T_world_instance[frame] if instance.moves else instance.T_world_instance
                _, width, length = instance.size_hwl_m
                depth = _CONTACT_DEPTH[instance.semantic]
                add_contact_shadow(contact, contact_map, pose, 0.5 * width, 0.5 * length, depth, _CONTACT_FADE_M)
        return contact, contact_map

    def T_world_camera(self, frame: int, side: str) -> Points:
        """Return the camera-to-world pose (4, 4) of a frame's "left" or "right" camera."""
        T = self.world.drive.T_world_camera[frame].copy()
        if side == "right":
            T[:3, 3] += self.config.baseline_m * T[:3, 0]
        return T

    def render(self, frame: int) -> dict[str, RoadView]:
        """Return the rendered views of a frame by side, "left" and "right"."""
        light = self.make_light(frame)
        return {side: self._render(frame, side, light) for side in self.sides}

    def _render(self, frame: int, side: str, light: SceneLight) -> RoadView:
        T_camera_body = np.linalg.inv(self.T_world_camera(frame, side)) @ self.world.geometry.T_world_body[frame]
        gain = float(self.gains[self.sides.index(side), frame])
        noise = make_generator(self.world.seed, "noise", side, frame) if self.config.noise else None
        rendered = render_image(self.world.geometry, T_camera_body, self.lens, light, gain=gain, noise=noise)
        geometry, index = self.world.geometry, rendered.index
        depth, normals = np.empty(index.shape, np.float32), np.empty((*index.shape, 3), np.float32)
        normal, body = geometry.surfaces.normal, geometry.surfaces.body
        compute_depth_and_normals(index, rendered.inverse_depth, self.lens, normal, body, T_camera_body, depth, normals)
        shown = index >= 0
        semantic = np.where(shown, geometry.semantic[index], np.uint8(SemanticClass.SKY))
        instance = np.where(shown, geometry.instance[index], np.uint16(0))
        return RoadView(rendered.image, depth, normals, semantic, instance)
