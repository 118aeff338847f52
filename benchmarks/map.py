"""Measure `stadia map`: path, camera and time on the real samples, and on worlds of RoadWorld.

    python benchmarks/map.py [--only kitti06 highway] [--worlds FOLDER] [--unknown] [--masks-by MODEL] [--odometry base]

Each clip is mapped with its camera and (`--unknown`) without. Printed are frames placed, ATE after Sim(3) alignment,
steps that reverse, the camera with its 95 % interval, seconds and memory; a JSON line each. The real samples are in
STADIA_REAL_DATA (../shared/data). `--worlds` is a folder of `stadia data roadworld`.

`--masks-by` makes masks (`stadia masks VIDEO --by MODEL`) that the map leaves out. `--odometry` tracks the clip by
the depth of a network too, without and then with the map beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import REAL_DATA
from scipy.spatial.transform import Rotation

from stadia.data.config import CacheConfig, CameraConfig
from stadia.data.open_dataset import open_recordings
from stadia.data.video.video_map import find_map_folder, read_map
from stadia.geometry.align import umeyama
from stadia.io.records.read import read_kitti_trajectory
from stadia.sfm.describe_map import describe_map
from stadia.sfm.map_video import map_video
from stadia.sfm.sparse_map import PlacedFrame, stack_poses

MIN_STEP = 0.02
"""Of the longest step: shorter ones are those of a camera that stands, and have no direction."""


@dataclass
class Clip:
    """K (3, 3) of the frames; poses (N, 4, 4) T_world_camera, NaN for unknown ones, or None."""

    name: str
    source: Path
    K: np.ndarray | None
    poses: np.ndarray | None


def real_clips() -> Iterator[Clip]:
    for name, path, format in (
        ("kitti06", REAL_DATA / "kitti_odometry", "kitti_odometry"),
        ("raw", REAL_DATA / "kitti_raw", "kitti_raw"),
        ("kitchen", REAL_DATA / "sevenscenes" / "kitchen", "sevenscenes"),
    ):
        (recording,) = open_recordings(path, format)
        clip = from_recording(name, recording)
        if name == "raw":  # of LiDAR odometry, which is not official
            clip.poses = read_kitti_trajectory(next(path.rglob("lidar_odometry_cam2.txt"))).T_world_camera
        yield clip
    video = Path(tempfile.mkdtemp(), "highway.mp4")
    video.symlink_to((REAL_DATA / "clips" / "highway.mp4").resolve())
    yield Clip("highway", video, np.array([[866, 0, 481.0], [0, 866, 269.5], [0, 0, 1]]), None)
    (recording,) = open_recordings(REAL_DATA / "euroc" / "V1_01_easy", "euroc")
    clip = from_recording("euroc", recording)
    clip.K = None  # of the raw images
    yield clip
    poses = np.loadtxt(REAL_DATA / "walk" / "poses.txt").reshape(-1, 4, 4)
    images = sorted((REAL_DATA / "walk" / "images").iterdir())
    for name, every in (("walk", 1), ("walk-half", 2), ("walk-odd", 2)):
        chosen = range(int(name == "walk-odd"), len(images), every)
        yield Clip(name, link_images(name, [images[row] for row in chosen]), read_walk_K(), poses[list(chosen)])
    images = sorted((REAL_DATA / "tum_fr2_desk" / "images").iterdir())
    yield Clip("tum-desk", link_images("tum-desk", images), None, read_tum_poses(images))
    for name in ("static", "highway2", "robot"):
        video = Path(tempfile.mkdtemp(), f"{name}.mp4")
        video.symlink_to((REAL_DATA / "clips" / f"{name}.mp4").resolve())
        yield Clip(name, video, None, None)
    random = np.random.default_rng(0).permutation(80)
    (recording,) = open_recordings(REAL_DATA / "sevenscenes" / "kitchen", "sevenscenes")
    files = [file for row in random if (file := recording.file(int(row))) is not None]
    known = np.array([recording.T_world_camera(int(row)) for row in random])
    yield Clip("kitchen-shuffled", link_images("kitchen-shuffled", files), recording.camera(0).K, known)


def read_walk_K() -> np.ndarray:
    return np.loadtxt(REAL_DATA / "walk" / "K.txt")


def read_tum_poses(images: list[Path]) -> np.ndarray:
    """Return the poses nearest in time to each image."""
    rows = np.loadtxt(REAL_DATA / "trajectories" / "fr2_desk_groundtruth.txt")
    times = np.array([float(image.stem) for image in images])
    nearest = rows[np.abs(rows[None, :, 0] - times[:, None]).argmin(1)]
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    poses[:, :3, 3] = nearest[:, 1:4]
    poses[:, :3, :3] = Rotation.from_quat(nearest[:, 4:]).as_matrix()
    return poses


def link_images(name: str, images: list[Path]) -> Path:
    """Return a folder with links to images, named by their order."""
    folder = Path(tempfile.mkdtemp()) / name
    folder.mkdir()
    for index, image in enumerate(images):
        (folder / f"{index:06d}{image.suffix}").symlink_to(image.resolve())
    return folder


def from_recording(name: str, recording: Any) -> Clip:
    poses = [recording.T_world_camera(index) for index in range(len(recording))]
    known = np.array([np.full((4, 4), np.nan) if T is None else T for T in poses])
    folder = Path(tempfile.mkdtemp()) / name
    folder.mkdir()
    for index in range(len(recording)):  # links: the frames of one camera alone
        file = recording.file(index)
        (folder / f"{index:06d}{file.suffix}").symlink_to(file.resolve())
    return Clip(name, folder, recording.camera(0).K, known if np.isfinite(known).any() else None)


def world_clips(folder: Path) -> Iterator[Clip]:
    for recording in open_recordings(folder, "stadia"):
        yield from_recording(recording.name.replace("/", "-"), recording)


def measure(clip: Clip, *, known: bool, masks: Path | None = None) -> dict[str, Any]:
    """Write the map beside the clip, and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        camera = CameraConfig(K=clip.K.tolist()) if known and clip.K is not None else CameraConfig()
        started = time.perf_counter()
        row: dict[str, Any] = {"clip": clip.name, "camera": "given" if known else "unknown", "masks": masks is not None}
        try:
            mapped = map_video(clip.source, camera=camera, masks=masks, cache=CacheConfig(folder=folder))
            lines = list(describe_map(mapped))
        except Exception as error:
            return {**row, "failed": str(error)[:200], "s": round(time.perf_counter() - started, 1)}
        row["s"] = round(time.perf_counter() - started, 1)
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        found = read_map(find_map_folder(clip.source))
        row["first_line"] = lines[0].split(": ", 1)[1]
        lens = found.camera
        row["origin"] = lens.origin
        if not known:
            row["focal_px"] = round(lens.focal_px, 1)
            row["interval"] = [round(end, 1) for end in lens.intervals_95.get("focal_px", ())]
            if clip.K is not None:
                row["true_px"] = round(float(clip.K[0, 0]), 1)
        row |= score_path(found.poses, clip.poses)
        row["verdict"] = None if mapped.found.verdict is None else asdict(mapped.found.verdict)
        row["parts"] = [score_part(part, clip.poses) for part in mapped.found.parts]
        return row


def score_part(part: Sequence[PlacedFrame], truth: np.ndarray | None) -> dict[str, Any]:
    poses = np.full((max(frame.index for frame in part) + 1, 4, 4), np.nan)
    for frame, T in zip(part, stack_poses(part), strict=True):
        poses[frame.index] = np.linalg.inv(T)
    return {"frames": len(part), **score_path(poses, None if truth is None else truth[: len(poses)])}


def run_stadia(*words: object) -> str:
    """Run a command; return what it printed last, where it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "stadia", *map(str, words)], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["?"])[-1]


def track_by_depth(clip: Clip, network: str) -> dict[str, Any]:
    """Return the scores of `stadia odometry NETWORK CLIP`; with the map where one lies beside the clip."""
    out = Path(tempfile.mkdtemp(), "path")
    K = [] if clip.K is None else [f"data.camera.K={clip.K.tolist()}"]
    if failed := run_stadia("odometry", network, clip.source, *K, "data.stride=1", "--out", out):
        return {"failed": failed[:200]}
    tracked = read_kitti_trajectory(out / "trajectory.txt")
    frames = np.arange(len(tracked)) if tracked.frames is None else tracked.frames
    poses = np.full((len(clip.poses) if clip.poses is not None else frames[-1] + 1, 4, 4), np.nan)
    poses[frames] = tracked.T_world_camera
    return score_path(poses, clip.poses)


def score_path(poses: np.ndarray, truth: np.ndarray | None) -> dict[str, Any]:
    placed = np.isfinite(poses).all((1, 2))
    centers = poses[placed][:, :3, 3]
    steps = np.diff(centers, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    steps = steps[lengths > MIN_STEP * lengths.max(initial=1e-12)]
    row: dict[str, Any] = {"lost": int((~placed).sum()), "reversing": int(((steps[1:] * steps[:-1]).sum(1) < 0).sum())}
    if truth is None:
        return row
    both = placed & np.isfinite(truth).all((1, 2))
    source, target = (torch.from_numpy(T[both][:, :3, 3].copy()) for T in (poses, truth))
    similarity = umeyama(source, target, "sim3")
    moved = similarity.apply(source)
    row["ate_m"] = round(float((moved - target).square().sum(-1).mean().sqrt()), 4)
    row["path_m"] = round(float((target[1:] - target[:-1]).norm(dim=-1).sum()), 2)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--worlds", type=Path)
    parser.add_argument("--unknown", action="store_true")
    parser.add_argument("--masks-by")
    parser.add_argument("--odometry", metavar="NETWORK")
    options = parser.parse_args()
    clips = world_clips(options.worlds) if options.worlds is not None else real_clips()
    for clip in clips:
        if options.only and clip.name not in options.only:
            continue
        masks, tracked = None, dict[str, Any]()
        if options.masks_by is not None:
            masks = Path(tempfile.mkdtemp(), "masks")
            print(run_stadia("masks", clip.source, "--by", options.masks_by, "--out", masks), end="")
        if options.odometry is not None:
            tracked["by_depth"] = track_by_depth(clip, options.odometry)
        row = measure(clip, known=not options.unknown and clip.K is not None, masks=masks)
        if options.odometry is not None:
            tracked["odometry_with_map"] = track_by_depth(clip, options.odometry)
        print(json.dumps(row | tracked), flush=True)


if __name__ == "__main__":
    main()
