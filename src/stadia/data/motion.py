"""Which frames of a video to keep: enough motion between neighbors to learn depth from, and none where the camera
stands.

Motion is how far corners move: the median displacement of points tracked from the last kept frame and back again (Lucas
and
Kanade), as a share of the image's width. Two simpler measures were tried and fail: driving forward the image expands
about its center, which phase correlation sees as no motion at all (0.3 px of 320 on KITTI 06, where corners move by 3.5
px), and the mean absolute difference of two images measures texture and noise (3.4 gray levels for a standing camera
with noise of 3, 0.8 to 2 for slow real motion).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

STANDING = 0.0003
"""A frame that moved by less than this share of the width since the one before stands: 0.4 px of 1242. A standing KITTI
camera measures 0.0001."""

ENOUGH = 0.002
"""From this share of the width on the next frame is kept: 1.3 px of 640. Less leaves depth to noise."""

_WIDTH = 320  # of the small gray image that motion is measured on
_FEWEST_POINTS = 10


def small_gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB to the gray image, 320 wide, that motion is measured on."""
    height = max(1, round(image.shape[0] * _WIDTH / image.shape[1]))
    return cv2.cvtColor(cv2.resize(image, (_WIDTH, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


def corners(gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 1, 2) points that can be tracked; N may be 0."""
    found = cv2.goodFeaturesToTrack(gray, maxCorners=200, qualityLevel=0.01, minDistance=7)
    return np.empty((0, 1, 2), np.float32) if found is None else found


def motion(before: NDArray[np.uint8], points: NDArray[np.float32], after: NDArray[np.uint8]) -> float:
    """The median displacement of `points` from one small gray image to another, as a share of the width.

    Infinite where too few points are found again: the image has changed altogether, or shows nothing to follow.
    """
    if len(points) < _FEWEST_POINTS:
        return float("inf")
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=(15, 15), maxLevel=3)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, winSize=(15, 15), maxLevel=3)
    good = (found[:, 0] == 1) & (found_back[:, 0] == 1) & (np.linalg.norm(back - points, axis=2)[:, 0] < 0.5)
    if good.sum() < _FEWEST_POINTS:
        return float("inf")
    return float(np.median(np.linalg.norm(there - points, axis=2)[good])) / before.shape[1]


@dataclass
class Selection:
    """The frames kept of a video, by their numbers, and why others were left out.

    standing: the camera stood.  close: it moved, but too little since the last kept frame.  skipped: by a given stride.
    lost: of a file that was cut off or is damaged.  unpaired: of a stereo pair, where the other camera has no image.
    """

    kept: list[int] = field(default_factory=list)
    standing: int = 0
    close: int = 0
    skipped: int = 0
    lost: int = 0
    unpaired: int = 0

    @property
    def seen(self) -> int:
        """Frames looked at, and those that should have been there."""
        return len(self.kept) + self.standing + self.close + self.skipped + self.lost + self.unpaired

    def __str__(self) -> str:
        stride = float(np.median(np.diff(self.kept))) if len(self.kept) > 1 else 1.0
        reasons = {
            "without motion": self.standing,
            "too close to the one before": self.close,
            "between the strides": self.skipped,
            "without an image on the other side": self.unpaired,
        }
        dropped = " and ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
        left_out = f", {dropped} left out" if dropped else ""
        lost = f", {self.lost} lost (the file was cut off or is damaged)" if self.lost else ""
        return f"{len(self.kept)} of {self.seen} frames kept (stride {stride:g}){left_out}{lost}"


class FrameChooser:
    """Looks at a video frame by frame, holds no image but the last kept one (small and gray), and chooses.

    stride: "auto" chooses by motion; a number keeps every n-th frame, standing or not.
    """

    def __init__(self, stride: int | Literal["auto"]) -> None:
        self.stride = stride
        self.selection = Selection()
        self._last: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._moved = 0.0  # from the last kept frame to the one before this

    def keep(self, image: NDArray[np.uint8], number: int | None = None) -> bool:
        """Whether the next frame, (H, W, 3) RGB, is kept. The first one always is. Those before its `number`, if given,
        were lost.
        """
        if number is None:
            number = self.selection.seen
        self.selection.lost += number - self.selection.seen
        keep = number % self.stride == 0 if self.stride != "auto" else self._has_moved(image)
        if keep:
            self.selection.kept.append(number)
        elif self.stride != "auto":
            self.selection.skipped += 1
        return keep

    def _has_moved(self, image: NDArray[np.uint8]) -> bool:
        gray = small_gray(image)
        moved = motion(*self._last, gray) if self._last else float("inf")
        further, self._moved = abs(moved - self._moved), moved
        if moved >= ENOUGH:
            self._last, self._moved = (gray, corners(gray)), 0.0
            return True
        if further < STANDING:
            self.selection.standing += 1
        else:
            self.selection.close += 1
        return False
