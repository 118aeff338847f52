"""Try to find the field of view of a mono video from its epipolar geometry alone.

    python experiments/field_of_view.py

For each clip ten pairs of frames; for each pair and each assumed field of view the essential matrix of its SIFT matches
(OpenCV, MAGSAC) and the median Sampson distance, in pixels of an image of 640. One row for each clip: where the
distance has a clear minimum at the true field of view, a wrong one could be noticed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.core.types import Recording
from stadia.data.config import CacheConfig
from stadia.data.open_dataset import open_recordings
from stadia.geometry.image_features import detect_features, match_features
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds

FIELDS_DEG = (30, 40, 50, 60, 70, 80, 90, 100, 115)
PAIRS, MIN_MATCHES, WIDTH = 10, 40, 640


def sampson_px(first_px: NDArray[np.float64], second_px: NDArray[np.float64], K: NDArray[np.float64]) -> float:
    """Return the median Sampson distance of matches (N, 2) from the essential matrix that fits them best."""
    E, _ = cv2.findEssentialMat(first_px, second_px, K, method=cv2.USAC_MAGSAC, prob=0.999, threshold=1.0)
    if E is None or E.shape != (3, 3):
        return np.nan
    inverse = np.linalg.inv(K)
    F = inverse.T @ E @ inverse
    first, second = (np.column_stack([one, np.ones(len(one))]) for one in (first_px, second_px))
    lines, lines_back = first @ F.T, second @ F
    slopes = np.hypot(lines[:, 0], lines[:, 1]) ** 2 + np.hypot(lines_back[:, 0], lines_back[:, 1]) ** 2
    return float(np.median(np.abs((second * lines).sum(1)) / np.sqrt(slopes)))


def measure(recording: Recording, gap: int) -> tuple[float, NDArray[np.float64]]:
    """Return the true field of view, degrees, and the distance for each assumed one, the mean over the pairs."""
    rows = []
    for index in np.linspace(0, len(recording) - 1 - gap, PAIRS).astype(int).tolist():
        first, second, K = recording.image(index), recording.image(index + gap), recording.K(index)
        width = first.shape[1]
        true_deg = np.degrees(2 * np.arctan(width / 2 / K[0, 0]))
        found = match_features(detect_features(first), detect_features(second))
        if len(found.first_px) < MIN_MATCHES:
            continue
        row = []
        for field_deg in FIELDS_DEG:
            focal_px = width / 2 / np.tan(np.radians(field_deg / 2))
            assumed = K * np.array([[focal_px / K[0, 0], 1, 1], [1, focal_px / K[0, 0], 1], [1, 1, 1]])
            row.append(sampson_px(found.first_px, found.second_px, assumed) * WIDTH / width)
        rows.append(row)
    return float(true_deg), np.nanmean(rows, axis=0)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    arguments = parser.parse_args()

    folders = {"kitti_odometry": 1, "kitti_raw": 6, "sevenscenes": 4, "euroc": 4}
    clips = [(one, gap) for name, gap in folders.items() for one in open_recordings(Path(arguments.data) / name)[:1]]
    clips += [(one, 1) for one in open_recordings(render_demo_worlds(CacheConfig()), split="train")[:3]]
    print(f"| clip | true | {' | '.join(map(str, FIELDS_DEG))} |\n|{'---|' * (2 + len(FIELDS_DEG))}")
    for recording, gap in clips:
        true_deg, distances = measure(recording, gap)
        numbers = " | ".join(f"{one:.3f}" for one in distances)
        print(f"| {recording.name} | {true_deg:.0f} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
