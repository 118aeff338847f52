"""Judge depth that LiDAR measured, in traffic: python benchmarks/traffic_depth.py.

Takes the video frames of KITTI raw in STADIA_REAL_DATA (../shared/data), each with the frames 4 and 8 later, and
compares the LiDAR depth at their matches with constant depth (S30). Prints the error, and for clips of N pairs, drawn
from them at random, how often the right depth would be doubtful or unusable.
"""

# mypy: disable-error-code="misc"

from __future__ import annotations

from collections import Counter

import numpy as np
from harness import REAL_DATA

from stadia.data.open_dataset import open_recordings
from stadia.judge.depth import reduce_image
from stadia.judge.depth.pair_measurements import (
    MATCH_WIDTH,
    MeasuredPair,
    compare_pairs,
    find_margin,
    match_images,
    measure_pair,
)
from stadia.judge.limits import DEPTH_LIMITS

LATER = (4, 8)
"""Distances of the two frames of a pair."""

MIN_MATCHES = 30
SURFACE = 1.15
"""Largest ratio of LiDAR depths around a match: above, it is at an edge."""

DRAWN = 400
"""Number of clips that are drawn for each number of pairs."""


def sample_lidar(depth: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the depth (N,) around pixels (N, 2); NaN without a return of LiDAR, or at an edge."""
    found = np.full(len(pixels), np.nan)
    for number, (x, y) in enumerate(pixels.astype(int)):
        near = depth[max(y - 4, 0) : y + 5, max(x - 3, 0) : x + 4]
        near = near[near > 0]
        if len(near) and near.max() < SURFACE * near.min():
            found[number] = near.min()
    return found


def measure_pairs() -> list[MeasuredPair]:
    (recording,) = open_recordings(REAL_DATA / "kitti_raw", "kitti_raw")
    measured = []
    for index in range(0, len(recording) - max(LATER), 3):
        lidar = recording.depth_m(index)
        assert lidar is not None
        first_image, K = reduce_image(recording.image(index), recording.K(index))
        scale = MATCH_WIDTH / lidar.shape[1]
        for later in LATER:
            second_image, _ = reduce_image(recording.image(index + later), recording.K(index))
            matched = match_images(first_image, second_image, K)
            if matched is None:
                continue
            first, second, motion = matched
            depth = sample_lidar(lidar, first / scale)
            known = np.isfinite(depth)
            if known.sum() < MIN_MATCHES:
                continue
            measured.append(
                measure_pair(
                    first[known], second[known], K=K, K_second=K, motion=motion, inverse_depth=1 / depth[known],
                    baselines={"constant": np.ones(known.sum())}, width=MATCH_WIDTH,
                )
            )  # fmt: skip
    return measured


def main() -> None:
    pairs, random = measure_pairs(), np.random.default_rng(0)
    whole = compare_pairs(pairs, "constant")
    assert whole is not None
    print(f"error {whole.error:.2f} +- {whole.deviation:.2f} of constant depth's in {whole.pairs} pairs")
    for count in (4, 6, 8, 12, 16, 24):
        found: Counter[str] = Counter()
        for _ in range(DRAWN):
            drawn = compare_pairs([pairs[k] for k in random.integers(0, len(pairs), count)], "constant")
            if drawn is None or drawn.deviation is None:
                continue
            lower = drawn.error - find_margin(drawn.deviation, drawn.pairs)
            found["judged"] += 1
            found["doubtful"] += lower > DEPTH_LIMITS["match_error"].doubtful
            found["unusable"] += lower > DEPTH_LIMITS["match_error"].unusable
        print(f"{count} pairs: {found['judged']} clips, {found['doubtful']} doubtful, {found['unusable']} unusable")


if __name__ == "__main__":
    main()
