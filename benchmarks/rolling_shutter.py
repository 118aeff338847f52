"""Measure what a rolling shutter does to `stadia map`, on videos of RoadWorld that are rendered row by row.

    python benchmarks/rolling_shutter.py --folder FOLDER [--motions walk drive] [--seeds 0] [--readouts 0 10 20 30]
    python benchmarks/rolling_shutter.py --clips IMAGES ... [--camera FX FY CX CY] --folder FOLDER

Two motions at 30 frames a second: a walk with a phone that turns from side to side, and a drive with turns. The rows of
a frame are rendered in bands, each from the pose at its time; the true pose of a frame belongs to its middle row.
Printed is a JSON line for each video: the readout time before and after the correction, in frames, with its standard
deviation, the median error of the held-out matches before and after, and with a true path the ATE after Sim(3)
alignment. The videos are kept in FOLDER, and a later call maps them again. `--clips` takes other videos.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from map import score_path
from map_lenses import find_seed, rotate
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from stadia.core.progress import no_progress
from stadia.data.config import CacheConfig, CameraConfig
from stadia.sfm.camera_intervals import measure_readout
from stadia.sfm.frame_stream import choose_key_frames, open_stream
from stadia.sfm.map_evidence import measure_agreement
from stadia.sfm.map_parts import correct_rows, map_key_frames
from stadia.sfm.pair_matching import collect_features, find_cuts
from stadia.sfm.reconstruction import Workers
from stadia.sfm.sparse_map import LensCamera, place_all_frames, stack_poses
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.rendering.renderer import render_image
from stadia.synthetic.roadworld.road_world import CameraDrive, RoadRenderer, make_world

RATE_HZ, FRAMES, HEIGHT, WIDTH = 30.0, 100, 192, 320
BAND_ROWS, MARGIN_ROWS = 12, 2
"""Number of rows that are rendered together; MARGIN_ROWS more on both sides are cut off after the blur of the lens."""

PACES_M = {"walk": (0.045, 0.055), "drive": (0.3, 0.35)}  # metres per frame


def shake(random: np.random.Generator, degrees: float, hertz: tuple[float, float]) -> np.ndarray:
    """Return (F,) radians: two sines of random frequencies with this root mean square."""
    time_s = np.arange(FRAMES) / RATE_HZ
    waves = [np.sin(2 * np.pi * (random.uniform(*hertz) * time_s + random.uniform())) for _ in range(2)]
    return np.radians(degrees) * np.sum(waves, 0)


def make_renderer(motion: str, seed: int, samples: int) -> RoadRenderer:
    """Return the renderer of a world without people, whose camera walks or drives."""
    config = RoadWorldConfig(
        train=1, val=0, test=0, frames=FRAMES, height=HEIGHT, width=WIDTH, stereo=False, supersampling=samples,
        frame_rate_hz=RATE_HZ, field_of_view_deg=(65.0,), speed_m_per_frame=PACES_M[motion], camera_height_m=(1.5,),
    )  # fmt: skip
    found = find_seed("turning" if motion == "drive" else "walk", seed, config)
    world = make_world(found, config, with_people=False)
    if motion == "walk":
        random = np.random.default_rng(seed)
        T = world.drive.T_world_camera.copy()
        turns = shake(random, 1.0, (1.5, 2.5)), shake(random, 15.0, (0.2, 0.5)), shake(random, 1.0, (0.8, 1.5))
        T[:, :3, :3] = T[:, :3, :3] @ rotate(*turns)
        T[:, 1, 3] += 0.02 * np.sin(2 * np.pi * 2.0 * np.arange(FRAMES) / RATE_HZ)
        world = replace(world, drive=CameraDrive(T, world.drive.road_plane))
    return RoadRenderer(world, config)


def interpolate_poses(T: np.ndarray) -> Callable[[float], np.ndarray]:
    """Return the pose (4, 4) as a smooth function of the time in frames, through the poses (N, 4, 4) of all frames."""
    times = np.arange(len(T))
    centers, turns = CubicSpline(times, T[:, :3, 3]), RotationSpline(times, Rotation.from_matrix(T[:, :3, :3]))

    def find_pose(time: float) -> np.ndarray:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turns(time).as_matrix(), centers(time)
        return pose

    return find_pose


def render_rows(renderer: RoadRenderer, frame: int, readout: float, find_pose: Callable[[float], np.ndarray]) -> Any:
    """Return the image (H, W, 3) of a frame whose rows are read over `readout` frames, about the time of the frame."""
    geometry, lens, light = renderer.world.geometry, renderer.lens, renderer.make_light(frame)
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    noise = np.random.default_rng(frame)
    for top in range(0, HEIGHT, BAND_ROWS):
        middle = top + (BAND_ROWS - 1) / 2
        T = np.linalg.inv(find_pose(frame + readout * (middle / (HEIGHT - 1) - 0.5)))
        band = lens._replace(cy=lens.cy - top + MARGIN_ROWS, height=BAND_ROWS + 2 * MARGIN_ROWS)
        shown = render_image(geometry, T @ geometry.T_world_body[frame], band, light, gain=1.0, noise=noise)
        image[top : top + BAND_ROWS] = shown.image[MARGIN_ROWS:-MARGIN_ROWS]
    return image


def write_video(motion: str, seed: int, readout_ms: float, folder: Path, samples: int) -> None:
    """Write the frames, their K (3, 3) and their poses T_world_camera (N, 4, 4), unless they are there."""
    if (folder / "truth.npz").is_file():
        return
    renderer = make_renderer(motion, seed, samples)
    T, images = renderer.world.drive.T_world_camera, folder / "images"
    find_pose = interpolate_poses(T)
    images.mkdir(parents=True, exist_ok=True)

    def write(frame: int) -> None:
        image = render_rows(renderer, frame, 1e-3 * readout_ms * RATE_HZ, find_pose)
        cv2.imwrite(str(images / f"{frame:06d}.png"), image[..., ::-1])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(FRAMES)))
    np.savez(folder / "truth.npz", K=renderer.world.K, T_world_camera=T)


def measure(images: Path, K: np.ndarray | None, truth: np.ndarray | None, folder: Path) -> dict[str, Any]:
    """Map a video once, correct the map, and return the figures of both."""
    workers = Workers(os.cpu_count() or 1)
    stream = open_stream(images, CameraConfig(), {"cache": CacheConfig(folder=str(folder / "cache"))}, "auto")
    given = None
    if K is not None:
        height, width = stream.small_size
        given = LensCamera(K[0, 0], (K[0, 2], K[1, 2]), (0.0, 0.0, 0.0, 0.0), stream.height, stream.width)
        given = given.resized(height, width)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        keys, static = choose_key_frames(stream, work, no_progress), stream.find_static()
        features = collect_features(stream, keys.keys, work, no_progress)
        _, maps, pairs = map_key_frames(stream, features, work, given=given, static=static, workers=workers)
    keys = replace(keys, cuts=find_cuts(pairs, keys.keys))
    before, readout = maps[0], measure_readout(maps[0])
    spent = time.process_time()
    after, corrected = correct_rows(before, pairs, threads=workers.threads)
    assert readout is not None, "too few keyframes"
    assert corrected is not None
    row: dict[str, Any] = {"keys": len(before.frames), "correction_s": round(time.process_time() - spent, 1)}
    row |= {"found": round(readout.frames, 3), "deviation": round(readout.deviation, 3)}
    row |= {"is_rolling": readout.is_rolling, "is_corrected": after.readout != 0}
    for sparse, label in ((before, "before"), (after, "after")):
        row[f"held_{label}_px"] = round(float(np.median(measure_agreement(sparse, pairs).held)), 3)
        if truth is not None:
            placed = place_all_frames(stream, keys, [sparse], no_progress)[0]
            scores = score_path(np.linalg.inv(stack_poses(placed)), truth)
            row |= {f"ate_{label}_m": scores["ate_m"], "path_m": scores["path_m"], f"lost_{label}": scores["lost"]}
    return row | {"corrected": round(corrected.frames, 3), "corrected_deviation": round(corrected.deviation, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--motions", nargs="*", choices=list(PACES_M), default=list(PACES_M))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--readouts", nargs="*", type=float, default=[0, 10, 20, 30], metavar="MS")
    parser.add_argument("--samples", type=int, default=3, help="of N x N in a pixel: one aliases")
    parser.add_argument("--clips", nargs="*", type=Path, metavar="IMAGES")
    parser.add_argument("--camera", nargs=4, type=float, metavar=("FX", "FY", "CX", "CY"))
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    for clip in options.clips or ():
        K = None
        if options.camera is not None:
            fx, fy, cx, cy = options.camera
            K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        print(json.dumps({"clip": clip.name, **measure(clip, K, None, folder)}), flush=True)
    if options.clips:
        return
    for motion, seed, readout_ms in itertools.product(options.motions, options.seeds, options.readouts):
        video = folder / f"{motion}-{seed}-{readout_ms:g}"
        write_video(motion, seed, readout_ms, video, options.samples)
        row = {"video": video.name, "true": round(1e-3 * readout_ms * RATE_HZ, 3)}
        with np.load(video / "truth.npz") as truth:
            row |= measure(video / "images", truth["K"], truth["T_world_camera"], folder)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
