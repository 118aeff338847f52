"""Median optical flow of corners between two frames, on small images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.diagnostics.instruments.matching import gray

FLOW_WIDTH = 320
MIN_CORNERS = 10


def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (H, W, 3) RGB to gray at FLOW_WIDTH pixels of width."""
    picture = gray(image)
    height = max(1, round(picture.shape[0] * FLOW_WIDTH / picture.shape[1]))
    return np.asarray(cv2.resize(picture, (FLOW_WIDTH, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def flow_px(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float | None:
    """Return the median displacement of corners between two small images in pixels (Lucas and Kanade); None without
    corners.
    """
    corners = cv2.goodFeaturesToTrack(before, maxCorners=200, qualityLevel=0.01, minDistance=5)
    if corners is None or len(corners) < MIN_CORNERS:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15), maxLevel=3)
    ways = np.linalg.norm((moved - corners)[:, 0], axis=1)[found.ravel() > 0]
    return float(np.median(ways)) if len(ways) >= MIN_CORNERS else None
