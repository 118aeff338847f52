"""Calibrations that need more than one file: a model that stadia wrote, and an angle with the size of its image."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.camera_file import CameraRequest, write_camera_file
from stadia.io.records.calibration import read_calibration
from stadia.sfm.map_files import write_colmap
from stadia.sfm.sparse_map import LensCamera, SparseMap


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


def test_a_file_with_a_camera_for_each_image_has_one_camera(tmp_path: Path) -> None:
    K = np.array([[700.0, 0, 319.5], [0, 710.0, 239.5], [0, 0, 1]])
    file = tmp_path / "scene_camera.json"
    file.write_text(json.dumps({str(row): {"cam_K": (K * [[1 + row], [1], [1]]).tolist()} for row in range(80)}))
    (camera,) = read_calibration(file)
    assert camera.K_of_frames is not None
    assert camera.K_of_frames["79"][0, 0] == 80 * 700


def test_several_cameras_of_a_file_keep_their_own_lens(tmp_path: Path) -> None:
    tables = "".join(
        f'[cam_{k}]\nname = "{k}"\nsize = [1920, 1080]\nmatrix = [[{f}.0, 0, 959.5], [0, {f}.0, 539.5], [0, 0, 1]]\n'
        f"distortions = [{lens}, 0, 0, 0, 0]\nrotation = [0.1, 0.2, 0.3]\n\n"
        for k, f, lens in ((0, 1350, 0.06), (4, 1440, 0.28))
    )
    (tmp_path / "calibration.toml").write_text(tables)
    matrix = "!!opencv-matrix\n  rows: 3\n  cols: 3\n  dt: d\n  data: "
    lines = [f"K_{k}: {matrix}[{f}, 0., 959.5, 0., {f}, 539.5, 0., 0., 1.]" for k, f in ((1, 1350.0), (2, 1440.0))]
    lens_matrix = "!!opencv-matrix\n  rows: 1\n  cols: 5\n  dt: d\n  data: "
    lines += [f"dist_{k}: {lens_matrix}[{lens}, 0., 0., 0., 0.]" for k, lens in ((1, 0.06), (2, 0.28))]
    (tmp_path / "intri.yml").write_text("%YAML:1.0\n---\n" + "\n".join(lines) + "\n")
    for name, names in (("calibration.toml", ("cam_0", "cam_4")), ("intri.yml", ("K_1", "K_2"))):
        cameras = read_calibration(tmp_path / name)
        assert tuple(camera.name for camera in cameras) == names
        assert [(camera.K[0, 0], camera.distortion[0]) for camera in cameras] == [(1350, 0.06), (1440, 0.28)]
    request = CameraRequest(source=tmp_path / "imgs", calibration=tmp_path / "intri.yml")
    (tmp_path / "imgs").mkdir()
    cv2.imwrite(str(tmp_path / "imgs" / "0.png"), np.zeros((270, 480, 3), np.uint8))
    with refuses(DataError, fix="--camera can be K_2"):
        write_camera_file(request)
    (tmp_path / "calibration.toml").write_text("[cam_0\n")
    with refuses(DataError, found="damaged"):
        read_calibration(tmp_path / "calibration.toml")


def test_K_and_D_of_toml_are_not_those_that_cameracalibrator_prints(tmp_path: Path) -> None:
    file = tmp_path / "rig.toml"
    tables = (
        f"[{name}]\nK = [[{fx}.0, 0.0, 320.0], [0.0, {fx}.0, 240.0], [0.0, 0.0, 1.0]]\nD = [0.1, 0.0, 0.0, 0.0]\n"
        for name, fx in (("left", 600), ("right", 700))
    )
    file.write_text("".join(tables))
    assert [(camera.name, camera.K[0, 0]) for camera in read_calibration(file)] == [("left", 600), ("right", 700)]


def test_a_model_that_is_the_key_of_its_camera_is_not_a_pinhole(tmp_path: Path) -> None:
    camera = {
        "fx": 190.9,
        "fy": 190.9,
        "cx": 254.9,
        "cy": 256.9,
        "alpha": 0.6,
        "beta": 1.0,
        "width": 512,
        "height": 512,
    }
    file = tmp_path / "cam0.json"
    file.write_text(json.dumps({"EUCM": camera}))
    with refuses(DataError, found="EUCM"):
        read_calibration(file)
    file.write_text(json.dumps({"KannalaBrandt4": {**camera, "k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4}}))
    (fisheye,) = read_calibration(file)
    assert (fisheye.model, fisheye.distortion) == ("equidistant", (0.1, 0.2, 0.3, 0.4))


@pytest.mark.parametrize(
    ("numbers", "names", "order"),
    [
        ((-0.15, 1.36, 0.004, 0.008, -3.4), ("k1", "k2", "k3", "p1", "p2"), "under the names k1, k2, k3, p1, p2"),
        ((-0.3, 0.2, -0.4, 0.001, 0.002), ("k1", "k2", "p1", "p2", "k3"), "the values are k1, k2, k3, p1, p2"),
    ],
)
def test_a_radial_coefficient_in_the_place_of_a_tangential_one_is_named(
    numbers: tuple[float, ...], names: tuple[str, ...], order: str, tmp_path: Path
) -> None:
    stored = {"width": 64, "height": 48, "fx": 65, "fy": 65, "cx": 31.5, "cy": 23.5}
    (tmp_path / "a.json").write_text(json.dumps(stored | dict(zip(names, numbers, strict=True))))
    (tmp_path / "imgs").mkdir()
    cv2.imwrite(str(tmp_path / "imgs" / "0.png"), np.zeros((48, 64, 3), np.uint8))
    request = CameraRequest(source=tmp_path / "imgs", calibration=tmp_path / "a.json")
    try:
        text = "\n".join(write_camera_file(request))
    except DataError as error:
        text = error.fix
    assert order in text


@pytest.mark.parametrize("name", [None, "K"])
@pytest.mark.parametrize(("third", "is_noted"), [(-0.0364, True), (-0.004, False)])
def test_a_fisheye_that_is_called_plumb_bob_is_named(
    third: float, is_noted: bool, name: str | None, tmp_path: Path
) -> None:
    """The k3 of a T265 stands in the place of a tangential coefficient."""
    K = [28.56, 0, 42.5, 0, 28.67, 40.8, 0, 0, 1]
    P = [*K[:3], 0, *K[3:6], 0, *K[6:], 0]
    lens = [-0.0022, 0.0376, third, 0.0059, 0.0]
    lines = ["height: 80", "width: 85", "distortion_model: plumb_bob", f"D: {lens}", f"K: {K}", f"P: {P}"]
    (tmp_path / "info.yaml").write_text("\n".join(lines))
    (tmp_path / "imgs").mkdir()
    cv2.imwrite(str(tmp_path / "imgs" / "0.png"), np.zeros((80, 85, 3), np.uint8))
    request = CameraRequest(source=tmp_path / "imgs", calibration=tmp_path / "info.yaml", name=name)
    assert any("distortion_model: equidistant" in line for line in write_camera_file(request)) == is_noted


@pytest.mark.parametrize(("ratio", "is_noted"), [(1.09, False), (1 / 1.1, False), (1 / 1.133, True)])
def test_pixels_are_square_or_those_of_old_video(ratio: float, is_noted: bool, tmp_path: Path) -> None:
    (tmp_path / "K.txt").write_text(f"540 0 319.5\n0 {540 * ratio} 239.5\n0 0 1\n")
    (tmp_path / "imgs").mkdir()
    cv2.imwrite(str(tmp_path / "imgs" / "0.png"), np.zeros((480, 640, 3), np.uint8))
    request = CameraRequest(source=tmp_path / "imgs", calibration=tmp_path / "K.txt")
    assert any("pixels are square" in line for line in write_camera_file(request)) == is_noted
