"""Measure the time and memory of `stadia check` against the number of frames.

    python benchmarks/check_scaling.py [--counts 1000 10000 100000] [--kinds images kitti-raw stadia] [--repeats 1]

Folders are hard links of a few rendered views of a camera that moves, so that the disk holds little. `images` is a
folder of your own images, `kitti-raw` has drives of at most 1000 stereo pairs, `stadia` one recording with poses.
Printed are the seconds of the process, start included, its peak memory, and the exponent between the first and the last
count. The goal is 60 s for 100,000 frames. Findings do not matter here: linked views repeat.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH, VIEWS, GOAL_S = 192, 640, 64, 60.0
DRIVE_FRAMES = 1000
K = [[400.0, 0.0, 319.5], [0.0, 400.0, 95.5], [0.0, 0.0, 1.0]]


def write_views(folder: Path) -> list[Path]:
    """Write views of a camera that moves sideways before a texture."""
    folder.mkdir()
    random = np.random.default_rng(0)
    wide = random.integers(0, 255, (HEIGHT // 4, (WIDTH + 4 * VIEWS) // 4, 3), np.uint8)
    texture = cv2.resize(wide, (WIDTH + 4 * VIEWS, HEIGHT), interpolation=cv2.INTER_CUBIC)
    files = [folder / f"{number}.png" for number in range(VIEWS)]
    for number, file in enumerate(files):
        cv2.imwrite(str(file), np.ascontiguousarray(texture[:, 4 * number : 4 * number + WIDTH]))
    return files


def link_views(views: list[Path], folder: Path, names: range) -> None:
    """Link views, to and fro, under numbers of ten digits."""
    folder.mkdir(parents=True)
    for number in names:
        os.link(views[abs(number % (2 * VIEWS - 2) - VIEWS + 1)], folder / f"{number:010d}.png")


def write_images(views: list[Path], folder: Path, count: int) -> list[str]:
    link_views(views, folder, range(count))
    return ["data.camera.focal_px=400"]


def write_kitti_raw(views: list[Path], folder: Path, count: int) -> list[str]:
    day = folder / "2011_09_26"
    day.mkdir(parents=True)
    P = np.hstack((K, np.zeros((3, 1))))
    right = P.copy()
    right[0, 3] = -400 * 0.54
    rows = [f"P_rect_0{number}: {' '.join(map(str, matrix.ravel()))}" for number, matrix in ((2, P), (3, right))]
    (day / "calib_cam_to_cam.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for drive, start in enumerate(range(0, count // 2, DRIVE_FRAMES)):
        frames = range(min(DRIVE_FRAMES, count // 2 - start))
        for camera in (2, 3):
            link_views(views, day / f"2011_09_26_drive_{drive:04d}_sync" / f"image_0{camera}" / "data", frames)
    return []


def write_stadia(views: list[Path], folder: Path, count: int) -> list[str]:
    link_views(views, folder / "left", range(count))
    camera = {"K": K, "height": HEIGHT, "width": WIDTH}
    described = {"cameras": {"left": camera}, "frame_rate_hz": 10.0}
    (folder / "recording.json").write_text(json.dumps(described), encoding="utf-8")
    pose = "1 0 0 {} 0 1 0 0 0 0 1 0\n"
    (folder / "poses.txt").write_text("".join(pose.format(0.05 * index) for index in range(count)), encoding="utf-8")
    return []


KINDS: dict[str, Callable[[list[Path], Path, int], list[str]]] = {
    "images": write_images,
    "kitti-raw": write_kitti_raw,
    "stadia": write_stadia,
}


def measure(data: Path, options: list[str]) -> tuple[float, float]:
    """Return the seconds and the peak memory, MB, of `stadia check`."""
    start = time.perf_counter()
    with tempfile.NamedTemporaryFile() as log:
        command = [sys.executable, "-m", "stadia", "check", str(data), *options, f"data.cache.folder={data}.cache"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            raise RuntimeError(Path(log.name).read_text(encoding="utf-8")[-2000:])
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    reached = True
    with tempfile.TemporaryDirectory(prefix="stadia-check-") as name:
        views = write_views(Path(name) / "views")
        for kind in arguments.kinds:
            seconds: dict[int, float] = {}
            for count in arguments.counts:
                folder = Path(name) / f"{kind}-{count}"
                options = KINDS[kind](views, folder, count)
                runs = [measure(folder, options) for _ in range(arguments.repeats)]
                seconds[count] = statistics.median(run[0] for run in runs)
                print(f"{kind:10} {count:7} frames {seconds[count]:6.1f} s {runs[0][1]:6.0f} MB", flush=True)
            first, last = arguments.counts[0], arguments.counts[-1]
            if first != last:
                exponent = math.log(seconds[last] / seconds[first]) / math.log(last / first)
                print(f"{kind:10} exponent {exponent:.2f} from {first} to {last} frames", flush=True)
            reached &= seconds[last] <= GOAL_S
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
