"""Poses as other programs write them: one drawn input of each kind must give the same path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stadia.core.errors import DataError
from stadia.evaluation.io.trajectory_formats import read_trajectory

COUNT = 12


def make_path() -> np.ndarray:
    """Return (12, 4, 4) T_world_camera that turns about all axes."""
    s = np.linspace(0, 2, COUNT)
    T = np.tile(np.eye(4), (COUNT, 1, 1))
    T[:, :3, :3] = Rotation.from_euler("yxz", np.stack([s, 0.3 * np.sin(s), 0.2 * s], 1)).as_matrix()
    T[:, :3, 3] = np.stack([np.sin(s), 0.1 * s, 3 * s], 1)
    return T


T = make_path()
Q, P = Rotation.from_matrix(T[:, :3, :3]).as_quat(), T[:, :3, 3]
INVERSE = np.linalg.inv(T)
VECTORS = Rotation.from_matrix(INVERSE[:, :3, :3]).as_rotvec()


def write_rows(path: Path, rows: np.ndarray, prefix: str = "", separator: str = " ") -> Path:
    """Write rows of numbers with all digits."""
    path.write_text("\n".join(prefix + separator.join(map(repr, map(float, row))) for row in rows))
    return path


def write_g2o(folder: Path) -> Path:
    rows = np.column_stack([np.arange(COUNT), P, Q])[::-1]
    lines = [f"VERTEX_SE3:QUAT {int(row[0])} " + " ".join(map(str, row[1:])) for row in rows]
    path = folder / "graph.g2o"
    path.write_text("\n".join([*lines, "EDGE_SE3:QUAT 0 1 0 0 0 0 0 0 1"]))
    return path


def write_folder(folder: Path) -> Path:
    for k in range(COUNT):
        np.savetxt(folder / f"{k}.txt", T[k])
    return folder


def write_mvsnet(folder: Path) -> Path:
    for k in range(COUNT):
        rows = "\n".join(" ".join(map(str, row)) for row in INVERSE[k])
        (folder / f"{k:08d}_cam.txt").write_text(f"extrinsic\n{rows}\n\nintrinsic\n1 0 0\n0 1 0\n0 0 1\n")
    return folder


def save(name: str, values: np.ndarray) -> Callable[[Path], Path]:
    """Return a function that saves an array."""

    def write(folder: Path) -> Path:
        np.save(folder / name, values)
        return folder / name

    return write


def dump(name: str, content: object) -> Callable[[Path], Path]:
    """Return a function that writes JSON."""

    def write(folder: Path) -> Path:
        (folder / name).write_text(json.dumps(content))
        return folder / name

    return write


LLFF = np.concatenate([np.stack([T[:, :3, 1], T[:, :3, 0], -T[:, :3, 2], P], 2), np.ones((COUNT, 3, 1))], 2)
NAMES = [f"{k:03d}.jpg" for k in range(COUNT)]
MESHROOM = {
    "views": [{"poseId": str(k), "path": name} for k, name in enumerate(NAMES)],
    "poses": [
        {"poseId": str(k), "pose": {"transform": {"rotation": T[k, :3, :3].ravel().astype(str).tolist(),
                                                  "center": P[k].astype(str).tolist()}}} for k in range(COUNT)
    ],
}  # fmt: skip
OPENSFM = [{"shots": {name: {"rotation": VECTORS[k].tolist(), "translation": INVERSE[k, :3, 3].tolist()}
                      for k, name in enumerate(NAMES)}}]  # fmt: skip
KINDS: dict[str, Callable[[Path], Path]] = {
    "g2o": write_g2o,
    "folder of 4x4 files": write_folder,
    "MVSNet": write_mvsnet,
    "ARKitScenes": lambda f: write_rows(
        f / "a.traj", np.column_stack([np.arange(COUNT) / 10, VECTORS, INVERSE[:, :3, 3]])
    ),
    "seven numbers": lambda f: write_rows(f / "a.txt", np.column_stack([P, Q])),
    "Record3D": dump("metadata.json", {"K": [1, 0, 0, 0, 1, 0, 1, 1, 1], "poses": np.column_stack([Q, P]).tolist()}),
    "OpenSfM": dump("reconstruction.json", OPENSFM),
    "Meshroom": dump("cameras.sfm", MESHROOM),
    "npy of 4x4": save("poses.npy", T),
    "npy of 3x4": save("poses.npy", T[:, :3]),
    "npy of x y z and quaternion": save("poses.npy", np.column_stack([P, Q])),
    "LLFF": save("poses_bounds.npy", np.column_stack([LLFF.reshape(COUNT, 15), np.ones((COUNT, 2))])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_path_in_every_format(kind: str, tmp_path: Path) -> None:
    read = read_trajectory(KINDS[kind](tmp_path))
    np.testing.assert_allclose(read.T_world_camera, T, atol=1e-6)
    assert read.notes
    assert (read.times_s is not None) == (kind == "ARKitScenes")


def test_decimal_commas(tmp_path: Path) -> None:
    rows = [" ".join(f"{value:.9f}".replace(".", ",") for value in T[k, :3].ravel()) for k in range(COUNT)]
    (tmp_path / "a.txt").write_text("\n".join(rows))
    read = read_trajectory(tmp_path / "a.txt")
    np.testing.assert_allclose(read.T_world_camera, T, atol=1e-6)
    assert "decimal points" in read.notes[-1]


def test_rows_without_a_pose_leave_a_gap(tmp_path: Path) -> None:
    rows = T[:, :3].reshape(COUNT, 12).copy()
    rows[4:6] = -np.inf
    read = read_trajectory(write_rows(tmp_path / "a.txt", rows))
    assert read.frame_numbers.tolist() == [0, 1, 2, 3, *range(6, COUNT)]
    np.testing.assert_allclose(read.T_world_camera, np.delete(T, [4, 5], axis=0), atol=1e-6)
    assert "2 of 12 rows" in read.notes[-1]


def test_a_file_without_a_pose_leaves_a_gap(tmp_path: Path) -> None:
    write_folder(tmp_path)
    np.savetxt(tmp_path / "3.txt", np.full((4, 4), -np.inf))
    assert read_trajectory(tmp_path).frame_numbers.tolist() == [0, 1, 2, *range(4, COUNT)]


def test_seven_numbers_without_a_quaternion_are_refused(tmp_path: Path) -> None:
    rows = np.column_stack([np.arange(COUNT), P, 0.1 * P])
    with pytest.raises(DataError, match="7 columns"):
        read_trajectory(write_rows(tmp_path / "a.txt", rows))
