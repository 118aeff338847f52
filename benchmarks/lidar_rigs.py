"""Disturb calibrations of LiDAR and camera: error of what `stadia rig lidar` measures.

    python benchmarks/lidar_rigs.py [--data FOLDER_OF_REAL_SAMPLES] [--seed 0]

The recordings are a drive of KITTI raw, and rendered drives of RoadWorld, whose depth is taken at the rows and columns
of a scanner. The points of each one are turned by .2 to 2 degrees and moved by 1 to 10 cm. The measured error, about
three axes and in three directions, is compared with the disturbance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from harness import REAL_DATA, make_parser
from numpy.typing import NDArray

from stadia.data.open_dataset import open_recordings
from stadia.geometry.poses import se3_exp
from stadia.judge.rigs.lidar_check import ScannedImage, find_jumps, judge_lidar, measure_lidar, read_scans
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world

Array = NDArray[np.float64]
CONFIG = RoadWorldConfig(
    train=1, val=0, test=0, frames=16, height=256, width=640, stereo=False, supersampling=1, frame_rate_hz=2
)
ROWS_PX, COLUMNS_PX = 5, 2
"""Distances of the rows and columns of the rendered scanner, those of 64 lines in images of this size."""


@dataclass(frozen=True)
class Drive:
    """Scans with their right calibration."""

    name: str
    scans: Sequence[ScannedImage]
    K: Array


def open_real(data: Path) -> list[Drive]:
    """Return the real drives with LiDAR."""
    if not (data / "kitti_raw").is_dir():
        return []
    return [Drive(one.name, *read_scans(one)) for one in open_recordings(str(data / "kitti_raw"))]


def render_drive(seed: int) -> Drive:
    """Return a rendered drive."""
    world = make_world(seed, CONFIG)
    renderer, K = RoadRenderer(world, CONFIG), np.asarray(world.K, np.float64)
    scans = []
    for index in range(CONFIG.frames):
        rendered = renderer.render(index)["left"]
        sparse = np.zeros((CONFIG.height, CONFIG.width), np.float32)
        depth = np.asarray(rendered.depth_m, np.float32)
        sparse[::ROWS_PX, ::COLUMNS_PX] = np.nan_to_num(depth, posinf=0.0)[::ROWS_PX, ::COLUMNS_PX]
        gray = cv2.cvtColor(np.asarray(rendered.image, np.uint8), cv2.COLOR_RGB2GRAY)
        scans.append(ScannedImage(np.asarray(gray, np.uint8), find_jumps(sparse, K)))
    return Drive(f"world {seed}", scans, K)


def move(scans: Sequence[ScannedImage], D: Array) -> list[ScannedImage]:
    """Return scans whose points a wrong calibration moves."""
    moved = []
    for scan in scans:
        first, second = (xyz @ D[:3, :3].T + D[:3, 3] for xyz in scan.jumps)
        moved.append(replace(scan, jumps=(first, second)))
    return moved


def main() -> None:
    """Disturb, measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=1)
    parser.add_argument("--disturbances", type=int, default=4)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    drives = open_real(given.data)
    drives += [
        Drive(f"{drive.name}, every second scan from {first}", drive.scans[first::2], drive.K)
        for drive in list(drives)
        for first in (0, 1)
    ]
    drives += [render_drive(1000 + seed) for seed in range(given.worlds)]
    ratios, named, accused = list[float](), list[bool](), list[str]()
    for drive in drives:
        error = measure_lidar(drive.scans, drive.K)
        causes = [cause.name for cause in judge_lidar(drive.name, error).causes]
        accused += [drive.name] * bool(causes)
        print(drive.name, error.reason or "", flush=True)
        if error.reason:
            continue
        assert error.rotation_deg is not None
        assert error.position_m is not None
        turns, lengths = [one.show() for one in error.rotation_deg], [one.show(100) for one in error.position_m]
        print(f"  untouched: {', '.join(turns)} degrees; {', '.join(lengths)} cm; {causes}", flush=True)
        for size in np.linspace(0, 1, given.disturbances):
            angle_deg, length_m = 0.2 * 10**size, 0.01 * 10**size
            axis, way = random.normal(size=3), random.normal(size=3)
            twist = np.r_[length_m * way / np.linalg.norm(way), np.radians(angle_deg) * axis / np.linalg.norm(axis)]
            found = measure_lidar(move(drive.scans, se3_exp(twist)), drive.K)
            if found.rotation_deg is None or found.position_m is None:
                print(f"  {angle_deg:.2f} degrees: {found.reason}", flush=True)
                continue
            ratios += [
                abs(one.value - true) / one.deviation for one, true in zip(found.position_m, twist[:3], strict=True)
            ]
            ratios += [
                abs(one.value - true) / one.deviation
                for one, true in zip(found.rotation_deg, np.degrees(twist[3:]), strict=True)
            ]
            if angle_deg >= 0.5:
                named.append("rotation" in [cause.name for cause in judge_lidar(drive.name, found).causes])
    print(f"disturbances within two deviations: {np.mean(np.array(ratios) < 2):.0%} of {len(ratios)} numbers")
    print(f"rotations of .5 degrees and more named: {sum(named)} of {len(named)}")
    print(f"untouched calibrations accused: {len(accused)} of {len(drives)}", *accused)


if __name__ == "__main__":
    main()
