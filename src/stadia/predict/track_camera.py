"""Estimate a camera's trajectory frame by frame, by one of the odometry methods."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import Camera, Predictor
from stadia.data.frame_preparation import Frame, PreparedFrame
from stadia.evaluation import MOTIONS
from stadia.geometry.poses import compose, invert_pose
from stadia.predict.predict_frames import FrameArrays
from stadia.sfm.odometry import ODOMETRY_METHODS
from stadia.sfm.odometry.camera_path import CameraPath


@dataclass(frozen=True, slots=True)
class MapPoints:
    """Points of a keyframe whose depth the window determines well.

    position: (P, 3) in the axes of the first frame's camera.
    color: (P, 3) RGB in [0, 1].
    """

    position: NDArray[np.float64]
    color: NDArray[np.float32]


TakePoints = Callable[[MapPoints], None]


class OdometryMethod(Protocol):
    """What an odometry method must provide: it gets video frames one by one, and gives a trajectory at the end."""

    @property
    def keyframes(self) -> int:
        """Return the number of keyframes so far; 0 for a method without keyframes."""

    @property
    def network_length(self) -> float | None:
        """Return the length of the trajectory that the pose network's motions alone give.

        None if unknown, or if the method's trajectory is that one.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """Return lines of text about the finished trajectory."""

    def add(self, image: NDArray[np.float32], camera: Camera) -> bool:
        """Estimate the pose of the next video frame.

        image: (1, 3, H, W) RGB in [0, 1].
        camera: its K (3, 3) and size.

        Returns False if its motion from the frame before is unknown; the trajectory then ends before it.
        """
        ...

    def path(self) -> NDArray[np.float64]:
        """Return T_world_camera (N, 4, 4) float64 of all frames; the world is the first camera. Called once, at the
        end.
        """
        ...


@dataclass(slots=True)
class FrameToFrameOdometry:
    """Chain the motions between successive frames that a method of `stadia.evaluation.MOTIONS` estimates.

    predictor: the network.
    motion: name of the method in MOTIONS: "aligned" or "network".
    poses: T_world_camera of the frames so far.
    before: the last frame; None before the first one.
    T_next_now: (4, 4) motion from the frame before the last one to the last one; None if unknown.
    """

    predictor: Predictor
    motion: str
    poses: list[NDArray[np.float64]] = field(default_factory=list)
    before: FrameArrays | None = None
    T_next_now: NDArray[np.float64] | None = None

    keyframes: ClassVar[int] = 0
    network_length: ClassVar[None] = None
    notes: ClassVar[tuple[str, ...]] = ()

    def add(self, image: NDArray[np.float32], camera: Camera) -> bool:
        """Estimate the pose of the next video frame.

        image: (1, 3, H, W) RGB in [0, 1].
        camera: its K (3, 3) and size.

        Returns False if its motion from the frame before is unknown.
        """
        needs_depth = self.motion != "network"
        now = FrameArrays(image, camera, self.predictor.inverse_depth(image, camera) if needs_depth else None)
        if self.before is None:
            self.poses.append(np.eye(4))
        else:
            (found,) = MOTIONS.load(self.motion)(self.predictor, self.before, now, self.T_next_now)
            self.T_next_now = found.T_next_now
            if self.T_next_now is None or not np.isfinite(self.T_next_now).all():
                return False
            self.poses.append(compose(self.poses[-1], invert_pose(self.T_next_now)))
        self.before = now
        return True

    def path(self) -> NDArray[np.float64]:
        """Return T_world_camera (N, 4, 4) float64 of the frames so far; the world is the first camera."""
        return np.array(self.poses)


def create_aligned(predictor: Predictor, take_points: TakePoints) -> OdometryMethod:
    """Create the method "aligned": each frame is aligned to the frame before by its predicted depth.

    predictor: the network.
    take_points: ignored, since this method makes no map.
    """
    return FrameToFrameOdometry(predictor, "aligned")


def create_network(predictor: Predictor, take_points: TakePoints) -> OdometryMethod:
    """Create the method "network", which chains the motions of the pose network.

    predictor: the network.
    take_points: ignored, since this method makes no map.
    """
    return FrameToFrameOdometry(predictor, "network")


def track_camera(
    predictor: Predictor,
    frames: Iterable[Frame],
    method: str = "refined",
    *,
    source: str,
    take_points: TakePoints = lambda points: None,
) -> CameraPath:
    """Estimate the camera trajectory of video frames from predicted depth and motion. The frames are read one by one.

    Frames marked as not on the trajectory (such as frames of a stationary camera) are skipped.

    predictor: the network.
    frames: the video frames.
    method: name in `stadia.sfm.odometry.ODOMETRY_METHODS`: refined, graph, aligned or network.
    source: name of the input in error messages.
    take_points: receives the map points of each finished keyframe, if the method makes a map.

    Raises DataError if fewer than two frames get a pose.
    """
    odometry: OdometryMethod = ODOMETRY_METHODS.load(method)(predictor, take_points)
    names, times, frame_ms = list[str](), list[float | None](), list[float]()
    ends, skipped = "", 0
    for frame in frames:
        if not frame.on_path:
            skipped += 1
            continue
        started = time.perf_counter()
        prepared = PreparedFrame.prepare(predictor, frame)
        camera = Camera(prepared.K, predictor.height, predictor.width)
        is_placed = (frame.is_neighbor or not names) and odometry.add(prepared.image[None], camera)
        if not is_placed:
            ends = f"the path stops after {names[-1] if names else ''}: the motion to {frame.name} is unknown"
            break
        names.append(frame.name)
        times.append(frame.time_s)
        frame_ms.append(1e3 * (time.perf_counter() - started))
    if len(names) < 2:
        raise _no_path(source, len(names), skipped, ends, _advise_method(predictor, method))
    T_world_camera = odometry.path()
    length = odometry.network_length
    if length is not None and not math.isfinite(length):
        length = None
    return CameraPath(
        T_world_camera,
        tuple(names),
        tuple(times),
        ends,
        keyframes=odometry.keyframes,
        frame_ms=np.array(frame_ms),
        network_length=length,
        notes=odometry.notes,
    )


def _advise_method(predictor: Predictor, method: str) -> str:
    """Return what finds the motion that a method did not find."""
    if predictor.depth_scale.is_affine:  # aligned and refined need depth
        return "use another network, such as base"
    if method == "network":
        return "use --method aligned or refined, and images that follow each other"
    return "pass images that follow each other"


def _no_path(source: str, placed: int, skipped: int, ends: str, fix: str) -> DataError:
    if ends:
        return DataError(source, found=ends, expected="a motion between two frames", fix=fix)
    if skipped:
        found = f"{placed + skipped} frames without motion"
        return DataError(source, found=found, expected="a moving camera", fix="data.stride=1 takes each frame")
    found, fix = f"{placed} frame{'s' * (placed != 1)}", "pass a video, or a folder of its images"
    return DataError(source, found=found, expected="two that follow each other", fix=fix)
