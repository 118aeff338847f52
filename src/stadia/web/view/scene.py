"""Collect what `stadia view` shows of a data set or a prediction: clouds, cameras and paths in one world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.evaluation.frame_preparation import frame_name
from stadia.evaluation.io.predictions_folder import Predictions
from stadia.evaluation.io.predictions_record import TRAJECTORY
from stadia.evaluation.io.trajectory_formats import read_kitti_trajectory
from stadia.geometry.numpy_camera import resize_K

MAX_FRAMES = 60
"""Frames of a scene, evenly spread: a browser holds a million points."""

MAX_FRAME_POINTS = 15_000

SHOWN_WIDTH = 320
"""Width of the images of cameras, pixels."""


@dataclass(frozen=True)
class SceneFrame:
    """One frame in the world.

    image: (h, w, 3) RGB, small.  K: (3, 3) of it.
    T_world_camera: (4, 4).
    points: (N, 3) in the world, with colors (N, 3); none where the frame has no depth.
    """

    name: str
    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    T_world_camera: NDArray[np.float64]
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """Frames, and the centers of the camera: as predicted (N, 3), and true (M, 3); empty where unknown.

    The world is that of the first camera.
    """

    frames: Sequence[SceneFrame]
    path: NDArray[np.float64]
    true_path: NDArray[np.float64]


def collect_scene(recording: Recording, predictions: Path | None = None, max_frames: int = MAX_FRAMES) -> Scene:
    """Return the scene of a recording, with the depth and path of a prediction of it where one is given.

    Args:
        recording: with poses, or with a prediction that has a path; without both only its first frame is shown.
        predictions: a folder of `stadia predict`; None takes the ground truth.
        max_frames: evenly spread.

    Raises DataError where no frame has depth.
    """
    indices = np.unique(
        np.linspace(0, len(recording) - 1, min(max_frames, len(recording))).round().astype(int)
    ).tolist()
    true = {index: T for index in indices if (T := recording.T_world_camera(index)) is not None}
    predicted = {} if predictions is None else read_predicted_poses(predictions)
    opened = None if predictions is None else Predictions.open(predictions)
    frames: list[SceneFrame] = []
    for index in indices:
        name = frame_name(recording, index)
        T = true.get(index, predicted.get(name))
        if T is None and (frames or index != indices[0]):
            continue
        T_world_camera = np.eye(4) if T is None else T
        depth = _read_depth(recording, index, opened, name)
        frames.append(make_frame(name, recording.image(index), recording.K(index), T_world_camera, depth))
    if not any(len(frame.points) for frame in frames):
        found, fix = "no depth", "pass --predictions FOLDER of `stadia predict`"
        raise DataError(recording.name, found=found, expected="ground truth or predictions", fix=fix)
    first = np.asarray(np.linalg.inv(frames[0].T_world_camera), np.float64)
    return Scene(
        [_move(frame, first) for frame in frames],
        _centers([predicted[name] for name in sorted(predicted)]),
        _centers([true[index] for index in sorted(true)]),
    )


def read_predicted_poses(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return T_world_camera (4, 4) of the frames of a prediction that have one, by name."""
    record = Predictions.open(folder).record
    if record is None or not (folder / TRAJECTORY).is_file():
        return {}
    poses = read_kitti_trajectory(folder / TRAJECTORY).T_world_camera
    return {name: np.asarray(T, np.float64) for name, T in zip(record.path, poses, strict=False)}


def _read_depth(recording: Recording, index: int, opened: Predictions | None, name: str) -> NDArray[Any] | None:
    if opened is None:
        return recording.depth_m(index)
    return opened.read(name) if name in opened.files else None


def make_frame(
    name: str,
    image: NDArray[np.uint8],
    K: NDArray[np.float64],
    T_world_camera: NDArray[np.float64],
    depth: NDArray[Any] | None,
) -> SceneFrame:
    """Return a frame with at most MAX_FRAME_POINTS points of its depth (h, w), 0 = none, of any size of the view."""
    height, width = image.shape[:2]
    shown_height, shown_width = max(round(height * min(1.0, SHOWN_WIDTH / width)), 1), min(width, SHOWN_WIDTH)
    small = np.asarray(cv2.resize(image, (shown_width, shown_height), interpolation=cv2.INTER_AREA), np.uint8)
    points, colors = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
    if depth is not None:
        known = np.isfinite(depth) & (depth > 0)
        rows, columns = np.nonzero(known)
        if (every := math.ceil(math.sqrt(len(rows) / MAX_FRAME_POINTS))) > 1:  # both ways: one way leaves stripes
            rows, columns = (every * place for place in np.nonzero(known[::every, ::every]))
        of_depth = resize_K(K, (height, width), *depth.shape)
        z = depth[rows, columns].astype(np.float64)
        x, y = (columns - of_depth[0, 2]) / of_depth[0, 0] * z, (rows - of_depth[1, 2]) / of_depth[1, 1] * z
        points = (np.stack([x, y, z], 1) @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]).astype(np.float32)
        at = (rows * shown_height // depth.shape[0], columns * shown_width // depth.shape[1])
        colors = small[at]
    shown_K = resize_K(K, (height, width), shown_height, shown_width)
    return SceneFrame(name, small, shown_K, T_world_camera, points, colors)


def _move(frame: SceneFrame, T: NDArray[np.float64]) -> SceneFrame:
    """Return a frame in another world: T (4, 4) maps points of the old one."""
    points = (frame.points @ T[:3, :3].T + T[:3, 3]).astype(np.float32)
    return SceneFrame(frame.name, frame.image, frame.K, T @ frame.T_world_camera, points, frame.colors)


def _centers(poses: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the centers (N, 3) of cameras, in the frame of the first one."""
    if not poses:
        return np.zeros((0, 3))
    first = np.linalg.inv(poses[0])
    return np.stack([(first @ T)[:3, 3] for T in poses])
