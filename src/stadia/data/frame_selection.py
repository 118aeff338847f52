"""Choose frames of a video: evenly, every n-th, after enough motion, or as keyframes of a map."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.image_features import find_corners, measure_motion


def spread_indices(count: int, most: int) -> list[int]:
    """Return the indices of at most `most` of `count` items, evenly spread from the first to the last.

    Examples:
        >>> spread_indices(11, 3), spread_indices(2, 5), spread_indices(0, 5)
        ([0, 5, 10], [0, 1], [])
    """
    if not count:
        return []
    indices: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return indices


MAX_STANDING_MOTION = 0.0003  # 0.4 px of 1242
MIN_MOTION = 0.002  # 1.3 px of 640; with less motion, noise dominates depth
FLOW_WIDTH = 320  # width of the image in which motion is measured
MAX_COPY_DIFFERENCE = 0.3  # mean difference of the gray values of a frame and its copy, which a codec may change


def shrink_to_gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert an image (H, W, 3) RGB to the small gray image, FLOW_WIDTH pixels wide, that motion is measured in."""
    height = max(1, round(image.shape[0] * FLOW_WIDTH / image.shape[1]))
    return cv2.cvtColor(cv2.resize(image, (FLOW_WIDTH, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


@dataclass
class FrameSelection:
    """The numbers of the video frames that were kept, and how many of the rest were dropped for each reason.

    kept: numbers of the kept frames.
    standing: number of frames dropped because the camera stood still.
    close: number of frames dropped because of too little motion since the last kept frame.
    skipped: number of frames left out by a fixed stride.
    lost: number of frames that are truncated or damaged.
    unpaired: number of frames without the second image of a stereo pair.
    copies: number of frames among the standing ones that show what the frame before shows.
    """

    kept: list[int] = field(default_factory=list)
    standing: int = 0
    close: int = 0
    skipped: int = 0
    lost: int = 0
    unpaired: int = 0
    copies: int = 0

    @property
    def total(self) -> int:
        """Return the number of all frames of the video: kept, dropped and lost ones."""
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
    """Decides frame by frame, in order, which frames of a video are kept.

    stride: "auto" keeps a frame after enough motion; a number n keeps every n-th frame.
    lists_kept: whether the attribute `selection` lists the numbers of the kept frames.
    """

    def __init__(self, stride: int | Literal["auto"], *, lists_kept: bool = True) -> None:
        self.stride, self.lists_kept = stride, lists_kept
        self._next = 0
        self.selection = FrameSelection()
        self._last: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._moved = 0.0  # motion from the last kept frame to the frame before this one
        self._before: NDArray[np.uint8] | None = None

    def keep(self, image: NDArray[np.uint8], number: int | None = None) -> bool:
        """Return whether to keep the next video frame.

        image: (H, W, 3) RGB.
        number: number of the frame in the video; numbers between the last frame and this one count as lost. None means
            the next number.
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
        before, self._before = self._before, gray
        if moved >= MIN_MOTION:
            self._last, self._moved = (gray, find_corners(gray)), 0.0
            return True
        if further < MAX_STANDING_MOTION:
            self.selection.standing += 1
            is_copy = before is not None and cv2.absdiff(before, gray).mean() < MAX_COPY_DIFFERENCE
            self.selection.copies += int(is_copy)
        else:
            self.selection.close += 1
        return False


# -- keyframes of a map

KEY_MOTION = 0.008
"""Median motion of the tracked corners from one keyframe to the next, as a share of the image width (6 px of 800)."""

MIN_KEYS = 70
FRAMES_PER_KEY = 12
MOTION_PER_KEY = 0.05
"""Most keyframes of a video: the largest of MIN_KEYS, one per FRAMES_PER_KEY frames, and one per this much summed
    motion.

The motion is in image widths. The limit bounds the computing time; quick turns need more keyframes: the image of a
hand-held camera moves by .07 of the width per frame, the image of a car by .003 to .01.
"""

LOST_MOTION = 0.15
"""Motion, in image widths, that is assumed between two keyframes if tracking lost all corners between them."""

SHARPEST_SHARE = 0.5
"""When keyframes are thinned out, the sharpest one is taken from the middle part of each interval of motion; this is
the length of that part over the interval.
"""

MIN_STANDING_FRAMES = 8
"""A camera counts as standing after this many frames whose motion against the first of them stays below twice
MAX_STANDING_MOTION.
"""

MAX_CORNERS = 100  # strongest ones of a frame that are followed

MIN_CORNERS = 25
"""Fewest corners of a frame with detail; sky, blur and darkness have fewer."""


MAX_FILM_KEY_SHARE = 0.75
"""Largest share of the images of a folder that are keyframes, if the folder has the frames of a video."""


@dataclass
class KeyFrames:
    """The chosen keyframes of a video, and what was noticed about its other frames. All lists hold frame indices
    unless stated.

    keys: the keyframes, rising.
    motion: for each keyframe, the median corner motion from the keyframe before it, as a share of the image width.
    sharpness: for each keyframe, the standard deviation of the image's Laplacian.
    standing: frames at which the camera stands.
    cuts: first frames after a cut between scenes, set by `find_cuts` once the keyframes are matched.
    blank: frames without detail.
    frames: number of frames of the video, including damaged ones.
    """

    keys: list[int] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    standing: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)
    frames: int = 0

    def are_photos(self, source: Path) -> bool:
        """Return whether the frames are photos in a folder: most differ enough to be keyframes.

        No pose between two photos is interpolated.
        """
        return (
            bool(self.keys) and source.is_dir() and len(self.keys) > MAX_FILM_KEY_SHARE * (self.frames - self.keys[0])
        )


class KeyFrameSelector:
    """Decide frame by frame which frames are keyframes; keeps only three small gray images in memory.

    Motion is measured from the last keyframe, so that slow motion adds up. Where tracking loses all corners, the
    frames before and after the loss become keyframes.

    key_motion: smallest motion of a keyframe, as a share of the image width.
    static: (h, w), true on pixels that show the same all along, such as a hood, whose corners do not count; or None.
    """

    def __init__(self, key_motion: float = KEY_MOTION, static: NDArray[np.bool_] | None = None) -> None:
        self.key_motion, self.static = key_motion, static
        self.found = KeyFrames()
        self._key: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._before: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._still: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._still_since = self._before_index = 0

    def add(self, gray: NDArray[np.uint8], index: int | None = None) -> bool:
        """Take the next frame, and return whether it becomes a keyframe.

        gray: (h, w) gray image.
        index: its number in the video; None for the number after the frame before. Numbers that are skipped are damaged
            frames.
        """
        found = self.found
        index = found.frames if index is None else index
        found.frames = index + 1
        height = max(1, round(gray.shape[0] * FLOW_WIDTH / gray.shape[1]))
        small = cv2.resize(gray, (FLOW_WIDTH, height), interpolation=cv2.INTER_AREA)
        corners = self._find_corners(small)
        if len(corners) < MIN_CORNERS and len(find_corners(small)) < MIN_CORNERS:
            found.blank.append(index)
        step = measure_motion(*self._before, small) if self._before is not None else 0.0
        if self._stands(small, corners, index, step):
            found.standing.append(index)
        moved = measure_motion(*self._key, small) if self._key is not None else float("inf")
        if self._key is not None and self._before is not None and not np.isfinite(moved):
            before, corners_before = self._before
            if len(corners_before) >= MIN_CORNERS and self._before_index > found.keys[-1]:
                self._keep(self._before_index, measure_motion(*self._key, before), before)
                moved = step
        self._before, self._before_index = (small, corners), index
        if moved < self.key_motion or (index and len(corners) < MIN_CORNERS):
            return False
        self._key = small, corners
        self._keep(index, moved if found.keys else 0.0, small)
        return True

    def _find_corners(self, small: NDArray[np.uint8]) -> NDArray[np.float32]:
        corners = find_corners(small)
        if self.static is not None:
            shrunk = cv2.resize(self.static.astype(np.uint8), small.shape[::-1], interpolation=cv2.INTER_NEAREST)
            wide = cv2.dilate(shrunk, np.ones((5, 5), np.uint8))  # The edge of a hood does not move either.
            column, row = corners[:, 0].astype(int).T
            corners = corners[wide[row, column] == 0]
        return corners[:MAX_CORNERS]

    def _keep(self, index: int, motion: float, small: NDArray[np.uint8]) -> None:
        self.found.keys.append(index)
        self.found.motion.append(min(motion, LOST_MOTION))
        self.found.sharpness.append(float(cv2.Laplacian(small, cv2.CV_64F).std()))

    def _stands(self, small: NDArray[np.uint8], corners: NDArray[np.float32], index: int, step: float) -> bool:
        if (
            step >= MAX_STANDING_MOTION
            or self._still is None
            or measure_motion(*self._still, small) >= 2 * MAX_STANDING_MOTION
        ):
            self._still, self._still_since = (small, corners), index
        return index - self._still_since >= MIN_STANDING_FRAMES


def thin_keys(found: KeyFrames) -> KeyFrames:
    """Reduce keyframes to the largest number that a video of this length and motion may have (see MOTION_PER_KEY).

    The first and the last keyframe stay; those between are spaced evenly in motion, and sharp ones are preferred.

    Examples:
        >>> many = KeyFrames(list(range(221)), [0.01] * 221, [1.0] * 221, frames=221)
        >>> len(thin_keys(many).keys), thin_keys(KeyFrames([0, 4, 9], [0.01] * 3, [1.0] * 3, frames=10)).keys
        (70, [0, 4, 9])
    """
    progress, sharpness = np.cumsum(found.motion), np.array(found.sharpness)
    most = max(MIN_KEYS, found.frames // FRAMES_PER_KEY, int(progress[-1] / MOTION_PER_KEY) if len(progress) else 0)
    if len(found.keys) <= most:
        return found
    targets = np.linspace(progress[0], progress[-1], most)
    reach = SHARPEST_SHARE * (targets[1] - targets[0]) / 2
    rows = {0, len(found.keys) - 1}
    for target in targets[1:-1]:
        first, last = np.searchsorted(progress, (target - reach, target + reach))
        nearest = int(np.abs(progress - target).argmin())
        rows.add(first + int(sharpness[first:last].argmax()) if last > first else nearest)
    kept = sorted(rows)
    return replace(
        found,
        keys=[found.keys[row] for row in kept],
        motion=[found.motion[row] for row in kept],
        sharpness=[found.sharpness[row] for row in kept],
    )
