"""The camera that a user gives: numbers, a calibration file, or a file of `stadia camera`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError
from stadia.geometry.cameras import check_K
from stadia.io.records.calibration import read_given_camera
from stadia.io.records.read import read_reconstruction

K = np.array([[700.0, 0, 640], [0, 710, 360], [0, 0, 1]])


def test_numbers_files_and_matrices_give_the_same_camera(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "K.txt", K)
    stored = {"format": "stadia-camera", "K": K.tolist(), "width": 1280, "height": 720, "origin": "a"}
    stored["distortion"] = {"model": "radtan", "coefficients": [0.1, 0.2, 0.01, 0.02]}
    (tmp_path / "drive.K.json").write_text(json.dumps(stored))
    (tmp_path / "cameras.txt").write_text("1 OPENCV 1280 720 700 710 640.5 360.5 0.1 0.2 0.01 0.02\n")
    lens, size = [0.1, 0.2, 0.01, 0.02], (1280, 720)
    known = {
        "fx=700,fy=710,cx=640,cy=360,width=1280,height=720,k1=0.1,k2=0.2,p1=0.01,p2=0.02": (lens, size),
        str(tmp_path / "K.txt"): ([0, 0, 0, 0], (0, 0)),
        str(tmp_path / "drive.K.json"): (lens, size),
        str(tmp_path / "cameras.txt"): (lens, size),
    }
    for given, (distortion, of_size) in known.items():
        read = read_given_camera(given)
        np.testing.assert_allclose(read[0], K)
        np.testing.assert_allclose(read[1], distortion)
        assert read[2] == of_size


@pytest.mark.parametrize(
    "given", ["fx=700", "fx=a,cx=1,cy=1", "fx=-1,cx=1,cy=1", "focal=1,fx=1,cx=1,cy=1", "fx=1,cx=,cy=1"]
)
def test_wrong_numbers_are_named(given: str) -> None:
    with pytest.raises(ConfigError):
        read_given_camera(given)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_given_camera(str(tmp_path / "absent.json"))


@pytest.mark.parametrize("columns", [4, 9])
def test_a_file_may_have_a_K_for_each_image(columns: int, tmp_path: Path) -> None:
    """intrinsic.txt of VGGT-Long has fx fy cx cy in each row; other counts than that of the poses are refused."""
    focals = 500.0 + np.arange(6)
    K = np.array([[[f, 0, 320], [0, f, 240], [0, 0, 1]] for f in focals])
    rows = K.reshape(-1, 9) if columns == 9 else K[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    np.savetxt(tmp_path / "intrinsic.txt", rows)
    np.testing.assert_array_equal(read_given_camera(str(tmp_path / "intrinsic.txt"))[0], K)
    np.savetxt(tmp_path / "poses.txt", np.tile(np.eye(4)[:3].ravel(), (6, 1)))
    poses = read_reconstruction(tmp_path / "poses.txt")
    np.testing.assert_array_equal(poses.with_camera(K, (0, 0, 0, 0), (640, 480)).K, K)
    with refuses(DataError, found=("5 K", "6 poses")):
        poses.with_camera(K[:5], (0, 0, 0, 0), (640, 480))


def test_rotations_of_similarities_are_named(tmp_path: Path) -> None:
    """LSD-SLAM's keyframes have [sR t]; dividing by the cube root of the determinant gives poses."""
    R = Rotation.random(9, random_state=0).as_matrix()
    scaled = np.concatenate([R * np.linspace(0.6, 1.5, 9)[:, None, None], np.ones((9, 3, 1))], 2)
    np.savetxt(tmp_path / "poses.txt", scaled.reshape(9, 12))
    with refuses(DataError, found="multiplied by 0.6 to 1.5", fix="cube root of its determinant"):
        read_reconstruction(tmp_path / "poses.txt")
    scaled[:, :, :3] /= np.cbrt(np.linalg.det(scaled[:, :, :3]))[:, None, None]
    np.savetxt(tmp_path / "poses.txt", scaled.reshape(9, 12))
    np.testing.assert_allclose(np.linalg.inv(read_reconstruction(tmp_path / "poses.txt").T_camera_world)[:, :3, :3], R)


def test_k_for_the_axes_of_unreal_is_refused_with_the_right_one() -> None:
    right = np.array([[700.0, 0, 640], [0, 700, 360], [0, 0, 1]])
    with pytest.raises(DataError) as caught:
        check_K("K.txt", right @ np.array([[0.0, 1, 0], [0, 0, -1], [1, 0, 0]]))
    assert "Unreal" in str(caught.value.found)
    assert str(right.tolist()) in str(caught.value.fix)
