"""Find painted hoods, bars and stamps on worlds of RoadWorld, and nothing on clean clips.

    python benchmarks/static_parts.py --worlds FOLDER [--count 8]

FOLDER is of `stadia data roadworld`. Printed is the intersection over union of what is found with what was painted, for
each world and kind, and the share that is found on the clean worlds and the real samples (STADIA_REAL_DATA).
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from harness import REAL_DATA

from stadia.core.types import Recording
from stadia.data.open_dataset import open_recordings
from stadia.data.video.static_parts import StaticParts

FRAMES = 60


def paint_hood(image: np.ndarray, mask: np.ndarray) -> None:
    height, width = mask.shape
    cv2.ellipse(mask, (width // 2, round(1.12 * height)), (round(0.42 * width), round(0.3 * height)), 0, 0, 360, 1, -1)
    y = np.linspace(0.6, 1, height)[:, None, None]
    image[mask > 0] = (np.array([52, 60, 88])[None, None] * y).repeat(width, 1)[mask > 0]


def paint_bars(image: np.ndarray, mask: np.ndarray) -> None:
    bar = round(0.1 * mask.shape[0])
    mask[:bar] = mask[-bar:] = 1
    image[mask > 0] = 0


def paint_sides(image: np.ndarray, mask: np.ndarray) -> None:
    bar = round(0.08 * mask.shape[1])
    mask[:, :bar] = mask[:, -bar:] = 1
    image[mask > 0] = 0


def paint_stamp(image: np.ndarray, mask: np.ndarray) -> None:
    height, width = mask.shape
    box = np.s_[round(0.06 * height) : round(0.2 * height), round(0.66 * width) : round(0.97 * width)]
    mask[box] = 1
    image[box] = 20
    scale = 0.12 * height / 30
    place = (round(0.67 * width), round(0.17 * height))
    cv2.putText(image, "2026-05-04 12:00", place, cv2.FONT_HERSHEY_SIMPLEX, scale, (240, 240, 240), 1, cv2.LINE_AA)


KINDS = {"hood": paint_hood, "bars": paint_bars, "side bars": paint_sides, "stamp": paint_stamp}


def read(recording: Recording) -> list[np.ndarray]:
    count = min(FRAMES, len(recording))
    images = [recording.image(int(index)) for index in np.linspace(0, len(recording) - 1, count)]
    scale = min(1.0, 800 / images[0].shape[1])
    return [cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for image in images]


def find(images: list[np.ndarray]) -> np.ndarray:
    parts = StaticParts(*images[0].shape[:2])
    for image in images:
        parts.add(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    return parts.find()


def real() -> Iterator[tuple[str, Recording]]:
    for name, path, format, options in (
        ("kitti06", REAL_DATA / "kitti_odometry", "kitti_odometry", {}),
        ("kitti raw", REAL_DATA / "kitti_raw", "kitti_raw", {}),
        ("kitchen", REAL_DATA / "sevenscenes" / "kitchen", "sevenscenes", {}),
        ("highway", REAL_DATA / "clips" / "highway.mp4", "video", {"camera": {"focal_px": 866}}),
    ):
        yield name, open_recordings(path, format, **options)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    worlds = [(one.name, one) for one in open_recordings(options.worlds, "stadia")[: options.count]]
    for name, recording in [*worlds, *real()]:
        print(json.dumps({"clean": name, "share": round(float(find(read(recording)).mean()), 5)}), flush=True)
    unions: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for name, recording in worlds:
        images = read(recording)
        for kind, paint in KINDS.items():
            painted, mask = [image.copy() for image in images], np.zeros(images[0].shape[:2], np.uint8)
            for image in painted:
                paint(image, mask)
            found, true = find(painted), mask > 0
            unions[kind].append(float((found & true).sum() / (found | true).sum()))
            print(json.dumps({"painted": kind, "world": name, "iou": round(unions[kind][-1], 3)}), flush=True)
    for kind, values in unions.items():
        print(f"{kind}: IoU {min(values):.2f} to {max(values):.2f}, mean {np.mean(values):.2f} in {len(values)} worlds")


if __name__ == "__main__":
    main()
