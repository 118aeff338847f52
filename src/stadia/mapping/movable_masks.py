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

MOVABLE_CLASSES = OBJECT_CLASSES | {"train", "caravan", "trailer", "dog", "horse", "sheep", "cow", "boat"}


@dataclass(frozen=True, eq=False)
class MovableMasks:
    """The masks of `stadia prepare` of a video.

    stems: of the frames' masks, in the order of the video.  frames: their indices, ascending.
    """

    files: MaskFiles
    stems: Sequence[str]
    frames: NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path, stems: Sequence[str]) -> MovableMasks:
        """Open a folder with semantic/left/STEM.png. Raises DataError where it has none of these frames.

        stems: of all frames of the video, in order.
        """
        folder = expand_home(folder)
        files = MaskFiles(folder)
        present = {path.stem for path in (folder / "semantic" / LEFT).glob("*.png")}
        found = [index for index, stem in enumerate(stems) if stem in present]
        if not found:
            expected, fix = "semantic/left/FRAME.png", f"stadia prepare VIDEO --masks --out {folder}"
            raise DataError(folder, found="masks of no frame of this video", expected=expected, fix=fix)
        return cls(files, [stems[index] for index in found], np.array(found))

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
        size = (height, width) if lens is None else (lens.lens.height, lens.lens.width)
        masks = self.files.read(self.stems[self._find_nearest(index)], LEFT, height=size[0], width=size[1])
        if masks is None:
            return None
        movable = select_classes(masks.semantic, self.files.classes, MOVABLE_CLASSES) | (masks.instance > 0)
        if lens is None:
            return movable
        straight = lens(np.where(movable, np.uint8(255), np.uint8(0)))
        return np.asarray(cv2.resize(straight, (width, height), interpolation=cv2.INTER_AREA) > 0)

    def fingerprint(self) -> str:
        """Return a hash of the files."""
        return self.files.fingerprint(LEFT)
