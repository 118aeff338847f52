"""SIFT features, their matches, and the median optical flow between frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_WIDTH, MAX_WIDTH = 640, 1280
"""Smaller images are enlarged before detection (SIFT finds little below this), larger ones reduced (it takes long
above).
"""

MAX_FEATURES = 1500
RATIO = 0.8
"""A match must be nearer than RATIO times the second nearest (Lowe, Distinctive Image Features, IJCV 2004, section
7.1).
"""


FLOW_WIDTH, MIN_CORNERS = 320, 10
"""Pixels of width of the images for optical flow, and corners that it needs."""


@dataclass(frozen=True, slots=True)
class SiftFeatures:
    """pixels: (N, 2) float64, x and y in the image as given.  descriptors: (N, 128) float32."""

    pixels: NDArray[np.float64]
    descriptors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureMatches:
    """first_index: (M,) rows of the first image's Features.  first_px, second_px: (M, 2) float64."""

    first_index: NDArray[np.intp]
    first_px: NDArray[np.float64]
    second_px: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first_index)

    def where(self, chosen: NDArray[np.bool_]) -> FeatureMatches:
        return FeatureMatches(self.first_index[chosen], self.first_px[chosen], self.second_px[chosen])

    @property
    def displacement_px(self) -> float:
        """Median displacement from first to second; 0 without matches."""
        return float(np.median(np.linalg.norm(self.second_px - self.first_px, axis=1))) if len(self) else 0.0


def gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (H, W, 3) RGB to (H, W)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


@cache
def _sift() -> cv2.SIFT:
    """Without the precise upscale, keypoints of OpenCV lie a quarter of a pixel too far right and down."""
    return cv2.SIFT.create(
        nfeatures=MAX_FEATURES,
        nOctaveLayers=3,
        contrastThreshold=0.04,
        edgeThreshold=10,
        sigma=1.6,
        enable_precise_upscale=True,
    )


def detect_features(image: NDArray[np.uint8]) -> SiftFeatures:
    """SIFT features of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    scale = float(np.clip(width, MIN_WIDTH, MAX_WIDTH) / width)
    gray_image = gray(image)
    if scale != 1:
        gray_image = cv2.resize(
            gray_image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
    keypoints, descriptors = _sift().detectAndCompute(gray_image, None)
    if descriptors is None:
        return SiftFeatures(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    scales = np.array([gray_image.shape[1] / width, gray_image.shape[0] / height])
    pixels = (np.array([point.pt for point in keypoints], dtype=np.float64) + 0.5) / scales - 0.5
    return SiftFeatures(pixels, descriptors)


def match_features(first: SiftFeatures, second: SiftFeatures) -> FeatureMatches:
    """Return mutual nearest neighbors that pass the ratio test."""
    if min(len(first.pixels), len(second.pixels)) < 2:
        return FeatureMatches(np.zeros(0, np.intp), np.zeros((0, 2)), np.zeros((0, 2)))
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(first.descriptors, second.descriptors, k=2)
    good = [best for best, other in pairs if best.distance < RATIO * other.distance]
    best_of: dict[int, cv2.DMatch] = {}
    for candidate in good:  # two features may have the same partner: the nearer one is kept
        best = best_of.get(candidate.trainIdx)
        if best is None or candidate.distance < best.distance:
            best_of[candidate.trainIdx] = candidate
    rows = np.array(sorted((m.queryIdx, m.trainIdx) for m in best_of.values()), dtype=np.intp).reshape(-1, 2)
    return FeatureMatches(rows[:, 0], first.pixels[rows[:, 0]], second.pixels[rows[:, 1]])


def shrink_to_gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (H, W, 3) RGB to gray at FLOW_WIDTH pixels of width."""
    gray_image = gray(image)
    height = max(1, round(gray_image.shape[0] * FLOW_WIDTH / gray_image.shape[1]))
    return np.asarray(cv2.resize(gray_image, (FLOW_WIDTH, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def median_flow_px(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float | None:
    """Return the median displacement of corners between two small images in pixels (Lucas and Kanade); None without
    corners.
    """
    corners = cv2.goodFeaturesToTrack(before, maxCorners=200, qualityLevel=0.01, minDistance=5)
    if corners is None or len(corners) < MIN_CORNERS:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15), maxLevel=3)
    displacements = np.linalg.norm((moved - corners)[:, 0], axis=1)[found.ravel() > 0]
    return float(np.median(displacements)) if len(displacements) >= MIN_CORNERS else None
