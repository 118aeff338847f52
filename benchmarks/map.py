"""Measure `stadia map`: path, camera and time on the real samples, and on worlds of RoadWorld.

    python benchmarks/map.py [--only kitti06 highway] [--worlds FOLDER] [--unknown]

Each clip is mapped with its camera and (`--unknown`) without. Printed are frames placed, ATE after Sim(3) alignment,
steps that reverse, the camera with its 95 % interval, seconds and memory; a JSON line each. The real samples are in
STADIA_REAL_DATA (../shared/data). `--worlds` is a folder of `stadia data roadworld`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stadia.core.types import no_progress
from stadia.datasets.config import CacheConfig, CameraConfig
from stadia.datasets.open_dataset import open_recordings
from stadia.datasets.video.video_map import read_map
from stadia.geometry.align import umeyama
from stadia.mapping.run_map import MapRequest, run_map

REAL = Path(os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@dataclass
class Clip:
    """K (3, 3) of the frames; poses (N, 4, 4) T_world_camera, NaN for unknown ones, or None."""

    name: str
    source: Path
    K: np.ndarray | None
    poses: np.ndarray | None


def real_clips() -> Iterator[Clip]:
    for name, path, format in (
        ("kitti06", REAL / "kitti_odometry", "kitti_odometry"),
        ("raw", REAL / "kitti_raw", "kitti_raw"),
        ("kitchen", REAL / "sevenscenes" / "kitchen", "sevenscenes"),
    ):
        (recording,) = open_recordings(path, format)
        yield from_recording(name, recording)
    yield Clip("highway", REAL / "clips" / "highway.mp4", np.array([[866, 0, 481.0], [0, 866, 269.5], [0, 0, 1]]), None)
    yield Clip("euroc", REAL / "euroc" / "V1_01_easy" / "mav0" / "cam0" / "data", None, None)


def from_recording(name: str, recording: Any) -> Clip:
    poses = [recording.T_world_camera(index) for index in range(len(recording))]
    known = np.array([np.full((4, 4), np.nan) if T is None else T for T in poses])
    folder = Path(tempfile.mkdtemp()) / name
    folder.mkdir()
    for index in range(len(recording)):  # links: the frames of one camera alone
        file = recording.file(index)
        (folder / f"{index:06d}{file.suffix}").symlink_to(file.resolve())
    return Clip(name, folder, recording.camera(0).K.numpy(), known if np.isfinite(known).any() else None)


def world_clips(folder: Path) -> Iterator[Clip]:
    for recording in open_recordings(folder, "stadia"):
        yield from_recording(recording.name.replace("/", "-"), recording)


def measure(clip: Clip, *, known: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        camera = CameraConfig(K=clip.K.tolist()) if known and clip.K is not None else CameraConfig()
        request = MapRequest(
            source=clip.source, camera=camera, out=Path(folder, "a.map"), cache=CacheConfig(folder=folder)
        )
        started = time.perf_counter()
        row: dict[str, Any] = {"clip": clip.name, "camera": "given" if known else "unknown"}
        try:
            lines = list(run_map(request, no_progress))
        except Exception as error:
            return {**row, "failed": str(error)[:200], "s": round(time.perf_counter() - started, 1)}
        row["s"] = round(time.perf_counter() - started, 1)
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        found = read_map(Path(folder, "a.map"))
        row["first_line"] = lines[0].split(": ", 1)[1]
        lens = found.camera
        row["origin"] = lens.origin
        if not known:
            row["focal_px"] = round(lens.focal_px, 1)
            row["interval"] = [round(end, 1) for end in lens.intervals_95.get("focal_px", ())]
            if clip.K is not None:
                row["true_px"] = round(float(clip.K[0, 0]), 1)
        row |= score_path(found.poses, clip.poses)
        return row


def score_path(poses: np.ndarray, truth: np.ndarray | None) -> dict[str, Any]:
    placed = np.isfinite(poses).all((1, 2))
    centers = poses[placed][:, :3, 3]
    steps = np.diff(centers, axis=0)
    steps = steps[np.linalg.norm(steps, axis=1) > 1e-9]
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
    options = parser.parse_args()
    clips = world_clips(options.worlds) if options.worlds is not None else real_clips()
    for clip in clips:
        if options.only and clip.name not in options.only:
            continue
        for known in (False,) if options.unknown or clip.K is None else (True,):
            print(json.dumps(measure(clip, known=known)), flush=True)


if __name__ == "__main__":
    main()
