"""The node of ROS 2, with stand-ins for rclpy and its messages: depth, camera, path and verdict of two images."""

from __future__ import annotations

import importlib.util
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError

NODE = Path(__file__).parents[2] / "deploy" / "ros2" / "stadia_node.py"
SENT: dict[str, list[Any]] = defaultdict(list)
PARAMETERS: dict[str, Any] = {}


class Message(SimpleNamespace):
    """A message whose unset fields are messages."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, Message())
        return getattr(self, name)


class Level(Message):
    OK, WARN, ERROR = range(3)


class Node:
    def __init__(self, name: str) -> None:
        self.name = name

    def declare_parameter(self, name: str, default: Any) -> Any:
        return SimpleNamespace(value=PARAMETERS.get(name, default))

    def create_publisher(self, kind: Any, topic: str, depth: int) -> Any:
        return SimpleNamespace(publish=SENT[topic].append)

    def create_subscription(self, *_: Any) -> None:
        """Nothing is received."""


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Any:
    kinds = {
        "rclpy": {"ok": lambda: False},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {"qos_profile_sensor_data": None},
        "diagnostic_msgs.msg": dict.fromkeys(("DiagnosticArray", "KeyValue"), Message) | {"DiagnosticStatus": Level},
        "geometry_msgs.msg": {"TransformStamped": Message},
        "nav_msgs.msg": {"Odometry": Message},
        "sensor_msgs.msg": dict.fromkeys(("CameraInfo", "Image"), Message),
        "tf2_ros": {"TransformBroadcaster": lambda node: SimpleNamespace(sendTransform=SENT["tf"].append)},
    }
    for name, parts in kinds.items():
        module = ModuleType(name)
        vars(module).update(parts)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, name.partition(".")[0], sys.modules.get(name.partition(".")[0]) or module)
    SENT.clear()
    PARAMETERS.clear()
    spec = importlib.util.spec_from_file_location("stadia_node", NODE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_an_image_becomes_depth_camera_path_and_verdict(node: Any) -> None:
    made = node.StadiaNode()
    K = np.array([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])
    made.take_camera(Message(k=K.ravel()))
    pixels = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    header = Message(frame_id="camera", stamp=Message(sec=7, nanosec=5))
    image = Message(
        header=header, height=96, width=128, encoding="rgb8", step=384, data=pixels.tobytes(), is_bigendian=0
    )
    made.predict(image)
    (depth,) = SENT["~/depth/image"]
    assert (depth.header.stamp.sec, depth.encoding, depth.step) == (7, "32FC1", 512)
    values = np.frombuffer(depth.data, np.float32).reshape(96, 128)
    assert (values > 0).mean() > 0.5
    assert np.asarray(SENT["~/depth/camera_info"][0].k) == pytest.approx(K.ravel())
    (odometry,) = SENT["~/odometry"]
    assert (odometry.header.frame_id, odometry.child_frame_id, odometry.pose.pose.position.x) == ("odom", "camera", 0)
    assert odometry.pose.pose.orientation.w**2 + odometry.pose.pose.orientation.x**2 <= 1 + 1e-9
    assert len(SENT["tf"]) == 1
    assert SENT["/diagnostics"][0].status[0].level in (Level.OK, Level.WARN, Level.ERROR)


def test_depth_with_an_unknown_shift_is_refused(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = SimpleNamespace(is_affine=True)
    monkeypatch.setattr(node, "open_network", lambda name: SimpleNamespace(depth_scale=scale))
    with refuses(ConfigError, where="base", found="depth with an unknown shift"):
        node.StadiaNode()
