"""Logs of robots: one file of each program, written by hand, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stadia.core.errors import DataError
from stadia.io.records.robot_log import RotationReading, read_robot_log, read_target_poses

QUATERNION = RotationReading("quaternion", "xyzw")
VECTOR = RotationReading("rotation vector")
MATRIX = RotationReading("matrix", "rows")

IDENTITY_BY_COLUMNS = "[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0.1, 0.2, 0.3, 1]"
MOVEIT = """- effector_wrt_world: [[1, 0, 0, 0.1], [0, 1, 0, 0.2], [0, 0, 1, 0.3], [0, 0, 0, 1]]
  object_wrt_sensor: [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
"""
SAMPLES = """samples:
- robot: {translation: {x: 0.1, y: 0.2, z: 0.3}, rotation: {x: 0, y: 0, z: 0, w: 1}}
  tracking: {translation: {x: 0.5, y: 0, z: 0}, rotation: {x: 0, y: 0, z: 0, w: 1}}
"""
OPENCV = """%YAML:1.0
---
R_gripper2base: [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]
t_gripper2base: [[0.1, 0.2, 0.3]]
R_target2cam: [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]
t_target2cam: [[0.5, 0, 0]]
"""
FILES = {
    "ur.txt": ("p[0.1, 0.2, 0.3, 0, 0, 1.5]\n", VECTOR),
    "rtde.csv": (
        "timestamp " + " ".join(f"actual_TCP_pose_{n}" for n in range(6)) + "\n1 0.1 0.2 0.3 0 0 1.5\n", VECTOR
    ),
    "franka.json": (f'[{{"time": 1, "O_T_EE": {IDENTITY_BY_COLUMNS}}}]', MATRIX),
    "franka.jsonl": (f'{{"O_T_EE": {IDENTITY_BY_COLUMNS}}}\n', MATRIX),
    "moveit.yaml": (MOVEIT, MATRIX),
    "samples.yaml": (SAMPLES, QUATERNION),
    "opencv.yml": (OPENCV, MATRIX),
    "lerobot.csv": ("frame_index,ee.x,ee.y,ee.z,ee.wx,ee.wy,ee.wz\n0,0.1,0.2,0.3,0,0,1.5\n", VECTOR),
    "kuka.csv": ("X,Y,Z,A,B,C\n0.1,0.2,0.3,90,0,0\n", RotationReading("Euler angles", "ZYX", True)),
    "rpy.csv": (
        "x;y;z;roll_deg;pitch_deg;yaw_deg\n0.1;0.2;0.3;5;0;0\n", RotationReading("Euler angles", "xyz", True)
    ),
    "ros.csv": (
        "time,pose.position.x,pose.position.y,pose.position.z,pose.orientation.x,pose.orientation.y,"
        "pose.orientation.z,pose.orientation.w\n1.5,0.1,0.2,0.3,0,0,0,1\n", QUATERNION
    ),
    "rows.txt": ("0.1 0.2 0.3 0 0 0 1\n0.1 0.2 0.3 0 0 1 0\n", QUATERNION),
    "timed.txt": ("1.0 0.1 0.2 0.3 0 0 0 1\n1.1 0.1 0.2 0.3 0 0 1 0\n", QUATERNION),
    "matrices.txt": ("1\n1 0 0 0.1\n0 1 0 0.2\n0 0 1 0.3\n0 0 0 1\n", MATRIX),
    "matrix-rows.txt": ("1 0 0 0.1 0 1 0 0.2 0 0 1 0.3 0 0 0 1\n", MATRIX),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_log_is_read(name: str, tmp_path: Path) -> None:
    text, reading = FILES[name]
    (tmp_path / name).write_text(text)
    log = read_robot_log(tmp_path / name)
    assert log.reading == reading
    np.testing.assert_allclose(log.make_poses()[0, :3, 3], [0.1, 0.2, 0.3])
    if name in ("moveit.yaml", "samples.yaml", "opencv.yml"):
        target = read_target_poses(tmp_path / name)
        assert target is not None
        np.testing.assert_allclose(target[0, :3, 3], [-0.5, 0, 0])


WRONG = {
    "empty.csv": "",
    "other.csv": "step,loss\n1,2\n",
    "nan.txt": "0.1 nan 0.3 0 0 0 1\n",
    "ragged.txt": "0.1 0.2 0.3 0 0 0 1\n0.1 0.2\n",
    "length.csv": "x,y,z,qx,qy,qz,qw\n0,0,0,1,1,1,1\n",
    "left.txt": "1 0 0 0 0 1 0 0 0 0 -1 0\n",
    "words.txt": "0.1 0.2 0.3 0 0 0 1\n0.1 0.2 0.3 a b c d\n",
    "text.json": '"poses"',
    "empty.json": "[]",
    "mixed.json": "[[1, 2], [3]]",
    "deep.json": "[" * 400 + "]" * 400,
    "sizes.json": '{"R_gripper2base": [[1, 0, 0, 0, 1]], "t_gripper2base": [[0, 0, 0]]}',
    "other.json": '[{"loss": 1}]',
    "back.csv": "t,x,y,z,qx,qy,qz,qw\n" + "".join(f"{9 - n},0,0,0,0,0,0,1\n" for n in range(9)),
    "table.parquet": "PAR1",
}


@pytest.mark.parametrize("name", WRONG)
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(WRONG[name])
    with pytest.raises(DataError) as caught:
        read_robot_log(tmp_path / name)
    assert name in caught.value.where
