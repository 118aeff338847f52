"""Read frames for a map from a video, a folder of images, or a recording of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import LEFT, Recording
from stadia.datasets.config import CameraConfig
from stadia.datasets.image_files import list_images, read_rgb, read_upright_size
from stadia.datasets.mask_files import hash_frames
from stadia.datasets.recordings import FrameCrop, ImageRecording
from stadia.datasets.video.photo_fit import PhotoFit, Size
from stadia.datasets.video.video_camera import (
    UserCamera,
    find_camera_file,
    find_crop,
    find_static_mask,
    read_image_size,
    read_user_camera,
)
from stadia.datasets.video.video_decoding import estimate_frame_count, hash_source, stream_selected, stream_video
from stadia.geometry.numpy_camera import Intrinsics

ReadFrame = tuple[int, str, float | None, NDArray[np.uint8]]
"""Index, name, time in seconds or None, and the image (H, W, 3) RGB without black bars."""


@dataclass(frozen=True)
class PhotoFits:
    """Photos by camera: those of one shape have one.

    sizes: (height, width) of each camera, most photos first.
    cameras: rows of `sizes`, of each photo.
    fits: how each photo gets that size.
    """

    sizes: Sequence[Size]
    cameras: Sequence[int]
    fits: Sequence[PhotoFit]


def fit_photos(sizes: Sequence[Size]) -> PhotoFits:
    """Return the cameras of photos. Most photos decide about its orientation, then its size.

    Examples:
        >>> found = fit_photos([(30, 40), (40, 30), (60, 80), (60, 80), (90, 160)])
        >>> found.sizes, found.cameras, [fit.turns for fit in found.fits]
        ([(60, 80), (90, 160)], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0])
    """
    counts, chosen, found = Counter(sizes), list[Size](), dict[Size, tuple[int, PhotoFit]]()
    shape = {size: round(12 * max(size) / min(size)) for size in counts}  # twelfths tell 4:3, 3:2, 16:9 and 20:9 apart
    of_shape = Counter(shape[size] for size in sizes)
    upright = Counter((shape[size], size[0] > size[1]) for size in sizes)

    def rank(size: Size) -> tuple[int, int, int, int]:
        return of_shape[shape[size]], upright[shape[size], size[0] > size[1]], counts[size], min(size)

    for size in sorted(counts, key=rank, reverse=True):
        fits = ((row, PhotoFit.find(size, camera)) for row, camera in enumerate((*chosen, size)))
        found[size] = next((row, fit) for row, fit in fits if fit is not None)
        if found[size][0] == len(chosen):
            chosen.append(size)
    return PhotoFits(chosen, [found[size][0] for size in sizes], [found[size][1] for size in sizes])


@dataclass(frozen=True)
class OwnClip:
    """A video file, or a folder of images in natural order.

    filmed_size: (height, width) with black bars.
    crop: which cuts off black bars; None without bars.
    photos: of several sizes; None for frames of one size.
    """

    path: Path
    name: str
    filmed_size: tuple[int, int]
    crop: FrameCrop | None
    photos: PhotoFits | None = None

    @classmethod
    def open(cls, path: Path, config: CameraConfig, name: str = "") -> OwnClip:
        """Open a video file or a folder of images."""
        if path.is_dir():
            sizes = [read_upright_size(image) for image in list_images(path)]
            if len(set(sizes)) > 1:
                photos = fit_photos(sizes)
                return cls(path, name, photos.sizes[0], None, photos)
        size = read_image_size(path)
        return cls(path, name, size, find_crop(config, path, *size))

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) of the frames."""
        return self.filmed_size if self.crop is None else (self.crop.window.height, self.crop.window.width)

    @cached_property
    def images(self) -> list[Path]:
        """Return the images of a folder; empty for a video."""
        return list_images(self.path) if self.path.is_dir() else []

    def count(self) -> int | None:
        """Return the number of frames; None if a video does not state it."""
        return len(self.images) or estimate_frame_count(self.path)

    def stems(self) -> list[str] | None:
        """Return the names of all frames; None for their numbers."""
        return [path.stem for path in self.images] or None

    def files(self) -> list[Path]:
        """Return the images if they show the frames as they are mapped, otherwise nothing."""
        return self.images if self.crop is None else []

    def read(self, wanted: Collection[int] | None) -> Iterator[ReadFrame]:
        """Yield the frames with these indices, or all."""
        for index, name, time_s, image in self._read(wanted):
            yield index, name, time_s, image if self.crop is None else self.crop.cut(image)

    def _read(self, wanted: Collection[int] | None) -> Iterator[ReadFrame]:
        for index, path in enumerate(self.images):
            if wanted is None or index in wanted:
                yield index, path.stem, None, read_rgb(path)
        if not self.images:
            for frame in stream_video(self.path) if wanted is None else stream_selected(self.path, wanted):
                yield frame.index, f"{frame.index:06d}", frame.time_s, frame.image

    def hash(self) -> str:
        """Return a hash of the content."""
        return hash_source(self.path)

    def find_camera(self, config: CameraConfig) -> UserCamera | None:
        """Return the given camera of the frames, or None."""
        if not config.is_given and find_camera_file(self.path) is None:
            return None
        return read_user_camera(config, self.path, *self.filmed_size)

    def find_static(self) -> NDArray[np.bool_] | None:
        """Return (H, W), true on what never moves, or None."""
        known = UserCamera(Intrinsics(np.eye(3), *self.size), crop=self.crop)
        return None if self.photos else find_static_mask(known, self.path)


@dataclass(frozen=True)
class RecordingClip:
    """The left images of a recording, which its reader rectifies; methods as those of `OwnClip`."""

    recording: Recording
    photos: PhotoFits | None = None

    @property
    def name(self) -> str:
        """Return the name of the recording."""
        return self.recording.name

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) of its images."""
        camera = self.recording.camera(0)
        return camera.height, camera.width

    def count(self) -> int | None:
        """Return the number of frames."""
        return len(self.recording)

    def stems(self) -> list[str] | None:
        """Return the names of the frames; None for their numbers."""
        return [self.recording.stem(index) for index in range(len(self.recording))]

    def files(self) -> list[Path]:
        """Return the images if they show the frames as they are mapped, otherwise nothing."""
        is_raw = isinstance(self.recording, ImageRecording) and self.recording.undistortion is None
        found = [self.recording.file(index) for index in range(len(self.recording))] if is_raw else []
        return [file for file in found if file is not None]

    def read(self, wanted: Collection[int] | None) -> Iterator[ReadFrame]:
        """Yield the frames with these indices, or all."""
        recording, every = self.recording, range(len(self.recording))
        for index in every if wanted is None else sorted(set(wanted).intersection(every)):
            yield index, recording.stem(index), recording.timestamp_s(index), recording.image(index)

    def hash(self) -> str:
        """Return the hash of its content."""
        return hash_frames(self.recording) or self.recording.fingerprint()

    def find_camera(self, config: CameraConfig) -> UserCamera | None:
        """Return its camera."""
        K = np.stack([self.recording.K(index) for index in range(len(self.recording))])
        return UserCamera(Intrinsics(K[0] if np.ptp(K, axis=0).max() == 0 else K, *self.size))

    def find_static(self) -> NDArray[np.bool_] | None:
        """Return what never moves, (H, W); None without any."""
        return self.recording.ignored(LEFT)


FrameClip = OwnClip | RecordingClip
