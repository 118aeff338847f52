"""Calibrations that need more than one file: a model that stadia wrote, and an angle with the size of its image."""

import json
from pathlib import Path

import cv2
import numpy as np
from tests.refusals import refuses

from stadia.core.errors import DataError
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
