"""Compute camera poses from KITTI raw's GPS and inertial unit (oxts/), as the official devkit does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.data.poses import read_rows

EARTH_RADIUS_M = 6378137.0
COLUMNS = 30  # latitude, longitude (deg), altitude (m), roll, pitch, yaw (rad), and 24 that are not used here


def poses_from_oxts(packets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, 4, 4) T_world_imu from (N, >= 6) packets.

    Positions are a Mercator projection with the scale of the first latitude; rotations are Rz(yaw) Ry(pitch) Rx(roll).
    """
    latitude, longitude, altitude = packets[:, :3].T
    scale = np.cos(np.radians(latitude[0]))
    poses = np.tile(np.eye(4), (len(packets), 1, 1))
    poses[:, 0, 3] = scale * EARTH_RADIUS_M * np.radians(longitude)
    poses[:, 1, 3] = scale * EARTH_RADIUS_M * np.log(np.tan(np.radians(90 + latitude) / 2))
    poses[:, 2, 3] = altitude
    poses[:, :3, :3] = Rotation.from_euler("xyz", packets[:, 3:6]).as_matrix()
    return poses


def camera_poses(packets: NDArray[np.float64], T_camera_imu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, 4, 4) camera-to-world, relative to the first camera."""
    T_earth_camera = poses_from_oxts(packets) @ np.linalg.inv(T_camera_imu)
    return np.linalg.inv(T_earth_camera[0]) @ T_earth_camera


def read_packets(folder: Path, numbers: Sequence[int]) -> NDArray[np.float64] | None:
    """Return (N, 30) packets of these frame numbers from oxts/data; None where any is missing."""
    files = [folder / f"{number:010d}.txt" for number in numbers]
    if not all(file.exists() for file in files):
        return None
    return np.concatenate([read_rows(file, COLUMNS, "one OXTS packet")[:1] for file in files])
