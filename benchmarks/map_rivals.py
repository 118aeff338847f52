"""Compare the maps of clips with those of plain pycolmap on the same frames.

    python benchmarks/map_clips.py CLIPS.csv --out MAPS
    python benchmarks/map_rivals.py CLIPS.csv --maps MAPS --out FOLDER [--every 3]

CLIPS.csv has the columns `id` and `file` (relative to the CSV); MAPS has the maps of `map_clips.py`. pycolmap gets
every third frame, with one shared camera and its defaults: SIFT, sequential matches, incremental mapping. Printed is a
JSON line for each clip, with these values of both programs: the share of these frames that has a pose (`placed`), the
mean reprojection error in pixels, the length of the path over its net distance (`winding`), and the focal length in
pixels. If both place half of the frames, `ate` is the root mean square distance of both paths after Sim(3) alignment,
as a share of pycolmap's path, and `turn_deg` the median angle between their rotations from frame to frame. Finished
clips are in FOLDER, and are not mapped again.
"""

# mypy: disable-error-code="misc, no-untyped-def"

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import torch

from stadia.data.video.video_map import read_map
from stadia.geometry.align import umeyama

MIN_PLACED = 0.5
"""Smallest share of placed frames of a path that is compared: a shorter one may be a part of no importance."""


def write_frames(video: Path, folder: Path, every: int) -> list[int]:
    """Write every `every`-th frame as a PNG into a new folder, and return the indices of these frames."""
    folder.mkdir(parents=True)
    capture, indices = cv2.VideoCapture(str(video)), list[int]()
    frame = 0
    while capture.grab():
        if frame % every == 0:
            cv2.imwrite(str(folder / f"{frame:06d}.png"), capture.retrieve()[1])
            indices.append(frame)
        frame += 1
    return indices


def map_with_pycolmap(images: Path, work: Path) -> pycolmap.Reconstruction | None:
    """Return pycolmap's model with the most images; None if no two images get a pose."""
    database = work / "database.db"
    pycolmap.set_random_seed(0)
    pycolmap.extract_features(database, images, camera_mode=pycolmap.CameraMode.SINGLE)
    pycolmap.match_sequential(database)
    models = pycolmap.incremental_mapping(database, images, work)
    return max(models.values(), key=lambda model: model.num_reg_images(), default=None)


def stack_model_poses(model: pycolmap.Reconstruction | None, indices: list[int]) -> np.ndarray:
    """Return the poses (N, 4, 4), camera to world, of frames; NaN without a pose."""
    poses = np.full((len(indices), 4, 4), np.nan)
    for image in model.images.values() if model is not None else ():
        if image.has_pose:
            T_camera_world = np.vstack((image.cam_from_world().matrix(), (0, 0, 0, 1)))
            poses[indices.index(int(Path(image.name).stem))] = np.linalg.inv(T_camera_world)
    return poses


def describe_path(poses: np.ndarray, model: pycolmap.Reconstruction | None, focal_px: float | None) -> dict[str, Any]:
    """Return share of placed frames, reprojection error, winding and focal length of a path with poses (N, 4, 4)."""
    placed = np.isfinite(poses).all((1, 2))
    found: dict[str, Any] = {"placed": round(float(placed.mean()), 3)}
    if model is None or placed.sum() < 2:
        return found
    centers = poses[placed, :3, 3]
    net = float(np.linalg.norm(centers[-1] - centers[0]))
    found["error_px"] = round(model.compute_mean_reprojection_error(), 3)
    found["winding"] = round(measure_length(centers) / max(net, 1e-12), 2)
    found["focal_px"] = None if focal_px is None else round(focal_px, 1)
    return found


def measure_length(centers: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(centers, axis=0), axis=1).sum())


def compare_paths(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Return the distance of two paths (N, 4, 4) as a share of the length of the second, and the angle between them."""
    both = np.isfinite(ours).all((1, 2)) & np.isfinite(theirs).all((1, 2))
    first, second = ours[both], theirs[both]
    source, target = torch.from_numpy(first[:, :3, 3].copy()), torch.from_numpy(second[:, :3, 3].copy())
    distances = (umeyama(source, target, "sim3").apply(source) - target).norm(dim=-1)
    steps = [np.swapaxes(T[:-1, :3, :3], 1, 2) @ T[1:, :3, :3] for T in (first, second)]
    cosine = (np.einsum("nij,nij->n", *steps) - 1) / 2
    return {
        "ate": round(float(distances.square().mean().sqrt()) / measure_length(second[:, :3, 3]), 4),
        "turn_deg": round(float(np.degrees(np.median(np.arccos(cosine.clip(-1, 1))))), 3),
    }


def compare_clip(name: str, video: Path, maps: Path, out: Path, every: int) -> dict[str, Any]:
    """Return the comparison of a clip, which is kept in `out`."""
    kept, work, folder = out / f"{name}.json", out / f"{name}.work", maps / f"{name}.map"
    if kept.is_file():
        return json.loads(kept.read_text())
    shutil.rmtree(work, ignore_errors=True)
    indices = write_frames(video, work / "images", every)
    start = time.monotonic()
    model = map_with_pycolmap(work / "images", work)
    theirs = stack_model_poses(model, indices)
    focal_px = None if model is None else float(next(iter(model.cameras.values())).mean_focal_length())
    found: dict[str, Any] = {"clip": name, "seconds": round(time.monotonic() - start)}
    found["pycolmap"] = describe_path(theirs, model, focal_px)
    found["stadia"] = {"placed": 0.0}
    if folder.is_dir():
        stored = read_map(folder)
        ours = stored.poses[np.minimum(indices, len(stored.poses) - 1)]
        found["stadia"] = describe_path(ours, pycolmap.Reconstruction(folder / "colmap"), stored.camera.focal_px)
        if min(found[program]["placed"] for program in ("stadia", "pycolmap")) >= MIN_PLACED:
            found |= compare_paths(ours, theirs)
    shutil.rmtree(work)
    kept.write_text(json.dumps(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--maps", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    shares: dict[str, list[float]] = {"stadia": [], "pycolmap": []}
    with options.clips.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        video = options.clips.parent / row["file"]
        found = compare_clip(row["id"], video, options.maps, options.out, options.every)
        print(json.dumps(found), flush=True)
        for program, placed in shares.items():
            placed.append(found[program]["placed"])
    print(json.dumps({program: round(float(np.mean(placed)), 3) for program, placed in shares.items()}))


if __name__ == "__main__":
    main()
