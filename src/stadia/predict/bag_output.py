"""Write depth, camera, camera trajectory and verdict as ROS messages: an .mcap file, or a bag of ROS 1 or 2."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, StadiaError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import SHIFT_FIX
from stadia.core.verdict import Verdict
from stadia.data.formats.ros_bags import NS_PER_S, MessageStamp, RosBag, import_rosbags, load_types, read_stamps
from stadia.data.frame_preparation import PredictedFrame
from stadia.geometry.poses import quaternion_wxyz_from_matrix
from stadia.io.input_files import check_writable
from stadia.predict.run import Session

ROS_AXES = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""(4, 4) transform from the axes of a camera (x right, y down, z forward) to the axes of ROS (x forward, y left, z up;
REP 103).
"""

ODOMETRY_FRAME = "odom"
LEVELS: Mapping[str, int] = {Verdict.USABLE: 0, Verdict.NOT_JUDGED: 1, Verdict.DOUBTFUL: 1, Verdict.UNUSABLE: 2}
"""Level of a diagnostic_msgs/DiagnosticStatus (0 OK, 1 WARN, 2 ERROR) for each verdict on the predictions."""

KINDS = {
    "depth/image": "sensor_msgs/msg/Image",
    "depth/camera_info": "sensor_msgs/msg/CameraInfo",
    "odometry": "nav_msgs/msg/Odometry",
    "tf": "tf2_msgs/msg/TFMessage",
    "diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
GLOBAL_TOPICS = ("tf", "diagnostics")
"""Topics without the camera's namespace; the other topics of KINDS are below it."""


class MessageMaker:
    """Create and serialize ROS messages.

    is_ros1: whether messages are for ROS 1 instead of ROS 2.
    """

    def __init__(self, *, is_ros1: bool) -> None:
        self.is_ros1, self.types = is_ros1, load_types(is_ros1)

    def make(self, kind: str, **fields: Any) -> Any:
        """Create a message of a type such as "sensor_msgs/Image", with these values of its fields."""
        return self.types.types[kind.replace("/", "/msg/")](**fields)

    def serialize(self, message: Any, kind: str) -> bytes:
        """Return the bytes of a message of the type `kind`, such as "sensor_msgs/msg/Image"."""
        return bytes((self.types.serialize_ros1 if self.is_ros1 else self.types.serialize_cdr)(message, kind))

    def header(self, stamp: MessageStamp, frame_id: str | None = None) -> Any:
        """Create a message header.

        stamp: time stamp of the recorded image.
        frame_id: name of the coordinate frame; None takes the recorded image's.
        """
        time = self.make("builtin_interfaces/Time", sec=stamp.sec, nanosec=stamp.nanosec)
        counted = {"seq": 0} if self.is_ros1 else {}
        return self.make("std_msgs/Header", stamp=time, frame_id=frame_id or stamp.frame_id, **counted)

    def depth(self, stamp: MessageStamp, depth: NDArray[np.float32]) -> Any:
        """Create an Image of encoding 32FC1 from depth (H, W), 0 = unknown, which becomes NaN (REP 118)."""
        (height, width), data = depth.shape, np.where(depth > 0, depth, np.nan).astype("<f4").tobytes()
        size = {"height": height, "width": width, "step": 4 * width, "is_bigendian": 0}
        pixels = np.frombuffer(data, np.uint8)
        return self.make("sensor_msgs/Image", header=self.header(stamp), encoding="32FC1", data=pixels, **size)

    def camera_info(self, stamp: MessageStamp, K: NDArray[np.float64], size: tuple[int, int]) -> Any:
        """Create the CameraInfo of undistorted images.

        stamp: time stamp of the image.
        K: (3, 3), pixels.
        size: (height, width), pixels.
        """
        matrices = {"d": np.zeros(5), "k": K.ravel(), "r": np.eye(3).ravel(), "p": np.pad(K, ((0, 0), (0, 1))).ravel()}
        named = {name.upper() if self.is_ros1 else name: values for name, values in matrices.items()}
        region = dict.fromkeys(("x_offset", "y_offset", "height", "width"), 0)
        about = {"height": size[0], "width": size[1], "binning_x": 0, "binning_y": 0, "distortion_model": "plumb_bob"}
        roi = self.make("sensor_msgs/RegionOfInterest", do_rectify=False, **region)
        return self.make("sensor_msgs/CameraInfo", header=self.header(stamp), roi=roi, **about, **named)

    def path(self, stamp: MessageStamp, T_world_camera: NDArray[np.float64]) -> dict[str, Any]:
        """Create the messages of a camera pose, an Odometry and a TFMessage, in the coordinate frame ODOMETRY_FRAME.

        stamp: time stamp of the image.
        T_world_camera: (4, 4) pose, camera to world.
        """
        T = ROS_AXES @ T_world_camera
        w, *turn = quaternion_wxyz_from_matrix(T[:3, :3]).tolist()
        shapes = {"Point": T[:3, 3].tolist(), "Vector3": T[:3, 3].tolist(), "Quaternion": [*turn, w]}
        at, moved, turned = (
            self.make(f"geometry_msgs/{kind}", **dict(zip("xyzw", values, strict=False)))
            for kind, values in shapes.items()
        )
        still = self.make("geometry_msgs/Vector3", x=0.0, y=0.0, z=0.0)
        pose = self.make("geometry_msgs/Pose", position=at, orientation=turned)
        twist = self.make("geometry_msgs/Twist", linear=still, angular=still)
        unknown, frames = np.zeros(36), {"header": self.header(stamp, ODOMETRY_FRAME), "child_frame_id": stamp.frame_id}
        pose = self.make("geometry_msgs/PoseWithCovariance", pose=pose, covariance=unknown)
        twist = self.make("geometry_msgs/TwistWithCovariance", twist=twist, covariance=unknown)
        transform = self.make("geometry_msgs/Transform", translation=moved, rotation=turned)
        stamped = self.make("geometry_msgs/TransformStamped", transform=transform, **frames)
        odometry = self.make("nav_msgs/Odometry", pose=pose, twist=twist, **frames)
        return {"odometry": odometry, "tf": self.make("tf2_msgs/TFMessage", transforms=[stamped])}

    def diagnostics(self, stamp: MessageStamp, name: str, verdict: str, facts: Mapping[str, Any]) -> Any:
        """Create a DiagnosticArray with the verdict on the predictions and the facts behind it.

        stamp: time stamp.
        name: name of the status.
        verdict: usable, not judged, doubtful or unusable.
        facts: values by name.
        """
        values = [self.make("diagnostic_msgs/KeyValue", key=key, value=str(value)) for key, value in facts.items()]
        about = {"level": LEVELS.get(verdict, 1), "name": name, "message": verdict, "hardware_id": ""}
        status = self.make("diagnostic_msgs/DiagnosticStatus", values=values, **about)
        return self.make("diagnostic_msgs/DiagnosticArray", header=self.header(stamp), status=[status])


class BagOutput:
    """Write messages of any number of cameras into an open bag, from `open_bag_output`."""

    def __init__(self, writer: Any, maker: MessageMaker) -> None:
        self.writer, self.maker = writer, maker
        self._connections: dict[str, Any] = {}

    def write(self, topic: str, kind: str, message: Any, log_ns: int) -> None:
        """Write one message.

        topic: name of the topic.
        kind: type of the message, such as "sensor_msgs/msg/Image".
        message: the message.
        log_ns: time at which it counts as recorded, nanoseconds.
        """
        if topic not in self._connections:
            self._connections[topic] = self.writer.add_connection(topic, kind, typestore=self.maker.types)
        self.writer.write(self._connections[topic], log_ns, self.maker.serialize(message, kind))

    def add(self, namespace: str, stamp: MessageStamp, predicted: PredictedFrame) -> None:
        """Write the depth of a frame at the size of its image, its camera, and its pose if it has one.

        namespace: namespace of the camera's topics.
        stamp: time stamp of the recorded image.
        predicted: the frame with its prediction.

        Raises ConfigError for depth with an unknown shift.
        """
        if predicted.depth_scale.is_affine:
            raise ConfigError("bag", found="depth with an unknown shift", expected="depth", fix=SHIFT_FIX)
        K = predicted.frame.K.copy()
        K[:2, 2] += predicted.box.left, predicted.box.top
        messages = {"depth/image": self.maker.depth(stamp, predicted.depth_at_image())}
        messages["depth/camera_info"] = self.maker.camera_info(stamp, K, predicted.image_size)
        if predicted.T_world_camera is not None:
            messages |= self.maker.path(stamp, predicted.T_world_camera)
        for topic, message in messages.items():
            name = f"/{topic}" if topic in GLOBAL_TOPICS else f"/{namespace}/stadia/{topic}".replace("//", "/")
            self.write(name, KINDS[topic], message, stamp.log_ns)

    def judge(self, namespace: str, stamp: MessageStamp, verdict: str, facts: Mapping[str, Any]) -> None:
        """Write the verdict on the predictions of a camera as diagnostics.

        namespace: namespace of the camera's topics; "" for the only camera.
        stamp: time stamp.
        verdict: usable, not judged, doubtful or unusable.
        facts: values by name.
        """
        message = self.maker.diagnostics(stamp, f"stadia: {namespace or 'camera'}", verdict, facts)
        self.write("/diagnostics", KINDS["diagnostics"], message, stamp.log_ns)


@contextmanager
def open_bag_output(path: Path) -> Iterator[BagOutput]:
    """Open a new bag for writing; it appears at `path` only if the block ends without an error.

    path: path with the suffix .mcap or .db3 for ROS 2 (.db3: a folder of this name), or .bag for ROS 1.

    Raises StadiaError if the file exists, ConfigError if the package `rosbags` is not installed.
    """
    rosbag1, rosbag2 = import_rosbags(path)
    if path.exists():
        raise StadiaError(path, found="a file or folder", expected="a new name", fix="choose another --out")
    check_writable(path.parent)
    suffix = path.suffix.lower()
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        target = Path(folder) / path.stem
        storage = rosbag2.StoragePlugin.MCAP if suffix == ".mcap" else rosbag2.StoragePlugin.SQLITE3
        is_ros1 = suffix == ".bag"
        with rosbag1.Writer(target) if is_ros1 else rosbag2.Writer(target, version=9, storage_plugin=storage) as writer:
            yield BagOutput(writer, MessageMaker(is_ros1=is_ros1))
        shutil.move(str(next(target.glob("*.mcap")) if suffix == ".mcap" else target), str(path))


def find_stamps(session: Session) -> tuple[str, Mapping[str, MessageStamp]]:
    """Find the ROS namespace of the camera of a session, and the recorded time stamp of each frame by its name.

    Returns "" and no stamps if the input is not a ROS bag.
    """
    recording, source = session.input.recording, session.source
    if recording is None or source is None or not RosBag().recognizes(source):
        return "", {}
    topic = recording.name.split("/", 2)[2]
    stamps = read_stamps(source, topic)
    names = zip(session.input.names, session.input.indices, strict=True)
    namespace = topic.removesuffix("/compressed").rpartition("/")[0]
    return namespace, {name: stamps[recording.number(index)] for name, index in names}


def predict_to_bag(
    sessions: Sequence[Session], out: Path, track: TrackProgress = no_progress
) -> Iterator[tuple[Session, Mapping[str, Any], int]]:
    """Predict the inputs of sessions into one bag, with the time stamps of the recorded images.

    sessions: the inputs.
    out: path of the new bag.
    track: shows progress.

    Yields each session with the verdict on its predictions (as in predictions.json) and the number of its frames.
    """
    used = set[str]()
    with open_bag_output(out) as bag:
        for session in sessions:
            base, stamps = find_stamps(session)
            namespace, number = base, 1
            while namespace in used:  # topics of one camera, or of none
                number += 1
                namespace = f"{base or 'camera'}_{number}"
            used.add(namespace)
            count, stamp = 0, make_stamp(0.0)
            for predicted in session.frames(track):
                count += 1
                stamp = stamps.get(predicted.frame.name) or make_stamp(predicted.frame.time_s or 0.0)
                bag.add(namespace, stamp, predicted)
            checks = session.gate.to_json()
            facts = {"network": session.network.name, "depth_scale": session.predictor.depth_scale}
            facts["input"] = session.name
            facts |= {f"finding {finding['code']}": finding["measured"] for finding in checks["findings"]}
            if (receipt := session.receipt) is not None:
                facts |= {"scale": f"{receipt.factor:.6g}", "scale_deviation": f"{receipt.deviation:.4f}"}
            bag.judge(namespace, stamp, str(checks["verdict"]), facts)
            yield session, checks, count


def make_stamp(time_s: float) -> MessageStamp:
    """Create the time stamp of a frame from its time in seconds; frames of a video file count from 0."""
    ns = round(time_s * NS_PER_S)
    return MessageStamp(ns // NS_PER_S, ns % NS_PER_S, "camera", ns)
