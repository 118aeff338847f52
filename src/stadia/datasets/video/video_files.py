"""Read a user's video or folder of images with its camera (docs/own-data.md).

A video file is decoded whole into the cache, or in a few segments into memory for checks of the data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.files import read_json, write_json
from stadia.core.recording import LEFT, Recording, RoadMasks
from stadia.datasets.config import CacheConfig, SourceOptions
from stadia.datasets.frame_store import (
    FrameStore,
    ReportProgress,
    StoredRecording,
    find_cache_folder,
    lock_beside,
    make_store_stem,
    remove_partial_files,
    resize_image,
    to_planar_bytes,
    write_frame_store,
)
from stadia.datasets.image_files import IMAGE_SUFFIXES, list_images, read_rgb
from stadia.datasets.masks.mask_files import resize_masks
from stadia.datasets.open_dataset import DatasetFormat
from stadia.datasets.recordings import CalibratedRecording, ImageRecording, Intrinsics
from stadia.datasets.video import frame_selection
from stadia.datasets.video.decode import (
    VIDEO_SUFFIXES,
    VideoFrame,
    count_lost_frames,
    estimate_frame_count,
    stream_segment,
    stream_video,
)
from stadia.datasets.video.frame_selection import FrameSelection, FrameSelector
from stadia.datasets.video.user_camera import read_user_intrinsics

_SAMPLED_BYTES = 1 << 20

SEGMENTS = 4
MAX_KEPT, MAX_DECODED = 32, 160
"""Maximum frames of a segment: kept as in training, and decoded to select those."""

MAX_SIDE_PX = 1280
"""Pixels; larger frames are reduced with their camera. Four segments then take at most 350 MB."""


class OwnVideo(DatasetFormat):
    """One recording from a video file, or a folder of images in natural order.

    A video file is decoded once into the cache; later openings decode nothing. Images of a folder stay in place.
    `recording.selection` lists the kept frames and the reasons for dropping others.
    """

    layout = "a video file, or a folder of png or jpg images"
    options = frozenset({"camera", "stride", "frame_rate_hz"})

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        if path.is_dir():
            return any(p.suffix.lower() in IMAGE_SUFFIXES for p in path.iterdir())
        return path.suffix.lower() in VIDEO_SUFFIXES

    @classmethod
    def open(cls, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        return [(_open_folder if path.is_dir() else _open_file)(path, options, progress)]

    @classmethod
    def sample(cls, path: Path, options: SourceOptions) -> list[Recording]:
        return sample_video(path, options) if path.is_file() else cls.open(path, options)


@dataclass(kw_only=True, eq=False, repr=False)
class FileVideo(StoredRecording):
    """A video file, decoded into the cache.

    filmed_size: height and width of its frames before resizing to the stored size, which may change the aspect ratio.
    """

    filmed_size: tuple[int, int]

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        """Return masks at the stored size; mask files have the size of the filmed frames."""
        if self.mask_reader is None:
            return None
        height, width = self.filmed_size
        masks = self.mask_reader.read(self.stem(index, side), side, height=height, width=width)
        return None if masks is None else resize_masks(masks, self.store.height, self.store.width)


def _open_folder(path: Path, options: SourceOptions, progress: ReportProgress | None) -> Recording:
    images = list_images(path)
    frames = len(images)
    height, width = read_rgb(images[0]).shape[:2]
    name = f"video/{path.resolve().name}"
    camera = read_user_intrinsics(options.camera, path, height, width, frames)
    times_s = np.arange(frames) / options.frame_rate_hz if options.frame_rate_hz else None
    every = ImageRecording(name=name, images={LEFT: images}, intrinsics={LEFT: camera}, times_s=times_s)
    selection = select_images(every, options.stride, options.cache, progress)
    return every.only(selection.kept, selection)


def select_images(
    every: ImageRecording, stride: int | Literal["auto"], cache: CacheConfig, progress: ReportProgress | None = None
) -> FrameSelection:
    """Return the selected frames. Selection by motion reads every image and is cached; a given stride reads none."""
    if stride != "auto":
        kept = list(range(0, len(every), stride))
        return FrameSelection(kept, skipped=len(every) - len(kept))
    stem = make_store_stem(every.name, "selection", *_selection_key(stride), every.fingerprint())
    cached = find_cache_folder(cache) / f"{stem}.json"
    with lock_beside(cached):
        if not cached.exists():
            chooser = FrameSelector(stride)
            for index in range(len(every)):
                chooser.keep(every.image(index))
                if progress is not None:
                    progress(f"{every.name}: choosing frames", index + 1, len(every))
            write_json(cached, asdict(chooser.selection))
    return FrameSelection(**read_json(cached))


def _open_file(path: Path, options: SourceOptions, progress: ReportProgress | None) -> Recording:
    name = f"video/{path.stem}"
    content = _hash_video(path)
    stem = make_store_stem(name, "video", *_selection_key(options.stride), options.size, content)
    info_file = find_cache_folder(options.cache) / f"{stem}.json"
    stored = info_file.with_suffix(".rgb")
    with lock_beside(info_file):
        if not (info_file.exists() and stored.exists()):
            first = next(stream_video(path)).image
            # A wrong camera is reported before hours of decoding.
            read_user_intrinsics(options.camera, path, *first.shape[:2])
            remove_partial_files(stored)
            write_json(info_file, _decode(path, stored, first.shape[:2], options, progress))
    info = read_json(info_file)
    selection = FrameSelection(**info["selection"])
    kept = selection.kept
    store = FrameStore(stored, *info["stored_size"])
    if len(store) != len(kept):
        found, fix = f"{len(store)} frames", "delete the file; it will be written again"
        raise DataError(stored, found=found, expected=f"{len(kept)}", fix=fix)
    height, width = info["decoded_size"]
    camera = read_user_intrinsics(options.camera, path, height, width, selection.total).only(kept)
    return FileVideo(
        name=name,
        intrinsics={LEFT: camera.resized(*info["stored_size"])},
        numbers=kept,
        times_s=np.array(info["times_s"]),
        store=store,
        content=content,
        selection=selection,
        filmed_size=(height, width),
    )


def _decode(
    path: Path, stored: Path, decoded_size: tuple[int, int], options: SourceOptions, progress: ReportProgress | None
) -> dict[str, object]:
    """Decode the kept frames of the video into a store; return the content of the JSON file beside it.

    Raises StadiaError before decoding where the disk cannot hold all frames that may be kept.
    """
    chooser, times_s, total = FrameSelector(options.stride), list[float](), estimate_frame_count(path)
    selection = chooser.selection
    height, width = options.size or decoded_size

    def decode_kept() -> Iterator[bytes]:
        for frame in stream_video(path):
            if progress is not None:
                progress(f"video/{path.stem}: decoding", frame.index + 1, total)
            if chooser.keep(frame.image, frame.index):
                times_s.append(frame.time_s)
                yield to_planar_bytes(resize_image(frame.image, height, width))

    most_frames = -(-(total or 0) // (1 if options.stride == "auto" else options.stride))
    write_frame_store(stored, decode_kept(), most_frames * 3 * height * width)
    selection.lost = max(selection.lost, count_lost_frames(path, selection.total - selection.lost))
    return {
        "decoded_size": decoded_size,
        "stored_size": (height, width),
        "times_s": times_s,
        "selection": asdict(selection),
    }


def _selection_key(stride: int | Literal["auto"]) -> tuple[object, ...]:
    """Return the parameters that determine the kept frames."""
    return (stride, frame_selection.MAX_STANDING_MOTION, frame_selection.MIN_MOTION)


def _hash_video(path: Path) -> str:
    """Return a hash of the file's size and of its start, middle and end."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            digest = hashlib.blake2b(str(size).encode(), digest_size=16)
            for start in (0, size // 2, max(0, size - _SAMPLED_BYTES)):
                stream.seek(start)
                digest.update(stream.read(_SAMPLED_BYTES))
    except FileNotFoundError as error:
        raise DataError(path, found="no such file", expected="a video", fix="check the path") from error
    return digest.hexdigest()


@dataclass(kw_only=True, eq=False, repr=False)
class VideoSegment(CalibratedRecording):
    """Consecutive frames of a video, in memory; `last_decoded` is the number of its last frame, kept or not."""

    images: list[NDArray[np.uint8]]
    last_decoded: int

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB."""
        return self.images[index]

    def fingerprint(self) -> str:
        """Return a hash of the images and the camera."""
        digest = hashlib.blake2b(self.intrinsics[LEFT].K.tobytes(), digest_size=16)
        for image in self.images:
            digest.update(image.tobytes())
        return digest.hexdigest()


def sample_video(path: Path, options: SourceOptions) -> list[Recording]:
    """Return segments spread over a video file, each a recording; for a short video one, from its start.

    A video with a pose or a K for each frame has one segment too, since frame numbers after a seek are inexact.
    Raises DataError where the file cannot be decoded or no camera is known.
    """
    first, total = next(stream_video(path)), estimate_frame_count(path)
    height, width = first.image.shape[:2]
    camera = read_user_intrinsics(options.camera, path, height, width, frames=total)
    name = f"video/{path.stem}"
    if total is None or total <= SEGMENTS * MAX_DECODED or options.poses is not None or camera.K.ndim == 3:
        return [_read_segment(name, stream_video(path), camera, options, SEGMENTS)]
    found: list[Recording] = []
    last_index = -1
    for number in range(SEGMENTS):
        frames = stream_segment(path, number / SEGMENTS)
        start = next(frames, None)
        if start is None or start.index <= last_index:
            continue  # truncated before this, or no key frame since the last segment
        segment = _read_segment(f"{name} from {start.time_s:.0f} s", chain([start], frames), camera, options)
        found.append(segment)
        last_index = segment.last_decoded
    return found


def _read_segment(
    name: str, frames: Iterator[VideoFrame], camera: Intrinsics, options: SourceOptions, longer: int = 1
) -> VideoSegment:
    """Select the next frames as in training; `longer` times as many as usual."""
    chooser, kept = FrameSelector(options.stride), list[tuple[NDArray[np.uint8], int, float]]()
    scale = min(1.0, MAX_SIDE_PX / max(camera.height, camera.width))
    size = options.size or (round(camera.height * scale), round(camera.width * scale))
    most = MAX_DECODED if options.stride == "auto" else MAX_KEPT * options.stride
    for frame in islice(frames, longer * most):
        if chooser.keep(frame.image):
            kept.append((resize_image(frame.image, *size), frame.index, frame.time_s))
        last = frame.index
        if len(kept) == longer * MAX_KEPT:
            break
    images, numbers, times_s = (list(column) for column in zip(*kept, strict=True))
    return VideoSegment(
        name=name,
        intrinsics={LEFT: camera.only(numbers).resized(*size)},
        numbers=numbers,
        times_s=np.array(times_s),
        images=images,
        last_decoded=last,
    )
