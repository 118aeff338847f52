"""Read a user's video or folder of images with its camera (docs/how-to/own-data.md)."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT, Recording, RoadMasks
from stadia.data import frame_store
from stadia.data.config import CacheConfig, SourceOptions
from stadia.data.frame_selection import MAX_STANDING_MOTION, MIN_MOTION, FrameSelection, FrameSelector
from stadia.data.mask_files import resize_masks
from stadia.data.open_dataset import DatasetFormat
from stadia.data.recordings import CalibratedRecording, ImageRecording
from stadia.data.video.static_parts import find_static_content
from stadia.data.video.video_camera import UserCamera, find_lens, read_user_camera
from stadia.io import video_decoding
from stadia.io.atomic_files import write_json
from stadia.io.image_files import IMAGE_SUFFIXES, check_one_kind, list_images, read_rgb
from stadia.io.input_files import find_cache_folder, name_parser_errors, read_json

_REWRITE = "delete the file; it will be written again"

SEGMENTS = 4
MAX_KEPT, MAX_DECODED = 32, 160  # largest number of frames of a segment, kept and decoded
MAX_SIDE_PX = 1280  # longest side of frames in memory: four segments then take at most 350 MB


class OwnVideo(DatasetFormat):
    """The reader of a user's video: a video file, decoded once into the cache, or a folder of images."""

    layout = "a video file, or a folder of png or jpg images"
    options = frozenset({"camera", "stride", "frame_rate_hz", "video_decoder"})

    def recognizes(self, path: Path) -> bool:
        if path.is_dir():
            return any(p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") for p in path.iterdir())
        return path.suffix.lower() in video_decoding.VIDEO_SUFFIXES

    def open(
        self, path: Path, options: SourceOptions, progress: frame_store.ReportProgress | None = None
    ) -> list[Recording]:
        if path.is_dir():
            return [_open_folder(path, options, progress)]
        return [open_frames(VideoFile(f"video/{path.stem}", path), options, progress)]

    def sample(self, path: Path, options: SourceOptions) -> list[Recording]:
        """Return some segments spread over a video, each as a recording, for checks of the data.

        There is only one segment for a short video, for given poses, and for one K per frame.
        """
        if not path.is_file():
            return _sample_folder(path, options)
        first, total = next(video_decoding.stream_video(path)), video_decoding.estimate_frame_count(path)
        height, width = first.image.shape[:2]
        camera = read_user_camera(options.camera, path, height, width, total)
        name, has_one_K = f"video/{path.stem}", camera.intrinsics.K.ndim == 2
        if total is None or total <= SEGMENTS * MAX_DECODED or options.poses is not None or not has_one_K:
            return [read_segment(name, video_decoding.stream_video(path), camera, options, SEGMENTS)]
        found, last_index = list[Recording](), -1
        for number in range(SEGMENTS):
            frames = video_decoding.stream_segment(path, number / SEGMENTS)
            start = next(frames, None)
            if start is None or start.index <= last_index:
                continue  # the file is truncated, or has no keyframe since the last segment
            segment = read_segment(f"{name} from {start.time_s:.0f} s", chain([start], frames), camera, options)
            found.append(segment)
            last_index = segment.last_decoded
        return found


def sample_segment(path: Path, options: SourceOptions, share: float = 0.5) -> Recording:
    """Return a segment of a video as a recording. It starts at the last keyframe before a given share of the video.

    path: the video file.
    options: options for reading.
    share: start of the segment, from 0 (start) to 1 (end of the video).

    Raises DataError if the video has no frame there, or no camera.
    """
    first, total = next(video_decoding.stream_video(path)), video_decoding.estimate_frame_count(path)
    height, width = first.image.shape[:2]
    camera = read_user_camera(options.camera, path, height, width, total)
    is_short = total is None or total <= MAX_DECODED or camera.intrinsics.K.ndim == 3
    frames = video_decoding.stream_video(path) if is_short else video_decoding.stream_segment(path, share)
    start = next(frames, None)
    if start is None:
        found, fix = f"no frame at {share:.0%} of it", "copy the file again"
        raise DataError(path, found=found, expected="a complete video file", fix=fix)
    return read_segment(f"video/{path.stem}", chain([start], frames), camera, options)


@dataclass(kw_only=True, eq=False, repr=False)
class FileVideo(frame_store.StoredRecording):
    """A recording from a video file that is decoded into the cache.

    filmed_size: (height, width) of the frames before they were resized for the cache.
    """

    filmed_size: tuple[int, int]
    has_stride: bool = True

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        if self.mask_reader is None:
            return None
        height, width = self.filmed_size
        masks = self.mask_reader.read(self.stem(index, side), side, height=height, width=width)
        return None if masks is None else resize_masks(masks, self.store.height, self.store.width)


@dataclass(kw_only=True, eq=False, repr=False)
class ImageVideo(ImageRecording):
    """A recording from a folder of images that are the frames of a video.

    gaps: gaps in the numbering of the images, see `find_missing_numbers`.
    """

    has_stride: bool = True
    gaps: Sequence[tuple[int, int, int]] = ()

    @property
    def missing(self) -> str:
        """Return a text about numbers that are missing in the names of the images, or ""."""
        return _describe_gaps(self.gaps)

    def map_neighbor(self, index: int, offset: int) -> int | None:
        neighbor = super().map_neighbor(index, offset)
        if neighbor is None:
            return None
        first, last = sorted((self.number(index), self.number(neighbor)))
        return None if any(first <= row < last for row, *_ in self.gaps) else neighbor


@dataclass(kw_only=True, eq=False, repr=False)
class ImageSegment(ImageVideo):
    """A recording of some images of a folder, spread over it or selected as in training, for checks of the data."""

    is_part: bool = True


def _open_folder(path: Path, options: SourceOptions, progress: frame_store.ReportProgress | None) -> Recording:
    every = _list_frames(path, options)
    selection = select_images(every, options.stride, options.cache, progress)
    return every.select_frames(selection.kept, selection)


def _sample_folder(path: Path, options: SourceOptions) -> list[Recording]:
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
            "gaps": every.gaps,
            "undistortion": part.undistortion,
            "crop": part.crop,
        }
        segments.append(ImageSegment(name=name, **values))
    return segments


MAX_MISSING_PARTS = 3  # gaps in the numbering that are named
MIN_NUMBERED = 8  # images whose numbering shows gaps
MAX_SHARE_OF_GAPS = 0.2  # share of the steps that skip numbers; keyframes and photos have more
MIN_GAP_IN_TIME = 5.0  # usual intervals, of images named by their times
_TIME_NAME = re.compile(r"[0-9]{9,10}\.[0-9]+|[0-9]{16,19}")


def find_missing_numbers(names: Sequence[str]) -> tuple[tuple[int, int, int], ...]:
    """Return the gaps in the numbering of a video's images: the image before it, and the first and last missing number.

    names: names of the images in their order. Names that are not consecutive anyway have no gap. Times in seconds are
        numbers without their decimal point.

    Examples:
        >>> find_missing_numbers([f"frame_{number:03d}.png" for number in (*range(12), *range(24, 40))])
        ((11, 12, 23),)
    """
    stems = [Path(name).stem for name in names]
    is_timed = all(map(_TIME_NAME.fullmatch, stems))
    digits = [re.search(r"([0-9]{1,19})[^0-9]*$", stem.replace(".", "") if is_timed else stem) for stem in stems]
    texts = [match[1] for match in digits if match is not None]
    if len(texts) < max(len(names), MIN_NUMBERED) or max(map(int, texts)) > np.iinfo(np.int64).max:
        return ()
    numbers = np.array([int(text) for text in texts], np.int64)
    steps = np.diff(numbers)
    if (steps < 1).any():
        return ()
    usual = int(np.median(steps))  # 1, or the stride of an export: 0, 5, 10
    rows = np.flatnonzero(steps > (MIN_GAP_IN_TIME * usual if is_timed else usual))
    if len(rows) > MAX_SHARE_OF_GAPS * len(steps) or (not is_timed and (steps % usual).any()):
        return ()
    return tuple((int(row), int(numbers[row]) + usual, int(numbers[row + 1]) - usual) for row in rows)


def _describe_gaps(gaps: Sequence[tuple[int, int, int]]) -> str:
    parts = [f"{first} to {last}" if last > first else str(first) for _, first, last in gaps[:MAX_MISSING_PARTS]]
    parts += ["more"] * (len(gaps) > MAX_MISSING_PARTS)
    missing = "a missing number" if len(gaps) == 1 and gaps[0][1] == gaps[0][2] else "missing numbers"
    return f"{missing} ({', '.join(parts)}), across which no images are paired" if gaps else ""


def _list_frames(path: Path, options: SourceOptions) -> ImageVideo:
    images = list_images(path)
    check_one_kind(images)
    frames = len(images)
    height, width = read_rgb(images[0]).shape[:2]
    name = f"video/{path.resolve().name}"
    camera = read_user_camera(options.camera, path, height, width, frames)
    times_s = np.arange(frames) / options.frame_rate_hz if options.frame_rate_hz else None
    intrinsics = {LEFT: camera.intrinsics}
    return ImageVideo(
        name=name,
        images={LEFT: images},
        intrinsics=intrinsics,
        times_s=times_s,
        undistortion=camera.undistortion,
        crop=camera.crop,
        gaps=find_missing_numbers([image.name for image in images]),
    )


def select_images(
    every: ImageRecording,
    stride: int | Literal["auto"],
    cache: CacheConfig,
    progress: frame_store.ReportProgress | None = None,
) -> FrameSelection:
    """Decide which images of a folder are kept. An automatic selection is cached.

    every: recording of all images of the folder.
    stride: "auto" keeps an image after enough motion; a number n keeps every n-th.
    cache: where selections are cached.
    progress: called while images are examined.
    """
    if stride != "auto":
        kept = list(range(0, len(every), stride))
        return FrameSelection(kept, skipped=len(every) - len(kept))
    stem = frame_store.make_store_stem(every.name, "selection", *_selection_key(stride), every.fingerprint())
    cached = find_cache_folder(cache.folder) / f"{stem}.json"
    with frame_store.lock_beside(cached):
        if not cached.exists():
            chooser = FrameSelector(stride)
            for index in frame_store.report_each(
                range(len(every)), f"{every.name}: choosing frames", len(every), progress
            ):
                chooser.keep(every.image(index))
            write_json(cached, asdict(chooser.selection))
    with name_parser_errors(cached, expected="chosen frames", fix=_REWRITE):
        return FrameSelection(**read_json(cached))


@dataclass(frozen=True)
class FrameSource:
    """A file with video frames that are decoded once into the cache: a video, a topic of a ROS bag, and the like.

    name: name of the recording.
    path: the file.
    """

    name: str
    path: Path

    def hash_content(self) -> str:
        """Return a hash of the content of the file."""
        raise NotImplementedError

    def stream(self, options: SourceOptions) -> Iterator[video_decoding.VideoFrame]:
        """Yield every video frame in order. Raises DataError if the file is damaged."""
        raise NotImplementedError

    def estimate_count(self) -> int | None:
        """Return the number of video frames according to the file's header; None if the header lacks it."""
        raise NotImplementedError

    def count_lost(self, decoded: int) -> int:
        """Return how many frames are missing at the end of the file, given how many were decoded."""
        return 0

    def read_camera(self, options: SourceOptions, height: int, width: int, frames: int | None = None) -> UserCamera:
        """Return the camera of the video frames.

        options: options for reading, which may give the camera.
        height, width: size of the frames.
        frames: number of frames, which one K per frame must match; None does not check it.

        Raises DataError if no camera is found.
        """
        raise NotImplementedError

    def describe_lens(self, options: SourceOptions) -> tuple[str, ...]:
        """Return texts that identify the corrections applied to frames (lens distortion, black bars), as a key of the
        cache.

        It is empty if frames are not corrected.
        """
        raise NotImplementedError

    def sample(self, options: SourceOptions) -> "VideoSegment":
        """Return the first frames as a recording in memory, without the cache."""
        frames = self.stream(options)
        first = next(frames)
        camera = self.read_camera(options, *first.image.shape[:2])
        return read_segment(self.name, chain([first], frames), camera, options)


@dataclass(frozen=True)
class VideoFile(FrameSource):
    """A video that FFmpeg decodes."""

    def hash_content(self) -> str:
        return video_decoding.hash_video(self.path)

    def stream(self, options: SourceOptions) -> Iterator[video_decoding.VideoFrame]:
        return video_decoding.stream_video(self.path, options.video_decoder)

    def estimate_count(self) -> int | None:
        return video_decoding.estimate_frame_count(self.path)

    def count_lost(self, decoded: int) -> int:
        return video_decoding.count_lost_frames(self.path, decoded)

    def read_camera(self, options: SourceOptions, height: int, width: int, frames: int | None = None) -> UserCamera:
        return read_user_camera(options.camera, self.path, height, width, frames)

    def describe_lens(self, options: SourceOptions) -> tuple[str, ...]:
        lens = find_lens(options.camera, self.path) if options.camera.undistort else None
        crop = find_static_content(self.path).crop if options.camera.crop_bars else None
        display = video_decoding.describe_display(self.path)  # earlier decodings of such videos are discarded
        return (*display, *(() if lens is None else (lens.fingerprint(),)), *(() if crop is None else (repr(crop),)))


def open_frames(source: FrameSource, options: SourceOptions, progress: frame_store.ReportProgress | None) -> FileVideo:
    """Open the recording of a file with video frames. If it is not in the cache, it is decoded into the cache first.

    source: the file.
    options: options for reading.
    progress: called while frames are decoded.
    """
    content, lens_key = source.hash_content(), source.describe_lens(options)
    stem = frame_store.make_store_stem(
        source.name, "video", *_selection_key(options.stride), options.size, content, *lens_key
    )
    info_file = find_cache_folder(options.cache.folder) / f"{stem}.json"
    stored = info_file.with_suffix(".rgb")
    with frame_store.lock_beside(info_file):
        if not (info_file.exists() and stored.exists() and frame_store.name_sums(stored).exists()):
            first = next(source.stream(options)).image
            lens = source.read_camera(options, *first.shape[:2])  # reports a wrong camera before decoding
            write_json(info_file, _decode(source, stored, first.shape[:2], options, lens, progress))
    with name_parser_errors(info_file, expected="the record of a decoded video", fix=_REWRITE):
        info = read_json(info_file)
        selection = FrameSelection(**info["selection"])
        kept, times_s, (height, width) = selection.kept, np.array(info["times_s"], np.float64), info["decoded_size"]
        store = frame_store.FrameStore(stored, *info["stored_size"])
    if len(store) != len(kept):
        raise DataError(stored, found=f"{len(store)} frames", expected=f"{len(kept)}", fix=_REWRITE)
    camera = source.read_camera(options, height, width, selection.total).intrinsics.select_frames(kept)
    return FileVideo(
        name=source.name,
        intrinsics={LEFT: camera.resized(*info["stored_size"])},
        numbers=kept,
        times_s=times_s,
        store=store,
        content=content,
        selection=selection,
        filmed_size=(camera.height, camera.width),
    )


def _decode(
    source: FrameSource,
    stored: Path,
    decoded_size: tuple[int, int],
    options: SourceOptions,
    camera: UserCamera,
    progress: frame_store.ReportProgress | None,
) -> dict[str, object]:
    chooser, times_s, total = FrameSelector(options.stride), list[float](), source.estimate_count()
    selection = chooser.selection
    height, width = options.size or (camera.intrinsics.height, camera.intrinsics.width)

    def decode_kept() -> Iterator[bytes]:
        for frame in source.stream(options):
            if progress is not None:
                progress(f"{source.name}: decoding", frame.index + 1, total)
            image = camera.correct(frame.image)
            if chooser.keep(image, frame.index):
                times_s.append(frame.time_s)
                yield frame_store.to_planar_bytes(frame_store.resize_image(image, height, width))

    most_frames = -(-(total or 0) // (1 if options.stride == "auto" else options.stride))
    frame_store.write_frame_store(stored, decode_kept(), most_frames * 3 * height * width)
    selection.lost = max(selection.lost, source.count_lost(selection.total - selection.lost))
    return {
        "decoded_size": decoded_size,
        "stored_size": (height, width),
        "times_s": times_s,
        "selection": asdict(selection),
    }


def _selection_key(stride: int | Literal["auto"]) -> tuple[object, ...]:
    return (stride, MAX_STANDING_MOTION, MIN_MOTION)


@dataclass(kw_only=True, eq=False, repr=False)
class VideoSegment(CalibratedRecording):
    """Consecutive frames of a video, held in memory.

    images: image (H, W, 3) of each kept frame.
    last_decoded: number of the last decoded frame, even if it was dropped.
    """

    images: list[NDArray[np.uint8]]
    last_decoded: int
    is_part: bool = False
    has_stride: bool = True

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) of a frame."""
        return self.images[index]

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(self.intrinsics[LEFT].K.tobytes(), digest_size=16)
        for image in self.images:
            digest.update(image.tobytes())
        return digest.hexdigest()


def read_segment(
    name: str, frames: Iterator[video_decoding.VideoFrame], user: UserCamera, options: SourceOptions, longer: int = 1
) -> VideoSegment:
    """Read the next frames of a video, correct and select them as a training does, and return them as a recording.

    name: name of the recording.
    frames: iterator over the remaining frames of the video.
    user: camera of the frames, with corrections.
    options: stride and size of the kept frames.
    longer: factor on the usual number of frames.
    """
    chooser, kept = FrameSelector(options.stride), list[tuple[NDArray[np.uint8], int, float]]()
    camera = user.intrinsics
    scale = min(1.0, MAX_SIDE_PX / max(camera.height, camera.width))
    size = options.size or (round(camera.height * scale), round(camera.width * scale))
    most = MAX_DECODED if options.stride == "auto" else MAX_KEPT * options.stride
    for frame in islice(frames, longer * most):
        image = user.correct(frame.image)
        if chooser.keep(image):
            kept.append((frame_store.resize_image(image, *size), frame.index, frame.time_s))
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
