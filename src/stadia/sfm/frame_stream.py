"""Read the frames of an input any number of times: a video, a folder of images, or recordings of a dataset.

Each frame comes as filmed, and as a gray image of at most MAX_SIDE_PX pixels ("small frame") for feature detection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.config import resolve_config
from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress
from stadia.core.types import LEFT, Recording
from stadia.data.config import CameraConfig, SourceOptions, refuse_idle_options
from stadia.data.formats.photo_lens import read_lens
from stadia.data.frame_preparation import run_ahead
from stadia.data.frame_selection import LOST_MOTION, KeyFrames, KeyFrameSelector, thin_keys
from stadia.data.lens_distortion import Undistortion
from stadia.data.mask_files import hash_frames
from stadia.data.recordings import FrameCrop, ImageRecording
from stadia.data.video.photo_fit import PhotoFit, PhotoFits, fit_photos
from stadia.data.video.video_camera import (
    UserCamera,
    find_camera_file,
    find_crop,
    find_static_mask,
    read_image_size,
    read_user_camera,
)
from stadia.data.video.video_map import find_map_folder
from stadia.geometry.cameras import Intrinsics
from stadia.io.atomic_files import write_json
from stadia.io.image_files import list_images, read_rgb, read_upright_size
from stadia.io.input_files import read_json
from stadia.io.video_decoding import (
    VIDEO_SUFFIXES,
    estimate_frame_count,
    hash_source,
    holds_frames_alone,
    is_spherical,
    open_video_file,
    stream_segment,
    stream_selected,
    stream_video,
)
from stadia.sfm.movable_masks import MAX_DISTANCE, MovableMasks

MAX_SIDE_PX = 800
"""Longer side, pixels, of the small frames for features and the estimation of cameras."""

MAX_FRAMES = 200_000


@dataclass(frozen=True, slots=True)
class SmallFrame:
    """A frame as filmed, and its small gray image.

    index: number of the frame in the input.
    name: name of the frame in output files.
    time_s: time in the video, seconds; None if unknown.
    gray: (h, w) small gray image.
    filmed: (H, W, 3) RGB, without black bars and without the lens distortion if the lens is known.
    fit: how `filmed` is turned and padded to the shape of `gray`, for photos of several sizes; None for a plain resize.
    """

    index: int
    name: str
    time_s: float | None
    gray: NDArray[np.uint8]
    filmed: NDArray[np.uint8]
    fit: PhotoFit | None = None

    @property
    def image(self) -> NDArray[np.uint8]:
        """Return the frame (h, w, 3) RGB at the size of `gray`."""
        fit = self.fit or PhotoFit(*self.filmed.shape[:2])
        return fit.apply(self.filmed, *self.gray.shape)


ReadFrame = tuple[int, str, float | None, NDArray[np.uint8]]
"""Index of a frame, its name, its time in seconds or None, and its image (H, W, 3) RGB without black bars."""


@dataclass(frozen=True)
class OwnClip:
    """A video file, or a folder of images in natural order of their names.

    path: the video file or the folder.
    name: prefix of the frame names if the input has several clips.
    filmed_size: (height, width) of the frames with black bars, pixels.
    crop: the window inside the black bars; None without bars.
    photos: sizes and cameras of photos of several sizes; None if all frames have one size.
    """

    path: Path
    name: str
    filmed_size: tuple[int, int]
    crop: FrameCrop | None
    photos: PhotoFits | None = None

    @classmethod
    def open(cls, path: Path, config: CameraConfig, name: str = "") -> OwnClip:
        """Open a video file or a folder of images.

        path: the file or folder.
        config: options of the camera, which state whether and where black bars are cut off.
        name: prefix of the frame names if the input has several clips.
        """
        if path.is_dir():
            sizes = [read_upright_size(image) for image in list_images(path)]
            if len(set(sizes)) > 1:
                photos = fit_photos(sizes)
                return cls(path, name, photos.sizes[0], None, photos)
        size = read_image_size(path)
        return cls(path, name, size, find_crop(config, path, *size))

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) of the frames without black bars, pixels."""
        return self.filmed_size if self.crop is None else (self.crop.window.height, self.crop.window.width)

    @cached_property
    def images(self) -> list[Path]:
        """Return the image files of a folder; an empty list for a video."""
        return list_images(self.path) if self.path.is_dir() else []

    def count(self) -> int | None:
        """Return the number of frames; None if a video file does not state it."""
        return len(self.images) or estimate_frame_count(self.path)

    def stems(self) -> list[str] | None:
        """Return the file names of all frames without suffix; None for a video, whose frames are named by number."""
        return [path.stem for path in self.images] or None

    def files(self) -> list[Path]:
        """Return the image files, if the mapped frames are exactly these files; an empty list for a video or cropped
        images.
        """
        return self.images if self.crop is None else []

    def read(self, wanted: Collection[int] | None) -> Iterator[ReadFrame]:
        """Yield the frames whose indices are in `wanted`, in order; None yields all."""
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
        """Return a hash of the content of the video file or of all images."""
        return hash_source(self.path)

    def find_camera(self, config: CameraConfig) -> UserCamera | None:
        """Return the camera that `config` or a camera file next to the input gives; None if neither gives one."""
        if not config.is_given and find_camera_file(self.path) is None:
            return None
        return read_user_camera(config, self.path, *self.filmed_size)

    def find_static(self) -> NDArray[np.bool_] | None:
        """Return a mask (H, W), true on pixels that show the same all along (hood, logo), from a mask file next to the
        input.

        None without such a file, and for photos of several sizes.
        """
        known = UserCamera(Intrinsics(np.eye(3), *self.size), crop=self.crop)
        return None if self.photos else find_static_mask(known, self.path)


@dataclass(frozen=True)
class RecordingClip:
    """The left images of a dataset's recording, which the dataset's reader rectifies. Has the methods of `OwnClip`.

    recording: the recording.
    photos: always None, since all images of a recording have one size.
    """

    recording: Recording
    photos: PhotoFits | None = None

    @property
    def name(self) -> str:
        """Return the name of the recording within its dataset."""
        return self.recording.name

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) of the left images, pixels."""
        camera = self.recording.camera(0)
        return camera.height, camera.width

    def count(self) -> int | None:
        """Return the number of frames of the recording."""
        return len(self.recording)

    def stems(self) -> list[str] | None:
        """Return the names of all frames, as the dataset's reader gives them."""
        return [self.recording.stem(index) for index in range(len(self.recording))]

    def files(self) -> list[Path]:
        """Return the image files, if the mapped frames are exactly these files; an empty list if the reader changes the
        images.
        """
        is_raw = isinstance(self.recording, ImageRecording) and self.recording.undistortion is None
        found = [self.recording.file(index) for index in range(len(self.recording))] if is_raw else []
        return [file for file in found if file is not None]

    def read(self, wanted: Collection[int] | None) -> Iterator[ReadFrame]:
        """Yield the frames whose indices are in `wanted`, in order; None yields all."""
        recording, every = self.recording, range(len(self.recording))
        for index in every if wanted is None else sorted(set(wanted).intersection(every)):
            yield index, recording.stem(index), recording.timestamp_s(index), recording.image(index)

    def hash(self) -> str:
        """Return a hash of the content of the recording's images."""
        return hash_frames(self.recording) or self.recording.fingerprint()

    def find_camera(self, config: CameraConfig) -> UserCamera | None:
        """Return the calibrated camera of the recording; `config` is ignored. K is (N, 3, 3) if it changes between
        frames.
        """
        K = np.stack([self.recording.K(index) for index in range(len(self.recording))])
        return UserCamera(Intrinsics(K[0] if np.ptp(K, axis=0).max() == 0 else K, *self.size))

    def find_static(self) -> NDArray[np.bool_] | None:
        """Return the mask (H, W) of the reader, true on pixels that never show the scene; None without such a mask."""
        return self.recording.ignored(LEFT)


FrameClip = OwnClip | RecordingClip


@dataclass(frozen=True)
class FrameStream:
    """All frames of an input, without black bars, as one sequence that can be read repeatedly.

    source: path of the input.
    clips: the videos, folders or recordings of the input, in order, of one image size and one camera. With several
        clips, frame names start with the clip's name. A single folder of photos may hold several sizes, orientations
        and cameras; `height` and `width` then belong to the most frequent shape.
    lens: removes a known lens distortion from the frames; None for a pinhole camera or an unknown lens.
    masks: masks of things that can move, such as cars; None without masks.
    span: (first index, index after the last) of the frames to use; None for all.
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
            raise DataError(
                self.source,
                found=found,
                expected=expected,
                fix=f"choose frames that the video has, such as data.frames=[0,{self._starts[-1]}]",
            )

    @classmethod
    def open(cls, source: Path, camera: CameraConfig | None = None) -> FrameStream:
        """Open a video file or a folder of images as a stream.

        source: the file or folder.
        camera: options of the camera and of black bars; None takes the defaults.
        """
        return cls(source, [OwnClip.open(source, camera or CameraConfig())])

    @cached_property
    def _starts(self) -> list[int]:
        counts = [clip.count() or MAX_FRAMES for clip in self.clips]
        return [sum(counts[:row]) for row in range(len(counts) + 1)]

    @property
    def photos(self) -> PhotoFits | None:
        """Return sizes and camera numbers of photos of several sizes; None if all frames have one size."""
        return self.clips[0].photos

    @property
    def has_several_cameras(self) -> bool:
        """Return whether the input is a folder of photos of several image shapes; each shape has its own camera."""
        return self.photos is not None and len(self.photos.sizes) > 1

    def find_photo(self, index: int) -> tuple[int, PhotoFit]:
        """Return the number of the camera of a frame (0 if there is one camera), and how the frame is fitted to that
        camera's image size.

        index: number of the frame in the input.
        """
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
        """Return the index of the first frame that is used."""
        return 0 if self.span is None else self.span[0]

    def make_no_map_error(self, found: str, expected: str) -> DataError:
        """Create the DataError for an input that cannot be mapped.

        found: what the frames show.
        expected: what a map needs.
        """
        fix = "film as docs/start/film.md says; or set the camera, stadia camera VIDEO --fov DEGREES, and use no map"
        return DataError(self.source, found=found, expected=expected, fix=fix)

    def hash(self) -> str:
        """Return a hash of the content of all clips."""
        hashes = [clip.hash() for clip in self.clips]
        return hashes[0] if len(hashes) == 1 else hashlib.blake2b(repr(hashes).encode(), digest_size=16).hexdigest()

    def name_map(self) -> Path:
        """Return the default folder of the map, next to the input: drive.map for drive.mp4, SET-RECORDING.map for a
        recording.
        """
        if isinstance(self.clips[0], OwnClip):
            return find_map_folder(self.source)
        return self.source.resolve().with_name(f"{_flatten(self.clips[0].name)}.map")

    def find_camera(self, config: CameraConfig) -> UserCamera | None:
        """Return the camera that `config`, a file next to the input, or the dataset gives; None without any.

        Raises DataError if the clips have different cameras.
        """
        first, *others = (clip.find_camera(config) for clip in self.clips)
        if any(_describe_camera(camera) != _describe_camera(first) for camera in others):
            fix = "give one camera with data.camera, or map the videos one by one"
            raise DataError(self.source, found="videos of several cameras", expected="one camera", fix=fix)
        return first

    def find_static(self) -> NDArray[np.bool_] | None:
        """Return a mask (h, w) of the small frames, true on pixels that show the same in all clips (hood, logo).

        None if a clip has no such mask.
        """
        masks = [mask for clip in self.clips if (mask := clip.find_static()) is not None]
        if len(masks) < len(self.clips):
            return None
        marked = np.logical_and.reduce(masks).astype(np.uint8) * 255
        straight = marked if self.lens is None else self.lens(marked)
        return cv2.resize(straight, self.small_size[::-1], interpolation=cv2.INTER_NEAREST) > 127

    @property
    def small_size(self) -> tuple[int, int]:
        """Return (height, width) of the small frames, pixels."""
        return _shrink_size(self.height, self.width)

    def small_sizes(self) -> list[tuple[int, int]]:
        """Return (height, width) of the small images of each camera, pixels; one entry unless photos have several
        cameras.
        """
        return [self.small_size] if self.photos is None else [_shrink_size(*size) for size in self.photos.sizes]

    def find_files(self) -> list[Path]:
        """Return the image file of each frame, if the mapped frames are exactly these files; else an empty list."""
        found = [clip.files() for clip in self.clips]
        return [file for files in found for file in files] if all(found) and self.lens is None else []

    def stems(self) -> list[str]:
        """Return the names of all frames, in order."""
        numbers = [f"{index:06d}" for index in range(self._starts[-1])]
        return [self._name(clip, stem) for clip in self.clips for stem in clip.stems() or numbers[: clip.count()]]

    def _name(self, clip: FrameClip, stem: str) -> str:
        return stem if len(self.clips) == 1 else f"{_flatten(clip.name)}_{stem}"

    def find_movable(self, index: int) -> NDArray[np.bool_] | None:
        """Return a mask (h, w) of one small frame, true on things that can move; None without a mask near this frame.

        index: number of the frame in the input.
        """
        if self.masks is None or not self.masks.has_near(index, self.mask_distance):
            return None
        camera, fit = self.find_photo(index)
        return self.masks.read(index, *self.small_sizes()[camera], self.lens, fit)

    def find_hidden(self, index: int, static: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Return a mask (h, w) of one small frame, true on pixels that no map may use; None if nothing is masked.

        index: number of the frame in the input.
        static: (h, w), true on pixels that show the same all along, or None. It is united with the mask of movable
            things.
        """
        masks = [mask for mask in (static, self.find_movable(index)) if mask is not None]
        return np.logical_or.reduce(masks) if masks else None

    @cached_property
    def mask_distance(self) -> int:
        """Return how many frames away a frame's mask may be taken from.

        0 for photos (images of several sizes or with EXIF data), since neighboring photos differ.
        """
        is_photo = self.photos is not None or any(map(read_lens, self.clips[0].files()[:1]))
        return 0 if is_photo else MAX_DISTANCE

    def count(self) -> int | None:
        """Return the index after the last used frame; None if a video file does not state its number of frames."""
        end = self._starts[-1] if self.span is None else self.span[1]
        return end if end < MAX_FRAMES else None

    def __iter__(self) -> Iterator[SmallFrame]:
        return self._run_ahead(None if self.span is None else range(*self.span))

    def select(self, wanted: Collection[int]) -> Iterator[SmallFrame]:
        """Yield only the frames whose indices are in `wanted`; faster than iterating over all frames."""
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


PANORAMA_SHARES = (0.0, 0.25, 0.5, 0.75)
"""Places in a video, as shares of its length, whose frames show whether it is a panorama; titles often do not."""


def is_panorama_video(source: Path) -> bool:
    """Return whether a path is a video of panorama pictures, by its header or most of PANORAMA_SHARES.

    Such a picture is equirectangular, or has the circles of two fisheye lenses.
    """
    if not source.is_file() or source.suffix.lower() not in VIDEO_SUFFIXES:
        return False
    if is_spherical(source):
        return True
    with open_video_file(source) as (_, stream):
        size = stream.codec_context.width, stream.codec_context.height
    if size[0] != 2 * size[1]:
        return False
    from stadia.geometry.dual_fisheye import is_dual_fisheye
    from stadia.geometry.panorama import is_panorama

    shown = read_panorama_samples(source)
    return 2 * sum(is_panorama(image) or is_dual_fisheye(image) for image in shown) > len(shown)


def read_panorama_samples(source: Path) -> list[NDArray[np.uint8]]:
    """Return the frames (H, W, 3) at PANORAMA_SHARES of a video."""
    shown = [next(stream_segment(source, share), None) for share in PANORAMA_SHARES]
    return [frame.image for frame in shown if frame is not None]


def open_stream(source: Path, camera: CameraConfig, options: Mapping[str, Any], format: str = "auto") -> FrameStream:
    """Open a video, images, several videos of one place, a ROS bag, or recordings of a dataset.

    source: the file or folder.
    camera: options of the camera.
    options: further fields of `SourceOptions`. The field `frames` counts frames of the whole input, not of each
        recording.
    format: name of the dataset's format, or "auto" to detect it.

    Raises DataError for an unknown input, ConfigError for options that this input does not use.
    """
    chosen = resolve_config(SourceOptions, {**options, "camera": camera})
    if format == "auto" and holds_frames_alone(source):
        clips: list[FrameClip] = [OwnClip.open(source, camera)]
        _refuse_idle_options(chosen)
    else:
        clips = _open_clips(source, camera, options, chosen, format)
    return FrameStream(source, clips, span=chosen.frames)


def _refuse_idle_options(chosen: SourceOptions) -> None:
    idle = SourceOptions.model_fields.keys() - {"camera", "cache", "frames", "recordings"}
    refuse_idle_options(chosen, idle, "the map of your own video")


def _open_clips(
    source: Path, camera: CameraConfig, options: Mapping[str, Any], chosen: SourceOptions, format: str
) -> list[FrameClip]:
    """Open datasets, lists of videos, folders that hold other files too, and inputs of a given format."""
    from stadia.data import DATASETS
    from stadia.data.open_dataset import OWN_FORMATS, VIDEO, detect_format, open_recordings
    from stadia.data.video.video_list import VideoEntry, read_entries, select_entries

    format = detect_format(source, format)
    if format in OWN_FORMATS:
        _refuse_idle_options(chosen)
        entries = [VideoEntry(name="", path=source)]
        if format != VIDEO:
            entries = select_entries(read_entries(source), chosen, source)
        return [OwnClip.open(entry.path, entry.camera or camera, entry.name) for entry in entries]
    every = {"stride": 1} if "stride" in DATASETS.load(format).options else {}
    opened = open_recordings(source, format, **{**every, **options, "camera": camera, "frames": None})
    if len(opened) > 1 and not chosen.recordings:
        fix = f"choose one: data.recordings=[{opened[0].name.rpartition('/')[2]}]"
        expected = "one, or several of one place"
        raise DataError(source, found=f"{len(opened)} recordings", expected=expected, fix=fix)
    return [RecordingClip(recording) for recording in opened]


MIN_FRAMES = 3
"""Fewest frames, and fewest keyframes, of a map."""

MAX_BLANK = 0.8
"""Largest share of a video's frames without detail; with more, no map is made."""


def choose_key_frames(stream: FrameStream, work: Path, track: TrackProgress) -> KeyFrames:
    """Choose the keyframes of an input, and store them in a folder so that a later call reads them.

    stream: the frames.
    work: folder for the result, keys.json.
    track: shows progress.

    Raises DataError for a video that is too short, shows no detail, or comes from a camera that hardly moves.
    """
    keys = _select_key_frames(stream, work, track)
    if (frames := keys.frames - stream.first) < MIN_FRAMES:
        raise stream.make_no_map_error(f"{frames} frames", f"{MIN_FRAMES} or more")
    if len(keys.blank) > MAX_BLANK * frames:
        found = f"{len(keys.blank)} of {frames} frames without detail (sky, blur, darkness)"
        raise stream.make_no_map_error(found, "detail")
    if len(keys.keys) < MIN_FRAMES:
        found = f"images that hardly move ({len(keys.keys)} different views; the camera stands, or they are stabilized)"
        raise stream.make_no_map_error(found, "the images of a moving camera, as filmed")
    return keys


def _select_key_frames(stream: FrameStream, work: Path, track: TrackProgress) -> KeyFrames:
    stored = work / "keys.json"
    if stored.is_file():
        return KeyFrames(**read_json(stored))
    selector = KeyFrameSelector(static=stream.find_static())
    count = stream.count()
    if count is not None and stream.has_several_cameras:  # images of several sizes have no flow between them
        keys = list(range(stream.first, count))
        return KeyFrames(keys, [LOST_MOTION] * len(keys), [1.0] * len(keys), frames=count)
    for frame in track(stream, None if count is None else count - stream.first, "choosing keyframes"):
        selector.add(frame.gray, frame.index)
    found = thin_keys(selector.found)
    write_json(stored, asdict(found))
    return found
