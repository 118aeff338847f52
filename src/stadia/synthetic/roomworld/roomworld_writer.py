"""Write RoomWorld in the stadia folder layout, one folder a room."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from stadia.datasets.image_files import read_rgb
from stadia.files.array_files import read_npy
from stadia.files.atomic_files import atomic_folder, write_json
from stadia.synthetic.config import RoomWorldConfig
from stadia.synthetic.rendering.dataset_files import (
    Image,
    SceneFormat,
    SceneJob,
    colorize_depth,
    stack_tiles,
    write_png,
)
from stadia.synthetic.roomworld.room_scene import RoomRenderer, make_room

ROOMWORLD_VERSION = 1
ROOMWORLD = SceneFormat(
    "roomworld", ROOMWORLD_VERSION, "recording.json", "dataset.json", {"format": "stadia", "version": 1},
    lambda split, index, _: f"{split}-{index:05d}",
)  # fmt: skip

_NEAR_M, _FAR_M = 0.4, 12.0  # of depth in previews


def _write_room(config: RoomWorldConfig, job: SceneJob) -> int:
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
    return config.frames


def write_roomworld(
    config: RoomWorldConfig,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Render a data set to `out`, as `write_roadworld` does. Returns the path of its dataset.json."""
    write, images = partial(_write_room, config), config.frames
    return ROOMWORLD.write_scenes(
        Path(out), config, seed, write, _draw_rooms, images=images, workers=workers, advance=advance
    )


def _draw_rooms(rooms: list[Path], rows: int = 8) -> Image:
    chosen = np.linspace(0, len(rooms) - 1, min(3 * rows, len(rooms))).round().astype(int)
    return stack_tiles([_draw_room(rooms[i]) for i in chosen], 3)


def _draw_room(room: Path) -> Image:
    depth = read_npy(room / "depth" / "left" / "000000.npy").astype(np.float32, copy=False)
    return np.hstack([read_rgb(room / "left" / "000000.png"), colorize_depth(depth, _NEAR_M, _FAR_M)])
