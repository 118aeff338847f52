"""Masks of what may move by itself, such as cars: a map leaves it out, or its path follows the traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import LEFT
from stadia.datasets.lens_distortion import Undistortion
from stadia.datasets.masks.mask_files import OBJECT_CLASSES, MaskFiles, select_classes
from stadia.files.paths import expand_home

MAX_DISTANCE = 5
"""Frames from one without a mask to the one whose mask it takes: `stadia prepare` leaves out those that hardly move."""

GROWN_SHARE, GROWN_SHARE_OF_NEAR = 0.005, 0.015
"""Of the width, by which a mask grows, and one of a near frame: features at an outline move with it, and so does it."""

MOVABLE_CLASSES = OBJECT_CLASSES | {"train", "caravan", "trailer", "dog", "horse", "sheep", "cow", "boat"}


@dataclass(frozen=True, eq=False)
class MovableMasks:
    """The masks of `stadia prepare` of a video.

    stems: of the frames' masks, in the order of the video.  frames: their indices, ascending.
    height, width: of the frames as filmed.
    """

    files: MaskFiles
    stems: Sequence[str]
    frames: NDArray[np.int64]
    height: int
    width: int

    @classmethod
    def open(cls, folder: Path, stems: Sequence[str], height: int, width: int) -> MovableMasks:
        """Open a folder with semantic/left/STEM.png.

        stems: of all frames of the video, in order.  height, width: of the frames as filmed.

        Raises DataError where it has none of these frames, or no class of what moves.
        """
        folder = expand_home(folder)
        if not (folder / "semantic" / LEFT).is_dir():
            found = "no semantic/left in it" if folder.is_dir() else "no such folder"
            raise DataError(folder, found=found, expected="masks", fix=f"stadia prepare VIDEO --masks --out {folder}")
        files = MaskFiles(folder)
        if not MOVABLE_CLASSES.intersection(files.classes.values()):
            found = ", ".join(list(files.classes.values())[:6]) or "no class"
            fix = "use a network that segments cars and people"
            raise DataError(folder / "classes.json", found=found, expected="car, person or another that moves", fix=fix)
        present = {path.stem for path in (folder / "semantic" / LEFT).glob("*.png")}
        masked = [index for index, stem in enumerate(stems) if stem in present]
        if not masked:
            expected, fix = "semantic/left/FRAME.png", f"stadia prepare VIDEO --masks --out {folder}"
            raise DataError(folder, found="masks of no frame of this video", expected=expected, fix=fix)
        return cls(files, [stems[index] for index in masked], np.array(masked), height, width)

    def has_near(self, index: int) -> bool:
        """Return whether a frame has a mask of its own or of a near frame."""
        return abs(int(self.frames[self._find_nearest(index)]) - index) <= MAX_DISTANCE

    def _find_nearest(self, index: int) -> int:
        return int(np.abs(self.frames - index).argmin())

    def read(self, index: int, height: int, width: int, lens: Undistortion | None = None) -> NDArray[np.bool_] | None:
        """Return (height, width), true on what may move in a frame; None without a mask of it or of a near frame.

        lens: of the frames as filmed, which is removed from the mask too.

        Raises DataError for a mask that cannot be read, or has another shape.
        """
        if not self.has_near(index):
            return None
        stem = self.stems[self._find_nearest(index)]
        masks = self.files.read(stem, LEFT, height=self.height, width=self.width)
        if masks is None:
            return None
        movable = select_classes(masks.semantic, self.files.classes, MOVABLE_CLASSES) | (masks.instance > 0)
        marked = np.where(movable, np.uint8(255), np.uint8(0))
        straight = marked if lens is None else lens(marked)
        marked = cv2.resize(straight, (width, height), interpolation=cv2.INTER_AREA)
        is_own = self.frames[self._find_nearest(index)] == index
        side = 2 * round((GROWN_SHARE if is_own else GROWN_SHARE_OF_NEAR) * width) + 1
        return np.asarray(cv2.dilate(marked, np.ones((side, side), np.uint8)) > 0)

    def fingerprint(self) -> str:
        """Return a hash of the files."""
        return self.files.fingerprint(LEFT)
