"""Stream the frames of a video file with limited memory."""

import hashlib
import logging
import os
import re
import shlex
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.codec.hwaccel import HWAccel
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.io import VideoDecoder
from stadia.io.image_files import IMAGE_SUFFIXES, count_image_bytes, encode_name, list_images
from stadia.io.input_files import check_input_file, name_parser_errors, open_input

log = logging.getLogger(__name__)

_COMMON = (".mp4", ".mov", ".mkv", ".avi", ".webm")
VIDEO_SUFFIXES = (*_COMMON, ".m4v", ".mpg", ".mpeg", ".ts", ".ogv", ".wmv", ".3gp", ".insv", ".lrv")
K_FILE_NAMES = ("K.txt", "K.json")  # The files are in the folder of images; a video has STEM.K.txt next to it.
MAX_VIDEO_PIXELS = 1 << 25  # just above 8K (7680x4320)
_FORMATS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,mjpeg,ogg,asf,flv,h264,hevc,m4v"
"""FFmpeg's demuxers for VIDEO_SUFFIXES. Playlists (hls, concat) are not among them, because they open other files."""

_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, "max_pixels": str(MAX_VIDEO_PIXELS)}
MAX_VIDEO_BYTES = 1 << 44
_MAX_BOXES = 1000
_WHOLE = "a complete video file"
_FRAME_THREADS_PIXELS = 1 << 23  # larger frames are decoded in slices: a thread per frame keeps one more in memory
_MIN_GROWTH_PIXELS = 1 << 22  # frames may always grow to this size before the change of size is refused
_UNSURE = 0.05  # tolerance of a length in seconds: audio may be longer than video, and frame rates vary


def holds_frames_alone(path: Path) -> bool:
    """Return whether a path is a video file, or a folder with nothing but images and perhaps a file with their K.

    Such a folder is not the folder of a dataset, which has subfolders, lists or records, or images of several kinds
    (7-Scenes).
    """
    if os.path.isfile(path):  # noqa: PTH113 - also of names too long
        return path.suffix.lower() in VIDEO_SUFFIXES
    if not os.path.isdir(path):  # noqa: PTH112
        return False
    with os.scandir(path) as entries:
        files = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in K_FILE_NAMES]
        return bool(files) and all(
            entry.name.lower().endswith(IMAGE_SUFFIXES) and ".color." not in entry.name and entry.is_file()
            for entry in files
        )


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A decoded video frame.

    index: number of the frame in the video, from 0.
    time_s: time since the start of the video in seconds.
    image: (H, W, 3) RGB, upright.
    """

    index: int
    time_s: float
    image: NDArray[np.uint8]


@contextmanager
def open_video_file(path: Path, decoder: VideoDecoder = "cpu") -> Iterator[tuple[Any, Any]]:
    """Open a video with FFmpeg in a `with` block, and yield its container and its largest video stream.

    path: the file.
    decoder: "cpu" decodes on the processor, "cuda" on the GPU.

    Raises DataError if FFmpeg refuses the file, or if frames are huge; ConfigError if the decoder is missing.
    """
    check_input_file(path, expected="a video", max_bytes=MAX_VIDEO_BYTES)
    with ExitStack() as opened:
        with _name_decoder_errors(path):
            container = opened.enter_context(_open_container(path, decoder))
            if not container.streams.video:
                raise DataError(
                    path,
                    found="no video in it",
                    expected="a video file",
                    fix="pass a file that a video player can play",
                )
            stream = _choose_stream(path, container)
            _limit_frames(path, stream)
            if (kind := _HIGH_RANGE.get(stream.codec_context.color_trc)) is not None:
                _note(path, f"{kind} is read without tone mapping, which changes contrast and depth: {_TONE_MAP}")
        yield container, stream


_HIGH_RANGE = {16: "HDR10 (PQ)", 18: "HLG"}
"""Transfer functions of high dynamic range (ITU-T H.273, table 3), by the number in a video's header."""

_TONE_MAP = (
    "ffmpeg -i IN -vf zscale=t=linear:npl=100,format=gbrpf32le,tonemap=hable,zscale=p=bt709:t=bt709:m=bt709,"
    "format=yuv420p OUT"
)


def _choose_stream(path: Path, container: Any) -> Any:
    """Return the largest video stream, as ffmpeg does; covers of albums are left out."""
    streams = [one for one in container.streams.video if one.codec_context is not None] or container.streams.video[:1]
    films = [one for one in streams if not one.disposition & av.stream.Disposition.attached_pic] or streams
    if len(films) == 1:
        return films[0]
    largest = max(films, key=lambda one: (one.codec_context.width * one.codec_context.height, -one.index))
    if len(films) > 1:
        others = [f"{one.codec_context.width}x{one.codec_context.height}" for one in films if one is not largest]
        text = f"used video stream {largest.index}, the largest; left the stream of {' and '.join(others)}"
        if others[0] == f"{largest.codec_context.width}x{largest.codec_context.height}":
            text += ". Streams of one size are two lenses of a 360-degree camera (.insv, .360: export it as"
            text += " equirectangular video, and pass that to `stadia map`) or a stereo pair"
        _note(path, text)
    return largest


@lru_cache(maxsize=1024)  # warns once per video
def _note(path: Path, text: str) -> None:
    log.warning("%s: %s", path, text)


_SPHERICAL = re.compile(rb"sv3d|<GSpherical:Spherical>\s*true", re.IGNORECASE)
_SEARCHED_BYTES = 1 << 20


def is_spherical(path: Path) -> bool:
    """Return whether a video's header states that it shows all directions (Google's Spherical Video, V1 and V2)."""
    with open_input(path, expected="a video", max_bytes=MAX_VIDEO_BYTES) as file:
        data = file.read(_SEARCHED_BYTES)
        file.seek(max(file.seek(0, os.SEEK_END) - _SEARCHED_BYTES, 0))
        data += file.read(_SEARCHED_BYTES)
    return _SPHERICAL.search(data) is not None


def _open_container(path: Path, decoder: VideoDecoder) -> Any:
    source, settings = f"file:{path}", {"options": _OPTIONS, "metadata_errors": "replace"}
    if decoder == "cpu":
        return av.open(source, **settings)
    try:
        return av.open(source, **settings, hwaccel=HWAccel(decoder, allow_software_fallback=True))
    except av.FFmpegError as error:
        av.open(source, **settings).close()  # raises if the file itself is the cause
        found = f"{decoder}, but no GPU that decodes video ({error.strerror})"
        fix = "remove the option to decode on the processor"
        raise ConfigError("data.video_decoder", found=found, expected="a GPU with NVDEC", fix=fix) from error


@contextmanager
def _name_decoder_errors(path: Path) -> Iterator[None]:
    with name_parser_errors(path, expected=_WHOLE):
        try:
            yield
        except av.FFmpegError as error:
            raise _make_decode_error(path, error) from error


def _limit_frames(path: Path, stream: Any) -> None:
    """Raise DataError for large frames, and make FFmpeg refuse larger ones than the header states."""
    if stream.codec_context is None:
        expected = "H.264, H.265 or another codec that FFmpeg decodes"
        fix = "export it as .mp4 with the camera's program"
        raise DataError(path, found="a video of an unknown codec", expected=expected, fix=fix)
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_VIDEO_PIXELS:
        found, expected = f"{width}x{height} pixels", f"at most {MAX_VIDEO_PIXELS} pixels per frame"
        raise DataError(path, found=found, expected=expected, fix="make it smaller: ffmpeg -i IN -vf scale=1280:-2 OUT")
    largest = min(MAX_VIDEO_PIXELS, max(2 * width * height, _MIN_GROWTH_PIXELS)) if width * height else MAX_VIDEO_PIXELS
    stream.codec_context.options = {"max_pixels": str(largest)}
    stream.thread_type = "AUTO" if width * height <= _FRAME_THREADS_PIXELS else "SLICE"


def _make_decode_error(path: Path, error: Exception) -> DataError:
    found = f"a video that cannot be decoded ({getattr(error, 'strerror', error)})"
    fix = "copy it again, or convert it: ffmpeg -i IN out.mp4"
    boxes = _list_mp4_boxes(path)
    if path.stat().st_size == 0:
        found, fix = "an empty file", "copy it again"
    elif "ftyp" in boxes and "moov" not in boxes:
        found = "an mp4 without its index (moov), which is at its end: the file was cut off"
        fix = "copy it again; if the camera was cut off, untrunc rebuilds the index from a complete file of the camera"
    elif not boxes and isinstance(error, av.error.InvalidDataError | av.error.ArgumentError):
        found = f"a file that is not a video of a known format ({_FORMATS})"
        fix = "check that it is a video, or copy it again"
    elif isinstance(error, PermissionError | av.error.PermissionError) and (before := _count_before_key_frame(path)):
        found = f"a video whose first {before} frames precede its first keyframe: it was cut without encoding"
        fix = "cut it again from the original: ffmpeg -ss START -i ORIGINAL -c:v libx264 OUT"
    return DataError(path, found=found, expected=_WHOLE, fix=fix)


def _list_mp4_boxes(path: Path) -> list[str]:
    kinds: list[str] = []
    with open_input(path, expected="a video", max_bytes=MAX_VIDEO_BYTES) as file:
        while len(kinds) < _MAX_BOXES:
            header = file.read(16)
            kind = header[4:8]
            if len(header) < 8 or not kind.isalnum() or not (kinds or kind == b"ftyp"):
                break
            kinds.append(kind.decode("ascii", "replace"))
            size = int.from_bytes(header[:4], "big")
            if size == 1:
                size = max(int.from_bytes(header[8:16], "big"), 16)
            if size == 0 or size > MAX_VIDEO_BYTES:  # the box extends to the end
                break
            file.seek(max(size, 8) - len(header), 1)
    return kinds


def count_indexed_frames(path: Path) -> int | None:
    """Return the number of video frames that the file's header states; None if it states none."""
    with open_video_file(path) as (_, stream):
        return stream.frames or None


def estimate_frame_count(path: Path) -> int | None:
    """Return the number of video frames from the header, or from duration and frame rate, or None."""
    with open_video_file(path) as (container, stream):
        if stream.frames or not (container.duration and stream.average_rate):
            return stream.frames or None
        return round(container.duration / av.time_base * float(stream.average_rate))


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """Facts from the header and the first frame of a video.

    frames: number of frames, or None if unknown.
    height, width: size of upright frames in pixels.
    rate_hz: mean frame rate, or None if unknown.
    """

    frames: int | None
    height: int
    width: int
    rate_hz: float | None


def read_video_header(path: Path) -> VideoHeader:
    """Read the header and the first frame of a video.

    Raises DataError if the file is unreadable, or the second half of it is missing.
    """
    height, width = next(stream_video(path)).image.shape[:2]
    return VideoHeader(estimate_frame_count(path), height, width, read_frame_rate_hz(path))


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata that a camera wrote into its video file, by key. Raises DataError for an unreadable file."""
    with open_video_file(path) as (container, stream):
        return {**container.metadata, **stream.metadata}


def read_frame_rate_hz(path: Path) -> float | None:
    """Return the mean frame rate in Hz that the video's header states; None if it states none."""
    with open_video_file(path) as (_, stream):
        return float(stream.average_rate) if stream.average_rate else None


def count_lost_frames(path: Path, decoded: int) -> int:
    """Return how many frames of a video file are missing, given how many could be decoded."""
    expected = estimate_frame_count(path) or decoded
    lost = max(expected - decoded, 0)
    return lost if count_indexed_frames(path) or lost > _UNSURE * expected else 0


def make_panorama_error(path: Path) -> DataError:
    """Return the error of a video that shows all directions, where a pinhole camera is expected."""
    fix = "map it with `stadia map`; or cut a view: ffmpeg -i IN -vf v360=e:flat:h_fov=90:v_fov=90:w=640:h=640 OUT"
    return DataError(path, found="a video of 360 degrees", expected="a video of a pinhole camera", fix=fix)


MAX_RIM_GRAY = 10.0
"""Largest mean gray level outside of the circle of a fisheye lens."""

MIN_CIRCLE_GRAY = 25.0
"""Smallest mean gray level inside of it, in light."""


def shows_two_fisheyes(image: NDArray[np.uint8]) -> bool:
    """Return whether an image (H, W, 3) is two circles of fisheye lenses side by side, as cameras of 360 degrees write.

    Examples:
        >>> shows_two_fisheyes(np.full((64, 128, 3), 90, np.uint8))
        False
    """
    height, width = image.shape[:2]
    if width != 2 * height or height < 32:
        return False
    y, x = np.mgrid[:height, :height] - (height - 1) / 2
    radius = np.hypot(x, y) / (height / 2)
    for half in (image[:, :height], image[:, height:]):
        gray = half.mean(axis=2)
        if gray[radius > 1.1].mean() > MAX_RIM_GRAY or gray[radius < 0.8].mean() < MIN_CIRCLE_GRAY:
            return False
    return True


VIEW_OF_FISHEYES = "v360=dfisheye:flat:ih_fov=190:iv_fov=190:h_fov=90:v_fov=90:w=640:h=640"


def make_fisheye_error(path: Path) -> DataError:
    """Return the error of a video of two fisheye circles, where one picture is expected."""
    cut = f"cut a view: ffmpeg -i {shlex.quote(str(path))} -vf {VIEW_OF_FISHEYES} view.mp4"
    fix = f"{cut}; or export a panorama with its program"
    found = "two fisheye circles side by side, as a camera of 360 degrees writes"
    return DataError(path, found=found, expected="a video of a pinhole camera", fix=fix)


def stream_video(path: Path, decoder: VideoDecoder = "cpu", *, takes_panoramas: bool = False) -> Iterator[VideoFrame]:
    """Yield every complete frame of a video in order, and log how many frames are lost.

    path: the file.
    decoder: "cpu" decodes on the processor, "cuda" on a GPU (NVDEC).
    takes_panoramas: whether the frames may show all directions.

    Raises DataError if the file is not a video, shows all directions, or if less than half of it can be decoded;
    ConfigError if the decoder is missing.
    """
    if not takes_panoramas and is_spherical(path):
        raise make_panorama_error(path)
    _check_middle(path)
    decoded = 0
    with open_video_file(path, decoder) as (container, stream):
        frames = _decode_frames(path, container, stream)
        while True:
            with _name_decoder_errors(path):
                try:
                    frame = next(frames, None)
                except av.FFmpegError:
                    if not decoded or estimate_frame_count(path) is None:
                        raise  # the number of lost frames is unknown
                    frame = None
            if frame is None:
                break
            if not decoded and shows_two_fisheyes(frame.image):
                raise make_fisheye_error(path)
            yield frame
            decoded += 1
    lost = count_lost_frames(path, decoded)
    if decoded <= lost:
        start = f", or train on its start: ffmpeg -i IN -frames:v {decoded} start.mp4" if decoded > 1 else ""
        expected = f"{decoded + lost}, as in the header" if lost else "some"
        raise _make_length_error(path, f"{decoded} frames", expected, start)
    if lost:
        _warn_lost_frames(path, lost, decoded + lost)


@cache
def _warn_lost_frames(path: Path, lost: int, count: int) -> None:
    """Warn once per file, which several readers decode."""
    if before := _count_before_key_frame(path):
        text = "%s: its first %d frames precede the first keyframe and cannot be decoded: it was cut without encoding"
        log.warning(text, path, before)
        return
    text = "%s: the header counts %d frames, %d can be read: the file is truncated or damaged"
    log.warning(text, path, count, count - lost)


def _count_before_key_frame(path: Path) -> int:
    """Return how many packets of a video precede its first keyframe, at most _MAX_BEFORE."""
    before = 0
    with suppress(av.FFmpegError), open_video_file(path) as (container, stream):
        for packet in container.demux(stream):
            if packet.is_keyframe or packet.size == 0 or before == _MAX_BEFORE:
                break
            before += 1
    return before


_MAX_BEFORE = 1000  # packets among which a keyframe is searched


def _take_undamaged(path: Path, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    while True:
        frame = None
        with _name_decoder_errors(path), suppress(av.FFmpegError):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def stream_selected(path: Path, wanted: Collection[int]) -> Iterator[VideoFrame]:
    """Yield only the frames of a video whose index is in `wanted`, in order."""
    with open_video_file(path) as (container, stream):
        yield from _take_undamaged(path, _decode_frames(path, container, stream, wanted=wanted))


def stream_segment(path: Path, share: float) -> Iterator[VideoFrame]:
    """Yield the frames of a video, from the last keyframe before the given share of its length.

    Indices of the frames are exact if the frame rate is constant.

    path: the file.
    share: start, from 0 (start of the video) to 1 (its end).
    """
    with open_video_file(path) as (container, stream):
        index = -1
        for frame in _take_undamaged(path, _decode_frames(path, container, stream, from_share=share)):
            index = frame.index
            yield frame
        if index + 1 < (1 - _UNSURE) * (estimate_frame_count(path) or 0):
            log.warning("%s: no frames after %.0f %% of it: the file is truncated or damaged", path, 100 * share)


def _read_start_s(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base)


def _decode_frames(
    path: Path, container: Any, stream: Any, *, from_share: float | None = None, wanted: Collection[int] | None = None
) -> Iterator[VideoFrame]:
    """Yield upright frames of one size, without damaged ones, with their index.

    from_share: start at the last keyframe before this share.
    wanted: indices to convert; None for all.
    """
    last = None if wanted is None else max(wanted, default=-1)
    by_time = from_share is not None
    if from_share is not None:
        container.seek(int(from_share * (container.duration or 0) + _read_start_s(stream) * av.time_base))
    rate, size, start = float(stream.average_rate or 1), None, None
    for count, frame in enumerate(container.decode(stream)):
        if last is not None and count > last:
            return
        if frame.is_corrupt:
            continue
        if start is None:
            start = _read_start_s(stream) if by_time else frame.time or 0.0
        if wanted is not None and count not in wanted:
            continue
        image = _show_frame(path, frame, stream)
        if size is None:
            size = image.shape
        time_s = count / rate if frame.time is None else frame.time - start
        index = round(time_s * rate) if by_time else count
        if image.shape != size:
            found, fix = f"{image.shape[1]}x{image.shape[0]}", "split the video at the change of its size"
            raise DataError(f"{path}, frame {index}", found=found, expected=f"{size[1]}x{size[0]} as before", fix=fix)
        yield VideoFrame(index, time_s, image)


_MIN_COMB = 1.0  # difference of neighboring rows over that of rows of one field, above which two times are interlaced
MIN_ASPECT_CHANGE, MAX_ASPECT = 0.005, 4.0


def _show_frame(path: Path, frame: Any, stream: Any) -> NDArray[np.uint8]:
    image = frame.to_ndarray(format="rgb24")
    if frame.interlaced_frame and _is_combed(image):
        image = _interpolate_field(image)
        _note(path, "its frames are interlaced: two times in one frame. Used every other row of them. For all rows:"
              " ffmpeg -i IN -vf bwdif=mode=send_frame OUT")  # fmt: skip
    aspect = float(stream.sample_aspect_ratio or 1)
    if abs(aspect - 1) > MIN_ASPECT_CHANGE and 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        height, width = image.shape[:2]
        size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        text = f"its pixels are {aspect:.3g} times as wide as high. Frames are stretched from {width}x{height}"
        _note(path, f"{text} to {size[0]}x{size[1]}")
    return np.ascontiguousarray(_orient(image, frame))


def _orient(image: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    """Return the image turned by right angles and mirrored, as the display matrix states (ISO 14496-12, tkhd)."""
    matrix = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return np.rot90(image, round(frame.rotation / 90))
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32)[:9].astype(np.float64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _is_combed(image: NDArray[np.uint8]) -> bool:
    """Return whether neighboring rows differ more than rows of one field, which they do if a moving scene is shown."""
    green = image[..., 1].astype(np.int16)
    between, within = (np.abs(green[step:] - green[:-step]).mean() for step in (1, 2))
    return bool(between > _MIN_COMB * within)


def _interpolate_field(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image with its odd rows replaced by the mean of the rows above and below."""
    rows = image.copy()
    above, below = image[:-1:2], np.concatenate([image[2::2], image[-2 + len(image) % 2 :][:1]])
    rows[1::2] = ((above.astype(np.uint16) + below[: len(above)]) // 2).astype(np.uint8)
    return rows


def describe_display(path: Path) -> tuple[str, ...]:
    """Return what changes the frames of a video between decoding and display, as texts; empty for most videos.

    The texts are "interlaced", "matrix" (turned or mirrored), the aspect ratio of pixels, and the number of the stream.
    """
    with open_video_file(path) as (container, stream):
        frame = next(_take_undamaged_raw(container, stream), None)
        facts = []
        if frame is not None and frame.interlaced_frame:
            facts.append("interlaced")
        if frame is not None and any(data.type.name == "DISPLAYMATRIX" for data in frame.side_data):
            facts.append("matrix")
        facts += [f"aspect {stream.sample_aspect_ratio}"] if stream.sample_aspect_ratio not in (None, 0, 1) else []
        facts += [f"stream {stream.index}"] if stream.index else []
        return tuple(facts)


def _take_undamaged_raw(container: Any, stream: Any) -> Iterator[Any]:
    with suppress(av.FFmpegError):
        yield from container.decode(stream)


def _check_middle(path: Path) -> None:
    with open_video_file(path) as (container, stream), _name_decoder_errors(path):
        if not (stream.frames and stream.duration):
            return
        container.seek(stream.duration // 2 + (stream.start_time or 0), stream=stream)
        packet = next(container.demux(stream), None)
        if packet is None or not packet.size:
            raise _make_length_error(path, "less than half of its frames", f"{stream.frames}, as in the header")


def _make_length_error(path: Path, found: str, expected: str, otherwise: str = "") -> DataError:
    return DataError(path, found=found, expected=expected, fix=f"copy the file again{otherwise}")


_SAMPLED_BYTES = 1 << 20


def hash_video(path: Path) -> str:
    """Return a hash of a video file's size, start, middle and end."""
    with open_input(path, expected="a video", max_bytes=MAX_VIDEO_BYTES) as stream:
        size = stream.seek(0, os.SEEK_END)
        digest = hashlib.blake2b(str(size).encode(), digest_size=16)
        for start in (0, size // 2, max(0, size - _SAMPLED_BYTES)):
            stream.seek(start)
            digest.update(stream.read(_SAMPLED_BYTES))
    return digest.hexdigest()


def hash_source(source: Path) -> str:
    """Return a hash of the content of a video file, or of the names and sizes of the images of a folder."""
    return _hash_source(source, source.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _hash_source(source: Path, _: int) -> str:
    if not source.is_dir():
        return hash_video(source)
    digest = hashlib.blake2b(digest_size=16)
    for path in list_images(source):
        digest.update(encode_name(f"{path.name}:{count_image_bytes(path)}\n"))
    return digest.hexdigest()
