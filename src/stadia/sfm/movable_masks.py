"""Read the masks that `stadia masks` writes for a video, to leave out things that can move."""

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
from stadia.data.mask_files import MAKE_MASKS, OBJECT_CLASSES, MaskFiles, check_masks_of, select_classes
from stadia.data.video.photo_fit import PhotoFit
from stadia.io.input_files import expand_home

MAX_DISTANCE = 5
"""A frame without a mask takes the mask of a frame at most this many frames away, because `stadia masks` skips frames
of a nearly stationary camera.
"""

GROWN_SHARE, GROWN_SHARE_OF_NEAR = 0.005, 0.015
"""How far a mask is enlarged, as a share of the image width: by GROWN_SHARE for the frame's own mask, by
GROWN_SHARE_OF_NEAR for a mask taken from a nearby frame. Features at the outline of a moving thing move with it.
"""

MOVABLE_CLASSES = OBJECT_CLASSES | {"train", "caravan", "trailer", "dog", "horse", "sheep", "cow", "boat"}


@dataclass(frozen=True, eq=False)
class MovableMasks:
    """The masks that `stadia masks` wrote for a video.

    files: the mask files.
    stems: names of the frames that have a mask, in order.
    frames: indices of these frames, rising.
    height, width: size of the frames as filmed, pixels.
    """

    files: MaskFiles
    stems: Sequence[str]
    frames: NDArray[np.int64]
    height: int
    width: int

    @classmethod
    def open(cls, folder: Path, stems: Sequence[str], height: int, width: int, content: str = "") -> MovableMasks:
        """Open the masks of a video in a folder (files semantic/left/STEM.png).

        folder: the folder.
        stems: names of all frames of the video, in order.
        height, width: size of the frames as filmed, pixels.
        content: hash of the video's content, which is compared with the hash stored in the folder; "" compares nothing.

        Raises DataError for masks of another video, without a mask of these frames, or without a class that can move.
        """
        folder = expand_home(folder)
        if not (folder / "semantic" / LEFT).is_dir():
            found = "no semantic/left in it" if folder.is_dir() else "no such folder"
            raise DataError(folder, found=found, expected="masks", fix=MAKE_MASKS)
        check_masks_of(folder, content)
        files = MaskFiles(folder)
        if not MOVABLE_CLASSES.intersection(files.classes.values()):
            found = ", ".join(list(files.classes.values())[:6]) or "no class"
            fix = "use a network that segments cars and people"
            raise DataError(folder / "classes.json", found=found, expected="classes that move: car, person", fix=fix)
        present = {path.stem for path in (folder / "semantic" / LEFT).glob("*.png")}
        masked = [index for index, stem in enumerate(stems) if stem in present]
        if not masked:
            expected = "semantic/left/FRAME.png"
            raise DataError(folder, found="no mask of this video", expected=expected, fix=MAKE_MASKS)
        return cls(files, [stems[index] for index in masked], np.array(masked), height, width)

    def has_near(self, index: int, max_distance: int = MAX_DISTANCE) -> bool:
        """Return whether the frame `index`, or one at most `max_distance` frames away, has a mask."""
        return abs(int(self.frames[self._find_nearest(index)]) - index) <= max_distance

    def _find_nearest(self, index: int) -> int:
        return int(np.abs(self.frames - index).argmin())

    def read(
        self, index: int, height: int, width: int, lens: Undistortion | None = None, fit: PhotoFit | None = None
    ) -> NDArray[np.bool_] | None:
        """Read the mask of a frame, true on things that can move.

        index: number of the frame.
        height, width: size of the returned mask, pixels.
        lens: removes the lens distortion of the frames, and so of the mask; None leaves it.
        fit: how a photo is turned and padded to the size of most photos; None for a plain resize.

        Returns (height, width); None if no frame within MAX_DISTANCE has a mask.

        Raises DataError for a mask file that cannot be read, or has another size than the frames.
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
        """Return a hash of the mask files."""
        return self.files.fingerprint(LEFT)
