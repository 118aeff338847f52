"""What `stadia view` shows: points of all frames fit together where poses, depth and calibration do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stadia.core.errors import DataError
from stadia.datasets import open_recordings
from stadia.web.view.scene import collect_scene, make_frame
from stadia.web.view.viser_scene import find_size, make_quaternion


def test_clouds_of_all_frames_are_one_world(worlds: Path) -> None:
    """Static parts of a rendered road: most points of a frame lie near points of the first one."""
    recording = open_recordings(worlds)[0]
    scene = collect_scene(recording)
    assert len(scene.frames) == len(recording)
    np.testing.assert_allclose(scene.frames[0].T_world_camera, np.eye(4), atol=1e-9)
    near = [frame.points[np.linalg.norm(frame.points, axis=1) < 15] for frame in scene.frames]
    apart, _ = cKDTree(near[0]).query(near[1])
    assert np.median(apart) < 0.3
    moved = near[1] + np.float32([0, 2, 0])
    assert np.median(cKDTree(near[0]).query(moved)[0]) > 3 * np.median(apart), "a wrong pose is seen"
    assert len(scene.true_path) == len(recording)
    assert find_size(scene) > 1


def test_a_point_is_where_its_pixel_is() -> None:
    image, K = np.zeros((48, 64, 3), np.uint8), np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    depth = np.zeros((48, 64))
    depth[10, 20] = 4.0
    T = np.eye(4)
    T[:3, 3] = 1, 2, 3
    frame = make_frame("a", image, K, T, depth)
    expected = np.array([(20 - 31.5) / 50 * 4 + 1, (10 - 23.5) / 50 * 4 + 2, 4 + 3])
    np.testing.assert_allclose(frame.points, [expected], atol=1e-5)


def test_without_depth_it_names_what_is_missing(drive_images: Path) -> None:
    with pytest.raises(DataError, match="--predictions"):
        collect_scene(open_recordings(drive_images, camera={"horizontal_fov_deg": 70})[0])


@pytest.fixture
def drive_images(tmp_path: Path) -> Path:
    import cv2

    rng = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number:06d}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    return tmp_path


def test_quaternion_of_a_quarter_turn() -> None:
    R = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(make_quaternion(R), [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-12)
