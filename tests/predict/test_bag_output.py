"""Bags in, bags out: depth, camera, path and verdict with the stamps that were recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.data.formats.ros_bags import MessageStamp, open_bag
from stadia.data.frame_preparation import Frame, PredictedFrame
from stadia.data.open_dataset import open_recordings
from stadia.evaluation.predictions_folder import Predictions
from stadia.geometry.cameras import CropWindow
from stadia.geometry.poses import matrix_from_quaternion_wxyz
from stadia.io.records.read import read_kitti_trajectory
from stadia.predict import bag_output
from stadia.predict.bag_output import ROS_AXES, MessageMaker, open_bag_output

Stadia = Callable[..., tuple[int, str, str]]
FRAMES, SIZE = 4, (416, 128)


@dataclass(frozen=True)
class Written:
    bag: Path
    stamps: list[MessageStamp]


def write_bag(
    path: Path, real_data: Path, *, namespaces: tuple[str, ...] = ("cam0",), compressed: bool = False
) -> Written:
    """A bag of the first images of KITTI 06, small, with stamps that are not those of the log."""
    (recording,) = open_recordings(real_data / "kitti_odometry", "kitti_odometry")
    K = recording.K(0) * np.array([[SIZE[0] / 1226], [SIZE[1] / 370], [1]])
    stamps = [
        MessageStamp(1_700_000_000 + row // 3, 123 + 300_000_000 * (row % 3), "cam0_optical", 10**18 + row)
        for row in range(FRAMES)
    ]
    with open_bag_output(path) as out:
        maker = out.maker
        for row, stamp in enumerate(stamps):
            image = cv2.resize(recording.image(2 * row), SIZE, interpolation=cv2.INTER_AREA)
            for namespace in namespaces:
                kind = "sensor_msgs/msg/CompressedImage" if compressed else "sensor_msgs/msg/Image"
                if compressed:
                    data = cv2.imencode(".png", image[..., ::-1])[1].ravel()
                    message = maker.make(
                        kind.replace("/msg/", "/"), header=maker.header(stamp), format="png", data=data
                    )
                else:
                    about = {"height": SIZE[1], "width": SIZE[0], "encoding": "rgb8", "is_bigendian": 0}
                    header, data = maker.header(stamp), image.ravel()
                    message = maker.make(
                        kind.replace("/msg/", "/"), header=header, step=3 * SIZE[0], data=data, **about
                    )
                topic = f"/{namespace}/image_raw" + "/compressed" * compressed
                out.write(topic, kind, message, stamp.log_ns)
                out.write(
                    f"/{namespace}/camera_info",
                    "sensor_msgs/msg/CameraInfo",
                    maker.camera_info(stamp, K, SIZE[::-1]),
                    stamp.log_ns,
                )
    return Written(path, stamps)


def read_messages(path: Path) -> dict[str, list[tuple[int, object]]]:
    types, is_ros1 = MessageMaker(is_ros1=path.suffix == ".bag").types, path.suffix == ".bag"
    found: dict[str, list[tuple[int, object]]] = {}
    with open_bag(path) as bag:
        for connection, log_ns, data in bag.messages():
            message = (types.deserialize_ros1 if is_ros1 else types.deserialize_cdr)(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((log_ns, message))
    return found


def pose_of(odometry: object) -> NDArray[np.float64]:
    pose = odometry.pose.pose  # type: ignore[attr-defined]
    import torch

    q = torch.tensor(
        [[pose.orientation.w, pose.orientation.x, pose.orientation.y, pose.orientation.z]], dtype=torch.float64
    )
    T = np.eye(4)
    T[:3, :3] = matrix_from_quaternion_wxyz(q)[0].numpy()
    T[:3, 3] = pose.position.x, pose.position.y, pose.position.z
    return np.asarray(np.linalg.inv(ROS_AXES) @ T)


@pytest.mark.slow
def test_depth_path_and_stamps_of_a_bag_equal_those_of_the_commands(
    real_data: Path, tmp_path: Path, stadia: Stadia
) -> None:
    written = write_bag(tmp_path / "in.mcap", real_data)
    assert stadia("predict", "base", written.bag, "--out", tmp_path / "out.mcap")[0] == 0
    assert stadia("predict", "base", written.bag, "--out", tmp_path / "folder", "--no-video", "--no-cloud")[0] == 0
    assert stadia("odometry", "base", written.bag, "--out", tmp_path / "path", "--method", "aligned")[0] == 0
    messages = read_messages(tmp_path / "out.mcap")
    images, infos = messages["/cam0/stadia/depth/image"], messages["/cam0/stadia/depth/camera_info"]
    predictions = Predictions.open(tmp_path / "folder")
    for stamp, name, (log_ns, image), (_, info) in zip(written.stamps, predictions.files, images, infos, strict=True):
        for header in (image.header, info.header):  # type: ignore[attr-defined]
            assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (
                stamp.sec,
                stamp.nanosec,
                stamp.frame_id,
            )
        assert log_ns == stamp.log_ns
        depth = np.frombuffer(bytes(image.data), "<f4").reshape(image.height, image.width)  # type: ignore[attr-defined]
        np.testing.assert_allclose(1 / depth, cv2.resize(1 / predictions.read(name), SIZE), rtol=1e-4)
        assert (info.width, info.height) == SIZE  # type: ignore[attr-defined]
    path = read_kitti_trajectory(tmp_path / "path" / "trajectory.txt").T_world_camera
    found = np.array([pose_of(message) for _, message in messages["/cam0/stadia/odometry"]])
    np.testing.assert_allclose(found, path, atol=1e-6)
    transforms = [message.transforms[0] for _, message in messages["/tf"]]  # type: ignore[attr-defined]
    assert {one.child_frame_id for one in transforms} == {"cam0_optical"}
    ((_, verdict),) = messages["/diagnostics"]
    facts = {one.key: one.value for one in verdict.status[0].values}  # type: ignore[attr-defined]
    assert facts["network"] == "base"
    assert facts["depth_scale"] == "metres"
    check_with_mcap(tmp_path / "out.mcap", written)


def check_with_mcap(path: Path, written: Written) -> None:
    """Read the depth of a bag with the reader of the package mcap."""
    reader = pytest.importorskip("mcap.reader")
    with path.open("rb") as stream:
        opened = reader.make_reader(stream)
        counts = {channel.topic: 0 for channel in opened.get_summary().channels.values()}
        times = []
        for schema, channel, message in opened.iter_messages():
            counts[channel.topic] += 1
            times += [message.log_time] if channel.topic.endswith("depth/image") else []
            assert schema.encoding == "ros2msg"
    assert counts["/cam0/stadia/depth/image"] == FRAMES
    assert times == [stamp.log_ns for stamp in written.stamps]


def test_each_topic_of_a_camera_has_its_own_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, box = Frame("0", np.zeros((4, 6, 3), np.uint8), np.eye(3)), CropWindow(0, 0, 4, 6)
    metres = PredictedFrame(frame, DepthScale.METRES, np.ones((4, 6), np.float32), np.eye(3), None, (4, 6), box)
    session = MagicMock(receipt=None, **{"frames.return_value": [metres]})
    monkeypatch.setattr(bag_output, "find_stamps", lambda session: ("cam0", {}))
    assert len(list(bag_output.predict_to_bag([session] * 2, tmp_path / "out.mcap"))) == 2
    depth = {topic for topic in read_messages(tmp_path / "out.mcap") if topic.endswith("depth/image")}
    assert depth == {"/cam0/stadia/depth/image", "/cam0_2/stadia/depth/image"}
    session.frames.return_value = [replace(metres, depth_scale=DepthScale.AFFINE_INVERSE)]
    with refuses(ConfigError, where="bag"):
        list(bag_output.predict_to_bag([session], tmp_path / "no.mcap"))
