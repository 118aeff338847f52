"""Write RoadWorld as recordings in stadia's folder layout (docs/reference/roadworld.md)."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from stadia.data.config import CacheConfig
from stadia.data.frame_store import lock_beside
from stadia.io.array_files import read_npy
from stadia.io.atomic_files import atomic_folder, write_json
from stadia.io.image_files import read_label_png, read_rgb
from stadia.io.input_files import find_cache_folder
from stadia.synthetic.config import ROADWORLD_DEMO, RoadWorldConfig
from stadia.synthetic.rendering import dataset_files
from stadia.synthetic.rendering.shading_kernels import GAMMA
from stadia.synthetic.roadworld.road_world import RoadRenderer, RoadView, make_world
from stadia.synthetic.roadworld.street_scene import PALETTE, ObjectInstance, SemanticClass

ROADWORLD_VERSION = 4  # raised when a seed no longer gives the same files
ROADWORLD = dataset_files.SceneFormat(
    "roadworld", ROADWORLD_VERSION, "recording.json", "dataset.json", {"format": "stadia", "version": 1},
    lambda split, index, _: f"{split}-{index:03d}",
)  # fmt: skip

DEMO_FRAMES = sum(ROADWORLD_DEMO.counts.values()) * ROADWORLD_DEMO.frames

_NEAR_M = 3.0  # nearest depth in previews
_FAR_M = 120.0  # farthest depth in previews


def _write_view(folder: Path, side: str, frame: int, view: RoadView) -> None:
    name = f"{frame:06d}"
    dataset_files.write_png(folder / side / f"{name}.png", view.image[..., ::-1])
    dataset_files.write_png(folder / "semantic" / side / f"{name}.png", view.semantic)
    dataset_files.write_png(folder / "instance" / side / f"{name}.png", view.instance)
    np.save(folder / "depth" / side / f"{name}.npy", view.depth_m)
    np.save(folder / "normals" / side / f"{name}.npy", view.normals.astype(np.float16))


def _describe_instance(instance: ObjectInstance) -> dict[str, Any]:
    """Describe an instance: x right, y down, z its front; origin on the ground under its middle."""
    return {
        "id": instance.number,
        "class": instance.semantic.label,
        "size_hwl_m": instance.size_hwl_m,
        "moving": instance.moves,
        "T_world_instance": instance.T_world_instance.round(9).tolist(),
    }


def _write_description(folder: Path, renderer: RoadRenderer, origin: dict[str, Any]) -> None:
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
    pool: Executor, job: dataset_files.SceneJob, renderer: RoadRenderer, advance: Callable[[int], None]
) -> None:
    def write_frame(frame: int) -> int:
        for side, view in renderer.render(frame).items():
            _write_view(folder, side, frame, view)
        return 1

    with atomic_folder(job.folder) as folder:
        for kind in ("", "depth", "normals", "semantic", "instance"):
            for side in renderer.sides:
                (folder / kind / side).mkdir(parents=True)
        dataset_files.run_jobs(pool, write_frame, range(renderer.config.frames), advance)
        _write_description(folder, renderer, ROADWORLD.origin(job, renderer.config))


def write_roadworld(
    config: RoadWorldConfig,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Render a RoadWorld dataset to a folder, and return the path of its dataset.json.

    Recordings that an earlier call finished are kept.

    config: size and content of the dataset.
    out: the folder.
    seed: seed of all worlds.
    workers: number of threads; None takes all cores.
    advance: called with the number of newly rendered frames.
    """
    jobs = ROADWORLD.list_jobs(Path(out), config, seed)
    ROADWORLD.check_folder(Path(out))
    todo = ROADWORLD.find_unfinished(jobs, config)
    ROADWORLD.check_listing(Path(out), RoadWorldConfig)
    advance(config.frames * (len(jobs) - len(todo)))

    def build(job: dataset_files.SceneJob) -> RoadRenderer:
        return RoadRenderer(make_world(job.seed, config), config)

    with ThreadPoolExecutor(workers or dataset_files.count_cores()) as pool:
        upcoming = [pool.submit(build, job) for job in todo[:1]]
        # The loop does not run if all worlds are finished.
        for job, following in zip(todo, [*todo[1:], None], strict=False):
            renderer = upcoming.pop().result()
            if following is not None:  # the next world is built while this one is rendered
                upcoming.append(pool.submit(build, following))
            _write_recording(pool, job, renderer, advance)
    return ROADWORLD.write_listing(Path(out), jobs, config, seed, _draw_preview([job.folder for job in jobs]))


# -- A contact sheet: images, depth, normals and classes.


def _draw_preview(recordings: list[Path]) -> dataset_files.Image:
    files = [file for recording in recordings for file in sorted((recording / "left").glob("*.png"))]
    chosen = np.linspace(0, len(files) - 1, min(8, len(files)) + 2).astype(int)[1:-1]
    return np.vstack([_draw_preview_row(files[i].parents[1], files[i].stem) for i in chosen])


def _draw_preview_row(recording: Path, name: str) -> dataset_files.Image:
    image = read_rgb(recording / "left" / f"{name}.png")
    depth = read_npy(recording / "depth" / "left" / f"{name}.npy").astype(np.float32, copy=False)
    normals = read_npy(recording / "normals" / "left" / f"{name}.npy").astype(np.float32)
    # RGB = (x, -y, -z) mapped from [-1, 1]; sky is black.
    colored = np.where(normals.any(-1, keepdims=True), 127.5 + 127.5 * normals * (1, -1, -1), 0).astype(np.uint8)
    semantic = read_label_png(recording / "semantic" / "left" / f"{name}.png")
    return np.hstack(
        [image, dataset_files.colorize_depth(depth, _NEAR_M, _FAR_M), colored, np.array(PALETTE, np.uint8)[semantic]]
    )


# -- Worlds in the cache, among them those of the demo.


def render_cached_worlds(
    name: str,
    config: RoadWorldConfig,
    cache: CacheConfig,
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Render worlds to the cache, once, and return their folder. Other processes wait for the one that renders."""
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]  # other settings are other worlds
    seeded = f"-seed-{seed}" if seed else ""
    folder = find_cache_folder(cache.folder) / f"roadworld-{name}{seeded}-{ROADWORLD_VERSION}-{settings}"
    with lock_beside(folder):
        write_roadworld(config, folder, seed=seed, advance=advance)
    return folder


def render_demo_worlds(cache: CacheConfig, advance: Callable[[int], None] = lambda frames: None) -> Path:
    """Render the demo's worlds to the cache, see `render_cached_worlds`.

    advance: called with the number of rendered frames; DEMO_FRAMES in total.
    """
    return render_cached_worlds("demo", ROADWORLD_DEMO, cache, advance=advance)
