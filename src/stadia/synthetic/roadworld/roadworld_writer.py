"""Write RoadWorld as recordings in stadia's folder layout, each complete or absent, so that rendering resumes.

DATASET/dataset.json names the recordings of each split and is written last. See docs/roadworld.md for every file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.files import atomic_folder, write_json
from stadia.datasets.config import CacheConfig
from stadia.datasets.frame_store import find_cache_folder, lock_beside
from stadia.synthetic.rendering.dataset_files import (
    Image,
    SceneJob,
    colorize_depth,
    count_cores,
    find_unfinished,
    group_names_by_split,
    list_jobs,
    run_jobs,
    write_contact_sheet,
    write_png,
)
from stadia.synthetic.rendering.renderer import GAMMA
from stadia.synthetic.roadworld.config import DEMO, RoadWorldConfig
from stadia.synthetic.roadworld.road_world import RoadRenderer, RoadView, derive_world_seed, make_world
from stadia.synthetic.roadworld.street_scene import PALETTE, ObjectInstance, SemanticClass

ROADWORLD_VERSION = 4
"""Raised when a seed no longer gives the same images, so that new code does not continue an old folder."""

DEMO_FRAMES = sum(DEMO.worlds.values()) * DEMO.frames

_NEAR_M, _FAR_M = 3.0, 120.0  # of depth in previews


def list_recordings(config: RoadWorldConfig, seed: int) -> list[SceneJob]:
    """List the recordings of a data set in order."""
    derive = partial(derive_world_seed, seed)
    return list_jobs(config.worlds, derive, lambda split, index, _: f"{split}-{index:03d}")


def _write_view(folder: Path, side: str, frame: int, view: RoadView) -> None:
    name = f"{frame:06d}"
    write_png(folder / side / f"{name}.png", view.image[..., ::-1])
    write_png(folder / "semantic" / side / f"{name}.png", view.semantic)
    write_png(folder / "instance" / side / f"{name}.png", view.instance)
    np.save(folder / "depth" / side / f"{name}.npy", view.depth_m)
    np.save(folder / "normals" / side / f"{name}.npy", view.normals.astype(np.float16))


def _describe_instance(instance: ObjectInstance) -> dict[str, Any]:
    """Return class, size and pose (x right, y down, z its front; origin on the ground under its middle)."""
    return {
        "id": instance.number,
        "class": instance.semantic.label,
        "size_hwl_m": instance.size_hwl_m,
        "moving": instance.moves,
        "T_world_instance": instance.T_world_instance.round(9).tolist(),
    }


def _write_description(folder: Path, renderer: RoadRenderer, origin: dict[str, Any]) -> None:
    """Write all files of a recording but its images; recording.json comes last."""
    world, config = renderer.world, renderer.config
    plane = world.drive.road_plane
    np.savetxt(folder / "poses.txt", world.drive.T_world_camera[:, :3].reshape(-1, 12), fmt="%.12e")
    np.savetxt(folder / "times.txt", np.arange(config.frames) / config.frame_rate_hz, fmt="%.6f")
    np.savetxt(folder / "road_planes.txt", plane, fmt="%.12e")
    write_json(folder / "classes.json", {str(int(c)): c.label for c in SemanticClass})
    instances = json.dumps({"instances": list(map(_describe_instance, world.geometry.instances))})
    (folder / "instances.json").write_text(instances + "\n", encoding="utf-8")  # one line: indented it would be long
    if config.exposure:
        gains = dict(zip(renderer.sides, renderer.gains, strict=True))
        linear = {side: gain.tolist() for side, gain in gains.items()}
        encoded = {side: (gain ** (1 / GAMMA)).tolist() for side, gain in gains.items()}
        write_json(folder / "exposure.json", {"linear_gain": linear, "encoded_gain": encoded})
    camera = {"K": world.K.tolist(), "height": config.height, "width": config.width}
    T_right_left = np.eye(4)
    T_right_left[0, 3] = -config.baseline_m
    recording = {
        "cameras": dict.fromkeys(renderer.sides, camera),
        "T_right_left": T_right_left.tolist() if config.stereo else None,
        "frame_rate_hz": config.frame_rate_hz,
        "camera_height_m": world.camera_height_m,
        "road_plane": {"normal": plane[:, :3].mean(0).tolist(), "height_m": float(plane[:, 3].mean())},
        "roadworld": origin,
    }
    write_json(folder / "recording.json", recording)


def _write_recording(
    pool: Executor, job: SceneJob, renderer: RoadRenderer, out: Path, advance: Callable[[int], None]
) -> None:
    def write_frame(frame: int) -> int:
        for side, view in renderer.render(frame).items():
            _write_view(folder, side, frame, view)
        return 1

    with atomic_folder(out / job.name) as folder:
        for kind in ("", "depth", "normals", "semantic", "instance"):
            for side in renderer.sides:
                (folder / kind / side).mkdir(parents=True)
        run_jobs(pool, write_frame, range(renderer.config.frames), advance)
        _write_description(folder, renderer, job.origin(renderer.config, ROADWORLD_VERSION))


def write_roadworld(
    config: RoadWorldConfig,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Render a data set to `out`; existing recordings are kept. Returns the path of its dataset.json.

    Args:
        seed: of the data set; the same seed gives the same bytes for any number of workers.
        workers: threads that render; all cores by default.
        advance: called with a number of frames when they are finished.

    Raises DataError where a folder holds a recording made with other settings, StadiaError where it cannot be written.
    """
    out = Path(out)
    every = list_recordings(config, seed)

    def record(job: SceneJob) -> Path:
        return out / job.name / "recording.json"

    todo = find_unfinished(every, record, "roadworld", config, ROADWORLD_VERSION)
    advance(config.frames * (len(every) - len(todo)))

    def build(job: SceneJob) -> RoadRenderer:
        return RoadRenderer(make_world(job.seed, config), config)

    with ThreadPoolExecutor(workers or count_cores()) as pool:
        upcoming = [pool.submit(build, job) for job in todo[:1]]
        for job, following in zip(todo, [*todo[1:], None], strict=False):  # no job is left where all are finished
            renderer = upcoming.pop().result()
            if following is not None:  # the next world is built while this one is rendered
                upcoming.append(pool.submit(build, following))
            _write_recording(pool, job, renderer, out, advance)
    write_roadworld_preview(out, [job.name for job in every])
    path = out / "dataset.json"
    made_from = {"seed": seed, "config": config.model_dump(mode="json")}
    write_json(path, {"format": "stadia", "version": 1, "splits": group_names_by_split(every), "roadworld": made_from})
    return path


# -- A contact sheet: images, depth, normals and classes.


def colorize_normals(normals: NDArray[np.float16]) -> Image:
    """Color normals (H, W, 3): RGB = (x, -y, -z) mapped from [-1, 1]; sky is black."""
    shown = np.abs(normals).sum(-1, keepdims=True) > 0
    return np.where(shown, 127.5 + 127.5 * normals.astype(np.float32) * (1, -1, -1), 0).astype(np.uint8)


def colorize_classes(semantic: NDArray[np.uint8]) -> Image:
    """Color classes as (H, W, 3) RGB."""
    return np.array(PALETTE, np.uint8)[semantic]


def _draw_preview_row(recording: Path, frame: int) -> Image:
    name = f"{frame:06d}"
    image = np.asarray(cv2.imread(str(recording / "left" / f"{name}.png")))[..., ::-1]
    depth = colorize_depth(np.load(recording / "depth" / "left" / f"{name}.npy", allow_pickle=False), _NEAR_M, _FAR_M)
    normals = colorize_normals(np.load(recording / "normals" / "left" / f"{name}.npy", allow_pickle=False))
    semantic = np.asarray(cv2.imread(str(recording / "semantic" / "left" / f"{name}.png"), cv2.IMREAD_UNCHANGED))
    return np.hstack([image, depth, normals, colorize_classes(semantic)])


def write_roadworld_preview(dataset: Path, recordings: list[str], rows: int = 8) -> Path:
    """Write DATASET/preview.png: a row each for frames spread evenly over the recordings. Returns its path."""
    counts = {name: len(list((dataset / name / "left").glob("*.png"))) for name in recordings}
    frames = [(name, i) for name, count in counts.items() for i in range(count)]
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, min(rows, len(frames)) + 2).astype(int)[1:-1]]
    sheet = np.vstack([_draw_preview_row(dataset / name, i) for name, i in chosen])
    return write_contact_sheet(dataset / "preview.png", sheet)


# -- Worlds in the cache, among them those of the demo.


def render_cached_worlds(
    name: str,
    config: RoadWorldConfig,
    cache: CacheConfig,
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Render worlds to the cache, once. Returns their folder; concurrent processes wait for the first.

    name: part of the folder's name, beside hash of settings, version, and seed where it is not 0.
    advance: see `write_roadworld`.
    """
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]  # other settings are other worlds
    seeded = f"-seed-{seed}" if seed else ""
    folder = find_cache_folder(cache) / f"roadworld-{name}{seeded}-{ROADWORLD_VERSION}-{settings}"
    with lock_beside(folder):
        write_roadworld(config, folder, seed=seed, advance=advance)
    return folder


def render_demo_worlds(cache: CacheConfig, advance: Callable[[int], None] = lambda frames: None) -> Path:
    """Render the demo's worlds to the cache, see `render_cached_worlds`. advance: of DEMO_FRAMES frames."""
    return render_cached_worlds("demo", DEMO, cache, advance=advance)
