"""The readers on real samples in the official layouts: facts that are known of them, and nothing made up."""

from pathlib import Path

import numpy as np
import pytest

from stadia.data.formats.rgbd_cameras import DEPTH_K
from stadia.data.open_dataset import open_recordings

pytestmark = pytest.mark.real


def test_kitti_odometry_06(real_data: Path) -> None:
    (recording,) = open_recordings(real_data / "kitti_odometry")
    assert recording.name == "kitti_odometry/06"
    assert len(recording) == 51
    assert recording.sides == ("left", "right")
    assert recording.image(50, "right").shape == (370, 1226, 3)
    assert -recording.T_right_left[0, 3] == pytest.approx(0.5372, abs=5e-5)
    camera = recording.camera(0)
    assert (float(camera.fx), float(camera.cx)) == pytest.approx((707.0912, 601.8873))
    positions = np.array([recording.T_world_camera(i)[:3, 3] for i in range(51)])
    assert np.linalg.norm(np.diff(positions, axis=0), axis=1).sum() == pytest.approx(59.9, abs=0.05)
    T_next_now = np.linalg.inv(recording.T_world_camera(1)) @ recording.T_world_camera(0)
    assert T_next_now[2, 3] < -1, "driving forward"
    assert recording.timestamp_s(50) == pytest.approx(5.196, abs=1e-3)


def test_kitti_raw(real_data: Path) -> None:
    (recording,) = open_recordings(real_data / "kitti_raw")
    assert len(recording) == 78
    assert recording.sides == ("left",)
    assert recording.image(77).shape == (375, 1242, 3)
    assert float(recording.camera(0).fx) == pytest.approx(721.5377), "P_rect_02, not the raw camera's 959.79"
    poses = real_data / "kitti_raw" / "2011_09_26" / "2011_09_26_drive_0000_sync" / "lidar_odometry_cam2.txt"
    (posed,) = open_recordings(real_data / "kitti_raw", poses=str(poses))
    assert posed.T_world_camera(77)[2, 3] == pytest.approx(7.4, abs=0.1)


def test_scans_are_projected_as_the_devkit_does(real_data: Path) -> None:
    """Every pixel of the four official projections, to a step of their 16 bits."""
    (scans,) = open_recordings(real_data / "kitti_raw", ground_truth="lidar")
    (official,) = open_recordings(real_data / "kitti_raw", ground_truth="velodyne_raw")
    indices = [i for i in range(78) if scans.depth_m(i) is not None]
    assert indices == [0, 6, 12, 18]
    for index in indices:
        ours, theirs = scans.depth_m(index), official.depth_m(index)
        assert np.count_nonzero(theirs) > 15_000
        assert np.array_equal(ours > 0, theirs > 0)
        assert np.abs(ours - theirs).max() <= 1 / 256
    (of_eigen,) = open_recordings(real_data / "kitti_raw", ground_truth="lidar_eigen")
    depth = of_eigen.depth_m(0)
    assert np.median((depth - official.depth_m(0))[depth > 0]) == pytest.approx(0.27, abs=0.08)


def test_seven_scenes(real_data: Path) -> None:
    (recording,) = open_recordings(real_data / "sevenscenes")
    assert len(recording) == 80
    depth = recording.depth_m(0)
    assert depth.shape == (480, 640)
    assert 0.3 < np.median(depth[depth > 0]) < 4
    assert depth.max() < 65
    given = np.loadtxt(real_data / "sevenscenes" / "kitchen" / "camera-intrinsics.txt")
    np.testing.assert_array_equal(given, DEPTH_K)
    T = recording.T_world_camera(79)
    np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=3e-4)
