"""Make rooms from a seed (walls, furniture, things, light, camera's path), render them with exact depth, write them.

World: x right, y down, z forward; the floor is y = 0, the room extends from the origin to (width, -height, depth).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from stadia.core.seeds import derive_seed, make_generator
from stadia.datasets.image_files import read_rgb
from stadia.files.array_files import read_npy
from stadia.files.atomic_files import atomic_folder, write_json
from stadia.geometry.rasterizer import make_intrinsics
from stadia.synthetic.config import RoomWorldConfig
from stadia.synthetic.furniture import FURNITURE, PRINTS, Furniture, draw_tint, make_room_textures
from stadia.synthetic.household_objects import SHAPES, compute_footprint, has_overlap, make_upright_pose
from stadia.synthetic.rendering.dataset_files import (
    Image,
    SceneFormat,
    SceneJob,
    SceneWriter,
    colorize_depth,
    stack_tiles,
    write_png,
)
from stadia.synthetic.rendering.mesh import (
    Mesh,
    Points,
    make_box,
    make_camera_pose,
    make_direction,
    make_quad,
    transform_mesh,
)
from stadia.synthetic.rendering.renderer import RenderedImage, StillRenderer, StillScene
from stadia.synthetic.rendering.shading_kernels import SunLight
from stadia.synthetic.rendering.surfaces import assemble_parts
from stadia.synthetic.roadworld.street_models import make_person

_MAX_SMALL = 14  # small things in a room
_MIN_CLEAR_M = 0.3  # from the camera to furniture, and to the walls
_SHADOW_SIDE, _SHADOW_BIAS_M = 1024, 0.01


# -- walls, windows, doors and pictures


def _draw_room_size(random: np.random.Generator) -> Points:
    kind = random.choice(["room", "corridor", "hall"], p=[0.65, 0.2, 0.15])
    if kind == "corridor":
        return np.array([random.uniform(1.6, 2.8), random.uniform(2.2, 3.0), random.uniform(7, 20)])
    if kind == "hall":
        return np.array([random.uniform(6, 14), random.uniform(3, 6), random.uniform(8, 18)])
    return np.array([random.uniform(2.8, 6.5), random.uniform(2.3, 3.2), random.uniform(3, 7.5)])


def _make_wall_frame(size: Points, wall: int) -> tuple[Points, float]:
    """Return T_world_wall (4, 4) and the length of a wall: x along it from the middle, y down, z into the room."""
    width, _, depth = size
    yaw = (0.0, np.pi / 2, np.pi, -np.pi / 2)[wall]
    c, s = np.cos(yaw), np.sin(yaw)
    T = np.eye(4)
    T[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    T[:3, 3] = [(width / 2, 0, 0), (0, 0, depth / 2), (width / 2, 0, depth), (width, 0, depth / 2)][wall]
    return T, float(depth if wall % 2 else width)


def _make_shell(random: np.random.Generator, size: Points) -> Mesh:
    width, height, depth = size
    along_x, along_z, up = (width, 0, 0), (0, 0, depth), (0, height, 0)
    second = random.choice(["wall0", "wall1"])
    return [
        make_quad((0, 0, 0), along_x, along_z, "floor"),
        make_quad((0, -height, 0), along_x, along_z, "ceiling", (0.95, 0.95, 0.95)),
        make_quad((0, -height, 0), along_x, up, "wall0"),
        make_quad((0, -height, depth), along_x, up, second),
        make_quad((0, -height, 0), along_z, up, "wall0"),
        make_quad((width, -height, 0), along_z, up, second),
    ]


def _make_fittings(random: np.random.Generator, size: Points) -> Mesh:
    parts: Mesh = []
    height = size[1]
    tint = draw_tint(random)
    for wall in range(4):
        T, length = _make_wall_frame(size, wall)
        own: Mesh = []
        at = -length / 2 + random.uniform(0.3, 1.2)
        while at < length / 2 - 1.2:
            wide = random.uniform(0.7, min(2.2, length / 2 - at - 0.1))
            kind = random.choice(["window", "door", "picture", "none"], p=[0.25, 0.2, 0.3, 0.25])
            if kind == "window":
                low, high = -random.uniform(0.3, 1.1), -min(height - 0.2, random.uniform(1.7, 2.3))
                bright = tuple(random.uniform(1.5, 3.0) * np.ones(3))
                own.append(make_quad((at, high, 0.02), (wide, 0, 0), (0, low - high, 0), "outside", bright))
                for x in np.linspace(at, at + wide, int(random.integers(2, 5))):
                    own += make_box((x - 0.03, high, 0.01), (x + 0.03, low, 0.06), "plastic")
                own += make_box((at, low - 0.03, 0.01), (at + wide, low + 0.03, 0.2), "plastic")
                own += make_box((at, high - 0.03, 0.01), (at + wide, high + 0.03, 0.06), "plastic")
                if random.random() < 0.5:
                    for x in (at - 0.25, at + wide - 0.05):
                        own += make_box((x, high - 0.1, 0.08), (x + 0.3, -0.05, 0.16), "fabric1", tint)
            elif kind == "door":
                wide = min(wide, 1.0)
                own += make_box((at, -2.03, 0.01), (at + wide, 0, 0.05), "wood", draw_tint(random))
                own += make_box((at + wide - 0.12, -1.05, 0.05), (at + wide - 0.06, -0.98, 0.1), "metal")
            elif kind == "picture":
                tall, middle = random.uniform(0.3, 1.1), -random.uniform(1.3, 1.7)
                top = max(middle - tall / 2, 0.1 - height)
                own += make_box((at, top, 0.005), (at + wide, top + tall, 0.03), f"print{random.integers(PRINTS)}")
            at += wide + random.uniform(0.1, 1.5)
        own += make_box((-length / 2, -0.09, 0.0), (length / 2, 0, 0.015), "wood", tint)
        parts += transform_mesh(own, T)
    for _ in range(int(random.integers(0, 5))):
        x, z = random.uniform((0.5, 0.5), (size[0] - 0.5, size[2] - 0.5))
        half = random.uniform(0.1, 0.5)
        corner, opposite = (x - half, -height, z - 0.15), (x + half, 0.07 - height, z + 0.15)
        parts += make_box(corner, opposite, "plastic", (2.5, 2.4, 2.2))
    return parts


# -- furniture, people and small things


def _pose_on_floor(yaw: float, x: float, z: float) -> Points:
    """Return T_world_object (4, 4) of an upright object, turned by `yaw` from z towards x."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0, s, x], [0, 1.0, 0, 0], [-s, 0, c, z], [0, 0, 0, 1]])


def _place_furniture(seed: int, size: Points) -> list[tuple[Furniture, Points]]:
    random = make_generator(seed, "furniture")
    placed: list[tuple[Furniture, Points]] = []
    taken: list[Points] = []
    wanted = int(size[0] * size[2] * random.uniform(0.1, 0.55)) + 2
    kinds = random.choice(list(FURNITURE), size=int(random.integers(3, len(FURNITURE) + 1)), replace=False)
    for number in range(min(wanted, 30)):
        own = make_generator(seed, "piece", number)
        piece = FURNITURE[str(own.choice(kinds))](own)
        for _ in range(12):
            if piece.against_wall:
                T_wall, length = _make_wall_frame(size, int(own.integers(4)))
                T: Points = T_wall @ _pose_on_floor(0.0, own.uniform(-length / 2, length / 2), 0.0)
                T[:3, 3] += T[:3, 2] * (0.03 - piece.footprint[:, 1].min())
            else:
                T = _pose_on_floor(own.uniform(0, 2 * np.pi), *own.uniform((0, 0), (size[0], size[2])))
            corners = piece.footprint @ T[[0, 2]][:, [0, 2]].T + T[[0, 2], 3]
            inside = (corners > 0.01).all() and (corners < size[[0, 2]] - 0.01).all()
            if inside and not any(has_overlap(corners, other) for other in taken):
                placed.append((piece, T))
                taken.append(corners)
                break
    return placed


def _place_people(seed: int, size: Points) -> Mesh:
    random = make_generator(seed, "people")
    parts: Mesh = []
    for _ in range(int(random.choice([0, 1, 2, 3], p=[0.65, 0.2, 0.1, 0.05]))):
        mesh, _ = make_person(random)
        x, z = random.uniform((0.4, 0.4), (size[0] - 0.4, size[2] - 0.4))
        parts += transform_mesh(mesh, _pose_on_floor(random.uniform(0, 2 * np.pi), x, z))
    return parts


def _place_small_things(seed: int, furniture: list[tuple[Furniture, Points]]) -> Mesh:
    random = make_generator(seed, "small")
    parts: Mesh = []
    tops = [(top, T) for piece, T in furniture for top in piece.tops]
    count = 0
    for (x0, z0, x1, z1, height), T_piece in tops:
        taken: list[Points] = []
        for _ in range(int(random.integers(0, 6))):
            if count >= _MAX_SMALL:
                return parts
            shape = SHAPES[str(random.choice(list(SHAPES)))](random)
            x, z = random.uniform((x0, z0), (x1, z1))
            T = make_upright_pose(random.uniform(0, 2 * np.pi), x, z, float(shape.size_m[1]))
            corners = compute_footprint(shape, 0.005) @ T[[0, 2]][:, [0, 2]].T + T[[0, 2], 3]
            inside = (corners > (x0, z0)).all() and (corners < (x1, z1)).all()
            if not inside or any(has_overlap(corners, other) for other in taken):
                continue
            taken.append(corners)
            T[1, 3] -= height
            own = {"label": f"label_of{count}", "paint": f"paint_of{count}"}
            mesh = [replace(part, material=own.get(part.material, part.material)) for part in shape.mesh + shape.handle]
            parts += transform_mesh(mesh, T_piece @ T)
            count += 1
    return parts


# -- light and the camera's path


def _make_light(seed: int) -> SunLight:
    random = make_generator(seed, "light")
    azimuth, elevation = random.uniform(0, 2 * np.pi), np.radians(random.uniform(20, 80))
    hard, warm = random.uniform(0.05, 0.7), random.uniform(-0.15, 0.35)
    bright = float(np.exp(random.normal(0.0, 0.35)))
    color = np.array([1 + warm, 1.0, 1 - warm])
    ambient = bright * (1 - 0.7 * hard) * color ** random.uniform(0, 1)
    return SunLight(make_direction(elevation, azimuth), bright * hard * 1.5 * color, ambient, np.zeros(3), 0.0)


def _distance_to_boxes(point: Points, boxes: list[tuple[Points, Points]]) -> float:
    gaps = [np.linalg.norm(np.maximum(np.maximum(low - point, point - high), 0)) for low, high in boxes]
    return float(min(gaps, default=np.inf))


def _draw_path(
    random: np.random.Generator, config: RoomWorldConfig, is_free: Callable[[Points], bool], size: Points
) -> Points:
    for attempt in range(400):
        eye = random.uniform((0.3, 0, 0.3), (size[0] - 0.3, 0, size[2] - 0.3))
        eye[1] = -random.uniform(config.camera_height_m[0], min(config.camera_height_m[1], size[1] - 0.2))
        if not is_free(eye):
            continue
        target = random.uniform((0, -1.7, 0), (size[0], 0.0, size[2]))
        away = target - eye
        if np.hypot(away[0], away[2]) < min(1.0, 0.3 * size[[0, 2]].min()):
            continue
        roll, pace = random.normal(0, np.radians(5)), random.uniform(0.005, 0.06) * (1 - attempt / 400)
        heading = away / np.linalg.norm(away) * random.choice([1, -1, 0.3]) + random.normal(0, 0.5, 3) * (1, 0.2, 1)
        steps = pace * (heading + random.normal(0, 0.15, (config.frames, 3)))
        eyes = eye + np.cumsum(steps, 0) - steps[0]
        targets = target + np.cumsum(random.normal(0, 0.02, (config.frames, 3)), 0)
        if all(is_free(point) for point in eyes):
            rolls = roll + np.cumsum(random.normal(0, np.radians(0.3), config.frames))
            return np.stack([make_camera_pose(*pose) for pose in zip(eyes, targets, rolls, strict=True)])
    raise ValueError("no place in the room is free")


def _make_path(
    seed: int, config: RoomWorldConfig, size: Points, furniture: list[tuple[Furniture, Points]], others: Mesh
) -> Points:
    boxes = []
    for mesh in [transform_mesh(piece.mesh, T) for piece, T in furniture] + [[part] for part in others]:
        vertices = np.concatenate([part.vertices for part in mesh])
        boxes.append((vertices.min(0), vertices.max(0)))

    def is_free(point: Points) -> bool:
        inside = (point > (_MIN_CLEAR_M, -size[1] + 0.1, _MIN_CLEAR_M)).all()
        inside &= (point < (size[0] - _MIN_CLEAR_M, -0.1, size[2] - _MIN_CLEAR_M)).all()
        return bool(inside and _distance_to_boxes(point, boxes) > _MIN_CLEAR_M)

    return _draw_path(make_generator(seed, "path"), config, is_free, size)


def make_room(seed: int, config: RoomWorldConfig) -> StillScene:
    """Make the room of this seed, or of the next one if no camera fits. Each subsystem has its own random stream."""
    for attempt in range(20):
        own = seed if attempt == 0 else derive_seed(seed, "again", attempt)
        random = make_generator(own, "room")
        size = _draw_room_size(random)
        furniture = _place_furniture(own, size)
        people, small = _place_people(own, size), _place_small_things(own, furniture)
        try:
            path = _make_path(own, config, size, furniture, people)
        except ValueError:
            continue
        shell = _make_shell(random, size)
        parts = [*shell, *_make_fittings(make_generator(own, "fittings"), size), *people, *small]
        for piece, T in furniture:
            parts += transform_mesh(piece.mesh, T)
        if random.random() < 0.4:
            low = random.uniform(0, 0.5 * size[[0, 2]])
            extent = random.uniform(0.3, 0.5, 2) * size[[0, 2]]
            rug = make_quad((low[0], -0.004, low[1]), (extent[0], 0, 0), (0, 0, extent[1]), "rug")
            parts.insert(0, rug)
            shell = [rug, *shell]
        textures = make_room_textures(own, (part.material for part in parts))
        field_of_view = make_generator(own, "lens").uniform(*config.field_of_view_deg)
        return StillScene(
            **vars(assemble_parts(parts, np.zeros(len(parts), np.int32), len(shell), textures)),
            seed=own,
            lamp=_make_light(own),
            T_world_camera=path,
            gains=np.exp(make_generator(own, "exposure").normal(0.0, 0.1) + np.zeros(config.frames)),
            K=make_intrinsics(field_of_view, config.height, config.width),
        )
    raise AssertionError("20 rooms without a free place")  # the chance is below 1e-9: rooms hold at most 30 pieces


class RoomRenderer(StillRenderer):
    """Renders the frames of one room; depth 0 is beyond a window."""

    def __init__(self, room: StillScene, config: RoomWorldConfig) -> None:
        super().__init__(
            room,
            height=config.height,
            width=config.width,
            samples=config.supersampling,
            shadow_side=_SHADOW_SIDE,
            shadow_bias_m=_SHADOW_BIAS_M,
        )
        self.room, self.config = room, config

    def render(self, frame: int) -> RenderedImage:
        """Render one frame with its depth."""
        return self.render_view(frame, has_noise=self.config.noise)


ROOMWORLD_VERSION = 1
ROOMWORLD = SceneFormat(
    "roomworld", ROOMWORLD_VERSION, "recording.json", "dataset.json", {"format": "stadia", "version": 1},
    lambda split, index, _: f"{split}-{index:05d}",
)  # fmt: skip

_NEAR_M, _FAR_M = 0.4, 12.0  # of depth in previews


def _write_room(config: RoomWorldConfig, job: SceneJob) -> None:
    renderer = RoomRenderer(make_room(job.seed, config), config)
    room = renderer.room
    with atomic_folder(job.folder) as folder:
        for kind in ("left", "depth/left"):
            (folder / kind).mkdir(parents=True)
        for frame in range(config.frames):
            view = renderer.render(frame)
            write_png(folder / "left" / f"{frame:06d}.png", view.image[..., ::-1])
            np.save(folder / "depth" / "left" / f"{frame:06d}.npy", view.depth_m)
        np.savetxt(folder / "poses.txt", room.T_world_camera[:, :3].reshape(-1, 12), fmt="%.12e")
        np.savetxt(folder / "times.txt", np.arange(config.frames) / config.frame_rate_hz, fmt="%.6f")
        recording = {
            "cameras": {"left": {"K": room.K.tolist(), "height": config.height, "width": config.width}},
            "T_right_left": None,
            "frame_rate_hz": config.frame_rate_hz,
            "roomworld": ROOMWORLD.origin(job, config),
        }
        write_json(folder / "recording.json", recording)


def _draw_rooms(rooms: list[Path], rows: int = 8) -> Image:
    chosen = np.linspace(0, len(rooms) - 1, min(3 * rows, len(rooms))).round().astype(int)
    return stack_tiles([_draw_room(rooms[i]) for i in chosen], 3)


def _draw_room(room: Path) -> Image:
    depth = read_npy(room / "depth" / "left" / "000000.npy").astype(np.float32, copy=False)
    return np.hstack([read_rgb(room / "left" / "000000.png"), colorize_depth(depth, _NEAR_M, _FAR_M)])


write_roomworld = SceneWriter(ROOMWORLD, _write_room, _draw_rooms, lambda config: config.frames)
"""Renders a data set."""
