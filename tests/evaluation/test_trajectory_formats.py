"""Trajectories of other programs are read by their content, and what changed is a note."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.evaluation.io.trajectory_formats import TrajectoryFormat, read_trajectory

OPENGL = np.diag([1.0, -1, -1, 1])
START_NS = 1403636579763555584


def walk(n: int = 12) -> NDArray[np.float64]:
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(np.arange(n)[:, None] * [0.05, 0.1, -0.02]).as_matrix()
    T[:, :3, 3] = np.arange(n)[:, None] * [0.3, -0.1, 1.0]
    return T


def rows(times: list[str], *, w_first: bool, separator: str, extra: str = "") -> list[str]:
    T = walk(len(times))
    xyzw = Rotation.from_matrix(T[:, :3, :3]).as_quat()
    q = np.roll(xyzw, 1, axis=1) if w_first else xyzw
    numbers = np.hstack([T[:, :3, 3], q])
    return [
        separator.join([time, *(f"{v:.9f}" for v in row)]) + extra for time, row in zip(times, numbers, strict=True)
    ]


SECONDS = [f"{1403636579.76 + k / 10:.6f}" for k in range(12)]
NANOSECONDS = [str(START_NS + k * 10**8) for k in range(12)]
EUROC_HEADER = (
    "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [], v_x [m s^-1]"
)
MATRICES = [" ".join(f"{v:.9e}" for v in T[:3].ravel()) for T in walk()]

FILES: dict[str, list[str]] = {
    "tum": rows(SECONDS, w_first=False, separator=" "),
    "tum with commas and names": ["t,x,y,z,qx,qy,qz,qw", *rows(SECONDS, w_first=False, separator=",")],
    "tum with semicolons": rows(SECONDS, w_first=False, separator=";"),
    "tum in nanoseconds": rows(NANOSECONDS, w_first=False, separator=" "),
    "tum in milliseconds": rows([str(1403636579763 + k * 100) for k in range(12)], w_first=False, separator=" "),
    "tum in scientific notation": rows(
        [f"{1403636579.76 + k / 10:.12e}" for k in range(12)], w_first=False, separator=" "
    ),
    "tum with w first by name": ["time tx ty tz qw qx qy qz", *rows(SECONDS, w_first=True, separator=" ")],
    "topic of ros": [
        "%time,field.pose.position.x,field.pose.position.y,field.pose.position.z,field.pose.orientation.x,"
        "field.pose.orientation.y,field.pose.orientation.z,field.pose.orientation.w",
        *rows(NANOSECONDS, w_first=False, separator=","),
    ],
    "euroc": [EUROC_HEADER, *rows(NANOSECONDS, w_first=True, separator=",", extra=",0.1")],
    "euroc without a header": rows(NANOSECONDS, w_first=True, separator=",", extra=",0" * 9),
    "vins": rows(NANOSECONDS, w_first=True, separator=",", extra=",0.1,0.1,0.1,"),
    "vins loop": rows(NANOSECONDS, w_first=True, separator=",", extra=","),
    "kitti": MATRICES,
    "kitti with frames": [f"{k} {row}" for k, row in enumerate(MATRICES)],
    "kitti-360": [f"{k} {row} 0 0 0 1" for k, row in enumerate(MATRICES)],
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("format", [None, "tum"])
def test_rows_are_read_by_their_content(name: str, format: str | None, tmp_path: Path) -> None:
    (tmp_path / "path.txt").write_text("\n".join(FILES[name]) + "\n")
    read = read_trajectory(tmp_path / "path.txt", None if format is None else TrajectoryFormat(format))
    np.testing.assert_allclose(read.T_world_camera, walk(), atol=1e-6)
    if read.times_s is not None:
        np.testing.assert_allclose(np.diff(read.times_s), 0.1, atol=1e-3)
        assert 1.4e9 < read.times_s[0] < 1.5e9
    is_other = name.startswith(("euroc", "vins", "kitti")) or name == "tum with w first by name"
    assert any("is read as" in note for note in read.notes) == (format == "tum" and is_other)


def test_images_of_colmap_are_inverted_and_sorted(tmp_path: Path) -> None:
    """Also where the line of points is empty, and the images are not sorted."""
    T_camera_world = np.linalg.inv(walk(3))
    q = np.roll(Rotation.from_matrix(T_camera_world[:, :3, :3]).as_quat(), 1, axis=1)
    lines = [
        "# Image list with two lines of data per image:",
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
    ]
    for k in (2, 0, 1):
        numbers = " ".join(f"{value:.9f}" for value in (*q[k], *T_camera_world[k, :3, 3]))
        lines += [f"{k + 1} {numbers} 1 cam/frame {(k + 1) * 2}.jpg", "" if k else "1.0 2.0 -1"]
    (tmp_path / "images.txt").write_text("\n".join(lines) + "\n")
    read = read_trajectory(tmp_path / "images.txt")
    np.testing.assert_allclose(read.T_world_camera, walk(3), atol=1e-6)
    assert read.frames is not None
    assert read.frames.tolist() == [2, 4, 6]


def test_transforms_of_nerfstudio_get_the_axes_of_opencv(tmp_path: Path) -> None:
    frames = [
        {"file_path": f"images/frame_{k + 1:05d}.png", "transform_matrix": (T @ OPENGL).tolist()}
        for k, T in enumerate(walk(12))
    ]
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 700.0, "frames": frames[::-1]}))
    read = read_trajectory(tmp_path / "transforms.json")
    np.testing.assert_allclose(read.T_world_camera, walk(12), atol=1e-9)
    assert read.frames is None, "names that count on are rows"
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": [frames[0], *frames[3:]]}))
    gaps = read_trajectory(tmp_path / "transforms.json")
    assert gaps.frames is not None
    assert gaps.frames.tolist() == [0, *range(3, 12)]


def test_quaternions_of_another_length_are_normalized_and_zeros_left_out(tmp_path: Path) -> None:
    table = np.array([row.split() for row in FILES["tum"]], np.float64)
    table[:, 4:] *= 2
    table[3, 4:] = 0
    np.savetxt(tmp_path / "path.txt", table, fmt="%.9f")
    read = read_trajectory(tmp_path / "path.txt")
    np.testing.assert_allclose(read.T_world_camera, np.delete(walk(), 3, axis=0), atol=1e-6)
    assert [note.partition(" path.txt ")[2] for note in read.notes] == [
        "have the length 2 and are normalized",
        "have a quaternion of zeros: tracking is lost there, and they are left out",
    ]
    table[:, 4:] = 0
    np.savetxt(tmp_path / "path.txt", table, fmt="%.9f")
    with refuses(DataError, found="12"):
        read_trajectory(tmp_path / "path.txt")


def test_times_with_too_few_digits_name_the_cure(tmp_path: Path) -> None:
    (tmp_path / "path.txt").write_text("\n".join(rows(["1.403636e+18"] * 12, w_first=False, separator=" ")))
    with refuses(DataError, where="path.txt", found=("12", "1.403636e+18"), fix="fmt='%.9f"):
        read_trajectory(tmp_path / "path.txt")


@pytest.mark.parametrize(("name", "names"), [("images.bin", ("model_converter",)), ("drive.bag", ("evo_traj",))])
def test_files_that_are_not_read_name_the_conversion(name: str, names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0")
    with refuses(DataError, names=names):
        read_trajectory(tmp_path / name)
