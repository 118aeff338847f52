"""Calibrations of all formats that are read give the pinhole camera that they hold, or one line."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.formats.calibration_files import read_calibration
from stadia.sfm.map_files import write_colmap
from stadia.sfm.sparse_map import LensCamera, SparseMap

K = np.array([[700.0, 0, 319.5], [0, 710.0, 239.5], [0, 0, 1]])
P2 = np.column_stack([K, K @ (-0.5, 0, 0)])

ROS = """
image_width: 640
image_height: 480
camera_name: left
camera_matrix: {rows: 3, cols: 3, data: [700, 0, 319.5, 0, 710, 239.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0, 0, 0]}
projection_matrix: {rows: 3, cols: 4, data: [600, 0, 319.5, -60, 0, 600, 239.5, 0, 0, 0, 1, 0]}
"""

KALIBR = """
cam0:
  camera_model: pinhole
  intrinsics: [700, 710, 319.5, 239.5]
  distortion_model: radtan
  distortion_coeffs: [-0.28, 0.07, 0.0002, 0.00002]
  resolution: [640, 480]
  rostopic: /cam0/image_raw
cam1:
  camera_model: pinhole
  intrinsics: [700, 710, 319.5, 239.5]
  distortion_model: radtan
  distortion_coeffs: [0, 0, 0, 0]
  resolution: [640, 480]
  T_cn_cnm1:
  - [1, 0, 0, -0.11]
  - [0, 1, 0, 0]
  - [0, 0, 1, 0]
  - [0, 0, 0, 1]
"""

EUROC = """%YAML:1.0
sensor_type: camera
T_BS: {rows: 4, cols: 4, data: [1, 0, 0, 0.1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]}
rate_hz: 20
resolution: [640, 480]
camera_model: pinhole
intrinsics: [700, 710, 319.5, 239.5] #fu, fv, cu, cv
distortion_model: radial-tangential
distortion_coefficients: [-0.28, 0.07, 0.0002, 0.00002]
"""

KITTI = "\n".join(
    f"P{index}: " + " ".join(f"{value:.6e}" for value in np.column_stack([K, K @ (-0.5 * index, 0, 0)]).ravel())
    for index in range(2)
)


@pytest.mark.parametrize("suffix", ["yml", "xml"])
def test_what_opencv_writes_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pair.{suffix}"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for name, matrix in (("M1", K), ("D1", np.array([[0.1, 0, 0, 0, 0]])), ("P1", np.eye(3, 4)), ("P2", P2)):
        storage.write(name, K @ matrix if name == "P1" else matrix)
    storage.write("image_width", 640)
    storage.write("image_height", 480)
    storage.release()
    first, original, second = read_calibration(path)
    assert (first.name, original.name, second.name) == ("P1", "M1", "P2")
    assert first.size == (480, 640)
    np.testing.assert_allclose(original.K, K)
    assert (first.is_distorted, original.is_distorted) == (False, True)
    assert first.T_camera_first is not None
    assert second.T_camera_first is not None
    np.testing.assert_allclose(second.T_camera_first[:3, 3], (-0.5, 0, 0), atol=1e-12)


def test_a_sensor_file_of_euroc_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text(EUROC)
    (camera,) = read_calibration(path)
    assert (camera.name, camera.size, camera.distortion) == ("sensor", (480, 640), (-0.28, 0.07, 0.0002, 0.00002))
    assert (camera.is_distorted, camera.T_camera_first) == (True, None)
    np.testing.assert_array_equal(camera.K, K)
    np.testing.assert_array_equal(camera.K, read_calibration(write(tmp_path / "camchain.yaml", KALIBR))[0].K)
    with refuses(DataError, where="sensor.yaml", found="omni", expected="camera_model"):
        read_calibration(write(path, EUROC.replace("pinhole", "omni")))
    with refuses(DataError, where="sensor.yaml", found=("3", "sensor.intrinsics"), expected="4"):
        read_calibration(write(path, EUROC.replace("[700, 710,", "[700,")))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_ros_camera_info_has_the_rectified_and_the_original_camera(tmp_path: Path) -> None:
    (tmp_path / "left.yaml").write_text(ROS)
    rectified, original = read_calibration(tmp_path / "left.yaml")
    assert (rectified.K[0, 0], original.K[0, 0], original.distortion[0]) == (600, 700, -0.3)
    assert (rectified.is_distorted, rectified.raw_name) == (False, "camera_matrix")
    assert rectified.raw_distortion == (-0.3, 0.1, 0, 0, 0)
    assert (original.raw_name, original.raw_distortion) == ("", ())
    assert rectified.T_camera_first is not None
    assert rectified.T_camera_first[0, 3] == pytest.approx(-0.1)


def test_the_coefficients_of_a_lens_are_no_matrices(tmp_path: Path) -> None:
    """k1 and p1 are radial and tangential distortion; K1 and P1 are matrices of the first camera."""
    matrix = "{rows: 3, cols: 3, data: [700, 0, 319.5, 0, 710, 239.5, 0, 0, 1]}"
    (tmp_path / "lens.yaml").write_text(f"camera_matrix: {matrix}\nk1: -0.3\nk2: 0.1\np1: 0.001\np2: 0\n")
    (camera,) = read_calibration(tmp_path / "lens.yaml")
    assert (camera.name, camera.distortion) == ("camera_matrix", (-0.3, 0.1, 0.001, 0, 0))
    (tmp_path / "pair.yaml").write_text(f"K1: {matrix}\nK2: {matrix}\n")
    assert [camera.name for camera in read_calibration(tmp_path / "pair.yaml")] == ["K1", "K2"]
    (tmp_path / "message.yaml").write_text(f"k: {matrix}\nd: [-0.3, 0.1, 0, 0, 0]\n")
    (camera,) = read_calibration(tmp_path / "message.yaml")
    assert (camera.name, camera.distortion[0]) == ("k", -0.3), "of ROS 2"


def test_a_camchain_of_kalibr_has_the_chain_of_positions(tmp_path: Path) -> None:
    (tmp_path / "camchain.yaml").write_text(KALIBR)
    first, second = read_calibration(tmp_path / "camchain.yaml")
    np.testing.assert_allclose(first.K, K)
    assert (first.size, first.is_distorted, second.is_distorted) == ((480, 640), True, False)
    assert second.T_camera_first is not None
    assert second.T_camera_first[0, 3] == -0.11


def test_a_calibration_of_kitti_has_the_rectified_cameras(tmp_path: Path) -> None:
    (tmp_path / "calib.txt").write_text(KITTI)
    first, second = read_calibration(tmp_path / "calib.txt")
    assert (first.name, second.name, first.size) == ("P0", "P1", None)
    assert second.T_camera_first is not None
    np.testing.assert_allclose(second.T_camera_first[:3, 3], (-0.5, 0, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.yaml", "a: 1", "0 cameras"),
        ("a.yaml", "- 1", "list"),
        ("a.yaml", "a: [", "invalid YAML"),
        ("a.yaml", KALIBR.replace("pinhole", "omni"), "cam0 with the model 'omni'"),
        ("a.yaml", KALIBR.replace("[700, 710, 319.5, 239.5]", "[700]"), "1 numbers in cam0.intrinsics"),
        ("a.yaml", KALIBR.replace("[640, 480]", "[640, -480]"), "a size of 640.0x-480.0"),
        ("a.yaml", "cam0: 3", "cam0 with the model 'None'"),
        ("a.yaml", ROS.replace("[700, 0", "[.nan, 0"), "0 numbers in camera_matrix; expected 9 finite"),
        ("a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "a document type in XML"),
        ("a.xml", "<a>", "invalid XML"),
        ("a.xml", "<a/>", "0 cameras"),
        ("calib.txt", "P0: 1 2 3", "P0: '1 2 3'"),
    ],
)
def test_a_broken_calibration_is_refused_in_one_line(tmp_path: Path, name: str, text: str, found: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_calibration(tmp_path / name)
    assert found in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_colmap_and_nerfstudio_put_the_first_pixel_at_one_half(tmp_path: Path) -> None:
    lens = LensCamera(500.0, (319.25, 238.75), (0.1, 0.0, 0.0, 0.0), 480, 640)
    no_points = np.zeros((0, 2))
    sparse = SparseMap(
        camera=lens,
        frames=np.zeros(0, np.int64),
        T_camera_world=np.zeros((0, 4, 4)),
        points=np.zeros((0, 3)),
        colors=np.zeros((0, 3), np.uint8),
        observed=no_points.astype(np.int64),
        xy=no_points,
    )
    write_colmap(tmp_path, sparse, [lens], np.eye(4), {}, no_points)
    (camera,) = read_calibration(tmp_path / "cameras.txt")
    np.testing.assert_allclose(camera.K, [[500, 0, 319.25], [0, 500, 238.75], [0, 0, 1]], atol=1e-9)
    transforms = tmp_path / "transforms.json"
    for values, center in (({"cx": 320.0, "cy": 240.0}, (319.5, 239.5)), ({}, (319.5, 239.5))):
        transforms.write_text(json.dumps({"fl_x": 500.0, "w": 640, "h": 480, **values}))
        (camera,) = read_calibration(transforms)
        assert tuple(camera.K[:2, 2]) == center


AZURE_LENS = [0.5, 0.5, 0.5, 0.625, 0.4, -2.6, 1.5, 0.3, -2.4, 1.4, 0, 0, 0.002, 0.001]
KEYED = {
    "cityscapes.json": ({"intrinsic": {"fx": 700, "fy": 710, "u0": 319.5, "v0": 239.5}}, K),
    "calibrated_sensor.json": ([{"token": "a", "camera_intrinsic": K.tolist()}, {"camera_intrinsic": []}], K),
    "scene_camera.json": ({"0": {"cam_K": K.ravel().tolist(), "depth_scale": 1.0}}, K),
    "pose_intrinsic_imu.json": ({"frame_000000": {"pose": np.eye(4).tolist(), "intrinsic": K.tolist()}}, K),
    "azure.json": (
        {"Cameras": [{"Intrinsics": {"ModelParameters": AZURE_LENS}, "SensorWidth": 640, "SensorHeight": 480}]},
        [[320, 0, 319.5], [0, 300, 239.5], [0, 0, 1]],
    ),
    "argoverse.json": (
        {"camera_data_": [{"key": "ring_front", "value": {
            "focal_length_x_px_": 700, "focal_length_y_px_": 710, "focal_center_x_px_": 319.5,
            "focal_center_y_px_": 239.5, "distortion_coefficients_": [0.1, 0.2, 0.3]}}]}, K),
    "cams_lidars.json": (
        {"cameras": {"front": {"CamMatrixOriginal": K.tolist(), "Lens": "Telecam", "Resolution": [640, 480]}}}, K),
    "nerfies.json": (
        {"focal_length": 700, "principal_point": [319.5, 239.5], "image_size": [640, 480], "position": [0, 0, 0],
         "radial_distortion": [0.1, 0.2, 0.3], "tangential_distortion": [0, 0]}, K * [[1], [700 / 710], [1]] + [
             [0, 0, 0], [0, 0, 239.5 * (1 - 700 / 710)], [0, 0, 0]]),
    "sfm_data.json": (
        {"intrinsics": [{"key": 0, "value": {"ptr_wrapper": {"data": {
            "width": 640, "height": 480, "focal_length": 700, "principal_point": [319.5, 239.5],
            "disto_k3": [0.1, 0.2, 0.3]}}}}]}, [[700, 0, 319.5], [0, 700, 239.5], [0, 0, 1]]),
}  # fmt: skip
"""Content and K of JSON files of data sets and devices, by name."""


@pytest.mark.parametrize("name", KEYED)
def test_cameras_by_keys_of_data_sets(name: str, tmp_path: Path) -> None:
    content, expected = KEYED[name]
    (tmp_path / name).write_text(json.dumps(content))
    (camera,) = read_calibration(tmp_path / name)
    np.testing.assert_allclose(camera.K, expected)
    if name == "azure.json":
        assert camera.distortion == (0.4, -2.6, 0.001, 0.002, 1.5, 0.3, -2.4, 1.4)
    elif name in ("argoverse.json", "nerfies.json", "sfm_data.json"):  # k1, k2 and k3
        assert camera.distortion == (0.1, 0.2, 0, 0, 0.3)
    assert name != "argoverse.json" or camera.name == "ring_front"


def test_each_image_of_a_file_by_images_keeps_its_K(tmp_path: Path) -> None:
    file = tmp_path / "scene_camera.json"
    file.write_text(json.dumps({str(row): {"cam_K": (K * [[1 + row], [1], [1]]).tolist()} for row in range(80)}))
    (camera,) = read_calibration(file)
    assert camera.K_of_frames is not None
    assert camera.K_of_frames["79"][0, 0] == 80 * 700


def test_scene_text_of_scannet(tmp_path: Path) -> None:
    file = tmp_path / "scene0000_00.txt"
    file.write_text("colorHeight = 480\ncolorWidth = 640\nfx_color = 700\nfx_depth = 500\nfy_color = 710\n"
                    "mx_color = 319.5\nmy_color = 239.5\n")  # fmt: skip
    (camera,) = read_calibration(file)
    np.testing.assert_allclose(camera.K, K)
    assert camera.size == (480, 640)


def test_an_angle_alone_takes_the_size_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    cv2.imwrite(str(tmp_path / "train" / "r_0.png"), np.zeros((60, 80, 3), np.uint8))
    scene = {"camera_angle_x": 2 * np.arctan(0.5), "frames": [{"file_path": "./train/r_0"}]}
    (tmp_path / "transforms.json").write_text(json.dumps(scene))
    (camera,) = read_calibration(tmp_path / "transforms.json")
    np.testing.assert_allclose(camera.K, [[80, 0, 39.5], [0, 80, 29.5], [0, 0, 1]])
    (tmp_path / "train" / "r_0.png").unlink()
    with refuses(DataError, fix="w and h"):
        read_calibration(tmp_path / "transforms.json")


def test_sensors_of_kapture(tmp_path: Path) -> None:
    file = tmp_path / "sensors.txt"
    camera_row = "cam 1, a phone, camera, PINHOLE, 640, 480, 700, 710, 320, 240"
    file.write_text(f"# kapture format: 1.0\n{camera_row}\nGPS, , gnss, EPSG\n")
    (camera,) = read_calibration(file)
    np.testing.assert_allclose(camera.K, K)
    assert camera.size == (480, 640)


def test_a_camera_info_under_a_name(tmp_path: Path) -> None:
    file = tmp_path / "camera_info.yaml"
    file.write_text(f"wrist:\n  height: 480\n  width: 640\n  d: [0, 0, 0, 0, 0]\n  k: {K.ravel().tolist()}\n")
    (camera,) = read_calibration(file)
    np.testing.assert_allclose(camera.K, K)
    assert camera.name == "wrist.k"
    assert camera.size == (480, 640)


TEXTS = {
    "calib.txt": "cam0=[700 0 319.5; 0 710 239.5; 0 0 1]\ncam1=[700 0 319.5; 0 710 239.5; 0 0 1]\ndoffs=0\n"
    "baseline=500\nwidth=640\nheight=480\n",  # Middlebury
    "intrinsic.txt": "frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]\n0 0 700 710 319.5 239.5\n0 1 700 710 319.5 239.5\n",
    "lines.txt": "700\n710\n319.5\n239.5\n",
    "mono_left.txt": "700 710 319.5 239.5\n0 0 1 0\n1 0 0 0\n0 1 0 0\n0 0 0 1\n",  # RobotCar
    "queries.txt": "query/a.jpg PINHOLE 640 480 700 710 320 240\nquery/b.jpg PINHOLE 640 480 700 710 320 240\n",
    "camera.txt": "Pinhole 700 710 319.5 239.5 0 0 0 0\n640 480\ncrop\n640 480\n",
    "mast3r.yaml": "width: 640\nheight: 480\ncalibration: [700, 710, 319.5, 239.5, 0, 0, 0, 0, 0]\n",
    "nested.yaml": "camera_matrix: {fx: 700, fy: 710, cx: 319.5, cy: 239.5}\nimage_size: {width: 640, height: 480}\n",
    "videre.ini": "[image]\nwidth\n640\nheight\n480\n\n[left]\n\ncamera matrix\n700 0 319.5\n0 710 239.5\n0 0 1\n",
    "okvis.yaml": "cameras:\n - {image_dimension: [640, 480], distortion_type: radialtangential,\n"
    "    distortion_coefficients: [0, 0, 0, 0], focal_length: [700, 710], principal_point: [319.5, 239.5]}\n",
    "svo.yaml": "cameras:\n- camera:\n    image_height: 480\n    image_width: 640\n    type: pinhole\n    intrinsics:\n"
    "      data: [700, 710, 319.5, 239.5]\n    distortion:\n      type: radial-tangential\n      parameters:\n"
    "        data: [0, 0, 0, 0]\n",
    "cameras.json": json.dumps([{"img_name": str(k), "width": 640, "height": 480, "fx": 700, "fy": 710,
                                 "position": [0, 0, 0]} for k in range(3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_cameras_of_programs_and_data_sets(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TEXTS[name])
    cameras = read_calibration(tmp_path / name)
    np.testing.assert_allclose(cameras[0].K, K, atol=1e-9)
    assert cameras[0].size in (None, (480, 640))
    assert not cameras[0].is_distorted
    if name == "calib.txt":
        assert cameras[1].T_camera_first is not None
        np.testing.assert_allclose(cameras[1].T_camera_first[:3, 3], (-0.5, 0, 0))
    assert name != "cameras.json" or len(cameras) == 1


def test_distortion_under_the_name_dist_coeff_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps({"camera_matrix": K.tolist(), "dist_coeff": [[0.1, -0.05, 0, 0, 0]]}))
    assert read_calibration(path)[0].distortion == (0.1, -0.05, 0, 0, 0)


def test_shares_of_the_image_and_other_files_name_the_numbers_to_write(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "https://video\n" + "1 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n" * 3)
    with refuses(DataError, found="RealEstate10K", fix=("0.5 WIDTH", "0.9 HEIGHT")):
        read_calibration(path)
    path = write(tmp_path / "a.json", '{"lens": "unknown"}')
    with refuses(DataError, found="0 cameras") as caught:
        read_calibration(path)
    numbers = json.loads(str(caught.value.fix).partition(": ")[2])
    (camera,) = read_calibration(write(path, json.dumps(numbers)))
    assert (camera.size, camera.K[0, 0]) == ((720, 1280), 700)


def test_a_camchain_with_the_pose_on_the_imu(tmp_path: Path) -> None:
    T_imu = {"cam0": np.eye(4), "cam1": np.eye(4)}
    T_imu["cam1"][0, 3] = 0.11
    chain = KALIBR.partition("  T_cn_cnm1")[0]
    parts = chain.replace("\ncam1:", "|cam1:").split("|")
    for key, change in (("T_imu_cam", lambda T: T), ("T_cam_imu", np.linalg.inv)):
        texts = [f"{part}\n  {key}: {change(T).tolist()}\n" for part, T in zip(parts, T_imu.values(), strict=True)]
        (tmp_path / "chain.yaml").write_text("".join(texts))
        T = read_calibration(tmp_path / "chain.yaml")[1].T_camera_first
        assert T is not None
        np.testing.assert_allclose(T[:3, 3], (-0.11, 0, 0))
