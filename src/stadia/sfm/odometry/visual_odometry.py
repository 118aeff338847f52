"""Track a camera through frames by one of the odometry methods."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import Camera, Predictor
from stadia.evaluation import MOTIONS
from stadia.evaluation.frame_preparation import Frame, PreparedFrame
from stadia.evaluation.predict_frames import FrameTensors, predict_maps, predict_motion
from stadia.geometry.se3 import compose, inverse
from stadia.sfm.odometry import ODOMETRY_METHODS
from stadia.sfm.odometry.sliding_window_ba import IncomingFrame, MapPoints, PoseList, SlidingWindow

TakePoints = Callable[[MapPoints], None]


class OdometryMethod(Protocol):
    """An odometry method that places frame after frame."""

    @property
    def keyframes(self) -> int:
        """Return the number of keyframes so far."""

    @property
    def network_length(self) -> float | None:
        """Return the length of the pose network's own path, if known and different."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return lines for people about the finished path."""

    def add(self, image: Tensor, camera: Camera) -> bool:
        """Place (1, 3, H, W) with K (3, 3). Return False if the motion is unknown: the path ends before it."""
        ...

    def path(self) -> Tensor:
        """Return (N, 4, 4) float64 T_world_camera; the world is the first frame. Called at the end."""
        ...


@dataclass(slots=True)
class FrameToFrameOdometry:
    """Chain the motions from frame to frame that a method of `stadia.evaluation.MOTIONS` estimates.

    T_next_now: (4, 4) last motion, or None.
    """

    predictor: Predictor
    motion: str
    poses: PoseList = field(default_factory=PoseList)
    before: FrameTensors | None = None
    T_next_now: Tensor | None = None

    keyframes: ClassVar[int] = 0
    network_length: ClassVar[None] = None
    notes: ClassVar[tuple[str, ...]] = ()

    def add(self, image: Tensor, camera: Camera) -> bool:
        """Place (1, 3, H, W) with K (3, 3); return False if the motion is unknown."""
        needs_depth = self.motion != "network"
        inverse_depth = self.predictor.inverse_depth(image, camera).float() if needs_depth else None
        now = FrameTensors(image if inverse_depth is None else image.to(inverse_depth.device), camera, inverse_depth)
        if self.before is None:
            self.poses.append(torch.eye(4, dtype=torch.float64))
        else:
            (found,) = MOTIONS.load(self.motion)(self.predictor, self.before, now, self.T_next_now)
            self.T_next_now = found.T_next_now
            if self.T_next_now is None or not self.T_next_now.isfinite().all():
                return False
            self.poses.append(compose(self.poses[-1], inverse(self.T_next_now)))
        self.before = now
        return True

    def path(self) -> Tensor:
        """Return (N, 4, 4) float64 T_world_camera of the frames so far."""
        return self.poses.stack()


@dataclass(slots=True)
class SlidingWindowOdometry:
    """Adjust a window of keyframes by brightness: poses, depths and exposure (D3VO's back end)."""

    predictor: Predictor
    take_points: TakePoints
    window: SlidingWindow = field(init=False)
    before: FrameTensors | None = None
    network_length: float | None = 0.0
    notes: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.predictor.depth_scale.is_affine:
            fix = "use a network that predicts depth, or --method network"
            found = "inverse depth up to scale and shift"
            raise StadiaError("--method refined", found=found, expected="depth", fix=fix)
        self.window = SlidingWindow(self.take_points)

    @property
    def keyframes(self) -> int:
        """Return the number of keyframes so far."""
        return len(self.window.numbers)

    def add(self, image: Tensor, camera: Camera) -> bool:
        """Place (1, 3, H, W) with K (3, 3); return False if the motion is unknown."""
        now, before = FrameTensors(image, camera), self.before
        motion = None if before is None else predict_motion(self.predictor, before, now, None)[0].T_next_now
        self.before = now
        maps = partial(predict_maps, self.predictor, image, camera)
        is_placed = self.window.add(IncomingFrame(image, camera, maps), motion)
        if is_placed and before is not None and self.network_length is not None:
            self.network_length = None if motion is None else self.network_length + float(motion[:3, 3].norm())
        return is_placed

    def path(self) -> Tensor:
        """Finish the window; return (N, 4, 4) float64 T_world_camera of the frames."""
        self.window.finish()
        return self.window.path()


def create_aligned(predictor: Predictor, take_points: TakePoints) -> OdometryMethod:
    """Align each frame to the one before by its predicted depth."""
    return FrameToFrameOdometry(predictor, "aligned")


def create_network(predictor: Predictor, take_points: TakePoints) -> OdometryMethod:
    """Chain the motions of the pose network."""
    return FrameToFrameOdometry(predictor, "network")


@dataclass(frozen=True, slots=True)
class CameraPath:
    """A camera path T_world_camera (N, 4, 4), whose world is the first frame.

    ends: where and why the path stops before the last frame, else "". frame_ms: (N,) milliseconds without reading.
    network_length: of the pose network's own path over the same frames, or None. notes: lines for people.
    """

    T_world_camera: NDArray[np.float64]
    names: tuple[str, ...]
    times_s: tuple[float | None, ...]
    ends: str
    keyframes: int
    frame_ms: NDArray[np.float64]
    network_length: float | None = None
    notes: tuple[str, ...] = ()

    def add_notes(self, *notes: str) -> "CameraPath":
        """Return the path with further notes."""
        return replace(self, notes=(*self.notes, *notes))


def track_camera(
    predictor: Predictor,
    frames: Iterable[Frame],
    method: str = "refined",
    *,
    source: str,
    take_points: TakePoints = lambda points: None,
) -> CameraPath:
    """Track the camera through frames, read one by one; those off the path are skipped.

    method: row of `stadia.sfm.odometry.ODOMETRY_METHODS`.
    take_points: receives the map, part by part, if the method makes one.

    Raises DataError if fewer than two frames can be placed.
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
        camera = Camera(torch.from_numpy(prepared.K), predictor.height, predictor.width)
        is_placed = (frame.is_neighbor or not names) and odometry.add(torch.from_numpy(prepared.image)[None], camera)
        if not is_placed:
            ends = f"the path stops after {names[-1] if names else ''}: the motion to {frame.name} is unknown"
            break
        names.append(frame.name)
        times.append(frame.time_s)
        frame_ms.append(1e3 * (time.perf_counter() - started))
    if len(names) < 2:
        raise _no_path(source, len(names), skipped, ends)
    T_world_camera = odometry.path().numpy()
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


def _no_path(source: str, placed: int, skipped: int, ends: str) -> DataError:
    if ends:
        fix = "use --method aligned or refined, and images that follow each other"
        return DataError(source, found=ends, expected="a motion between two frames", fix=fix)
    if skipped:
        found = f"{placed + skipped} frames without motion"
        return DataError(source, found=found, expected="a moving camera", fix="data.stride=1 takes each frame")
    found, fix = f"{placed} frame{'s' * (placed != 1)}", "pass a video, or a folder of its images"
    return DataError(source, found=found, expected="two that follow each other", fix=fix)
