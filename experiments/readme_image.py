"""Draw the README's image: the predictions of the demo's run for unseen worlds, beside the ground truth.

make demo
python experiments/readme_image.py runs/<date>-demo docs/images/demo.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.datasets.open_dataset import open_recordings
from stadia.evaluation.plots.colormaps import color_inverse_depth

NEAREST_M = 5.0  # drawn brightest
GAP = 6


def row(
    picture: NDArray[np.uint8], predicted_m: NDArray[np.floating], true_m: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Return image, predicted and true inverse depth on one scale, side by side."""
    size = picture.shape[1], picture.shape[0]
    inverse = (
        cv2.resize(1 / predicted_m.astype(np.float32), size),
        np.where(true_m > 0, 1 / np.maximum(true_m, 1e-3), 0),
    )
    gap = np.full((picture.shape[0], GAP, 3), 255, np.uint8)
    tiles = [picture, *(color_inverse_depth(values, top=1 / NEAREST_M) for values in inverse)]
    return np.hstack([tiles[0], gap, tiles[1], gap, tiles[2]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[6, 18])
    arguments = parser.parse_args()
    worlds = json.loads((arguments.run / "config.json").read_text())["data"]["path"]
    rows = []
    for recording in open_recordings(worlds, split="test"):
        for frame in arguments.frames:
            depth = arguments.run / "predictions" / "test" / recording.name / "depth" / f"{frame:06d}.npz"
            true_m = recording.depth_m(frame)
            assert true_m is not None
            rows += [
                row(recording.image(frame), np.load(depth)["depth_m"], true_m),
                np.full((GAP, 960 + 2 * GAP, 3), 255, np.uint8),
            ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.out), np.vstack(rows[:-1])[..., ::-1])


if __name__ == "__main__":
    main()
