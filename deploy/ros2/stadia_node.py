"""A node of ROS 2: subscribes to a camera, publishes depth, camera_info, odometry, tf and the verdict.

    python3 stadia_node.py --ros-args -p image:=/camera/image_raw -p network:=base -p backend:=openvino

Needs rclpy (ROS 2 Humble or later) and stadia in one environment. Only the newest image is predicted.
"""

from __future__ import annotations

import threading

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from tf2_ros import TransformBroadcaster

from stadia import PredictOptions, open_network
from stadia.core.errors import ConfigError
from stadia.data.formats.ros_bags import decode_message, find_info_topic
from stadia.predict.bag_output import ODOMETRY_FRAME, ROS_AXES
from stadia.predict.live.tracker import FrameTracker

JUDGED_EVERY = 300  # frames


class StadiaNode(Node):
    """Predicts the newest image in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("stadia")
        topic = self.declare_parameter("image", "/camera/image_raw").value
        network = self.declare_parameter("network", "base").value
        self.options = PredictOptions(backend=self.declare_parameter("backend", "").value or None)
        self.network = open_network(network)
        if self.network.depth_scale.is_affine:
            fix = "choose a network that predicts depth"
            raise ConfigError(network, found="depth with an unknown shift", expected="depth", fix=fix)
        self.K, self.newest, self.ready = None, None, threading.Condition()
        self.tracker, self.gate, self.frames = FrameTracker(), None, 0
        self.depth = self.create_publisher(Image, "~/depth/image", 5)
        self.info = self.create_publisher(CameraInfo, "~/depth/camera_info", 5)
        self.odometry = self.create_publisher(Odometry, "~/odometry", 5)
        self.diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 5)
        self.broadcaster = TransformBroadcaster(self)
        self.create_subscription(CameraInfo, f"/{find_info_topic(topic.strip('/'))}", self.take_camera, 5)
        self.create_subscription(Image, topic, self.take_image, qos_profile_sensor_data)
        threading.Thread(target=self.run, daemon=True).start()

    def take_camera(self, info: CameraInfo) -> None:
        self.K = np.array(info.k).reshape(3, 3)

    def take_image(self, message: Image) -> None:
        with self.ready:
            self.newest = message
            self.ready.notify()

    def run(self) -> None:
        while rclpy.ok():
            with self.ready:
                self.ready.wait_for(lambda: self.newest is not None and self.K is not None)
                message, self.newest = self.newest, None
            self.predict(message)

    def predict(self, message: Image) -> None:
        image = decode_message("image", message)
        predicted = self.network.predict(image, K=self.K, options=self.options)
        depth = np.asarray(predicted.depth, np.float32)
        header = message.header
        shown = Image(
            header=header, height=depth.shape[0], width=depth.shape[1], encoding="32FC1", step=4 * depth.shape[1]
        )
        shown.data = depth.tobytes()
        self.depth.publish(shown)
        self.info.publish(CameraInfo(header=header, height=image.shape[0], width=image.shape[1], k=self.K.ravel()))
        if (pose := self.tracker.add(image, lambda: depth, self.K)) is not None:
            self.publish_path(header, pose)
        self.frames += 1
        if self.frames % JUDGED_EVERY == 1:
            self.publish_verdict(header, predicted)

    def publish_path(self, header, pose: np.ndarray) -> None:
        T = ROS_AXES @ pose
        x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat()
        odometry, transform = Odometry(child_frame_id=header.frame_id), TransformStamped(child_frame_id=header.frame_id)
        for one in (odometry, transform):
            one.header.stamp, one.header.frame_id = header.stamp, ODOMETRY_FRAME
        at, moved = odometry.pose.pose.position, transform.transform.translation
        for target in (at, moved):
            target.x, target.y, target.z = T[:3, 3].tolist()
        for turned in (odometry.pose.pose.orientation, transform.transform.rotation):
            turned.x, turned.y, turned.z, turned.w = x, y, z, w
        self.odometry.publish(odometry)
        self.broadcaster.sendTransform(transform)

    def publish_verdict(self, header, predicted) -> None:
        verdict = str(predicted.verdict.verdict)
        level = {"usable": DiagnosticStatus.OK, "unusable": DiagnosticStatus.ERROR}.get(verdict, DiagnosticStatus.WARN)
        facts = [KeyValue(key="network", value=self.network.name)]
        status = DiagnosticStatus(level=level, name="stadia", message=verdict, values=facts)
        self.diagnostics.publish(DiagnosticArray(header=header, status=[status]))


def main() -> None:
    """Run the node until it is stopped."""
    rclpy.init()
    rclpy.spin(StadiaNode())


if __name__ == "__main__":
    main()
