"""Compare the 3D IoU of KITTI's labeled boxes, also with shifted boxes, with an independent computation; draw the
boxes.

    python experiments/kitti_boxes.py --data ../shared/data/kitti_object --out /tmp/kitti

Prints a row per box and change: the 3D IoU by the code that scores every object here, and an independent value.
KITTI's boxes stand upright. So the intersection of two is the area that their footprints share (OpenCV) times their
common height. Also prints the distance between the hull of the corners in the image and the separately labeled 2D box,
and the scores of the labels as results, written and read back.

Writes the images with boxes and axes (x red, y green, z blue: the front), and the results.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from stadia.data.formats.kitti_objects import KittiBox, read_boxes
from stadia.objectpose.boxes import box_iou, compute_box_corners
from stadia.objectpose.data.object_folder import KittiObjectImages
from stadia.objectpose.scores import draw_labels, score_estimates

CHANGES = {
    "none": (0.0, 0.0, 0.0, 1.0),
    "0.3 m to the right": (0.3, 0.0, 0.0, 1.0),
    "1 m farther": (0.0, 1.0, 0.0, 1.0),
    "15 degrees": (0.0, 0.0, math.radians(15), 1.0),
    "half a turn": (0.0, 0.0, math.pi, 1.0),
    "a fifth larger, 0.2 m aside, 10 degrees": (0.2, 0.0, math.radians(10), 1.2),
}
"""Metres in x and z, radians about y, and how many times as large."""


def changed(box: KittiBox, change: tuple[float, float, float, float]) -> KittiBox:
    x, z, turn, scale = change
    turned = math.remainder(box.rotation_y + turn, 2 * math.pi)
    return replace(
        box, bottom_m=box.bottom_m + np.array([x, 0, z]), rotation_y=turned, size_hwl_m=scale * box.size_hwl_m
    )


def ours(a: KittiBox, b: KittiBox) -> float:
    T, size = (
        torch.from_numpy(np.stack(x)) for x in ((a.T_rectified_object, b.T_rectified_object), (a.size_m, b.size_m))
    )
    return float(box_iou(T[0], size[0], T[1], size[1]))


def independent(a: KittiBox, b: KittiBox) -> float:
    """Compute it from the numbers as written, without a pose."""
    middle = a.bottom_m[[0, 2]]  # OpenCV computes in 32 bits
    rectangles = [
        ((box.bottom_m[[0, 2]] - middle).tolist(), box.size_hwl_m[[2, 1]].tolist(), -math.degrees(box.rotation_y))
        for box in (a, b)
    ]
    meet, polygon = cv2.rotatedRectangleIntersection(*rectangles)
    area = cv2.contourArea(cv2.convexHull(polygon)) if meet else 0.0
    (low_a, high_a), (low_b, high_b) = ((box.bottom_m[1] - box.size_hwl_m[0], box.bottom_m[1]) for box in (a, b))
    shared = area * max(0.0, min(high_a, high_b) - max(low_a, low_b))
    return float(shared / (a.size_hwl_m.prod() + b.size_hwl_m.prod() - shared))


def off_px(images: KittiObjectImages, index: int, written: list[KittiBox]) -> list[float]:
    """Return for each box the largest distance between a side of its corners' hull and that side of the 2D box."""
    K, found = images.camera(index).K, []
    for box, label in zip(images.boxes(index), written, strict=True):
        seen = compute_box_corners(torch.from_numpy(box.T_camera_object), torch.from_numpy(box.size_m)) @ K.T
        pixels = (seen[:, :2] / seen[:, 2:]).numpy()
        found.append(round(float(np.abs([*pixels.min(0), *pixels.max(0)] - np.array(label.box_px)).max()), 1))
    return found


def line(box: KittiBox) -> str:
    """Return it as a line of results."""
    numbers = (*box.box_px, *box.size_hwl_m, *box.bottom_m, box.rotation_y, box.score)
    return f"{box.kind} -1 -1 -10 " + " ".join(f"{number:.4f}" for number in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kitti_object"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    images = KittiObjectImages.open(arguments.data)
    labels = {path.stem: read_boxes(path) for path in sorted((arguments.data / "training" / "label_2").glob("*.txt"))}
    every = [box for of_image in labels.values() for box in of_image]
    print(f"{'change':<42}{'box':<12}{'IoU':>9}{'other means':>13}")
    largest = 0.0
    for name, change in CHANGES.items():
        for box in every:
            pair = changed(box, change), box
            mine, other = ours(*pair), independent(*pair)
            largest = max(largest, abs(mine - other))
            print(f"{name:<42}{box.kind:<12}{mine:>9.4f}{other:>13.4f}")
    scores: dict[str, Any] = {}
    for name in ("none", "0.3 m to the right"):
        folder = arguments.out / "results" / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        for stem, of_image in labels.items():
            (folder / f"{stem}.txt").write_text("".join(f"{line(changed(box, CHANGES[name]))}\n" for box in of_image))
        found = score_estimates(images, images.results(folder))
        scores[name] = {key: found[key] for key in ("objects", "estimates", "ap_iou25", "ap_iou50", "ap_iou75")}
    drawn = [str(path) for path in draw_labels(arguments.data, "training", arguments.out, len(images))]
    hull = [off_px(images, index, of_image) for index, of_image in enumerate(labels.values())]
    print(
        json.dumps({"largest_difference": largest, "hull_off_px": hull, "as_results": scores, "drawn": drawn}, indent=2)
    )


if __name__ == "__main__":
    main()
