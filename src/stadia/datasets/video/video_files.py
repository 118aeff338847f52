"""Read a user's video or folder of images with its camera (docs/how-to/own-data.md).

A video file is decoded whole into the cache, or in a few segments into memory for checks of the data.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, Recording, RoadMasks
from stadia.datasets.config import CacheConfig, CameraConfig, SourceOptions
from stadia.datasets.frame_store import (
    FrameStore,
    ReportProgress,
    StoredRecording,
    find_cache_folder,
    lock_beside,
    make_store_stem,
    name_sums,
    report_each,
    resize_image,
    to_planar_bytes,
    write_frame_store,
)
from stadia.datasets.image_files import IMAGE_SUFFIXES, check_one_kind, list_images, read_rgb
from stadia.datasets.masks.mask_files import resize_masks
from stadia.datasets.open_dataset import DatasetFormat
from stadia.datasets.recordings import CalibratedRecording, ImageRecording, Intrinsics, check_K
from stadia.datasets.text_files import read_rows
from stadia.datasets.video import frame_selection
from stadia.datasets.video.frame_selection import FrameSelection, FrameSelector
from stadia.datasets.video.video_decoding import (
    MAX_VIDEO_BYTES,
    VIDEO_SUFFIXES,
    VideoFrame,
    count_lost_frames,
    estimate_frame_count,
    stream_segment,
    stream_video,
)
from stadia.datasets.video.video_map import has_mapped_camera, read_mapped_camera
from stadia.files.atomic_files import write_json
from stadia.files.input_files import name_parser_errors, open_input, read_lines
from stadia.files.json_files import read_json
from stadia.files.paths import expand_home
from stadia.geometry.numpy_camera import centered_K, focal_px_from_fov, focal_px_from_lens

log = logging.getLogger(__name__)

_SAMPLED_BYTES = 1 << 20
_REWRITE = "delete the file; it will be written again"

SEGMENTS = 4
MAX_KEPT, MAX_DECODED = 32, 160  # maximum frames of a segment: kept as in training, and decoded to select those
MAX_SIDE_PX = 1280  # pixels; larger frames are reduced with their camera; four segments then take at most 350 MB
PHONE_FOV_DEG = 69  # field of view of a phone's main camera (26 mm of 36 mm), longer side
K_FILE_NAMES = ("K.txt", "K.json")  # in the folder of images, or STEM.K.txt beside the video


class OwnVideo(DatasetFormat):
    """One recording from a video file, or a folder of images in natural order.

    A video file is decoded once into the cache; later openings decode nothing. Images of a folder stay in place.
    `recording.selection` lists the kept frames and the reasons for dropping others.
    """

    layout = "a video file, or a folder of png or jpg images"
    options = frozenset({"camera", "stride", "frame_rate_hz", "video_decoder"})

    def recognizes(self, path: Path) -> bool:
        if path.is_dir():
            return any(p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") for p in path.iterdir())
        return path.suffix.lower() in VIDEO_SUFFIXES

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        return [(_open_folder if path.is_dir() else _open_file)(path, options, progress)]

    def sample(self, path: Path, options: SourceOptions) -> list[Recording]:
        """Return segments spread over a video, each a recording; for a short video one, from its start.

        Of a folder with few images all are examined. A video with a pose or a K for each frame has one segment too,
        since frame numbers after a seek are inexact.
        Raises DataError where the file cannot be decoded or no camera is known.
        """
        if not path.is_file():
            return _sample_folder(path, options)
        first, total = next(stream_video(path)), estimate_frame_count(path)
        height, width = first.image.shape[:2]
        camera = read_user_intrinsics(options.camera, path, height, width, total)
        name = f"video/{path.stem}"
        if total is None or total <= SEGMENTS * MAX_DECODED or options.poses is not None or camera.K.ndim == 3:
            return [_read_segment(name, stream_video(path), camera, options, SEGMENTS)]
        found, last_index = list[Recording](), -1
        for number in range(SEGMENTS):
            frames = stream_segment(path, number / SEGMENTS)
            start = next(frames, None)
            if start is None or start.index <= last_index:
                continue  # truncated before this, or no key frame since the last segment
            segment = _read_segment(f"{name} from {start.time_s:.0f} s", chain([start], frames), camera, options)
            found.append(segment)
            last_index = segment.last_decoded
        return found


def sample_segment(path: Path, options: SourceOptions, share: float = 0.5) -> Recording:
    """Return a segment of a video file, from the last key frame before this share of it; all of a short one.

    Raises DataError where nothing can be decoded there, or no camera is known.
    """
    first, total = next(stream_video(path)), estimate_frame_count(path)
    height, width = first.image.shape[:2]
    camera = read_user_intrinsics(options.camera, path, height, width, total)
    is_short = total is None or total <= MAX_DECODED or camera.K.ndim == 3
    frames = stream_video(path) if is_short else stream_segment(path, share)
    start = next(frames, None)
    if start is None:
        found, fix = f"no frame at {share:.0%} of it", "copy the file again"
        raise DataError(path, found=found, expected="a whole video file", fix=fix)
    return _read_segment(f"video/{path.stem}", chain([start], frames), camera, options)


@dataclass(kw_only=True, eq=False, repr=False)
class FileVideo(StoredRecording):
    """A video file, decoded into the cache."""

    filmed_size: tuple[int, int]
    has_stride: bool = True

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        """Return masks at the stored size; mask files have the size of the filmed frames."""
        if self.mask_reader is None:
            return None
        height, width = self.filmed_size
        masks = self.mask_reader.read(self.stem(index, side), side, height=height, width=width)
        return None if masks is None else resize_masks(masks, self.store.height, self.store.width)


@dataclass(kw_only=True, eq=False, repr=False)
class ImageVideo(ImageRecording):
    """Images of a folder, the frames of a video."""

    has_stride: bool = True


@dataclass(kw_only=True, eq=False, repr=False)
class ImageSegment(ImageVideo):
    """Images of a part of a folder, selected as in training."""

    is_part: bool = True


def _open_folder(path: Path, options: SourceOptions, progress: ReportProgress | None) -> Recording:
    every = _list_frames(path, options)
    selection = select_images(every, options.stride, options.cache, progress)
    return every.select_frames(selection.kept, selection)


def _sample_folder(path: Path, options: SourceOptions) -> list[Recording]:
    """Return segments of a folder of many images whose stride is not given, since selection by motion reads each."""
    every = _list_frames(path, options)
    if options.stride != "auto" or options.poses is not None or len(every) <= SEGMENTS * MAX_DECODED:
        selection = select_images(every, options.stride, options.cache)
        return [every.select_frames(selection.kept, selection)]
    segments: list[Recording] = []
    for start in np.linspace(0, len(every) - MAX_DECODED, SEGMENTS).astype(int).tolist():
        chooser, kept = FrameSelector(options.stride), list[int]()
        for index in range(start, start + MAX_DECODED):
            if chooser.keep(every.image(index)):
                kept.append(index)
            if len(kept) == MAX_KEPT:
                break
        part, name = every.select_frames(kept), f"{every.name} from {every.images[LEFT][start].name}"
        values: dict[str, Any] = {
            "images": part.images,
            "intrinsics": part.intrinsics,
            "numbers": kept,
            "times_s": part.times_s,
        }
        segments.append(ImageSegment(name=name, **values))
    return segments


def _list_frames(path: Path, options: SourceOptions) -> ImageRecording:
    """Return every image of a folder."""
    images = list_images(path)
    check_one_kind(images)
    frames = len(images)
    height, width = read_rgb(images[0]).shape[:2]
    name = f"video/{path.resolve().name}"
    camera = read_user_intrinsics(options.camera, path, height, width, frames)
    times_s = np.arange(frames) / options.frame_rate_hz if options.frame_rate_hz else None
    return ImageVideo(name=name, images={LEFT: images}, intrinsics={LEFT: camera}, times_s=times_s)


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
            for index in report_each(range(len(every)), f"{every.name}: choosing frames", len(every), progress):
                chooser.keep(every.image(index))
            write_json(cached, asdict(chooser.selection))
    with name_parser_errors(cached, expected="chosen frames", fix=_REWRITE):
        return FrameSelection(**read_json(cached))


def _open_file(path: Path, options: SourceOptions, progress: ReportProgress | None) -> Recording:
    name = f"video/{path.stem}"
    content = hash_video(path)
    stem = make_store_stem(name, "video", *_selection_key(options.stride), options.size, content)
    info_file = find_cache_folder(options.cache) / f"{stem}.json"
    stored = info_file.with_suffix(".rgb")
    with lock_beside(info_file):
        if not (info_file.exists() and stored.exists() and name_sums(stored).exists()):
            first = next(stream_video(path)).image
            # A wrong camera is reported before hours of decoding.
            read_user_intrinsics(options.camera, path, *first.shape[:2])
            write_json(info_file, _decode(path, stored, first.shape[:2], options, progress))
    with name_parser_errors(info_file, expected="the record of a decoded video", fix=_REWRITE):
        info = read_json(info_file)
        selection = FrameSelection(**info["selection"])
        kept, times_s, (height, width) = selection.kept, np.array(info["times_s"], np.float64), info["decoded_size"]
        store = FrameStore(stored, *info["stored_size"])
    if len(store) != len(kept):
        raise DataError(stored, found=f"{len(store)} frames", expected=f"{len(kept)}", fix=_REWRITE)
    camera = read_user_intrinsics(options.camera, path, height, width, selection.total).select_frames(kept)
    return FileVideo(
        name=name,
        intrinsics={LEFT: camera.resized(*info["stored_size"])},
        numbers=kept,
        times_s=times_s,
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
        for frame in stream_video(path, options.video_decoder):
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


def hash_video(path: Path) -> str:
    """Return a hash of the file's size and of its start, middle and end."""
    with open_input(path, expected="a video", max_bytes=MAX_VIDEO_BYTES) as stream:
        size = stream.seek(0, os.SEEK_END)
        digest = hashlib.blake2b(str(size).encode(), digest_size=16)
        for start in (0, size // 2, max(0, size - _SAMPLED_BYTES)):
            stream.seek(start)
            digest.update(stream.read(_SAMPLED_BYTES))
    return digest.hexdigest()


@dataclass(kw_only=True, eq=False, repr=False)
class VideoSegment(CalibratedRecording):
    """Consecutive frames of a video, in memory; `last_decoded` is the number of its last frame, kept or not."""

    images: list[NDArray[np.uint8]]
    last_decoded: int
    is_part: bool = False
    has_stride: bool = True

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
    is_whole = kept[0][1] == 0 and next(frames, None) is None
    images, numbers, times_s = (list(column) for column in zip(*kept, strict=True))
    return VideoSegment(
        name=name,
        intrinsics={LEFT: camera.select_frames(numbers).resized(*size)},
        numbers=numbers,
        times_s=np.array(times_s),
        filmed_size=(camera.height, camera.width),
        images=images,
        last_decoded=last,
        is_part=not is_whole,
        selection=chooser.selection if is_whole else None,
    )


def read_user_intrinsics(
    config: CameraConfig, source: Path, height: int, width: int, frames: int | None = None
) -> Intrinsics:
    """Return intrinsics for upright images of this size. Raises DataError without a camera or for a wrong file.

    A field of view spans the displayed image from left to right. A sensor's wider side is along the images' wider side.

    config: how the camera is given; without it, a K file beside the images is used, or the map if it determines one.
    source: the video or the folder, for messages and for the K file beside it.
    frames: number of frames of the source, for a K file with one matrix for each; None does not compare.
    """
    if config.estimate:
        return fit_to_size(read_mapped_camera(source), source, height, width)
    if config.K_file is not None:
        return _read_camera_file(expand_home(config.K_file), source, height, width, frames, config.size)
    if config.K is not None:
        K = check_K("data.camera.K", np.array(config.K, dtype=np.float64))
        return fit_to_size(Intrinsics(K, *(config.size or (height, width))), source, height, width)
    if config.focal_px is not None:
        focal_px = config.focal_px
    elif config.focal_mm is not None and config.sensor_width_mm is not None:
        across_mm = config.sensor_width_mm * width / max(height, width)
        focal_px = focal_px_from_lens(config.focal_mm, across_mm, width)
    elif config.horizontal_fov_deg is not None:
        focal_px = focal_px_from_fov(config.horizontal_fov_deg, width)
        if height > width:
            _warn_upright(source, config.horizontal_fov_deg, height / width)
    elif find_camera_file(source) is None and has_mapped_camera(source):
        return fit_to_size(read_mapped_camera(source), source, height, width)
    else:
        return _read_camera_file(_require_K_file(source, height, width), source, height, width, frames)
    return Intrinsics(check_K("data.camera", centered_K(focal_px, height, width)), height, width)


def _other_side_deg(deg: float, ratio: float) -> float:
    """Return the field of view along a side that is `ratio` times as long."""
    return math.degrees(2 * math.atan(ratio * math.tan(math.radians(deg) / 2)))


@cache  # warns once for each video
def _warn_upright(source: Path, across_deg: float, ratio: float) -> None:
    given = f"data.camera.horizontal_fov_deg={across_deg:g} is from left to right"
    makes = f"makes {_other_side_deg(across_deg, ratio):.0f} from top to bottom"
    turned = f"a camera of {across_deg:g} that was turned upright has {_other_side_deg(across_deg, 1 / ratio):.1f}"
    log.warning("%s is taller than wide: %s and %s; %s", source, given, makes, turned)


SHAPE_TOLERANCE = 0.01
"""Largest relative difference of width over height between images of one camera at two sizes."""


def _read_camera_file(
    path: Path, source: Path, height: int, width: int, frames: int | None, size: tuple[int, int] | None = None
) -> Intrinsics:
    """Return intrinsics of a K file for images of this size; a JSON file may name the size that its K belongs to."""
    K, of_size = read_K(path, frames), size or _read_camera_size(path)
    return fit_to_size(Intrinsics(K, *(of_size or (height, width))), source, height, width)


def _read_camera_size(path: Path) -> tuple[int, int] | None:
    stored = read_json(path) if path.suffix.lower() == ".json" else None
    if not isinstance(stored, dict) or "height" not in stored or "width" not in stored:
        return None
    sides = stored["height"], stored["width"]
    if any(type(side) is not int or not 1 <= side <= 1 << 16 for side in sides):
        found = f"height {str(sides[0])[:20]} and width {str(sides[1])[:20]}"
        raise DataError(path, found=found, expected="the size of the images in pixels", fix="correct the file")
    return sides


def fit_to_size(known: Intrinsics, source: Path, height: int, width: int) -> Intrinsics:
    """Return intrinsics for images of another size and the same shape. Raises DataError for another shape."""
    if (known.height, known.width) == (height, width):
        return known
    if abs(width / height * known.height / known.width - 1) > SHAPE_TOLERANCE:
        expected = f"the shape of {known.width}x{known.height}, which the known camera has"
        fix = f"use the images that this camera is of (colmap image_undistorter writes others, of {known.width}x"
        fix += f"{known.height}), or give the camera of these images: `stadia camera {source} --fov DEGREES`"
        raise DataError(source, found=f"images of {width}x{height}", expected=expected, fix=fix)
    return known.resized(height, width)


def camera_file_names(source: Path) -> list[Path]:
    """Return where the camera of a video, an image or a folder of images may lie."""
    return [source / name if source.is_dir() else source.with_suffix(f".{name}") for name in K_FILE_NAMES]


def find_camera_file(source: Path) -> Path | None:
    """Return the camera's file beside a video or an image, or in a folder of images; None without one."""
    return next((path for path in camera_file_names(source) if path.is_file()), None)


def is_camera_known(source: Path) -> bool:
    """Return whether a camera file lies beside a video or in a folder of images, or a map that determines a camera."""
    return find_camera_file(source) is not None or has_mapped_camera(source)


def read_image_size(source: Path) -> tuple[int, int]:
    """Return (height, width) of a video, an image, or the first image of a folder."""
    if source.is_dir():
        source = list_images(source)[0]
    shape = (read_rgb(source) if source.suffix.lower() in IMAGE_SUFFIXES else next(stream_video(source)).image).shape
    return shape[0], shape[1]


def _require_K_file(source: Path, height: int, width: int) -> Path:
    found = find_camera_file(source)
    if found is None:
        phone_deg = _other_side_deg(PHONE_FOV_DEG, width / max(height, width))
        name = camera_file_names(source)[0].name
        expected = f"{name} beside it, or data.camera.K_file, .focal_px, .focal_mm or .horizontal_fov_deg"
        fix = (
            f"set the field of view (a phone's main camera: data.camera.horizontal_fov_deg={phone_deg:.0f}), or write"
            f" it down once: `stadia camera {source} --fov {phone_deg:.0f}`; `stadia map {source}` estimates it"
        )
        raise DataError(source, found="no camera", expected=expected, fix=fix)
    return found


def read_K(path: Path, frames: int | None = None) -> NDArray[np.float64]:
    """Read (3, 3), or (N, 3, 3) by frame, from text (3x3, or 9 numbers a line) or JSON (the same, or {"K": ...})."""
    if path.suffix.lower() == ".json":
        stored = read_json(path)
        if isinstance(stored, dict) and "K" not in stored:
            found = f"keys {', '.join(map(repr, list(stored)[:4]))}" if stored else "no key"
            fix = "rename it to K, or pass another program's file: stadia camera INPUT --calibration FILE"
            raise DataError(path, found=found, expected="a key 'K', or the matrix alone", fix=fix)
        values = stored["K"] if isinstance(stored, dict) else stored
        try:
            K = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            K = np.empty(0)
    else:
        lines = [line for line in read_lines(path, expected="K, 3x3 or 9 numbers a frame") if line.lstrip()[0] != "#"]
        columns = len(lines[0].replace(",", " ").split()) if lines else 3
        K = read_rows(path, columns if columns in (3, 9) else 3, "K, 3x3 or 9 numbers a frame")
        K = K.reshape(-1, 3, 3) if columns == 9 else K
    if K.ndim != 3:
        return check_K(path, K)
    if len(K) == 1:
        return check_K(path, K[0])
    if frames is not None and len(K) != frames:
        expected = f"one, or {frames} (one a frame)"
        raise DataError(path, found=f"{len(K)} matrices", expected=expected, fix="give one K a frame, or one for all")
    return np.stack([check_K(f"{path}, frame {index}", matrix) for index, matrix in enumerate(K)])
