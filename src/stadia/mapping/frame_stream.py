"""Stream the frames of an input, small and gray, repeatedly."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.config import resolve_config
from stadia.core.errors import DataError
from stadia.core.recording import LEFT
from stadia.datasets import DATASETS
from stadia.datasets.config import CameraConfig, SourceOptions
from stadia.datasets.formats.photo_lens import read_lens
from stadia.datasets.lens_distortion import Undistortion
from stadia.datasets.mask_files import OBJECT_CLASSES, MaskFiles, check_masks_of, select_classes
from stadia.datasets.open_dataset import OWN_FORMATS, VIDEO, detect_format, open_recordings, refuse_idle_options
from stadia.datasets.video.photo_fit import PhotoFit
from stadia.datasets.video.video_camera import UserCamera
from stadia.datasets.video.video_list import VideoEntry, read_entries, select_entries
from stadia.datasets.video.video_map import find_map_folder
from stadia.evaluation.background import run_ahead
from stadia.files.paths import expand_home
from stadia.mapping.frame_clips import FrameClip, OwnClip, PhotoFits, ReadFrame, RecordingClip

MAX_DISTANCE = 5
"""A frame takes the mask of a frame this near, since `stadia prepare` skips frames that hardly move."""

GROWN_SHARE, GROWN_SHARE_OF_NEAR = 0.005, 0.015
"""Growth of a mask, and of a near frame's mask, over the width: features at an outline move with it."""

MOVABLE_CLASSES = OBJECT_CLASSES | {"train", "caravan", "trailer", "dog", "horse", "sheep", "cow", "boat"}


@dataclass(frozen=True, eq=False)
class MovableMasks:
    """The masks that `stadia prepare` made for a video.

    stems, frames: names and indices (N,) of the frames with masks, ascending.
    height, width: size of the frames as filmed.
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


MAX_SIDE_PX = 800
"""Longer side of the images for features."""

MAX_FRAMES = 200_000


@dataclass(frozen=True, slots=True)
class SmallFrame:
    """One frame. gray: (h, w).  filmed: (H, W, 3) RGB.  time_s: None if unknown.  fit: of `filmed` to `gray`."""

    index: int
    name: str
    time_s: float | None
    gray: NDArray[np.uint8]
    filmed: NDArray[np.uint8]
    fit: PhotoFit | None = None

    @property
    def image(self) -> NDArray[np.uint8]:
        """Return the small frame (h, w, 3) RGB."""
        fit = self.fit or PhotoFit(*self.filmed.shape[:2])
        return fit.apply(self.filmed, *self.gray.shape)


@dataclass(frozen=True)
class FrameStream:
    """The frames of an input, without black bars.

    clips: of one size and one camera, one after the other. Frames of several are called by clip and frame.
    Photos may have several sizes, orientations and cameras: height and width are of most of them.
    lens: removed from the frames; None for a pinhole or an unknown lens.
    masks: of what can move in the frames.
    span: the first frame, and the one after the last; None for all.
    """

    source: Path
    clips: Sequence[FrameClip]
    lens: Undistortion | None = None
    masks: MovableMasks | None = None
    span: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if len(sizes := {clip.size for clip in self.clips}) > 1:
            shown = " and ".join(f"{width}x{height}" for height, width in sorted(sizes)[:3])
            fix = "resize the frames, or map the videos one by one"
            raise DataError(self.source, found=f"frames of {shown}", expected="one size, for one camera", fix=fix)
        if len(self.clips) > 1 and any(clip.photos for clip in self.clips):
            fix = "map the folder of photos alone"
            raise DataError(self.source, found="photos of several sizes", expected="one size in each video", fix=fix)
        if self.span is not None and self.span[1] > self._starts[-1]:
            found, expected = f"{self._starts[-1]} frames", f"frames {self.span[0]} to {self.span[1]}"
            raise DataError(self.source, found=found, expected=expected, fix="change data.frames")

    @classmethod
    def open(cls, source: Path, camera: CameraConfig | None = None) -> FrameStream:
        """Open a video file or a folder of images."""
        return cls(source, [OwnClip.open(source, camera or CameraConfig())])

    @cached_property
    def _starts(self) -> list[int]:
        counts = [clip.count() or MAX_FRAMES for clip in self.clips]
        return [sum(counts[:row]) for row in range(len(counts) + 1)]

    @property
    def photos(self) -> PhotoFits | None:
        """Return the cameras of photos of several sizes; None for frames of one size."""
        return self.clips[0].photos

    @property
    def has_several_cameras(self) -> bool:
        """Return whether these are photos of several shapes."""
        return self.photos is not None and len(self.photos.sizes) > 1

    def find_photo(self, index: int) -> tuple[int, PhotoFit]:
        """Return the camera of a frame, by number, and how the frame gets its size."""
        if self.photos is None:
            return 0, PhotoFit(self.height, self.width)
        return self.photos.cameras[index], self.photos.fits[index]

    @property
    def height(self) -> int:
        """Return the height of the frames, pixels."""
        return self.clips[0].size[0]

    @property
    def width(self) -> int:
        """Return the width of the frames, pixels."""
        return self.clips[0].size[1]

    @property
    def first(self) -> int:
        """Return the index of the first frame."""
        return 0 if self.span is None else self.span[0]

    def hash(self) -> str:
        """Return a hash of the content."""
        hashes = [clip.hash() for clip in self.clips]
        return hashes[0] if len(hashes) == 1 else hashlib.blake2b(repr(hashes).encode(), digest_size=16).hexdigest()

    def name_map(self) -> Path:
        """Return the default folder of the map: drive.map for drive.mp4, SET-RECORDING.map for a recording."""
        if isinstance(self.clips[0], OwnClip):
            return find_map_folder(self.source)
        return self.source.resolve().with_name(f"{_flatten(self.clips[0].name)}.map")

    def find_camera(self, config: CameraConfig) -> UserCamera | None:
        """Return the given camera, or None. Raises DataError for several cameras."""
        first, *others = (clip.find_camera(config) for clip in self.clips)
        if any(_describe_camera(camera) != _describe_camera(first) for camera in others):
            fix = "give one camera with data.camera, or map the videos one by one"
            raise DataError(self.source, found="videos of several cameras", expected="one camera", fix=fix)
        return first

    def find_static(self) -> NDArray[np.bool_] | None:
        """Return (h, w), true on what never moves in the small frames of all clips, or None."""
        masks = [mask for clip in self.clips if (mask := clip.find_static()) is not None]
        if len(masks) < len(self.clips):
            return None
        marked = np.logical_and.reduce(masks).astype(np.uint8) * 255
        straight = marked if self.lens is None else self.lens(marked)
        return cv2.resize(straight, self.small_size[::-1], interpolation=cv2.INTER_NEAREST) > 127

    @property
    def small_size(self) -> tuple[int, int]:
        """Return (height, width) of the small frames."""
        return _shrink_size(self.height, self.width)

    def small_sizes(self) -> list[tuple[int, int]]:
        """Return (height, width) of the small images of each camera."""
        return [self.small_size] if self.photos is None else [_shrink_size(*size) for size in self.photos.sizes]

    def find_files(self) -> list[Path]:
        """Return the image of each frame if files show the frames as they are mapped, otherwise nothing."""
        found = [clip.files() for clip in self.clips]
        return [file for files in found for file in files] if all(found) and self.lens is None else []

    def stems(self) -> list[str]:
        """Return the names of all frames, in order."""
        numbers = [f"{index:06d}" for index in range(self._starts[-1])]
        return [self._name(clip, stem) for clip in self.clips for stem in clip.stems() or numbers[: clip.count()]]

    def _name(self, clip: FrameClip, stem: str) -> str:
        return stem if len(self.clips) == 1 else f"{_flatten(clip.name)}_{stem}"

    def find_movable(self, index: int) -> NDArray[np.bool_] | None:
        """Return (h, w), true on what can move in a small frame, or None."""
        if self.masks is None or not self.masks.has_near(index, self.mask_distance):
            return None
        camera, fit = self.find_photo(index)
        return self.masks.read(index, *self.small_sizes()[camera], self.lens, fit)

    @cached_property
    def mask_distance(self) -> int:
        """Return how far a frame's mask may be; 0 for photos (several sizes, or EXIF), whose neighbors differ."""
        is_photo = self.photos is not None or any(map(read_lens, self.clips[0].files()[:1]))
        return 0 if is_photo else MAX_DISTANCE

    def count(self) -> int | None:
        """Return the number of frames to the last one; None if a video does not state it."""
        end = self._starts[-1] if self.span is None else self.span[1]
        return end if end < MAX_FRAMES else None

    def __iter__(self) -> Iterator[SmallFrame]:
        return self._run_ahead(None if self.span is None else range(*self.span))

    def select(self, wanted: Collection[int]) -> Iterator[SmallFrame]:
        """Yield only the frames with these indices, which is faster."""
        return self._run_ahead(wanted)

    def _run_ahead(self, wanted: Collection[int] | None) -> Iterator[SmallFrame]:
        return run_ahead(self._shrink(wanted), weigh=lambda frame: frame.filmed.nbytes)

    def _read(self, wanted: Collection[int] | None) -> Iterator[ReadFrame]:
        for clip, start, stop in zip(self.clips, self._starts, self._starts[1:], strict=False):
            last = stop - start if len(self.clips) > 1 else MAX_FRAMES + 1
            own = None if wanted is None else {index - start for index in wanted if 0 <= index - start < last}
            for index, stem, time_s, image in clip.read(own) if own is None or own else ():
                if index < last:
                    yield start + index, self._name(clip, stem), time_s, image

    def _shrink(self, wanted: Collection[int] | None) -> Iterator[SmallFrame]:
        for index, name, time_s, image in self._read(wanted):
            if index >= MAX_FRAMES:
                fix = "cut the video into parts and map each"
                raise DataError(self.source, found=f"more than {MAX_FRAMES} frames", expected="fewer", fix=fix)
            filmed = image if self.lens is None else self.lens(image)
            camera, fit = self.find_photo(index)
            gray = np.asarray(cv2.cvtColor(filmed, cv2.COLOR_RGB2GRAY), np.uint8)
            gray = fit.apply(gray, *self.small_sizes()[camera])
            yield SmallFrame(index, name, time_s, gray, filmed, fit)


def _shrink_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _flatten(name: str) -> str:
    return name.replace("/", "-")


def _describe_camera(camera: UserCamera | None) -> tuple[object, ...]:
    lens = None if camera is None or camera.undistortion is None else camera.undistortion.parameters()
    return () if camera is None else (camera.intrinsics.K.tolist(), lens)


def open_stream(source: Path, camera: CameraConfig, options: Mapping[str, Any], format: str = "auto") -> FrameStream:
    """Open a video, images, several videos of one place, a bag, or recordings of a data set.

    options: fields of `SourceOptions` besides the camera; `frames` is of the input, not of each recording.

    Raises DataError for an unknown input, ConfigError for options that it does not use.
    """
    chosen, format = resolve_config(SourceOptions, {**options, "camera": camera}), detect_format(source, format)
    clips: list[FrameClip]
    if format in OWN_FORMATS:
        idle = SourceOptions.model_fields.keys() - {"camera", "cache", "frames", "recordings"}
        refuse_idle_options(chosen, idle, "the map of your own video")
        entries = [VideoEntry(name="", path=source)]
        if format != VIDEO:
            entries = select_entries(read_entries(source), chosen.recordings, source)
        clips = [OwnClip.open(entry.path, entry.camera or camera, entry.name) for entry in entries]
    else:
        every = {"stride": 1} if "stride" in DATASETS.load(format).options else {}
        opened = open_recordings(source, format, **{**every, **options, "camera": camera, "frames": None})
        if len(opened) > 1 and not chosen.recordings:
            fix = f"choose one: data.recordings=[{opened[0].name.rpartition('/')[2]}]"
            expected = "one, or several of one place"
            raise DataError(source, found=f"{len(opened)} recordings", expected=expected, fix=fix)
        clips = [RecordingClip(recording) for recording in opened]
    return FrameStream(source, clips, span=chosen.frames)
