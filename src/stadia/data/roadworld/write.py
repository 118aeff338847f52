"""Write RoadWorld as recordings in stadia's folder layout, each complete or absent, so that rendering resumes.

DATASET/dataset.json names the recordings of each split and is written last. See docs/roadworld.md for every file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.files import replacing_folder, write_json
from stadia.data.rendering.dataset import Job, names_by_split, run_all, unfinished
from stadia.data.rendering.files import cores, write_png
from stadia.data.rendering.shade import GAMMA
from stadia.data.roadworld.classes import SemanticClass
from stadia.data.roadworld.presets import RoadWorldConfig
from stadia.data.roadworld.preview import write_preview
from stadia.data.roadworld.render import Renderer, View
from stadia.data.roadworld.world import World, make_world, world_seed

VERSION = 4
"""Of the worlds: raised when a seed no longer gives the same images, so that an old folder is not continued by new
code.
"""


def jobs(config: RoadWorldConfig, seed: int) -> list[Job]:
    """List the recordings of a data set in order."""
    return [
        Job(f"{split}-{i:03d}", split, i, world_seed(seed, split, i))
        for split, count in config.worlds.items()
        for i in range(count)
    ]


def _write_view(folder: Path, side: str, frame: int, view: View) -> None:
    name = f"{frame:06d}"
    write_png(folder / side / f"{name}.png", view.image[..., ::-1])
    write_png(folder / "semantic" / side / f"{name}.png", view.semantic)
    write_png(folder / "instance" / side / f"{name}.png", view.instance)
    np.save(folder / "depth" / side / f"{name}.npy", view.depth_m)
    np.save(folder / "normals" / side / f"{name}.npy", view.normals.astype(np.float16))


def _describe_instances(world: World) -> dict[str, Any]:
    """Return class, size and pose of each instance (x right, y down, z its front; origin on the ground under its
    middle).
    """
    return {
        "instances": [
            {
                "id": instance.number,
                "class": instance.semantic.label,
                "size_hwl_m": instance.size_hwl_m,
                "moving": instance.moves,
                "T_world_instance": instance.T_world_instance.round(9).tolist(),
            }
            for instance in world.geometry.instances
        ]
    }


def _write_description(folder: Path, renderer: Renderer, origin: dict[str, Any]) -> None:
    """Write all files of a recording but its images; recording.json comes last."""
    world, config = renderer.world, renderer.config
    np.savetxt(folder / "poses.txt", world.drive.T_world_camera[:, :3].reshape(-1, 12), fmt="%.12e")
    np.savetxt(folder / "times.txt", np.arange(config.frames) / config.frame_rate_hz, fmt="%.6f")
    np.savetxt(folder / "road_planes.txt", world.drive.road_plane, fmt="%.12e")
    write_json(folder / "classes.json", {str(int(c)): c.label for c in SemanticClass})
    (folder / "instances.json").write_text(
        json.dumps(_describe_instances(world)) + "\n", encoding="utf-8"
    )  # one line: it is long
    if config.exposure:
        gains = dict(zip(renderer.sides, renderer.gains, strict=True))
        encoded = {side: (g ** (1 / GAMMA)).tolist() for side, g in gains.items()}
        write_json(
            folder / "exposure.json",
            {"linear_gain": {k: g.tolist() for k, g in gains.items()}, "encoded_gain": encoded},
        )
    camera = {"K": world.K.tolist(), "height": config.height, "width": config.width}
    T_right_left = np.eye(4)
    T_right_left[0, 3] = -config.baseline_m
    recording = {
        "cameras": dict.fromkeys(renderer.sides, camera),
        "T_right_left": T_right_left.tolist() if config.stereo else None,
        "frame_rate_hz": config.frame_rate_hz,
        "camera_height_m": world.camera_height_m,
        "road_plane": {
            "normal": world.drive.road_plane[:, :3].mean(0).tolist(),
            "height_m": float(world.drive.road_plane[:, 3].mean()),
        },
        "roadworld": origin,
    }
    write_json(folder / "recording.json", recording)


def _render_frames(pool: Executor, renderer: Renderer, folder: Path, advance: Callable[[], None]) -> None:
    def one(frame: int) -> None:
        for side, view in renderer.render(frame).items():
            _write_view(folder, side, frame, view)

    run_all(pool, one, range(renderer.config.frames), lambda _: advance())


def _write_recording(pool: Executor, job: Job, renderer: Renderer, out: Path, advance: Callable[[], None]) -> None:
    with replacing_folder(out / job.name) as folder:
        for kind in ("", "depth", "normals", "semantic", "instance"):
            for side in renderer.sides:
                (folder / kind / side).mkdir(parents=True)
        _render_frames(pool, renderer, folder, advance)
        _write_description(folder, renderer, job.origin(renderer.config, VERSION))


def write_roadworld(
    config: RoadWorldConfig,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Render a data set to `out`; recordings already there are kept. Returns the path of its dataset.json.

    Args:
        config: what to render.
        seed: of the data set; the same seed gives the same bytes, whatever `workers` is.
        workers: threads that render; all cores by default.
        advance: called with a number of frames as they are finished (or found finished).

    Raises DataError where a folder holds a recording made with other settings, StadiaError where it cannot be written.
    """
    out = Path(out)
    every = jobs(config, seed)
    todo = unfinished(
        every, lambda job: out / job.name / "recording.json", "roadworld", lambda job: job.origin(config, VERSION)
    )
    advance(config.frames * (len(every) - len(todo)))

    def build(job: Job) -> Renderer:
        return Renderer(make_world(job.seed, config), config)

    with ThreadPoolExecutor(workers or cores()) as pool:
        upcoming = [pool.submit(build, job) for job in todo[:1]]
        for job, following in zip(todo, [*todo[1:], None], strict=False):  # where all is there, nothing follows
            renderer = upcoming.pop().result()
            if following is not None:  # the next world is built while this one is rendered
                upcoming.append(pool.submit(build, following))
            _write_recording(pool, job, renderer, out, lambda: advance(1))
    write_preview(out, [job.name for job in every])
    path = out / "dataset.json"
    made_from = {"seed": seed, "config": config.model_dump(mode="json")}
    write_json(path, {"format": "stadia", "version": 1, "splits": names_by_split(every), "roadworld": made_from})
    return path
