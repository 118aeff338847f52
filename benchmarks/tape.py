"""Calibrate a network's metres by three distances of a clip, and score them at the clip's other distances.

    python benchmarks/tape.py [--cases 400] [--network base] [--cache FOLDER]

Clips with measured depth: KITTI raw (LiDAR), a walk through an office and the kitchen of 7-Scenes (depth cameras). A
case draws three points of one picture, or one point of each of three pictures, as with a tape measure, calibrates as
`stadia calibrate` does, and compares 20 points of each other picture. Prints Markdown: the median error of a distance
before and after the calibration, and how often the truth lies within one stated standard deviation. Needs the real
samples (STADIA_REAL_DATA, or shared/data beside the repository).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from harness import REAL_DATA
from numpy.typing import NDArray

from stadia.io.image_files import read_rgb
from stadia.predict.network import Network, open_network
from stadia.predict.tape import TapeMeasurement, fit_tape

Array = NDArray[np.float64]

POINTS = 20
"""Measured points of each picture."""

FLAT_PX, MAX_STEP = 9, 1.1
"""Largest ratio of depths in the square of FLAT_PX pixels around a point: nobody measures at an edge."""

RANGE_M = 0.5, 40.0
"""Distances that a tape or a laser measures."""

SEED = 0


@dataclass(frozen=True)
class Picture:
    """A picture with measured depth.

    image, depth: its files.
    units: of the depth file in a metre.
    K: (3, 3), pixels.
    """

    image: Path
    depth: Path
    units: float
    K: Array


def list_clips(data: Path) -> Iterator[tuple[str, list[Picture]]]:
    """Yield each clip's name and its pictures with measured depth."""
    drive = data / "kitti_raw/2011_09_26/2011_09_26_drive_0000_sync"
    K = np.array([[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]])
    maps = sorted(drive.glob("proj_depth/velodyne_raw/**/*.png"))
    yield "KITTI raw", [Picture(drive / "image_02/data" / path.name, path, 256.0, K) for path in maps][::4]
    K = np.loadtxt(data / "walk/K.txt").reshape(3, 3)
    maps = sorted((data / "walk/depth").glob("*.png"))
    yield "walk", [Picture(data / f"walk/images/{path.stem}.jpg", path, 1000.0, K) for path in maps][::2]
    K = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
    images = sorted((data / "sevenscenes/kitchen").rglob("*.color.*"))
    pictures = [
        Picture(path, next(path.parent.glob(f"{path.name.split('.')[0]}.depth*")), 1000.0, K) for path in images
    ]
    yield "kitchen", pictures[::4]


def measure_clip(network: Network, pictures: list[Picture]) -> Array:
    """Return (N, POINTS, 2) predicted and measured depth, metres, at drawn points of N pictures."""
    random, rows = np.random.default_rng(SEED), []
    for picture in pictures:
        predicted = network.predict(read_rgb(picture.image), K=picture.K).depth
        truth = np.asarray(cv2.imread(str(picture.depth), cv2.IMREAD_UNCHANGED), np.float64) / picture.units
        height, width = predicted.shape
        if truth.shape != predicted.shape:
            truth = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST)
        known = (truth > RANGE_M[0]) & (truth < RANGE_M[1]) & (predicted > 0)
        square = np.ones((FLAT_PX, FLAT_PX), np.uint8)
        farthest = cv2.dilate(np.where(known, truth, 0), square)
        nearest = cv2.erode(np.where(known, truth, 1e9), square)
        y, x = np.nonzero(known & (farthest < MAX_STEP * nearest))
        chosen = random.choice(len(y), POINTS, replace=False)
        rows.append(np.stack([predicted[y[chosen], x[chosen]], truth[y[chosen], x[chosen]]], 1))
    return np.array(rows)


def score_cases(points: Array, cases: int, of_one: bool) -> tuple[float, float, float, float]:
    """Return the median error without and with the calibration, the share within one deviation, and its median.

    points: (N, POINTS, 2) of `measure_clip`.
    cases: number of draws.
    of_one: whether the three distances are of one picture.
    """
    random = np.random.default_rng(SEED)
    before, after, within, stated = [], [], [], []
    for _ in range(cases):
        used = random.choice(len(points), 1 if of_one else 3, replace=False).repeat(3 if of_one else 1)
        chosen = random.choice(POINTS, 3, replace=False)
        given = [
            TapeMeasurement(f"{picture}", float(points[picture, point, 0]), float(points[picture, point, 1]))
            for picture, point in zip(used, chosen, strict=True)
        ]
        fit = fit_tape(given)
        others = np.delete(points, used, axis=0).reshape(-1, 2)
        error = np.log(others[:, 0] / others[:, 1])
        before.append(np.median(np.abs(error)))
        corrected = error + np.log(fit.factor)
        after.append(np.median(np.abs(corrected)))
        within.append(np.mean(np.abs(corrected) <= fit.depth_deviation))
        stated.append(fit.depth_deviation)
    return tuple(float(np.mean(values)) for values in (before, after, within, stated))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--network", default="base")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the points of each clip")
    given = parser.parse_args()
    data = REAL_DATA
    network = open_network(given.network)
    print("| clip | distances | median error before | after | truth within one deviation | stated deviation |")
    print("|---|---|---|---|---|---|")
    for name, pictures in list_clips(data):
        kept = None if given.cache is None else given.cache / f"{Path(given.network).name}-{name}.npy"
        points = np.load(kept) if kept is not None and kept.is_file() else measure_clip(network, pictures)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, points)
        for of_one in (True, False):
            before, after, within, stated = score_cases(points, given.cases, of_one)
            where = "3 of one picture" if of_one else "3 pictures"
            print(f"| {name} | {where} | {before:.1%} | {after:.1%} | {within:.0%} | {stated:.1%} |")


if __name__ == "__main__":
    main()
