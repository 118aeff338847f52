"""Choose key frames by how far corners move; find where a video stands, is cut, or is without detail."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.datasets.video.frame_selection import FLOW_WIDTH, MAX_STANDING_MOTION, find_corners, measure_motion

KEY_MOTION = 0.008
"""A key frame follows after this median motion of corners, as a share of the width: 6 px of 800."""

MIN_KEYS = 70
FRAMES_PER_KEY = 12
"""Largest number of key frames: MIN_KEYS, or one for FRAMES_PER_KEY frames of a longer video, which bounds the time."""

MAX_CUT_CORRELATION = 0.3
"""Two frames whose thumbnails correlate less show different scenes: neighbors of one scene reach 0.9."""

THUMBNAIL_PX = 32

MIN_STANDING_FRAMES = 8
"""A camera stands once so many frames lie within twice MAX_STANDING_MOTION of the first one: slow motion adds up."""

MAX_CORNERS = 100  # strongest ones of a frame that are followed

MIN_CORNERS = 25
"""A frame with fewer corners has no detail: sky, blur, darkness."""


@dataclass
class KeyFrames:
    """Indices of frames: key frames, those of a standing camera, first ones after a cut, those without detail.

    frames: number of frames of the video, with those that are lost.
    """

    keys: list[int] = field(default_factory=list)
    standing: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)
    frames: int = 0


class KeyFrameSelector:
    """Select key frames in order. Two small gray images are in memory.

    Motion is measured from the last key frame, so that slow motion adds up. Where corners are lost, the next key frame
    follows at once.
    """

    def __init__(self, key_motion: float = KEY_MOTION) -> None:
        self.key_motion = key_motion
        self.found = KeyFrames()
        self._key: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._before: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._still: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._still_since = 0

    def add(self, gray: NDArray[np.uint8], index: int | None = None) -> bool:
        """Return whether the next frame, (h, w), is a key frame. Frames before its `index`, if given, were lost."""
        found = self.found
        index = found.frames if index is None else index
        found.frames = index + 1
        height = max(1, round(gray.shape[0] * FLOW_WIDTH / gray.shape[1]))
        small = cv2.resize(gray, (FLOW_WIDTH, height), interpolation=cv2.INTER_AREA)
        corners = find_corners(small)[:MAX_CORNERS]
        if len(corners) < MIN_CORNERS:
            found.blank.append(index)
        step = measure_motion(*self._before, small) if self._before is not None else 0.0
        has_detail = self._before is not None and min(len(corners), len(self._before[1])) >= MIN_CORNERS
        is_cut = self._before is not None and has_detail and _correlate(self._before[0], small) < MAX_CUT_CORRELATION
        if self._stands(small, corners, index, step):
            found.standing.append(index)
        self._before = small, corners
        if is_cut:
            found.cuts.append(index)
        moved = measure_motion(*self._key, small) if self._key is not None else float("inf")
        if (moved < self.key_motion and not is_cut) or (index and len(corners) < MIN_CORNERS):
            return False
        self._key = small, corners
        found.keys.append(index)
        return True

    def _stands(self, small: NDArray[np.uint8], corners: NDArray[np.float32], index: int, step: float) -> bool:
        """Return whether the camera stands: no motion since the frame before, nor since the first frame of a while."""
        if (
            step >= MAX_STANDING_MOTION
            or self._still is None
            or measure_motion(*self._still, small) >= 2 * MAX_STANDING_MOTION
        ):
            self._still, self._still_since = (small, corners), index
        return index - self._still_since >= MIN_STANDING_FRAMES


def _correlate(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the correlation of the thumbnails of two images (h, w)."""
    height = max(2, round(THUMBNAIL_PX * first.shape[0] / first.shape[1]))
    thumbnails = [cv2.resize(image, (THUMBNAIL_PX, height), interpolation=cv2.INTER_AREA) for image in (first, second)]
    centered = [thumbnail.astype(np.float64) - thumbnail.mean() for thumbnail in thumbnails]
    power = np.sqrt((centered[0] ** 2).sum() * (centered[1] ** 2).sum())
    return float((centered[0] * centered[1]).sum() / max(power, 1e-9))


def thin_keys(keys: list[int], frames: int) -> list[int]:
    """Return at most as many key frames as a video of `frames` may have, evenly chosen; the last one stays.

    Examples:
        >>> len(thin_keys(list(range(221)), 221)), thin_keys([0, 4, 9], 10)
        (70, [0, 4, 9])
    """
    most = max(MIN_KEYS, frames // FRAMES_PER_KEY)
    if len(keys) <= most:
        return keys
    return [keys[place] for place in np.linspace(0, len(keys) - 1, most).round().astype(int).tolist()]
