"""Estimate the camera height on KITTI (1.65 m): by LiDAR, by labeled boxes without depth, by masks without depth.

    python experiments/camera_height_kitti.py --data ../shared/data --masks kitti-masks

Prints JSON lines. Labeled frames: the plane through the scan's points on the road ahead (4 to 15 m, 3 m to both
sides), and the heights from boxes with class means, under that plane's horizon and under one of edges. --masks: those
of the raw frames by `stadia masks`. There the plane is fitted to LiDAR returns on the masked road. The masks are
used under a horizon by edges and travel, a level one, and one fitted to them.
"""

# mypy: disable-error-code="union-attr"

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.core.types import Camera, no_progress
from stadia.data.mask_files import attach_masks
from stadia.data.open_dataset import open_recordings
from stadia.geometry.cameras import backproject
from stadia.geometry.ground.horizon import horizon_from_normal
from stadia.geometry.ground.road_plane import fit_plane_ransac
from stadia.io.records.kitti_calibration import KittiCalibration
from stadia.scale.camera_height.config import CameraHeightRequest, parse_camera_height_config
from stadia.scale.camera_height.road_objects import read_road_frames
from stadia.scale.camera_height.run_camera_height import estimate_camera_height

TRUE_M = 1.65


def print_height(what: str, height_m: float, **more: Any) -> None:
    print(
        json.dumps({"what": what, "camera_height_m": round(height_m, 4), "off": round(height_m / TRUE_M - 1, 4)} | more)
    )


def scan_plane(training: Path, number: int) -> NDArray[np.floating]:
    """Return the plane (4,) of the road ahead in the left color camera's frame."""
    points = (
        np.fromfile(training / "velodyne" / f"{number:06d}.bin", np.float32).reshape(-1, 4)[:, :3].astype(np.float64)
    )
    path = training / "calib" / f"{number:06d}.txt"
    rows = dict(line.split(":") for line in path.read_text(encoding="utf-8").splitlines() if ":" in line)
    T, R = (
        np.array(rows[name].split(), np.float64).reshape(shape)
        for name, shape in (("Tr_velo_to_cam", (3, 4)), ("R0_rect", (3, 3)))
    )
    _, T_camera_rectified = KittiCalibration(path).projection("P2")
    seen = (R @ (T[:, :3] @ points.T + T[:, 3:])).T @ T_camera_rectified[:3, :3].T + T_camera_rectified[:3, 3]
    ahead = seen[(seen[:, 2] > 4) & (seen[:, 2] < 15) & (np.abs(seen[:, 0]) < 3) & (seen[:, 1] > 1)]
    return fit_plane_ransac(ahead)


def labeled(data: Path) -> None:
    config = parse_camera_height_config(["priors=kitti", "objects=[]", "horizon=edges"])
    frames = read_road_frames(CameraHeightRequest(source=data, config=config), no_progress)
    planes = [scan_plane(data / "training", int(frame.name.rsplit("/", 1)[-1])) for frame in frames]
    print_height(
        "LiDAR, median of the labeled frames",
        float(np.median([plane[3] for plane in planes])),
        each=[round(float(p[3]), 3) for p in planes],
    )
    lines = [horizon_from_normal(p[:3], Camera(f.K, f.height, f.width)) for p, f in zip(planes, frames, strict=True)]
    for horizon, known in (("the scans' roads", np.stack(lines)), ("edges", None)):
        found = estimate_camera_height(frames, config, horizons=known).found
        interval = [round(found.low_m, 3), round(found.high_m, 3)]
        verdicts = [str(verdict) for verdict in found.verdict]
        print_height(
            f"labeled boxes, horizon of {horizon}", found.camera_height_m, interval_95_m=interval, verdicts=verdicts
        )


def masked(data: Path, masks: Path) -> None:
    (recording,) = open_recordings(data)
    attach_masks([recording], masks)
    heights = []
    road = next(number for number, name in recording.mask_reader.classes.items() if name == "road")
    for index in range(len(recording)):
        depth_m = np.asarray(recording.depth_m(index), np.float64)[None, None]
        on_road = (recording.masks(index).semantic == road) & (depth_m > 1) & (depth_m < 15)
        points = backproject(depth_m, recording.camera(index)).reshape(3, -1).T
        heights.append(float(fit_plane_ransac(points[on_road.ravel()])[3]))
    print_height(
        "LiDAR on the masked road, median of the raw frames", float(np.nanmedian(heights)), frames=len(heights)
    )
    for horizon in ("auto", "given", "objects"):
        config = parse_camera_height_config(["priors=kitti", f"horizon={horizon}", f"masks={masks}"])
        try:
            found = estimate_camera_height(
                read_road_frames(CameraHeightRequest(source=data, config=config), no_progress), config
            ).found
        except GeometryError as error:
            print(json.dumps({"what": f"masks, horizon {horizon}", "error": str(error)}))
            continue
        counts = {str(verdict): found.verdict.count(verdict) for verdict in sorted(set(found.verdict))}
        print_height(
            f"masks, horizon {horizon}",
            found.camera_height_m,
            interval_95_m=[round(found.low_m, 3), round(found.high_m, 3)],
            verdicts=counts,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--masks", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    labeled(arguments.data / "kitti_object")
    if arguments.masks is not None:
        masked(arguments.data / "kitti_raw", arguments.masks)


if __name__ == "__main__":
    main()
