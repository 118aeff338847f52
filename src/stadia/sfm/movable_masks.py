"""Read the masks of `stadia prepare`, which leave out what moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT
from stadia.data.lens_distortion import Undistortion
from stadia.data.mask_files import OBJECT_CLASSES, MaskFiles, check_masks_of, select_classes
from stadia.data.video.photo_fit import PhotoFit
from stadia.io.input_files import expand_home

MAX_DISTANCE = 5
"""A frame takes the mask of a frame this near, since `stadia prepare` skips frames that hardly move."""

GROWN_SHARE, GROWN_SHARE_OF_NEAR = 0.005, 0.015
"""Growth of a mask, and of a near frame's mask, over the width: features at an outline move with it."""

MOVABLE_CLASSES = OBJECT_CLASSES | {"train", "caravan", "trailer", "dog", "horse", "sheep", "cow", "boat"}


@dataclass(frozen=True, eq=False)
class MovableMasks:
    """The masks of `stadia prepare` of a video.

    stems, frames: names and indices of the frames with masks, ascending.
    height, width: of the frames as filmed.
    """

    files: MaskFiles
    stems: Sequence[str]
    frames: NDArray[np.int64]
    height: int
    width: int

    @classmethod
    def open(cls, folder: Path, stems: Sequence[str], height: int, width: int, content: str = "") -> MovableMasks:
        """Open a folder with semantic/left/STEM.png. stems: of all frames of the video, in order. content: its hash.

        Raises DataError for masks of another video, without a mask of these frames, or without a class that moves.
        """
        folder = expand_home(folder)
        if not (folder / "semantic" / LEFT).is_dir():
            found = "no semantic/left in it" if folder.is_dir() else "no such folder"
            raise DataError(folder, found=found, expected="masks", fix=f"stadia prepare VIDEO --masks --out {folder}")
        check_masks_of(folder, content)
        files = MaskFiles(folder)
        if not MOVABLE_CLASSES.intersection(files.classes.values()):
            found = ", ".join(list(files.classes.values())[:6]) or "no class"
            fix = "use a network that segments cars and people"
            raise DataError(folder / "classes.json", found=found, expected="classes that move: car, person", fix=fix)
        present = {path.stem for path in (folder / "semantic" / LEFT).glob("*.png")}
        masked = [index for index, stem in enumerate(stems) if stem in present]
        if not masked:
            expected, fix = "semantic/left/FRAME.png", f"stadia prepare VIDEO --masks --out {folder}"
            raise DataError(folder, found="no mask of this video", expected=expected, fix=fix)
        return cls(files, [stems[index] for index in masked], np.array(masked), height, width)

    def has_near(self, index: int, max_distance: int = MAX_DISTANCE) -> bool:
        """Return whether a frame has its own mask or a near one."""
        return abs(int(self.frames[self._find_nearest(index)]) - index) <= max_distance

    def _find_nearest(self, index: int) -> int:
        return int(np.abs(self.frames - index).argmin())

    def read(
        self, index: int, height: int, width: int, lens: Undistortion | None = None, fit: PhotoFit | None = None
    ) -> NDArray[np.bool_] | None:
        """Return (height, width), true on what can move in a frame; None without a near mask.

        lens: of the frames as filmed, which is removed from the mask too.
        fit: of a photo of another size than most.

        Raises DataError for a mask that cannot be read, or has another shape.
        """
        if not self.has_near(index):
            return None
        stem = self.stems[self._find_nearest(index)]
        filmed = fit or PhotoFit(self.height, self.width)
        masks = self.files.read(stem, LEFT, height=filmed.height, width=filmed.width)
        if masks is None:
            return None
        movable = select_classes(masks.semantic, self.files.classes, MOVABLE_CLASSES) | (masks.instance > 0)
        marked = np.where(movable, np.uint8(255), np.uint8(0))
        straight = marked if lens is None else lens(marked)
        marked = filmed.apply(straight, height, width)
        is_own = self.frames[self._find_nearest(index)] == index
        side = 2 * round((GROWN_SHARE if is_own else GROWN_SHARE_OF_NEAR) * width) + 1
        return np.asarray(cv2.dilate(marked, np.ones((side, side), np.uint8)) > 0)

    def fingerprint(self) -> str:
        """Return a hash of the files."""
        return self.files.fingerprint(LEFT)
