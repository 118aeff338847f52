"""Recordings with cameras, poses and image files; views of recordings (frame ranges, crops); and summaries."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.core.types import LEFT, RIGHT, Camera, Recording, RoadMasks
from stadia.data.frame_selection import FrameSelection
from stadia.data.video.map_geometry import MapGeometry
from stadia.geometry.cameras import CropWindow, Intrinsics, crop_camera, crop_window
from stadia.geometry.poses import invert_pose
from stadia.io import image_files
from stadia.io.image_io import MAX_IMAGE_BYTES
from stadia.io.input_files import read_bytes

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


class ImageRemap(Protocol):
    """The interface of functions that change images when they are read, like `lens_distortion.Undistortion`."""

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the remapped image, of the same size."""

    def parameters(self) -> bytes:
        """Return bytes that determine how images are changed, as a key of caches."""


@dataclass(frozen=True)
class FrameCrop:
    """The window of video frames that shows the picture without black bars.

    window: the window.
    height, width: size of the whole frames in pixels.
    """

    window: CropWindow
    height: int
    width: int

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the picture without black bars out of a video frame (H, W, ...)."""
        return np.ascontiguousarray(self.window.cut(image))

    def __str__(self) -> str:
        return f"{self.window.width}x{self.window.height} of {self.width}x{self.height}"


@dataclass(kw_only=True, eq=False, repr=False)
class CalibratedRecording(Recording):
    """A recording with cameras, and optional poses and times. Subclasses add images and depth.

    name: unique and stable name, such as "kitti_odometry/06".
    intrinsics: K and image size by side ("left" or "right").
    T_right_left: (4, 4) motion from the left to the right camera's coordinate frame in metres, or None.
    numbers: the number of each video frame in its source; None if no frames were left out.
    poses: (N, 4, 4) T_world_camera of the left camera; NaN for frames without a pose; None without poses.
    times_s: (N,) times in seconds, or None.
    selection: which frames of the source were kept; None if every frame is kept.
    filmed_size: (height, width) of the frames before they were resized for storing; None if they were not.
    place: name that recordings share if they may show the same things; "" if no other recording shows them.
    geometry: the map that `poses` come from, if any.
    is_scene: whether `poses` have the arbitrary unit of a reconstructed scene.
    """

    name: str
    intrinsics: Mapping[str, Intrinsics]
    T_right_left: NDArray[np.float64] | None = None
    numbers: Sequence[int] | None = None
    poses: NDArray[np.float64] | None = None
    times_s: NDArray[np.float64] | None = None
    selection: FrameSelection | None = None
    filmed_size: tuple[int, int] | None = None
    place: str = ""
    geometry: MapGeometry | None = None
    is_scene: bool = False
    sides: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.sides = tuple(self.intrinsics)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} frames, {' and '.join(self.sides)})"

    @property
    def session(self) -> str:
        return self.place or self.name

    @property
    def has_metric_poses(self) -> bool:  # type: ignore[override]
        """Return whether the poses are measured in metres."""
        return self.geometry is None and not self.is_scene

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return self.intrinsics[side].make_camera(index)

    def filmed_camera(self, index: int, side: str = LEFT) -> Camera:
        stored = self.intrinsics[side]
        return (stored if self.filmed_size is None else stored.resized(*self.filmed_size)).make_camera(index)

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        """Return the K (3, 3) of a frame without importing torch."""
        return self.intrinsics[side].select_K(index)

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        """Return the camera-to-world pose (4, 4) of a frame, or None if it is unknown."""
        if self.poses is None or not np.isfinite(self.poses[index]).all():
            return None
        if side == RIGHT and self.T_right_left is not None:
            return self.poses[index] @ invert_pose(self.T_right_left)
        return self.poses[index]

    def map_points(self, index: int) -> NDArray[np.float64] | None:
        """Return the map points (M, 3) that a video frame sees; None without a map.

        x and y are in pixels, z is in the unit of the poses.
        """
        if self._trained_points is None:
            return None
        inside, K = self._trained_points.points_in_camera(index), self.K(index)
        return np.column_stack((inside[:, :2] / inside[:, 2:] * (K[0, 0], K[1, 1]) + K[:2, 2], inside[:, 2]))

    def map_movable(self, index: int) -> NDArray[np.bool_] | None:
        """Return a mask (H, W) bool of what can move in a video frame, according to the map; None without masks."""
        if self.geometry is None or (movable := self.geometry.movable) is None:
            return None

        height, width = self.intrinsics[LEFT].height, self.intrinsics[LEFT].width
        small = np.unpackbits(np.asarray(movable.read(min(self.number(index), len(movable) - 1)), np.uint8), axis=1)
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), bool)

    @cached_property
    def _trained_points(self) -> MapGeometry | None:
        return None if self.geometry is None else self.geometry.select_points(is_held_out=False)

    def map_neighbor(self, index: int, offset: int) -> int | None:
        if self.geometry is None:
            return super().map_neighbor(index, offset)
        return self.geometry.find_neighbor(index, offset)

    def map_road(self) -> NDArray[np.float64] | None:
        """Return the road plane (4,) in the camera's coordinate frame; None if it is unknown.

        It consists of the unit normal and the camera height.
        """
        return None if self.geometry is None else self.geometry.road

    def number(self, index: int) -> int:
        return index if self.numbers is None else self.numbers[index]

    def timestamp_s(self, index: int) -> float | None:
        return None if self.times_s is None else float(self.times_s[index])


@dataclass(kw_only=True, eq=False, repr=False)
class ImageRecording(CalibratedRecording):
    """A recording whose frames are image files. Readers of datasets with depth derive from it.

    images: image files of each side ("left", "right").
    undistortion: removes the lens distortion of all images; None for a pinhole camera.
    crop: cuts black bars off the images; None without bars.
    pairs_by_name: whether the left and right image of a stereo pair must have the same name. Otherwise they are paired
        by time.
    size_origin: origin of the image size, which an error message names.
    """

    images: Mapping[str, Sequence[Path]]
    undistortion: ImageRemap | None = None
    crop: FrameCrop | None = None
    pairs_by_name: ClassVar[bool] = True
    size_origin: ClassVar[str] = "the camera of its recording"

    def __post_init__(self) -> None:
        super().__post_init__()
        for left, right in zip_longest(self.images[LEFT], self.images.get(RIGHT, self.images[LEFT])):
            if left is None or right is None or (self.pairs_by_name and left.stem != right.stem):
                found, fix = "no image of the same name on the other side", "copy the missing image or remove this one"
                raise DataError(left or right, found=found, expected="pairs", fix=fix)

    def __len__(self) -> int:
        return len(self.images[LEFT])

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) RGB of a frame. Raises DataError if its size differs from its camera's."""
        path = self.images[side][index]
        image, size = image_files.read_rgb(path), self.intrinsics[side] if self.crop is None else self.crop
        if image.shape[:2] != (size.height, size.width):
            found, expected = f"{image.shape[1]}x{image.shape[0]}", f"{size.width}x{size.height}"
            raise image_files.ImageSizeError(
                path,
                found=f"{found}{image_files.describe_other_sizes(self.images[side], (size.width, size.height))}",
                expected=f"{expected} of {self.size_origin}",
                fix=image_files.fix_image_size((image.shape[1], image.shape[0]), (size.width, size.height)),
            )
        image = image if self.crop is None else self.crop.cut(image)
        return image if self.undistortion is None else self.undistortion(image)

    def file(self, index: int, side: str = LEFT) -> Path | None:
        return self.images[side][index]

    def read_depth(
        self, path: Path, side: str, *, units_per_metre: float, invalid: Iterable[int] = (0,)
    ) -> NDArray[np.float32] | None:
        """Read depth (H, W) in metres from a uint16 PNG, 0 where unknown; None without the file.

        path: the file.
        side: "left" or "right": the camera whose image size the map must have.
        units_per_metre: integers per metre in the file.
        invalid: integers that mean unknown depth.

        Raises DataError for a file of a different kind or size.
        """
        if not path.exists():
            image_files.refuse_jpeg_depth(path)
            return None
        size = self.intrinsics[side]
        depth_m = image_files.read_depth_png(path, units_per_metre=units_per_metre, invalid=invalid)
        return image_files.check_depth_map(path, depth_m, size.height, size.width)

    def select_frames(self, kept: Sequence[int], selection: FrameSelection | None = None) -> Self:
        """Return the recording with only the video frames of these indices, in this order.

        kept: indices of the frames.
        selection: how they were selected, for reports; or None.
        """
        return replace(
            self,
            images={side: [files[index] for index in kept] for side, files in self.images.items()},
            intrinsics={side: intrinsics.select_frames(kept) for side, intrinsics in self.intrinsics.items()},
            numbers=[self.number(index) for index in kept],
            poses=None if self.poses is None else self.poses[list(kept)],
            times_s=None if self.times_s is None else self.times_s[list(kept)],
            geometry=None if self.geometry is None else self.geometry.select_frames(kept),
            selection=selection,
        )

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for side, files in self.images.items():
            for path in files:
                digest.update(image_files.encode_name(f"{side}/{path.name}:{image_files.count_image_bytes(path)}\n"))
            for index in sorted({0, len(files) // 2, len(files) - 1}):
                digest.update(read_bytes(files[index], expected="an image", max_bytes=MAX_IMAGE_BYTES))
            digest.update(self.intrinsics[side].K.tobytes())
        if self.undistortion is not None:
            digest.update(self.undistortion.parameters())
        if self.crop is not None:
            digest.update(repr(self.crop).encode())
        if self.T_right_left is not None:
            digest.update(self.T_right_left.tobytes())
        return digest.hexdigest()


def _of_frame(method: MethodT) -> MethodT:
    """Return a view's method that calls the recording's, with the index of the frame there."""
    name = method.__name__

    def read(view: RecordingView, index: int, *more: Any, **named: Any) -> Any:
        return getattr(view.recording, name)(view.source_index(index), *more, **named)

    return functools.wraps(method, updated=())(read)  # type: ignore[return-value]  # without the abstract mark


def _of_recording(name: str) -> Any:
    """Return a view's property that reads and sets the recording's attribute."""

    def read(view: RecordingView) -> Any:
        return getattr(view.recording, name)

    def write(view: RecordingView, value: Any) -> None:
        setattr(view.recording, name, value)

    return property(read, write)


class RecordingView(Recording):
    """A recording that reads its frames from an underlying recording. Subclasses change some of the results."""

    session = _of_recording("session")
    video_hash = _of_recording("video_hash")
    has_metric_poses = _of_recording("has_metric_poses")
    has_metric_depth = _of_recording("has_metric_depth")
    has_stride = _of_recording("has_stride")
    mask_reader = _of_recording("mask_reader")

    image = _of_frame(Recording.image)
    camera = _of_frame(Recording.camera)
    filmed_camera = _of_frame(Recording.filmed_camera)
    depth_m = _of_frame(Recording.depth_m)
    depth_files = _of_frame(Recording.depth_files)
    depth_kind = _of_frame(Recording.depth_kind)
    masks = _of_frame(Recording.masks)
    T_world_camera = _of_frame(Recording.T_world_camera)
    map_points = _of_frame(Recording.map_points)
    map_movable = _of_frame(Recording.map_movable)
    timestamp_s = _of_frame(Recording.timestamp_s)
    number = _of_frame(Recording.number)
    file = _of_frame(Recording.file)
    shard_of = _of_frame(Recording.shard_of)
    prefetch = _of_frame(Recording.prefetch)

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.name, self.sides, self.T_right_left = recording.name, recording.sides, recording.T_right_left
        self.mount, self.is_part = recording.mount, recording.is_part
        self.is_streamed = recording.is_streamed

    def source_index(self, index: int) -> int:
        """Return the index in the underlying recording of the video frame with this index."""
        return index

    def __len__(self) -> int:
        return len(self.recording)

    def ignored(self, side: str = LEFT) -> NDArray[np.bool_] | None:
        """Return the region (H, W) bool of all images that losses and scores ignore, or None."""
        return self.recording.ignored(side)

    def map_neighbor(self, index: int, offset: int) -> int | None:
        start = self.source_index(index) - index
        found = self.recording.map_neighbor(self.source_index(index), offset)
        return found - start if found is not None and 0 <= found - start < len(self) else None

    def map_road(self) -> NDArray[np.float64] | None:
        """Return the road plane (4,) in the camera's coordinate frame; None if it is unknown.

        It consists of the unit normal and the camera height.
        """
        return self.recording.map_road()


class FrameRange(RecordingView):
    """The video frames [start, stop) of a recording, as a recording. Raises DataError if the recording is shorter."""

    def __init__(self, recording: Recording, start: int, stop: int) -> None:
        super().__init__(recording)
        self.start, self.stop = start, stop
        if stop > len(recording):
            found, expected = f"{len(recording)} frames", f"frames {start} to {stop}"
            raise DataError(
                recording.name,
                found=found,
                expected=expected,
                fix=f"choose frames that the recording has, such as data.frames=[0,{len(recording)}]",
            )

    def __len__(self) -> int:
        return self.stop - self.start

    def source_index(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.start + index

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        """Return the K (3, 3) of a frame."""
        return self.recording.K(self.source_index(index), side)

    def fingerprint(self) -> str:
        return f"{self.recording.fingerprint()}[{self.start}:{self.stop}]"


class CroppedRecording(RecordingView):
    """A recording whose images, depth and cameras are cropped to a window.

    recording: the whole recording.
    crop: name of the crop in `geometry.cameras.IMAGE_CROPS`.

    Raises DataError if the images are smaller than the crop.
    """

    def __init__(self, recording: Recording, crop: str) -> None:
        super().__init__(recording)
        self.crop = crop
        if len(recording):
            self._box(0, LEFT)

    def _box(self, index: int, side: str) -> CropWindow:
        camera = self.recording.camera(index, side)
        try:
            return crop_window(self.crop, camera.height, camera.width)
        except GeometryError as error:
            filmed, found = self.recording.filmed_camera(index, side), error.found
            fix = "use larger images, or data.crop=none"
            if (filmed.height, filmed.width) != (camera.height, camera.width):
                found = f"{self.crop}, but frames stored at {camera.width}x{camera.height} (data.size)"
                fix = f"store them as filmed: data.size=[{filmed.height},{filmed.width}], or use data.crop=none"
            raise DataError(f"{self.name}, data.crop", found=found, expected=error.expected, fix=fix) from error

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        masks, box = self.recording.masks(index, side), self._box(index, side)
        return None if masks is None else RoadMasks(box.cut(masks.semantic), box.cut(masks.instance))

    def ignored(self, side: str = LEFT) -> NDArray[np.bool_] | None:
        """Return the ignored region (H, W) of the cropped images, or None."""
        region = self.recording.ignored(side)
        return None if region is None else np.ascontiguousarray(self._box(0, side).cut(region))

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return the cropped image (H, W, 3) of a frame."""
        return np.ascontiguousarray(self._box(index, side).cut(self.recording.image(index, side)))

    def camera(self, index: int, side: str = LEFT) -> Camera:
        box = self._box(index, side)
        return crop_camera(self.recording.camera(index, side), box.left, box.top, box.height, box.width)

    def filmed_camera(self, index: int, side: str = LEFT) -> Camera:
        return self.camera(index, side)

    def map_points(self, index: int) -> NDArray[np.float64] | None:
        """Return the map points (M, 3) of a frame with x and y in pixels of the cropped image, or None."""
        points, box = self.recording.map_points(index), self._box(index, LEFT)
        return None if points is None else points - (box.left, box.top, 0)

    def map_movable(self, index: int) -> NDArray[np.bool_] | None:
        """Return a mask (H, W) bool of what can move in a cropped video frame; None without such masks."""
        movable = self.recording.map_movable(index)
        return None if movable is None else np.ascontiguousarray(self._box(index, LEFT).cut(movable))

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the cropped depth (H, W) in metres of a frame, or None."""
        depth_m = self.recording.depth_m(index, side)
        return None if depth_m is None else np.ascontiguousarray(self._box(index, side).cut(depth_m))

    def fingerprint(self) -> str:
        return f"{self.recording.fingerprint()}[{self.crop}]"


def crop_recording(recording: Recording, crop: str) -> Recording:
    """Return the recording with cropped images.

    crop: name of the crop in `geometry.cameras.IMAGE_CROPS`; "none" returns the recording itself.
    """
    return recording if crop == "none" else CroppedRecording(recording, crop)


# -- one line about what was read, which shows a wrong camera or rig before a training


MAX_SUMMARY_LINES = 8

MAX_UNNAMED_STRETCH = 1.5
"""Largest change of the shape of images by resizing that the line does not name."""


def summarize_recordings(recordings: Sequence[Recording]) -> list[str]:
    """Return lines like `read: 51 frames 1226x370, fx 707.1 px (81.9 degrees), one camera, poses, no ground truth`."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        if len(recording):
            groups.setdefault(_describe_properties(recording), []).append(recording)
    lines = []
    for properties, members in groups.items():
        count = f"{len(members)} recordings, " if len(members) > 1 else ""
        lines.append(f"read: {count}{sum(map(len, members))} frames {properties}")
    if len(lines) > MAX_SUMMARY_LINES:
        rest = list(groups.values())[MAX_SUMMARY_LINES:]
        recordings_left = sum(map(len, rest))
        frames = sum(len(recording) for members in rest for recording in members)
        lines[MAX_SUMMARY_LINES:] = [f"read: {recordings_left} more recordings, {frames} frames, of other cameras"]
    return lines


def _describe_properties(recording: Recording) -> str:
    parts = []
    for describe in (_describe_camera, _describe_rig, _describe_poses, _describe_ground_truth, _describe_ignored):
        with contextlib.suppress(Exception):  # a user's recording may raise anything
            parts += [text] if (text := describe(recording)) else []
    selection = getattr(recording, "selection", None)
    if unpaired := getattr(selection, "unpaired", 0):
        parts.append(f"{unpaired} left images without a right one left out")
    if missing := getattr(recording, "missing", ""):
        parts.append(missing)
    return ", ".join(parts)


def _describe_camera(recording: Recording) -> str:
    camera = recording.camera(0, LEFT)
    fx = float(camera.K[0, 0])
    angle_deg = math.degrees(2 * math.atan(camera.width / (2 * fx)))
    text = f"{camera.width}x{camera.height}, fx {fx:.1f} px ({angle_deg:.1f} degrees)"
    stretch = fx / float(camera.K[1, 1])
    if 1 / MAX_UNNAMED_STRETCH < stretch < MAX_UNNAMED_STRETCH:
        return text
    sides = camera.height * math.sqrt(stretch), camera.width / math.sqrt(stretch)
    height, width = (max(round(side / 32), 1) * 32 for side in sides)
    return f"{text}, {stretch:.1f} times as wide as filmed (data.height={height} data.width={width} keep the shape)"


def _describe_rig(recording: Recording) -> str:
    if RIGHT not in recording.sides:
        return "one camera"
    if recording.T_right_left is None:
        return "two cameras without a baseline"
    return f"stereo baseline {math.hypot(*map(float, recording.T_right_left[:3, 3])):.3f} m"


def _describe_ignored(recording: Recording) -> str:
    region = recording.ignored()
    return "" if region is None or not region.any() else f"{region.mean():.1%} of the image ignored"


COUNTED_FRAMES = 300  # frames, spread over a recording, in which poses and depth are counted


def _describe_poses(recording: Recording) -> str:
    return _describe_share(recording, "poses", lambda i: recording.T_world_camera(i, LEFT) is not None)


def _describe_ground_truth(recording: Recording) -> str:
    if recording.depth_files(0, LEFT):
        return _describe_share(recording, "ground truth", lambda i: _has_file(recording.depth_files(i, LEFT)))
    places = sorted({0, len(recording) // 2, len(recording) - 1})
    has_depth = any(recording.depth_m(i, LEFT) is not None for i in places)
    return "ground truth" if has_depth else "no ground truth"


def _has_file(files: Iterable[Path]) -> bool:
    return any(os.path.exists(file) for file in files)  # noqa: PTH110 - thousands of files


def _describe_share(recording: Recording, what: str, has: Callable[[int], bool]) -> str:
    counted = np.unique(np.linspace(0, len(recording) - 1, min(len(recording), COUNTED_FRAMES)).astype(int)).tolist()
    count = sum(map(has, counted))
    if count in (0, len(counted)):
        return what if count else f"no {what}"
    sampled = "" if len(counted) == len(recording) else "sampled "
    return f"{what} of {count} of {len(counted)} {sampled}frames"
