"""Select the frames of a video that are kept: those with enough motion to learn depth, without a standing camera.

Motion is the median displacement of corners, tracked from the last kept frame and back, divided by the image width.
"""

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.image_features import find_corners, measure_motion

MAX_STANDING_MOTION = 0.0003  # 0.4 px of 1242
MIN_MOTION = 0.002  # 1.3 px of 640; with less motion, noise dominates depth
FLOW_WIDTH = 320  # of the image in which motion is measured


def shrink_to_gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the gray image, FLOW_WIDTH wide, in which motion is measured, of an image (H, W, 3) RGB."""
    height = max(1, round(image.shape[0] * FLOW_WIDTH / image.shape[1]))
    return cv2.cvtColor(cv2.resize(image, (FLOW_WIDTH, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


@dataclass
class FrameSelection:
    """The numbers of the kept frames of a video, and how many others were dropped for which reason.

    standing: the camera stood still.
    close: too little motion since the last kept frame.
    skipped: left out by a given stride.
    lost: truncated or damaged.
    unpaired: without the other image of a stereo pair.
    """

    kept: list[int] = field(default_factory=list)
    standing: int = 0
    close: int = 0
    skipped: int = 0
    lost: int = 0
    unpaired: int = 0

    @property
    def total(self) -> int:
        """Return the number of all frames, including lost ones."""
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
        lost = f", {self.lost} lost (the file is truncated or damaged)" if self.lost else ""
        return f"{len(self.kept)} of {self.total} frames kept (stride {stride:g}){left_out}{lost}"


class FrameSelector:
    """Selects frames of a video in order: by motion ("auto"), or every n-th.

    lists_kept: whether `selection` lists the numbers of kept frames.
    """

    def __init__(self, stride: int | Literal["auto"], *, lists_kept: bool = True) -> None:
        self.stride, self.lists_kept = stride, lists_kept
        self._next = 0
        self.selection = FrameSelection()
        self._last: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._moved = 0.0  # from the last kept frame to the one before this

    def keep(self, image: NDArray[np.uint8], number: int | None = None) -> bool:
        """Return whether to keep the next frame (H, W, 3) RGB.

        number: number of the frame. If it is given, missing frames before it count as lost.
        """
        number = self._next if number is None else number
        self.selection.lost += number - self._next
        self._next = number + 1
        keep = number % self.stride == 0 if self.stride != "auto" else self._has_moved(image)
        if keep:
            if self.lists_kept:
                self.selection.kept.append(number)
        elif self.stride != "auto":
            self.selection.skipped += 1
        return keep

    def _has_moved(self, image: NDArray[np.uint8]) -> bool:
        gray = shrink_to_gray(image)
        moved = measure_motion(*self._last, gray) if self._last else float("inf")
        further, self._moved = abs(moved - self._moved), moved
        if moved >= MIN_MOTION:
            self._last, self._moved = (gray, find_corners(gray)), 0.0
            return True
        if further < MAX_STANDING_MOTION:
            self.selection.standing += 1
        else:
            self.selection.close += 1
        return False
