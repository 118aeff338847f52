"""Stream the frames of a video or a folder of images, small and gray, repeatedly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import LEFT
from stadia.datasets.config import CameraConfig
from stadia.datasets.image_files import IMAGE_SUFFIXES, list_images, read_rgb
from stadia.datasets.lens_distortion import Undistortion
from stadia.datasets.mask_files import OBJECT_CLASSES, MaskFiles, check_masks_of, select_classes
from stadia.datasets.recordings import FrameCrop, Intrinsics
from stadia.datasets.video.video_camera import UserCamera, find_crop, find_static_mask, read_image_size
from stadia.datasets.video.video_decoding import VIDEO_SUFFIXES, estimate_frame_count, stream_selected, stream_video
from stadia.evaluation.background import run_ahead
from stadia.files.paths import expand_home

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

    def has_near(self, index: int) -> bool:
        """Return whether a frame has its own mask or a near one."""
        return abs(int(self.frames[self._find_nearest(index)]) - index) <= MAX_DISTANCE

    def _find_nearest(self, index: int) -> int:
        return int(np.abs(self.frames - index).argmin())

    def read(self, index: int, height: int, width: int, lens: Undistortion | None = None) -> NDArray[np.bool_] | None:
        """Return (height, width), true on what can move in a frame; None without a near mask.

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


MAX_SIDE_PX = 800
"""Longer side of the images for features."""

MAX_FRAMES = 200_000


@dataclass(frozen=True, slots=True)
class SmallFrame:
    """One frame. gray: (h, w).  filmed: (H, W, 3) RGB.  time_s: None if unknown."""

    index: int
    name: str
    time_s: float | None
    gray: NDArray[np.uint8]
    filmed: NDArray[np.uint8]

    @property
    def image(self) -> NDArray[np.uint8]:
        """Return the small frame (h, w, 3) RGB."""
        return _shrink_image(self.filmed, *self.gray.shape)


def _shrink_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True)
class FrameStream:
    """The frames of a video file, or of a folder of images in natural order.

    height, width: of the frames without black bars, pixels.
    crop: which cuts off black bars; None without bars.
    lens: removed from the frames; None for a pinhole or an unknown lens.
    masks: of what can move in the frames.
    """

    source: Path
    height: int
    width: int
    lens: Undistortion | None = None
    masks: MovableMasks | None = None
    crop: FrameCrop | None = None

    @classmethod
    def open(cls, source: Path, camera: CameraConfig | None = None) -> FrameStream:
        """Open a video file or a folder of images. Raises DataError for anything else."""
        is_video = source.is_file() and source.suffix.lower() in VIDEO_SUFFIXES
        has_images = source.is_dir() and any(path.suffix.lower() in IMAGE_SUFFIXES for path in source.iterdir())
        if not is_video and not has_images:
            found = "no such file or folder" if not source.exists() else "neither a video nor a folder of images"
            raise DataError(source, found=found, expected="a video file, or a folder of its frames")
        crop = find_crop(camera or CameraConfig(), source, *read_image_size(source))
        if crop is None:
            return cls(source, *read_image_size(source))
        return cls(source, crop.window.height, crop.window.width, crop=crop)

    @property
    def filmed_size(self) -> tuple[int, int]:
        """Return (height, width) of the frames as filmed."""
        return (self.height, self.width) if self.crop is None else (self.crop.height, self.crop.width)

    def find_static(self) -> NDArray[np.bool_] | None:
        """Return (h, w), true on what never moves in the small frames, or None."""
        whole = Intrinsics(np.eye(3), self.height, self.width)
        mask = find_static_mask(UserCamera(whole, self.lens, self.crop), self.source)
        height, width = self.small_size
        if mask is None:
            return None
        return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0

    @property
    def small_size(self) -> tuple[int, int]:
        """Return (height, width) of the small frames."""
        scale = min(1.0, MAX_SIDE_PX / max(self.height, self.width))
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))

    @cached_property
    def files(self) -> list[Path]:
        """Return the images of a folder; empty for a video."""
        return list_images(self.source) if self.source.is_dir() else []

    def stems(self) -> list[str]:
        """Return the names of all frames, in order."""
        return [path.stem for path in self.files] or [f"{index:06d}" for index in range(self.count() or MAX_FRAMES)]

    def find_movable(self, index: int) -> NDArray[np.bool_] | None:
        """Return (h, w), true on what can move in a small frame, or None."""
        return None if self.masks is None else self.masks.read(index, *self.small_size, self.lens)

    def count(self) -> int | None:
        """Return the number of frames; None if a video does not state it."""
        return len(self.files) or estimate_frame_count(self.source)

    def __iter__(self) -> Iterator[SmallFrame]:
        return self._run_ahead(None)

    def select(self, wanted: Collection[int]) -> Iterator[SmallFrame]:
        """Yield only the frames with these indices, which is faster."""
        return self._run_ahead(wanted)

    def _run_ahead(self, wanted: Collection[int] | None) -> Iterator[SmallFrame]:
        return run_ahead(self._shrink(self._read(wanted)), weigh=lambda frame: frame.filmed.nbytes)

    def _shrink(self, frames: Iterator[tuple[int, str, float | None, NDArray[np.uint8]]]) -> Iterator[SmallFrame]:
        height, width = self.small_size
        for index, name, time_s, image in frames:
            if index >= MAX_FRAMES:
                fix = "cut the video into parts and map each"
                raise DataError(self.source, found=f"more than {MAX_FRAMES} frames", expected="fewer", fix=fix)
            if image.shape[:2] != self.filmed_size:
                found, expected = f"{image.shape[1]}x{image.shape[0]}", "x".join(map(str, self.filmed_size[::-1]))
                raise DataError(f"{self.source}, {name}", found=found, expected=f"{expected} as before")
            image = image if self.crop is None else self.crop.cut(image)
            if self.lens is not None:
                image = self.lens(image)
            gray = _shrink_image(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), height, width)
            yield SmallFrame(index, name, time_s, gray, image)

    def _read(self, wanted: Collection[int] | None) -> Iterator[tuple[int, str, float | None, NDArray[np.uint8]]]:
        if self.files:
            for index, path in enumerate(self.files):
                if wanted is None or index in wanted:
                    yield index, path.stem, None, read_rgb(path)
            return
        for frame in stream_video(self.source) if wanted is None else stream_selected(self.source, wanted):
            yield frame.index, f"{frame.index:06d}", frame.time_s, frame.image
