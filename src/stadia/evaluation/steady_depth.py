"""Video depth without flicker: measure how much neighboring frames disagree, and average them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import DepthScale, Recording
from stadia.data.frame_preparation import PredictedFrame
from stadia.data.frame_selection import spread_indices
from stadia.evaluation.predictions_folder import Predictions
from stadia.geometry.cameras import NEAR, crop_K, crop_window, resize_K
from stadia.geometry.poses import invert_pose

WINDOW = 2  # frames before and after that a frame is averaged with


MEASURED_WIDTH = 160  # pixels of a map at which neighbors are compared


MAX_PAIRS = 200  # pairs of neighbors that are compared, evenly spread


@dataclass(frozen=True, slots=True)
class FlickerScore:
    """Measure how much the depth of neighboring video frames disagrees after the camera's motion is accounted for.

    Points of one video frame are moved into the next by the camera motion. z_1 is their depth there, and z_2 the
    depth that was predicted for the next one.

    warped_depth_error: median of |ln z_2 / z_1| over pixels, and then over pairs; 0 for depth without flicker.
    scale_change: median over pairs of the size of the part of it that all pixels share, a change of scale.
    pairs: number of compared pairs of neighboring video frames.
    unit_m: metres per unit of predicted depth, estimated from the whole predicted trajectory; 1 for metres.
    """

    warped_depth_error: float
    scale_change: float
    pairs: int
    unit_m: float

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self)


def score_flicker(
    predictions: Predictions, recording: Recording, indices: Sequence[int], unit_m: float | None
) -> FlickerScore | None:
    """Compare the predicted depth of neighboring frames with the recording's poses, if the unit of depth is known.

    indices: rising frame indices of the predictions.
    unit_m: metres per unit of depth up to scale, or None if unknown.
    """
    if predictions.depth_scale is DepthScale.METRES:
        unit_m = 1.0
    if predictions.depth_scale.is_affine or unit_m is None or unit_m <= 0:
        return None
    named = [
        (index, name)
        for index, name in zip(indices, predictions.files, strict=True)
        if recording.T_world_camera(index) is not None
    ]
    neighbors = [(first, second) for first, second in pairwise(named) if second[0] == first[0] + 1]
    chosen = spread_indices(len(neighbors), MAX_PAIRS)
    found = []
    for first, second in (neighbors[number] for number in chosen):
        now, following = (_read_view(predictions, recording, *frame) for frame in (first, second))
        T_now, T_next = (recording.T_world_camera(index) for index, _ in (first, second))
        assert T_now is not None
        assert T_next is not None
        T = invert_pose(T_next) @ T_now
        T[:3, 3] /= unit_m
        found.append(measure_flicker(now, following, T))
    known = np.array([values for values in found if values is not None])
    if not len(known):
        return None
    error, change = np.median(np.abs(known), axis=0)
    return FlickerScore(float(error), float(change), len(known), unit_m)


def _read_view(predictions: Predictions, recording: Recording, index: int, name: str) -> "DepthView":
    """Return the predicted depth of a frame, reduced, with its camera."""
    camera = recording.camera(index)
    box = crop_window(predictions.crop, camera.height, camera.width)
    depth = np.asarray(predictions.read(name), np.float32)
    K = resize_K(crop_K(recording.K(index), box.left, box.top), (box.height, box.width), *depth.shape)
    return reduce_view(depth, K)


def reduce_view(depth: NDArray[np.float32], K: NDArray[np.float64]) -> "DepthView":
    """Return depth (h, w), subsampled to at most MEASURED_WIDTH columns, with its K (3, 3)."""
    height, width = depth.shape
    if width <= MEASURED_WIDTH:
        return DepthView(depth, K)
    size = max(1, round(height * MEASURED_WIDTH / width)), MEASURED_WIDTH
    small = cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST)
    return DepthView(np.asarray(small, np.float32), resize_K(K, (height, width), *size))


def measure_frame_flicker(before: PredictedFrame, now: PredictedFrame) -> float | None:
    """Return the warped depth error of two neighboring frames, moved by their predicted poses; None if unknown."""
    if before.T_world_camera is None or now.T_world_camera is None or now.depth_scale.is_affine:
        return None
    views = [reduce_view(frame.depth(), frame.K) for frame in (before, now)]
    found = measure_flicker(views[0], views[1], invert_pose(now.T_world_camera) @ before.T_world_camera)
    return None if found is None else found[0]


def steady_frames(frames: Iterable[PredictedFrame], window: int = WINDOW) -> Iterator[PredictedFrame]:
    """Yield frames whose depth is averaged over neighboring frames, moved by their predicted poses.

    Frames without a pose are not averaged. The frames are yielded `window` frames late.
    """
    held: deque[PredictedFrame] = deque()
    done = 0  # held frames that were yielded
    for frame in frames:
        held.append(frame)
        if len(held) - done > window:
            yield _steady(held, done, window)
            done += 1
        if done > window:
            held.popleft()
            done -= 1
    for number in range(done, len(held)):
        yield _steady(held, number, window)


def _steady(held: Sequence[PredictedFrame], number: int, window: int) -> PredictedFrame:
    """Return a frame with the mean depth of itself and its neighbors on the path."""
    frame = held[number]
    if frame.T_world_camera is None or frame.depth_scale.is_affine:
        return frame
    neighbors = []
    for place in range(max(number - window, 0), min(number + window + 1, len(held))):
        other = held[place]
        if place != number and other.T_world_camera is not None:
            T_other_frame = invert_pose(other.T_world_camera) @ frame.T_world_camera
            neighbors.append((DepthView(other.depth(), other.K), T_other_frame))
    depth = steady_depth(DepthView(frame.depth(), frame.K), neighbors)
    inverse_depth = np.divide(1, depth, out=frame.inverse_depth.astype(np.float32), where=depth > 0)
    return replace(frame, inverse_depth=inverse_depth)


MAX_DISAGREEMENT = 0.15
"""Largest difference of ln z from the median difference of two video frames at a pixel that shows the same surface in
both.
"""


MIN_SEEN = 0.05
"""Smallest share of a video frame's pixels that a neighboring one must show for their depths to be compared."""


@dataclass(frozen=True, slots=True)
class DepthView:
    """The depth of a frame and its camera.

    depth: (H, W) z; 0 means unknown.
    K: (3, 3) intrinsics.
    """

    depth: NDArray[np.float32]
    K: NDArray[np.float64]


def warped_log_ratio(
    now: DepthView, following: DepthView, T_following_now: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Compare the depths of two video frames at the pixels of this one: return ln(z_2 / z_1) and a mask, (H, W) each.

    Each point of this video frame is moved into the following one. z_1 is its depth there, and z_2 the depth of the
    following one at that pixel. The mask is true for points that are visible in the following one; elsewhere the
    logarithm is 0.

    now: depth and K of this video frame.
    following: depth and K of the following video frame.
    T_following_now: (4, 4) motion, from the camera coordinates of this video frame to the camera coordinates of the
        following one, with the translation in the unit of both depths.
    """
    height, width = now.depth.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    turned = (following.K @ T_following_now[:3, :3] @ np.linalg.inv(now.K)).astype(np.float32)
    shift = (following.K @ T_following_now[:3, 3]).astype(np.float32)
    u, v, z = (now.depth * (row[0] * x + row[1] * y + row[2]) + moved for row, moved in zip(turned, shift, strict=True))
    in_front = (now.depth > NEAR) & (z > NEAR)
    z = np.where(in_front, z, np.float32(1))
    u, v = u / z, v / z
    rows, columns = following.depth.shape
    inside = in_front & (u >= 0) & (u <= columns - 1) & (v >= 0) & (v <= rows - 1)
    sampled = cv2.remap(following.depth, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = inside & (np.asarray(sampled) > NEAR)
    ratio = np.log(np.where(seen, sampled, 1) / np.where(seen, z, 1)).astype(np.float32)
    return ratio, seen


def measure_flicker(
    now: DepthView, following: DepthView, T_following_now: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Return by how much the depths of two video frames disagree: medians over pixels of |ln ratio| and ln ratio.

    The ratio is the result of `warped_log_ratio`. The first median is the warped depth error. The second one is the
    part that all pixels share, an error of the scale. The result is None if the video frames hardly overlap.

    now: depth and K of this video frame.
    following: depth and K of the following video frame.
    T_following_now: (4, 4) motion, from the camera coordinates of this video frame to the camera coordinates of the
        following one, with the translation in the unit of both depths.
    """
    ratio, seen = warped_log_ratio(now, following, T_following_now)
    if seen.mean() < MIN_SEEN:
        return None
    values = ratio[seen]
    return float(np.median(np.abs(values))), float(np.median(values))


def steady_depth(now: DepthView, neighbors: Sequence[tuple[DepthView, NDArray[np.float64]]]) -> NDArray[np.float32]:
    """Return the mean depth (H, W) of a frame and its neighbors, which are moved into it. It is the mean of ln z.

    At pixels that differ by more than MAX_DISAGREEMENT, a neighbor contributes only its median ratio.

    neighbors: neighboring frames, each with T_neighbor_now (4, 4), whose translation is in the unit of depth.
    """
    total, count = np.zeros_like(now.depth), 1
    for view, T_neighbor_now in neighbors:
        ratio, seen = warped_log_ratio(now, view, T_neighbor_now)
        if seen.mean() < MIN_SEEN:
            continue
        whole = np.median(ratio[seen])
        agrees = seen & (np.abs(ratio - whole) < MAX_DISAGREEMENT)
        total += np.where(agrees, ratio, whole)
        count += 1
    return np.asarray(now.depth * np.exp(total / count), np.float32)
