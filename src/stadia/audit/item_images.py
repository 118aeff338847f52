"""The images of an item: names, sizes and times of all of them, and a reader of single ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.audit.items import AuditItem
from stadia.core.errors import DataError
from stadia.core.types import LEFT, Camera, Recording
from stadia.data.frame_selection import spread_indices
from stadia.data.open_dataset import open_recordings
from stadia.geometry.poses import invert_pose
from stadia.io.image_files import read_rgb_near, read_upright_size
from stadia.io.input_files import check_path_exists
from stadia.io.records.read import read_reconstruction
from stadia.io.records.reconstruction import Reconstruction
from stadia.io.video_decoding import estimate_frame_count, read_video_header, stream_segment, stream_video
from stadia.sfm.image_matches import MAX_SIDE_PX, MIN_IMAGES, list_image_files
from stadia.sfm.sparse_map import Array

MAX_SIZES = 400
"""Most images of a folder whose size is read; of more, the others count as having the size of the nearest one."""

MAX_DECODED = 160
"""Most frames of a video that are decoded: those after the keyframe before its middle."""


@dataclass(eq=False)
class ItemImages(Recording):
    """The images of an item, which can be read at MAX_SIDE_PX or a little more.

    name: name of the item.
    names: (M,) names of all images.
    sizes: (M, 2) width and height of the images as they are, pixels.
    readable: range of the images that can be read.
    reader: function from an index to the image (H, W, 3) RGB, and the pixels of the image as it is for one of its.
    times_s: (M,) times in seconds; None if unknown.
    """

    name: str
    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    readable: range
    reader: Callable[[int], tuple[NDArray[np.uint8], float]]
    times_s: Array | None = None

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return self.reader(index)[0]

    def camera(self, index: int, side: str = LEFT) -> Camera[NDArray[np.float64]]:
        raise DataError(self.name, found="images without a camera", expected="checks that need none")


def open_item(item: AuditItem) -> tuple[ItemImages, Reconstruction | None]:
    """Return the images of an item, and its cameras and poses, if it has them.

    Raises DataError if the images or the result cannot be read.
    """
    for path in (item.images, item.result):
        if path is not None:
            check_path_exists(path)
    if item.format:
        return _open_recording(item)
    result = None if item.result is None else read_reconstruction(item.result)
    images = _list_folder(item) if item.images.is_dir() else _decode_video(item)
    return images, result


def _list_folder(item: AuditItem) -> ItemImages:
    files = list_image_files(item.images)
    if len(files) < MIN_IMAGES:
        expected = f"at least {MIN_IMAGES} images"
        raise DataError(item.images, found=f"{len(files)} images", expected=expected, fix="check the path")
    names = tuple(file.relative_to(item.images).as_posix() for file in files)
    sizes = _read_sizes(files)
    return ItemImages(
        item.name, names, sizes, range(len(files)), lambda index: read_rgb_near(files[index], MAX_SIDE_PX)
    )


def _read_sizes(files: Sequence[Path]) -> NDArray[np.int64]:
    known = np.array(spread_indices(len(files), MAX_SIZES))
    sizes = np.array([read_upright_size(files[index])[::-1] for index in known], np.int64)
    nearest = np.abs(np.arange(len(files))[:, None] - known).argmin(1) if len(known) < len(files) else known
    return sizes[nearest] if len(known) < len(files) else sizes


def _decode_video(item: AuditItem) -> ItemImages:
    """Decode some frames in the middle of a video, or of the stretch of it that the item is, from a keyframe on."""
    path = item.images
    header = read_video_header(path)
    rate_hz = header.rate_hz or 1.0
    of_video = estimate_frame_count(path) or sum(1 for _ in stream_video(path))
    start, stop = 0, of_video
    if item.span_s is not None:
        start, stop = (min(round(time_s * rate_hz), of_video) for time_s in item.span_s)
    count = stop - start
    if count < MIN_IMAGES:
        raise DataError(path, found=f"{count} frames", expected=f"at least {MIN_IMAGES}", fix="check the video")
    share = max((start + stop) / 2 - MAX_DECODED / 2, start) / of_video
    decoded = dict[int, tuple[NDArray[np.uint8], float]]()
    times = dict[int, float]()
    width = height = 0
    for frame in stream_video(path) if share == 0 else stream_segment(path, share):
        if not start <= frame.index < stop:
            if frame.index >= stop:
                break
            continue
        height, width = frame.image.shape[:2]
        decoded[frame.index - start] = _shrink(frame.image)
        times[frame.index - start] = frame.time_s
        if len(decoded) >= MAX_DECODED:
            break
    if not decoded:
        raise DataError(path, found="no frame that can be decoded", expected="a video", fix="check the video")
    first = min(decoded)
    last = next((index for index in range(first, count) if index not in decoded), count)
    return ItemImages(
        item.name,
        tuple(f"{index:06d}" for index in range(count)),
        np.tile(np.array([width, height], np.int64), (count, 1)),
        range(first, last),
        decoded.__getitem__,
        times_s=times[first] + (np.arange(count) - first) / rate_hz,
    )


def _shrink(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Return an image with the mean of squares of pixels, at MAX_SIDE_PX or a little more, and the side of a square."""
    factor = max(max(image.shape[:2]) // MAX_SIDE_PX, 1)
    if factor == 1:
        return image, 1.0
    height, width = (side // factor for side in image.shape[:2])
    whole = image[: height * factor, : width * factor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8), float(factor)


def _open_recording(item: AuditItem) -> tuple[ItemImages, Reconstruction | None]:
    """Return the left images of a recording of a dataset, with its camera and poses as a reconstruction."""
    recording = open_recordings(item.images, item.format, recordings=[item.recording])[0]
    count = len(recording)
    if count < MIN_IMAGES:
        raise DataError(item.name, found=f"{count} images", expected=f"at least {MIN_IMAGES}", fix="check the folder")
    files = [recording.file(index) for index in range(count)]
    names = tuple(f"{index:06d}" if file is None else file.name for index, file in enumerate(files))
    names = names if len(set(names)) == count else tuple(f"{index:06d}" for index in range(count))
    cameras = [recording.camera(index) for index in range(count)]
    sizes = np.array([(camera.width, camera.height) for camera in cameras], np.int64)
    images = ItemImages(item.name, names, sizes, range(count), lambda index: (recording.image(index), 1.0))
    poses = [recording.T_world_camera(index) for index in range(count)]
    rows = [index for index, T in enumerate(poses) if T is not None and np.isfinite(T).all()]
    if len(rows) < MIN_IMAGES:
        return images, None
    known = recording.depth_m(rows[0]) is not None

    def read_depth(row: int) -> NDArray[np.float32]:
        depth = recording.depth_m(rows[row])
        assert depth is not None
        return np.where(depth > 0, depth, np.nan).astype(np.float32)

    return images, Reconstruction(
        names=tuple(names[index] for index in rows),
        T_camera_world=invert_pose(np.array([poses[index] for index in rows], np.float64)),
        K=np.array([cameras[index].K for index in rows], np.float64),
        distortion=np.zeros((len(rows), 4)),
        sizes=sizes[rows],
        depth=read_depth if known else None,
        path=item.images,
    )
