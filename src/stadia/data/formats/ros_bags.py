"""Read images of ROS 1 bags (.bag) and ROS 2 bags (a folder with metadata.yaml, .mcap, .db3), with `rosbags`.

Each topic of sensor_msgs/Image or CompressedImage is a recording. Its camera is the CameraInfo next to it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, StadiaError, summarize_exception
from stadia.core.types import Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.lens_distortion import DISTORTION_MODELS, DistortedCamera
from stadia.data.open_dataset import DatasetFormat, select_recordings
from stadia.data.video.video_camera import UserCamera, read_user_camera
from stadia.data.video.video_files import FrameSource, open_frames
from stadia.geometry.cameras import Intrinsics, check_K
from stadia.io.image_io import check_pixel_count, decode_image
from stadia.io.input_files import PARSER_ERRORS, check_input_file
from stadia.io.records.formats import EQUIDISTANT, RADTAN
from stadia.io.video_decoding import VideoFrame, hash_video

BAG_SUFFIXES = (".bag", ".mcap", ".db3")
METADATA = "metadata.yaml"
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
TRANSFORMS = "tf2_msgs/msg/TFMessage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
MAX_BAG_BYTES = 1 << 44
NS_PER_S = 1_000_000_000

ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
}
"""Bytes per pixel and OpenCV's color conversion for each encoding of sensor_msgs/Image.

OpenCV names Bayer patterns by the second row and column, ROS by the first.
"""

LENS_MODELS = {"plumb_bob": RADTAN, "rational_polynomial": RADTAN, "equidistant": EQUIDISTANT, "fisheye": EQUIDISTANT}
"""Distortion model as stadia names it, by its name in sensor_msgs/CameraInfo."""

_EXPECTED = "a ROS 1 bag, or a ROS 2 bag (mcap or sqlite3)"
_FIX = "record or copy it again (`rosbag reindex`, `ros2 bag reindex`)"


class RosBag(DatasetFormat):
    """The reader of ROS bags. Each topic of images is a recording."""

    layout = "a .bag of ROS 1, or a .mcap, .db3 or metadata.yaml of ROS 2"
    options = frozenset({"camera", "stride"})
    opens_slowly = True

    def recognizes(self, path: Path) -> bool:
        if path.is_dir():
            return (path / METADATA).is_file() and (any(path.glob("*.mcap*")) or any(path.glob("*.db3*")))
        return path.suffix.lower() in BAG_SUFFIXES

    def find_recordings(self, path: Path) -> dict[str, Path]:
        with open_bag(path) as bag:
            topics = {one.topic.strip("/"): path for one in bag.connections if one.msgtype in IMAGES}
            others = sorted({one.topic for one in bag.connections})
        if not topics:
            found = f"no topic of images, but {', '.join(others[:8]) or 'nothing'}"
            raise DataError(path, found=found, expected=" or ".join(IMAGES), fix="record a topic of images")
        return topics

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        return [open_frames(topic, options, progress) for topic in self._find_topics(path, options)]

    def sample(self, path: Path, options: SourceOptions) -> list[Recording]:
        return [topic.sample(options) for topic in self._find_topics(path, options)]

    def _find_topics(self, path: Path, options: SourceOptions) -> "list[BagTopic]":
        names = select_recordings(list(self.find_recordings(path)), options, path)
        return [BagTopic(f"rosbag/{path.stem}/{name}", path, name) for name in names]


@dataclass(frozen=True)
class BagTopic(FrameSource):
    """The images of one topic of a ROS bag, as a source of video frames.

    topic: name of the topic without its first slash, which is also the name of the recording.
    """

    topic: str

    def hash_content(self) -> str:
        files = [self.path] if self.path.is_file() else sorted(file for file in self.path.iterdir() if file.is_file())
        hashes = [hash_video(file) for file in files]
        return hashlib.blake2b(f"{self.topic} {hashes}".encode(), digest_size=16).hexdigest()

    def stream(self, options: SourceOptions) -> Iterator[VideoFrame]:
        start_s, count = 0.0, 0
        with open_bag(self.path) as bag:
            chosen = _find_connections(bag, self.topic, IMAGES)
            for connection, time_ns, data in bag.messages(connections=chosen):
                what = f"{self.path}, image {count} of /{self.topic}"
                message = deserialize(self.path, connection.msgtype, data)
                stamp = message.header.stamp
                time_s = (stamp.sec * NS_PER_S + stamp.nanosec or time_ns) / NS_PER_S
                start_s = time_s if count == 0 else start_s
                yield VideoFrame(count, time_s - start_s, decode_message(what, message))
                count += 1
            listed = sum(connection.msgcount for connection in chosen)
        if count < max(listed, 1):
            found = f"{count} images of /{self.topic}"
            raise DataError(self.path, found=found, expected=f"{max(listed, 1)}, as in its index", fix=_FIX)

    def estimate_count(self) -> int | None:
        with open_bag(self.path) as bag:
            return sum(connection.msgcount for connection in _find_connections(bag, self.topic, IMAGES))

    def describe_lens(self, options: SourceOptions) -> tuple[str, ...]:
        return (options.camera.model_dump_json(),)

    def read_camera(self, options: SourceOptions, height: int, width: int, frames: int | None = None) -> UserCamera:
        if options.camera.is_given:
            return read_user_camera(options.camera, self.path, height, width, frames)
        info = self._read_camera_info()
        info_topic = find_info_topic(self.topic)
        if (info.height, info.width) != (height, width):
            found_size = f"images of {width}x{height} of /{self.topic}"
            expected = f"{info.width}x{info.height}, as in /{info_topic}"
            raise DataError(self.path, found=found_size, expected=expected, fix="give the camera with data.camera")
        what = f"{self.path} /{info_topic}"
        if "image_rect" in self.topic:
            P = _read_matrix(what, info, "P", (3, 4))
            return UserCamera(Intrinsics(check_K(what, P[:, :3]), height, width))
        K = check_K(what, _read_matrix(what, info, "K", (3, 3)))
        lens = _read_lens(what, info, K)
        if lens is None or not options.camera.undistort:
            return UserCamera(Intrinsics(K, height, width))
        return UserCamera.of_lens(lens, what)

    def _read_camera_info(self) -> Any:
        info_topic = find_info_topic(self.topic)
        with open_bag(self.path) as bag:
            infos = _find_connections(bag, info_topic, (CAMERA_INFO,))
            found = next(iter(bag.messages(connections=infos)), None) if infos else None
        if found is None:
            fix = "record it, or give the camera with data.camera.K_file, .focal_px or .horizontal_fov_deg"
            raise DataError(self.path, found=f"no message of /{info_topic}", expected=CAMERA_INFO, fix=fix)
        return deserialize(self.path, CAMERA_INFO, found[2])


def _read_matrix(what: str, info: Any, name: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return a matrix of a CameraInfo: upper-case names in ROS 1, lower-case in ROS 2."""
    values = np.array(getattr(info, name, None) if hasattr(info, name) else getattr(info, name.lower()), np.float64)
    if values.size != shape[0] * shape[1]:
        found = f"{name} of {values.size} numbers"
        raise DataError(what, found=found, expected=f"{shape[0] * shape[1]} numbers", fix=_FIX)
    return values.reshape(shape)


def _read_lens(what: str, info: Any, K: NDArray[np.float64]) -> DistortedCamera | None:
    coefficients = np.array(info.D if hasattr(info, "D") else info.d, np.float64)
    if not np.abs(coefficients).max(initial=0) > 0:
        return None
    name = LENS_MODELS.get(info.distortion_model)
    if name is None or len(coefficients) not in DISTORTION_MODELS[name].counts or not np.isfinite(coefficients).all():
        found = f"{len(coefficients)} coefficients of '{info.distortion_model[:40]}'"
        fix = "use rectified images, or data.camera with data.camera.undistort=false"
        raise DataError(what, found=found, expected=f"one of {', '.join(LENS_MODELS)}", fix=fix)
    return DistortedCamera(K, name, coefficients, info.height, info.width)


def _find_connections(bag: Any, topic: str, kinds: Sequence[str]) -> list[Any]:
    return [one for one in bag.connections if one.topic.strip("/") == topic and one.msgtype in kinds]


def find_info_topic(topic: str) -> str:
    """Return the topic that has the camera (CameraInfo) of an image topic, as image_transport names it.

    Examples:
        >>> find_info_topic("front/image_raw"), find_info_topic("front/image_rect/compressed")
        ('front/camera_info', 'front/camera_info')
    """
    parts = topic.split("/")
    if parts[-1] == "compressed":
        parts = parts[:-1]
    return "/".join([*parts[:-1], "camera_info"])


def import_rosbags(path: Path) -> tuple[Any, Any]:
    """Return the modules of the Python package `rosbags` that read bags of ROS 1 and of ROS 2.

    path: the bag that an error message names.

    Raises ConfigError if `rosbags` is not installed.
    """
    try:
        from rosbags import rosbag1, rosbag2
    except ImportError as error:
        expected = "the package rosbags"
        raise ConfigError(path, found="a ROS bag", expected=expected, fix="pip install 'stadia[ros]'") from error
    return rosbag1, rosbag2


@contextmanager
def open_bag(path: Path) -> Iterator[Any]:
    """Open a ROS 1 or ROS 2 bag for the duration of a `with` block, and yield the reader of the Python package
    `rosbags`.

    path: a .bag, .mcap or .db3 file, or the folder of a ROS 2 bag.

    Raises DataError for a damaged bag, and ConfigError if `rosbags` is not installed.
    """
    rosbag1, rosbag2 = import_rosbags(path)
    if path.is_file():
        check_input_file(path, expected=_EXPECTED, max_bytes=MAX_BAG_BYTES)
    reader = rosbag1.Reader if path.suffix.lower() == ".bag" else rosbag2.Reader
    try:
        with reader(path) as bag:
            yield bag
    except StadiaError:
        raise
    except Exception as error:  # rosbags passes on errors of decompressors and SQLite
        found = f"a damaged bag ({summarize_exception(error)})"
        raise DataError(path, found=found, expected=_EXPECTED, fix=_FIX) from error


@cache
def load_types(is_ros1: bool) -> Any:
    """Return the definitions of the message types of ROS 1 (Noetic) if `is_ros1`, otherwise of ROS 2 (Humble)."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    types = get_typestore(Stores.ROS1_NOETIC if is_ros1 else Stores.ROS2_HUMBLE)
    if TRANSFORMS not in types.types:
        types.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TRANSFORMS))
    return types


def deserialize(path: Path, kind: str, data: bytes) -> Any:
    """Convert the bytes of a message to a message object.

    path: the bag, whose suffix distinguishes ROS 1 and ROS 2.
    kind: type of the message, such as sensor_msgs/msg/Image.
    data: its bytes.

    Raises DataError for damaged bytes.
    """
    from rosbags.serde import SerdeError

    is_ros1 = path.suffix.lower() == ".bag"
    types = load_types(is_ros1)
    try:
        return types.deserialize_ros1(data, kind) if is_ros1 else types.deserialize_cdr(data, kind)
    except (SerdeError, *PARSER_ERRORS) as error:
        found = f"a damaged message ({summarize_exception(error)})"
        raise DataError(path, found=found, expected=kind, fix=_FIX) from error


@dataclass(frozen=True)
class MessageStamp:
    """Time and coordinate frame in the header of a message, as recorded.

    sec, nanosec: time of the header: seconds and nanoseconds.
    frame_id: name of the sensor's coordinate frame.
    log_ns: time in nanoseconds at which the bag received the message.
    """

    sec: int
    nanosec: int
    frame_id: str
    log_ns: int


def read_stamps(path: Path, topic: str) -> list[MessageStamp]:
    """Return the header times of all images of a topic of a bag, in order.

    path: the bag.
    topic: the topic without its first slash.

    Raises DataError for a damaged bag.
    """
    stamps = list[MessageStamp]()
    with open_bag(path) as bag:
        for connection, time_ns, data in bag.messages(connections=_find_connections(bag, topic, IMAGES)):
            header = deserialize(path, connection.msgtype, data).header
            stamps.append(MessageStamp(header.stamp.sec, header.stamp.nanosec, header.frame_id, time_ns))
    return stamps


def decode_message(what: object, message: Any) -> NDArray[np.uint8]:
    """Convert a message of sensor_msgs/Image or CompressedImage to an image (H, W, 3) uint8 RGB.

    what: what the image is, for messages.
    message: the message object.

    Raises DataError for an unknown encoding or a damaged image.
    """
    if not hasattr(message, "encoding"):
        image = decode_image(what, bytes(message.data), cv2.IMREAD_COLOR)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    known = ENCODINGS.get(message.encoding)
    if known is None:
        expected = f"one of {', '.join(ENCODINGS)}"
        fix = "convert it with image_proc, or choose another topic with data.recordings"
        raise DataError(what, found=f"the encoding '{message.encoding[:40]}'", expected=expected, fix=fix)
    channels, conversion = known
    height, width, step = message.height, message.width, message.step
    check_pixel_count(what, width, height)
    if not (height and width) or step < channels * width or len(message.data) != height * step:
        found = f"{len(message.data)} bytes for {width}x{height} with rows of {step}"
        raise DataError(what, found=found, expected=f"{message.encoding}, {channels} bytes per pixel", fix=_FIX)
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, : channels * width]
    image = np.ascontiguousarray(rows.reshape(height, width, channels) if channels > 1 else rows)
    return image if conversion is None else np.asarray(cv2.cvtColor(image, conversion), np.uint8)
