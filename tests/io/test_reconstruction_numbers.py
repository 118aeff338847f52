"""Every reconstruction is checked once after it was read: numbers that no camera has are refused."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.io.records.read import read_reconstruction

CAMERA = {"fl_x": 500.0, "fl_y": 500.0, "cx": 320.0, "cy": 240.0, "w": 640, "h": 480}
WRONG = {"fl_x": 0.0, "fl_y": -500.0, "cx": 1e300, "cy": -1e300, "k1": 1e300, "position": 1e300, "rotation": 1e300}


def make_poses() -> np.ndarray:
    """Return three poses on a line, (3, 4, 4)."""
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = range(3)
    return poses


def write_json(folder: Path, change: str, value: float) -> Path:
    """Write transforms.json of three images, with one number changed."""
    poses = make_poses()
    if change in ("position", "rotation"):
        poses[1, 0, 3 if change == "position" else 0] = value
    frames = [{"file_path": f"{k}.png", "transform_matrix": T.tolist()} for k, T in enumerate(poses)]
    path = folder / "transforms.json"
    path.write_text(json.dumps({**CAMERA, change: value, "frames": frames}))
    return path


def write_npz(folder: Path, change: str, value: float) -> Path:
    """Write cameras of three images as a network does, with one number changed."""
    K = np.tile(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), (3, 1, 1))
    T = make_poses()
    places = {"fl_x": (K, 0, 0), "fl_y": (K, 1, 1), "cx": (K, 0, 2), "cy": (K, 1, 2)}
    array, row, column = {**places, "position": (T, 0, 3), "rotation": (T, 0, 0)}[change]
    array[1, row, column] = value
    path = folder / "a.npz"
    np.savez(path, intrinsics=K, extrinsics=T[:, :3])
    return path


def write_glb(folder: Path, cameras: object) -> Path:
    """Write a glTF binary with one camera node."""
    text = json.dumps({"asset": {"version": "2.0"}, "nodes": [{"camera": 0}], "cameras": cameras}).encode()
    text += b" " * (-len(text) % 4)
    path = folder / "a.glb"
    head = struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text), len(text), 0x4E4F534A)
    path.write_bytes(head + text)
    return path


def test_valid_numbers_pass(tmp_path: Path) -> None:
    assert len(read_reconstruction(write_json(tmp_path, "fl_x", 500.0))) == 3
    assert len(read_reconstruction(write_npz(tmp_path, "fl_x", 500.0))) == 3
    camera = {"type": "perspective", "perspective": {"yfov": 1.0, "aspectRatio": 1.5, "znear": 0.1}}
    assert len(read_reconstruction(write_glb(tmp_path, [camera]))) == 1


@pytest.mark.parametrize(("change", "value"), [one for one in WRONG.items() if one[0][:2] != "fl"])
def test_wrong_numbers_of_json_are_refused(tmp_path: Path, change: str, value: float) -> None:
    with refuses(DataError, where="transforms.json"):
        read_reconstruction(write_json(tmp_path, change, value))


@pytest.mark.parametrize(("change", "value"), [one for one in WRONG.items() if one[0] != "k1"])
def test_wrong_numbers_of_npz_are_refused(tmp_path: Path, change: str, value: float) -> None:
    with refuses(DataError, where="a.npz"):
        read_reconstruction(write_npz(tmp_path, change, value))


def test_poses_of_npz_without_numbers_leave_a_gap(tmp_path: Path) -> None:
    """ScanNet has -inf where tracking was lost."""
    read = read_reconstruction(write_npz(tmp_path, "position", -np.inf))
    assert read.trajectory().frame_numbers.tolist() == [0, 2]
    assert any("1 of 3 poses have inf or NaN" in note for note in read.notes)


@pytest.mark.parametrize("cameras", [[[]], [{"perspective": None}], [], None])
def test_a_glb_without_a_camera_is_refused(tmp_path: Path, cameras: object) -> None:
    with refuses(DataError, where="a.glb"):
        read_reconstruction(write_glb(tmp_path, cameras))
