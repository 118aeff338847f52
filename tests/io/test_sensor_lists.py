"""Calibrations that list several sensors: cameras have the names of the file, and a LiDAR is none."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.lens_distortion import DistortedCamera, make_undistortion
from stadia.io.records.calibration import read_calibration
from stadia.io.records.read import read_reconstruction

K = [[1000.0, 0, 800], [0, 1000, 450], [0, 0, 1]]


def test_names_of_ddad_are_those_of_its_list(tmp_path: Path) -> None:
    values = [{"fx": f, "fy": f, "cx": 960, "cy": 610, "skew": 0} for f in (0, 2000.0, 1000.0)]
    (tmp_path / "a.json").write_text(json.dumps({"names": ["LIDAR", "CAMERA_01", "CAMERA_05"], "intrinsics": values}))
    cameras = read_calibration(tmp_path / "a.json")
    assert [(camera.name, camera.K[0, 0], camera.size) for camera in cameras] == [
        ("CAMERA_01", 2000, (1216, 1936)),
        ("CAMERA_05", 1000, (1216, 1936)),
    ]


def test_sensors_of_nuscenes_are_named_by_their_tokens(tmp_path: Path) -> None:
    sensors = [{"token": "lidar", "camera_intrinsic": []}, {"token": "front", "camera_intrinsic": K}]
    (tmp_path / "a.json").write_text(json.dumps(sensors))
    (camera,) = read_calibration(tmp_path / "a.json")
    assert (camera.name, camera.size) == ("front", (900, 1600))
    np.testing.assert_array_equal(camera.K, K)


@pytest.mark.parametrize("key", ["model_type", "camera_model"])
def test_a_lens_model_that_is_not_read_is_named(tmp_path: Path, key: str) -> None:
    (tmp_path / "a.yaml").write_text(f"%YAML:1.0\n{key}: scaramuzza\npoly_parameters:\n   p0: -246.0\n")
    with refuses(DataError, found="scaramuzza", fix="pinhole"):
        read_calibration(tmp_path / "a.yaml")


def test_a_fisheye_that_folds_inside_the_image_is_refused() -> None:
    folds = DistortedCamera(np.array(K), "equidistant", np.array([-1.15, 2.91, -2.48, 0.18]), 900, 1600)
    with refuses(DataError, where="a", found="shrinks from"):
        make_undistortion(folds, "a")
    narrow = DistortedCamera(np.array(K), "equidistant", np.array([-1.15, 2.91, -2.48, 0.18]), 300, 500)
    assert narrow.resized(300, 500).fold_deg is not None, "its principal point is far from the middle"
    usual = DistortedCamera(np.array(K), "equidistant", np.array([-0.02, 0.01, -0.01, 0.002]), 900, 1600)
    assert usual.fold_deg is None


def test_cameras_of_an_oak_have_the_numbers_of_their_sockets(tmp_path: Path) -> None:
    cameras = [[socket, {"width": 1600, "height": 900, "intrinsicMatrix": K}] for socket in (2, 0, 1)]
    for (_, values), focal_px in zip(cameras, (800.0, 1000.0, 790.0), strict=True):
        values["intrinsicMatrix"] = [[focal_px, 0, 800], [0, focal_px, 450], [0, 0, 1]]  # type: ignore[index]
    (tmp_path / "a.json").write_text(json.dumps({"boardName": "a", "cameraData": cameras}))
    found = {camera.name: camera.K[0, 0] for camera in read_calibration(tmp_path / "a.json")}
    assert found == {"cameraData-2": 800, "cameraData-0": 1000, "cameraData-1": 790}


def test_the_size_of_photonvision_is_that_of_its_camera(tmp_path: Path) -> None:
    data = {"rows": 3, "cols": 3, "data": [1010.0, 0, 630, 0, 1011, 470, 0, 0, 1]}
    values = {"resolution": {"width": 1280.0, "height": 960.0}, "cameraIntrinsics": data}
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert read_calibration(tmp_path / "a.json")[0].size == (960, 1280)


def test_a_path_of_nerfstudio_has_the_camera_of_its_field_of_view(tmp_path: Path) -> None:
    entry = {"camera_to_world": np.eye(4).ravel().tolist(), "fov": 90.0, "aspect": 1.5}
    values = {"render_height": 360, "render_width": 540, "camera_path": [entry] * 3}
    (tmp_path / "camera_path.json").write_text(json.dumps(values))
    read = read_reconstruction(tmp_path / "camera_path.json")
    np.testing.assert_allclose(read.K[0], np.array([[180, 0, 269.5], [0, 180, 179.5], [0, 0, 1]]))
    assert read.sizes[0].tolist() == [540, 360]


def make_pose(x: float, *, as_lists: bool) -> dict[str, object]:
    """Return the pose of a sensor that is turned by 90 degrees about z, at (x, 0, 1)."""
    quaternion, place = (2**-0.5, 0.0, 0.0, 2**-0.5), (x, 0.0, 1.0)
    if as_lists:
        return {"rotation": list(quaternion), "translation": list(place)}
    keys = ("qw", "qx", "qy", "qz"), ("x", "y", "z")
    return {
        "rotation": dict(zip(keys[0], quaternion, strict=True)),
        "translation": dict(zip(keys[1], place, strict=True)),
    }


def test_cameras_of_ddad_have_poses(tmp_path: Path) -> None:
    values = [{"fx": f, "fy": f, "cx": 960, "cy": 610, "skew": 0} for f in (0, 2000.0, 1000.0)]
    poses = [make_pose(x, as_lists=False) for x in (5.0, 1.0, 3.0)]
    content = {"names": ["LIDAR", "CAMERA_01", "CAMERA_05"], "intrinsics": values, "extrinsics": poses}
    (tmp_path / "a.json").write_text(json.dumps(content))
    first, second = read_calibration(tmp_path / "a.json")
    np.testing.assert_allclose(first.T_camera_first, np.eye(4), atol=1e-12)
    assert second.T_camera_first is not None
    np.testing.assert_allclose(second.T_camera_first[:3, :3], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(second.T_camera_first[:3, 3], [0, 2, 0], atol=1e-12)


def test_cameras_of_nuscenes_have_the_names_of_their_channels_and_poses(tmp_path: Path) -> None:
    names = ("LIDAR_TOP", "CAM_FRONT", "CAM_BACK")
    table = [{"token": str(row), "channel": name} for row, name in enumerate(names)]
    (tmp_path / "sensor.json").write_text(json.dumps(table))
    sensors = [
        {"token": f"c{row}", "sensor_token": str(row), "camera_intrinsic": K if row else [],
         **make_pose(float(row), as_lists=True)}
        for row in range(3)
    ]  # fmt: skip
    path = tmp_path / "calibrated_sensor.json"
    path.write_text(json.dumps(sensors))
    first, second = read_calibration(path)
    assert (first.name, second.name) == ("CAM_FRONT", "CAM_BACK")
    assert second.T_camera_first is not None
    np.testing.assert_allclose(second.T_camera_first[:3, 3], [0, 1, 0], atol=1e-12)
    path.write_text(json.dumps([*sensors, {**sensors[1], "token": "another log"}]))
    assert [camera.T_camera_first for camera in read_calibration(path)] == [None] * 3
    path.write_text(json.dumps([{**sensors[1], "rotation": [1, 1, 0, 0]}]))
    with refuses(DataError, found="a quaternion of length 1.41"):
        read_calibration(path)
