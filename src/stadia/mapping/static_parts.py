"""Find what never moves in a video of a moving camera: bars, a hood, a watermark."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import Recording

MIN_IMAGES = 12
MIN_COHERENCE = 0.9
"""Length of the mean gradient over the root mean square, from which an edge never moves."""

MIN_EDGE = 12.0  # gray levels of the mean gradient (Sobel / 8)
MAX_CONSTANT = 2.0  # deviation of a pixel over time, gray levels, of a painted or black part
MIN_CHANGE = 6.0  # median deviation of the other pixels, without which nothing moves
MIN_AREA = 0.001  # share of the image
MAX_BLACK_GRAY = 30.0  # mean of a black bar, which may lie beside an even sky
MIN_BAR_EDGE = 0.9  # share of the edge of a black bar that never moves
MIN_SKY_GRAY = 90.0
"""A brighter constant region of the upper half is sky, or a bright frame, and stays."""


SEARCH_IMAGES, SEARCH_WIDTH = 40, 800
"""Images that `find_static_parts` compares, and their largest width: half of it takes even skies for constant."""


def find_static_parts(recording: Recording) -> NDArray[np.bool_]:
    """Return (H, W), true on what never moves in the images of a recording; see `StaticParts.find`.

    Raises DataError for an image that cannot be read.
    """
    camera = recording.camera(0)
    scale = min(1.0, SEARCH_WIDTH / camera.width)
    size = round(scale * camera.height), round(scale * camera.width)
    parts = StaticParts(*size)
    indices = np.linspace(0, len(recording) - 1, min(SEARCH_IMAGES, len(recording))).astype(int)
    for index in indices if len(indices) >= MIN_IMAGES else ():
        gray = cv2.cvtColor(recording.image(int(index)), cv2.COLOR_RGB2GRAY)
        parts.add(cv2.resize(gray, size[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8))
    found = parts.find().astype(np.uint8)
    return cv2.resize(found, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST_EXACT) > 0


class StaticParts:
    """Sums over images (h, w) of a video of a moving camera; `find` returns the mask of what never moved."""

    def __init__(self, height: int, width: int) -> None:
        self.count = 0
        self._sum = np.zeros((height, width))
        self._squares = np.zeros((height, width))
        self._gradient = np.zeros((2, height, width))
        self._gradient_squares = np.zeros((height, width))

    def add(self, gray: NDArray[np.uint8]) -> None:
        """Add an image (h, w)."""
        values = gray.astype(np.float64)
        gradient = np.stack([cv2.Sobel(values, cv2.CV_64F, *order) / 8 for order in ((1, 0), (0, 1))])
        self.count += 1
        self._sum += values
        self._squares += values**2
        self._gradient += gradient
        self._gradient_squares += (gradient**2).sum(0)

    def find(self) -> NDArray[np.bool_]:
        """Return (h, w), true on what never moved; empty for fewer than MIN_IMAGES, or if little changes."""
        nothing = np.zeros(self._sum.shape, bool)
        if self.count < MIN_IMAGES:
            return nothing
        mean = self._sum / self.count
        deviation = np.sqrt(np.maximum(self._squares / self.count - mean**2, 0))
        if np.median(deviation) < MIN_CHANGE:
            return nothing
        length = np.linalg.norm(self._gradient / self.count, axis=0)
        power = np.sqrt(self._gradient_squares / self.count)
        is_edge = (length > MIN_EDGE) & (length > MIN_COHERENCE * power)
        return _select_parts(deviation, is_edge, mean)


def _select_parts(
    deviation: NDArray[np.float64], is_edge: NDArray[np.bool_], mean: NDArray[np.float64]
) -> NDArray[np.bool_]:
    parts = np.zeros(deviation.shape, bool)
    least = MIN_AREA * deviation.size
    constant = (deviation < MAX_CONSTANT).astype(np.uint8)
    near_edge = cv2.dilate(is_edge.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    count, labels, stats, centers = cv2.connectedComponentsWithStats(constant, connectivity=4)
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] < least:
            continue
        region = (labels == label).astype(np.uint8)
        ring = (cv2.dilate(region, np.ones((7, 7), np.uint8)) > 0) & (
            cv2.dilate(region, np.ones((3, 3), np.uint8)) == 0
        )
        border = (cv2.dilate(region, np.ones((3, 3), np.uint8)) > 0) & (region == 0)
        still_share = float(near_edge[border].mean()) if border.any() else 0.0
        is_bar = mean[region > 0].mean() < MAX_BLACK_GRAY and still_share > MIN_BAR_EDGE
        changes = ring.any() and np.median(deviation[ring]) > 3 * MAX_CONSTANT
        is_sky = centers[label][1] < len(deviation) / 2 and mean[region > 0].mean() > MIN_SKY_GRAY
        if is_bar or (changes and not is_sky):
            parts |= region > 0
    beside = cv2.dilate(parts.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    glyphs = cv2.morphologyEx((is_edge & ~beside).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(glyphs, connectivity=8)
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] >= least:
            parts |= labels == label
    return parts
