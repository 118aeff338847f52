"""Measure how much the depth of `base` changes between neighboring frames, with and without sharpened edges.

    python experiments/edge_flicker.py VIDEO ...

Seven frames from the middle of each video are predicted. The change is the mean absolute difference of log depth along
the optical flow, where flow and backward flow agree, after the median difference is subtracted. The last line has the
geometric mean, over the videos, of the change with sharpened edges over the change without.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.predict.network import Network, open_network

FRAMES = 7
MAX_ROUND_TRIP_PX = 0.7
FLOW = (0.5, 4, 21, 3, 7, 1.5, 0)  # pyramid's scale and levels, window, iterations, neighborhood, its sigma, flags


def read_middle(path: Path) -> list[NDArray[np.uint8]]:
    """Return FRAMES frames (H, W, 3) from the middle of a video."""
    capture = cv2.VideoCapture(str(path))
    capture.set(cv2.CAP_PROP_POS_FRAMES, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // 2)
    frames = [frame for is_read, frame in (capture.read() for _ in range(FRAMES)) if is_read]
    return [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]


def measure_change(images: Sequence[NDArray[np.uint8]], log_depths: Sequence[NDArray[np.float32]]) -> float:
    """Return the mean change of log depth, two maps (h, w), between two images (H, W, 3) along their optical flow."""
    height, width = log_depths[0].shape
    before, after = (cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (width, height)) for image in images)
    forward = cv2.calcOpticalFlowFarneback(before, after, None, *FLOW)
    backward = cv2.calcOpticalFlowFarneback(after, before, None, *FLOW)
    start = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) for side in (width, height))), 2)
    end = start + forward
    returned = cv2.remap(backward, end[..., 0], end[..., 1], cv2.INTER_LINEAR)
    inside = (end > 0).all(2) & (end < (width - 1, height - 1)).all(2)
    known = inside & (np.linalg.norm(forward + returned, axis=2) < MAX_ROUND_TRIP_PX)
    moved = cv2.remap(log_depths[1], end[..., 0], end[..., 1], cv2.INTER_LINEAR)
    change = (log_depths[0] - moved)[known]
    return float(np.abs(change - np.median(change)).mean())


def measure_flicker(network: Network, images: Sequence[NDArray[np.uint8]]) -> float:
    """Return the mean change of predicted log depth between neighboring images."""
    depths = [np.log(np.asarray(network.predict(image).depth, np.float32)) for image in images]
    pairs = range(len(images) - 1)
    return float(np.mean([measure_change(images[k : k + 2], depths[k : k + 2]) for k in pairs]))


def main() -> None:
    torch.set_num_threads(1)
    network, ratios = open_network("base"), []
    for path in map(Path, sys.argv[1:]):
        images = read_middle(path)
        sharp = measure_flicker(network, images)
        with patch("stadia.networks.depth.unet.sharpen_edges", lambda log_depth, *_: log_depth):
            plain = measure_flicker(network, images)
        ratios.append(sharp / plain)
        print(json.dumps({"video": path.name, "sharpened": round(sharp, 4), "plain": round(plain, 4)}), flush=True)
    print(json.dumps({"videos": len(ratios), "ratio": math.exp(np.log(ratios).mean()), "largest": max(ratios)}))


if __name__ == "__main__":
    main()
