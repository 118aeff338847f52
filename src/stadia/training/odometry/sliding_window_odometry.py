"""Estimate a trajectory by photometric bundle adjustment over a sliding window of keyframes (back end of D3VO)."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import StadiaError
from stadia.core.types import Camera, PredictedMaps, Predictor
from stadia.differentiable import photometric_residuals
from stadia.differentiable.direct_alignment import DirectAlignment, align_direct, is_reliable
from stadia.differentiable.images import resize, resize_map
from stadia.differentiable.window_solver import (
    MarginalPrior,
    MotionFactors,
    WindowProblem,
    compute_depth_information,
    marginalize_oldest_frame,
    solve_window,
)
from stadia.geometry import poses as se3
from stadia.geometry.cameras import depth_from_inverse
from stadia.predict.predict_frames import FrameArrays, predict_maps, predict_motion
from stadia.predict.track_camera import MapPoints, TakePoints

_COUNT = 7  # numbers of a pose: quaternion w, x, y, z, and translation


class PoseList:
    """A growing list of rigid poses (4, 4) float64, stored as unit quaternions and translations; it may hold
    100,000.
    """

    def __init__(self) -> None:
        self._values: array[float] = array("d")

    def __len__(self) -> int:
        return len(self._values) // _COUNT

    def __getitem__(self, index: int) -> Tensor:
        start = _COUNT * range(len(self))[index]
        return self._make_poses(self._values[start : start + _COUNT])[0]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.stack())

    def append(self, T: Tensor) -> None:
        """Append a pose (4, 4)."""
        T = T.double()
        self._values.extend(se3.quaternion_wxyz_from_matrix(T[:3, :3]).tolist())
        self._values.extend(T[:3, 3].tolist())

    def stack(self) -> Tensor:
        """Return all N poses as one tensor (N, 4, 4) float64."""
        return self._make_poses(self._values)

    @staticmethod
    def _make_poses(values: array[float]) -> Tensor:
        poses = torch.from_numpy(np.array(values).reshape(-1, _COUNT))
        return se3.from_rotation_translation(se3.matrix_from_quaternion_wxyz(poses[:, :4]), poses[:, 4:])


WINDOW_KEYFRAMES = 5  # keyframes adjusted together (Direct sparse odometry: 7)
POINTS_PER_KEYFRAME = 200  # approximate number of points of a keyframe
ADJUSTMENT_STEPS = 3  # Gauss-Newton steps when a keyframe joins
KEYFRAME_FLOW = 0.08  # median flow of the points, as a share of the mean image side, at which a new keyframe is due
MIN_KEYFRAME_OVERLAP = 0.8  # smallest share of a keyframe that a frame must show. With less, it becomes a keyframe.
DEPTH_DEVIATION = 0.15  # standard deviation of a predicted inverse depth, as a share of it
# Standard deviations of a predicted motion on unseen roads: share of its length, and radians.
MOTION_DEVIATION = (0.3, 0.02)
ALIGNED_ROWS = 128  # height of the images for frame alignment. More rows do not help as a start.
MAX_MAP_DEVIATION = 0.05  # largest relative standard deviation of inverse depth of well-constrained points

ColumnsT = TypeVar("ColumnsT", photometric_residuals.WindowFrames, photometric_residuals.HostPoints, MotionFactors)


@dataclass(frozen=True, slots=True)
class IncomingFrame:
    """A video frame to be placed.

    image: (1, 3, H, W) RGB in [0, 1].
    camera: its K (3, 3) and size.
    maps: predicts its depth and other maps; called for keyframes only.
    """

    image: Tensor
    camera: Camera
    maps: Callable[[], PredictedMaps]


@dataclass(slots=True)
class _Keyframe:
    image: Tensor
    small: tuple[Tensor, Tensor, Camera]


@dataclass(slots=True)
class SlidingWindow:
    """A sliding window of keyframes that are adjusted together, and the frames between them.

    take_points: receives the map points of every keyframe that leaves the window.
    keyframes: images of the keyframes in the window.
    bundle: poses, points and prior of the window; None before the first frame.
    numbers: frame indices of all keyframes so far.
    settled: final T_camera_world of the keyframes that have left the window.
    hosts: for each frame, the frame index of its keyframe.
    links: for each frame, T_frame_keyframe (its keyframe to the frame).
    predicted: (4, 4) T_frame_keyframe of the last frame by the pose network's motions alone; None if unknown.
    step: (4, 4) motion T_frame_before from the frame before to the last frame; None if unknown.
    """

    take_points: Callable[[MapPoints], None] = lambda points: None
    keyframes: list[_Keyframe] = field(default_factory=list)
    bundle: WindowProblem | None = None
    numbers: array[int] = field(default_factory=lambda: array("q"))  # frame numbers of all keyframes
    settled: PoseList = field(default_factory=PoseList)  # T_camera_world of those that have left the window
    hosts: array[int] = field(default_factory=lambda: array("q"))  # number of each frame's keyframe
    links: PoseList = field(default_factory=PoseList)  # T_frame_keyframe of each frame
    predicted: Tensor | None = None  # T_frame_keyframe of the last frame, by the predicted motions alone
    step: Tensor | None = None  # T_frame_before of the last frame

    @torch.inference_mode()
    def add(self, frame: IncomingFrame, predicted: Tensor | None) -> bool:
        """Estimate the pose of the next frame; it becomes a keyframe if it shows enough change.

        frame: the frame.
        predicted: (4, 4) motion T_frame_before from the frame before to this one by a pose network, or None.

        Returns False if its motion is unknown.
        """
        number, identity = len(self.links), torch.eye(4, dtype=torch.float64)
        if self.bundle is None:
            self._link(0, identity)
            self._join(frame, number, identity, torch.zeros(2, dtype=torch.float64), None)
            return True
        follows = self.hosts[-1] == self.numbers[-1]
        before = self.links[-1] if follows else identity
        moved = next((T for T in (predicted, self.step) if T is not None), identity)
        found = self._aligned(frame, se3.compose(moved, before))
        trusted = is_reliable(found)
        if not trusted and predicted is None:
            return False
        T = found.T_source_target[0].cpu() if trusted else se3.compose(moved, before)
        if not T.isfinite().all():  # A pose network may predict NaN; an alignment with NaN is not reliable.
            return False
        self.step = se3.compose(T, se3.invert_pose(before))
        start = self.predicted if follows and self.predicted is not None else identity
        self.predicted = None if predicted is None else se3.compose(predicted, start)
        self._link(self.numbers[-1], T)
        if not trusted or float(found.seen) < MIN_KEYFRAME_OVERLAP or self._flow(T) > KEYFRAME_FLOW:
            a, b = self.bundle.frames.brightness[-1]
            gain, offset = (float(found.gain), float(found.offset)) if trusted else (1.0, 0.0)
            brightness = torch.stack((a + torch.tensor(gain).log(), gain * b + offset)).double()
            self._join(frame, number, se3.compose(T, self.bundle.frames.T_camera_world[-1]), brightness, self.predicted)
        return True

    def path(self) -> Tensor:
        """Return T_world_camera (N, 4, 4) of all frames; the correction of each keyframe is spread over the frames
        before it.
        """
        assert self.bundle is not None
        T_camera_world = torch.cat([self.settled.stack(), self.bundle.frames.T_camera_world])
        row = {number: k for k, number in enumerate(self.numbers)}
        T_world_camera = torch.empty((len(self.links), 4, 4), dtype=torch.float64)
        for number, (keyframe, T) in enumerate(zip(self.hosts, self.links, strict=True)):
            if number in row:
                T_world_camera[number] = se3.invert_pose(T_camera_world[row[number]])
                continue
            k = row[keyframe]
            if k + 1 < len(self.numbers):
                following = self.numbers[k + 1]
                refined = se3.compose(T_camera_world[k + 1], se3.invert_pose(T_camera_world[k]))
                correction = se3.se3_log(se3.compose(refined, se3.invert_pose(self.links[following])))
                T = se3.compose(se3.se3_exp(correction * (number - keyframe) / (following - keyframe)), T)
            T_world_camera[number] = se3.invert_pose(se3.compose(T, T_camera_world[k]))
        return T_world_camera

    def _link(self, keyframe: int, T_frame_keyframe: Tensor) -> None:
        self.hosts.append(keyframe)
        self.links.append(T_frame_keyframe)

    def finish(self) -> None:
        """Pass the map points of the keyframes that are still in the window to `take_points`."""
        for position in range(len(self.keyframes)):
            self.take_points(self._map_points(position))

    def _aligned(self, frame: IncomingFrame, start: Tensor) -> DirectAlignment:
        image, depth, camera = self.keyframes[-1].small
        small, small_camera = _shrink(frame.image, frame.camera)
        cameras = [Camera(view.K[None], view.height, view.width) for view in (camera, small_camera)]
        return align_direct(image, small, depth, *cameras, start[None].to(image.device))

    def _flow(self, T: Tensor) -> float:
        assert self.bundle is not None
        frames = self.bundle.frames
        height, width = frames.gray.shape[-2:]
        newest = self.bundle.points.select(self.bundle.points.host == len(frames) - 1)
        return relative_flow(newest, frames.K[-1], height, width, T)

    def _join(
        self, frame: IncomingFrame, number: int, T_camera_world: Tensor, brightness: Tensor, predicted: Tensor | None
    ) -> None:
        maps = frame.maps()
        inverse_depth = maps.inverse_depth.float().cpu()
        image, camera = frame.image.cpu(), frame.camera
        small, small_camera = _shrink(image, camera)
        small_depth = depth_from_inverse(resize_map(inverse_depth, small_camera.height, small_camera.width))
        self.keyframes.append(_Keyframe(image, (small, small_depth, small_camera)))
        self.numbers.append(number)
        newest = photometric_residuals.WindowFrames(
            image.mean(1), camera.K[None].double(), T_camera_world[None], brightness[None]
        )
        frames = newest if self.bundle is None else _concatenate(self.bundle.frames, newest)
        uncertainty = None if maps.log_uncertainty is None else maps.log_uncertainty[0, 0].float().cpu()
        points = _chosen_points(frames, inverse_depth[0, 0], uncertainty)
        if self.bundle is None:
            held = 1e8 * torch.eye(8, dtype=torch.float64)
            prior = MarginalPrior(T_camera_world[None], brightness[None], held, torch.zeros(8, dtype=torch.float64))
            self.bundle = _bundle(frames, points, points.inverse_depth, None, prior, _with_stereo(None, maps))
            return
        motions = _with_motion(self.bundle.motions, len(frames) - 1, predicted, number - self.numbers[-2])
        together = _concatenate(self.bundle.points, points)
        expected = torch.cat((self.bundle.expected, points.inverse_depth))
        stereo = _with_stereo(self.bundle.stereo, maps)
        problem = _bundle(frames, together, expected, motions, self.bundle.prior, stereo)
        self.bundle, _ = solve_window(problem, ADJUSTMENT_STEPS)
        if len(self.keyframes) > WINDOW_KEYFRAMES:
            self._leave()

    def _leave(self) -> None:
        assert self.bundle is not None
        self.take_points(self._map_points(0))
        bundle = self.bundle
        prior = marginalize_oldest_frame(bundle)
        self.settled.append(bundle.frames.T_camera_world[0])
        self.keyframes.pop(0)
        stays = bundle.points.host > 0
        points = bundle.points.select(stays)
        points = replace(points, host=points.host - 1)
        old = bundle.frames
        frames = photometric_residuals.WindowFrames(old.gray[1:], old.K[1:], old.T_camera_world[1:], old.brightness[1:])
        stereo = bundle.stereo and photometric_residuals.VirtualStereo(
            bundle.stereo.inverse_depth_right[1:], bundle.stereo.T_right_left
        )
        motions = bundle.motions
        if motions is not None:
            motions = motions.select(motions.earlier > 0)
            motions = replace(motions, earlier=motions.earlier - 1, later=motions.later - 1)
        self.bundle = _bundle(frames, points, bundle.expected[stays], motions, prior, stereo)

    def _map_points(self, position: int) -> MapPoints:
        assert self.bundle is not None
        mine = compute_depth_information(self.bundle, position) > MAX_MAP_DEVIATION**-2
        points = self.bundle.points.select(mine)
        inside = points.ray[:, 0].double() / points.inverse_depth[:, None].double()
        world = se3.transform(se3.invert_pose(self.bundle.frames.T_camera_world[position]), inside)
        x, y = points.pixel.long().unbind(-1)
        return MapPoints(world.numpy(), self.keyframes[position].image[0, :, y, x].mT.numpy())


def relative_flow(points: photometric_residuals.HostPoints, K: Tensor, height: int, width: int, T: Tensor) -> float:
    """Return how far points move in the image when their camera moves: the median flow over the mean image side.

    points: points of a keyframe.
    K: (3, 3), pixels.
    height, width: size of the image, pixels.
    T: (4, 4), from the keyframe's camera to the moved camera.

    Returns 1 if no point stays in the image.
    """
    turned = photometric_residuals.rotate_rays(points.ray[None, :, 0], T[None, :3, :3].to(points.ray))[0]
    moved = turned + points.inverse_depth[:, None] * T[:3, 3].to(points.ray)
    z = moved[:, 2]
    at_one = moved / z[:, None].clamp(min=1e-6)
    x, y = photometric_residuals.rotate_rays(at_one[None], K[None].to(moved))[0, :, :2].unbind(-1)
    seen = (z > 0) & (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    distance = (torch.stack((x, y), -1) - points.pixel).norm(dim=-1)[seen]
    return float(distance.median()) / ((height + width) / 2) if len(distance) else 1.0


def _shrink(image: Tensor, camera: Camera) -> tuple[Tensor, Camera]:
    shrink = max(1, round(camera.height / ALIGNED_ROWS))
    return resize(image, camera, camera.height // shrink, camera.width // shrink) if shrink > 1 else (image, camera)


def _concatenate(first: ColumnsT, second: ColumnsT) -> ColumnsT:
    names = [column.name for column in fields(first) if column.name != "T_first"]
    return type(first)(*(torch.cat((getattr(first, name), getattr(second, name))) for name in names))


def _chosen_points(
    frames: photometric_residuals.WindowFrames, inverse_depth: Tensor, log_uncertainty: Tensor | None
) -> photometric_residuals.HostPoints:
    """Choose steep, spread points of the newest frame, from the most certain 80 % if known."""
    gray = frames.gray[-1]
    allowed, weight = (
        inverse_depth.isfinite() & (inverse_depth > 0),
        photometric_residuals.gradient_weight(photometric_residuals.squared_gradient(gray)),
    )
    if log_uncertainty is not None:
        allowed &= log_uncertainty <= log_uncertainty.quantile(0.8)
        weight = photometric_residuals.uncertainty_weight(log_uncertainty)
    pixels = photometric_residuals.select_pixels(gray, allowed, POINTS_PER_KEYFRAME)
    return photometric_residuals.make_host_points(gray, frames.K[-1], len(frames) - 1, pixels, inverse_depth, weight)


def _bundle(
    frames: photometric_residuals.WindowFrames,
    points: photometric_residuals.HostPoints,
    expected: Tensor,
    motions: MotionFactors | None,
    prior: MarginalPrior | None,
    stereo: photometric_residuals.VirtualStereo | None,
) -> WindowProblem:
    point, frame = torch.cartesian_prod(torch.arange(len(points)), torch.arange(len(frames))).unbind(-1)
    others = frame != points.host[point]
    observations = photometric_residuals.Observations(point[others], frame[others])
    return WindowProblem(frames, points, expected, DEPTH_DEVIATION * expected, observations, motions, prior, stereo)


def _with_stereo(
    stereo: photometric_residuals.VirtualStereo | None, maps: PredictedMaps
) -> photometric_residuals.VirtualStereo | None:
    if maps.inverse_depth_right is None or maps.T_right_left is None:
        return None
    right = maps.inverse_depth_right[:, 0].float().cpu()
    together = right if stereo is None else torch.cat((stereo.inverse_depth_right, right))
    return photometric_residuals.VirtualStereo(together, maps.T_right_left.double().cpu())


def _with_motion(
    motions: MotionFactors | None, newest: int, predicted: Tensor | None, frames: int
) -> MotionFactors | None:
    if predicted is None:
        return motions
    length = MOTION_DEVIATION[0] * float(predicted[:3, 3].norm()) / frames
    one = torch.tensor([max(length, 1e-6)] * 3 + [MOTION_DEVIATION[1]] * 3, dtype=torch.float64) * frames**0.5
    new = MotionFactors(torch.tensor([newest - 1]), torch.tensor([newest]), predicted[None], one[None])
    return new if motions is None else _concatenate(motions, new)


@dataclass(slots=True)
class SlidingWindowOdometry:
    """Adjust poses, depths and exposure of a window of keyframes so that their brightness agrees (back end of D3VO).

    predictor: the network, which must predict depth.
    take_points: receives the map points of each keyframe that leaves the window.
    window: the keyframes.
    before: the last frame; None before the first one.
    network_length: length of the trajectory by the pose network's motions alone so far; None if one of them is unknown.

    Raises StadiaError for a network that predicts inverse depth up to scale and shift.
    """

    predictor: Predictor
    take_points: TakePoints
    window: SlidingWindow = field(init=False)
    before: FrameArrays | None = None
    network_length: float | None = 0.0
    notes: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.predictor.depth_scale.is_affine:
            found, fix = "inverse depth up to scale and shift", "use another network, such as base"
            raise StadiaError("--method refined", found=found, expected="depth", fix=fix)
        self.window = SlidingWindow(self.take_points)

    @property
    def keyframes(self) -> int:
        """Return the number of keyframes so far."""
        return len(self.window.numbers)

    def add(self, image: NDArray[np.float32], camera: Camera) -> bool:
        """Estimate the pose of the next video frame.

        image: (1, 3, H, W) RGB in [0, 1].
        camera: its K (3, 3) and size.

        Returns False if its motion from the frame before is unknown.
        """
        now, before = FrameArrays(image, camera), self.before
        motion = None if before is None else predict_motion(self.predictor, before, now, None)[0].T_next_now
        self.before = now
        shown = Camera(torch.from_numpy(camera.K), camera.height, camera.width)
        incoming = IncomingFrame(torch.from_numpy(image), shown, partial(self._predict_maps, image, camera))
        is_placed = self.window.add(incoming, None if motion is None else torch.from_numpy(motion))
        if is_placed and before is not None and self.network_length is not None:
            self.network_length = None if motion is None else self.network_length + float(np.linalg.norm(motion[:3, 3]))
        return is_placed

    def _predict_maps(self, image: NDArray[np.float32], camera: Camera) -> PredictedMaps:
        maps = predict_maps(self.predictor, image, camera)
        found = {field.name: getattr(maps, field.name) for field in fields(maps)}
        return PredictedMaps(**{name: x if x is None else torch.from_numpy(x) for name, x in found.items()})

    def path(self) -> NDArray[np.float64]:
        """Finish the window, and return T_world_camera (N, 4, 4) float64 of all frames; the world is the first
        camera.
        """
        self.window.finish()
        return self.window.path().numpy()
