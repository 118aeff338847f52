"""A dataset of textured rooms: a scene is a folder of images with poses.txt and K.txt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tests.sfm.textured_room import K, TexturedRoom, find_arc_pose, write_images

COUNT = 12


def find_poses(count: int = COUNT, shake: float = 0.0) -> NDArray[np.float64]:
    """The camera-to-world poses (N, 4, 4) of a scene; the camera shakes by some degrees and tenths of a metre."""
    random = np.random.default_rng(0)
    T = np.tile(np.eye(4), (count, 1, 1))
    for row, index in enumerate(np.linspace(0, 23, count)):
        R_camera_world, T[row, :3, 3] = find_arc_pose(index)
        T[row, :3, :3] = R_camera_world.T @ cv2.Rodrigues(np.radians(shake) * random.normal(size=3))[0]
        T[row, :3, 3] += 0.1 * shake * random.normal(size=3)
    return T


def write_scene(
    folder: Path,
    seed: int,
    *,
    true: NDArray[np.float64] | None = None,
    poses: NDArray[np.float64] | None = None,
    focal: float = 1.0,
) -> Path:
    """Write a scene with true poses (N, 4, 4); the written ones, or the focal length, may be wrong."""
    folder.mkdir(parents=True)
    room = TexturedRoom(seed)
    T = find_poses() if true is None else true
    write_images(folder / "images", [room.draw(pose[:3, :3].T, pose[:3, 3]) for pose in T])
    return write_result(folder, T if poses is None else poses, focal)


def write_result(folder: Path, T_world_camera: NDArray[np.float64], focal: float = 1.0) -> Path:
    np.savetxt(folder / "poses.txt", T_world_camera.reshape(-1, 16))
    np.savetxt(folder / "K.txt", K * np.array([[focal, 1, 1], [1, focal, 1], [1, 1, 1]]))
    return folder


def write_list(path: Path, rows: Sequence[str]) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path
