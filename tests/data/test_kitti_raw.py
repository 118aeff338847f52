"""KITTI raw's layout: calibration, LiDAR, GPS poses, and which ground truth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.formats.kitti import compute_camera_poses, compute_imu_poses, project_scan
from stadia.data.open_dataset import open_recordings
from stadia.judge.rigs.lidar_check import judge_lidar_recording

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
T_CAMERA_VELO = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.27], [0, 0, 0, 1]])


def line(name: str, values: Any) -> str:
    return f"{name}: " + " ".join(f"{v:.12e}" for v in np.asarray(values).ravel()) + "\n"


@pytest.fixture
def drive(tmp_path: Path, world: Any) -> Path:
    """A drive of three frames, both color cameras, one scan, GPS that moves north-east and up."""
    folder = tmp_path / DRIVE
    for index in range(3):
        for camera, side in (("02", "left"), ("03", "right")):
            world.save(folder / f"image_{camera}" / "data" / f"{index:010d}.png", world.render(index, side)[0])
        packet = [
            49.0 + 1e-5 * index,
            8.4 + 1e-5 * index,
            100.0 + 0.1 * index,
            0.01,
            0.02,
            0.5 + 0.01 * index,
            *[0.0] * 24,
        ]
        (folder / "oxts" / "data").mkdir(parents=True, exist_ok=True)
        (folder / "oxts" / "data" / f"{index:010d}.txt").write_text(" ".join(map(str, packet)))
    offsets = {"02": 0.06, "03": 0.06 - world.baseline_m}
    calibration = line("R_rect_00", np.eye(3))
    for camera, offset in offsets.items():
        calibration += line(f"P_rect_{camera}", world.K @ np.hstack([np.eye(3), [[offset], [0], [0]]]))
    calibration += line("K_02", 1.33 * world.K) + "calib_time: 09-Jan-2012 13:57:47\n"
    date = folder.parent
    (date / "calib_cam_to_cam.txt").write_text(calibration)
    (date / "calib_velo_to_cam.txt").write_text(line("R", T_CAMERA_VELO[:3, :3]) + line("T", T_CAMERA_VELO[:3, 3]))
    (date / "calib_imu_to_velo.txt").write_text(line("R", np.eye(3)) + line("T", [-0.8, 0.3, -0.8]))
    (folder / "velodyne_points" / "data").mkdir(parents=True)
    np.array([[10, 1, 0.5, 0], [20, 2, 1.0, 0], [-10, 1, 1, 0]], np.float32).tofile(
        folder / "velodyne_points" / "data" / "0000000000.bin"
    )
    return folder


def test_only_the_rectified_matrices_are_used(drive: Path, world: Any) -> None:
    for path in (drive, drive.parent, drive.parent.parent):
        (recording,) = open_recordings(path)
        assert recording.name == f"kitti_raw/{DRIVE}"
        np.testing.assert_allclose(recording.camera(0, "right").K, world.K)
        np.testing.assert_allclose(recording.T_right_left, world.T_right_left, atol=1e-12)
        assert np.array_equal(recording.image(2, "right"), world.render(2, "right")[0])


def test_a_scan_becomes_the_nearest_depth_at_the_devkits_pixel(world: Any) -> None:
    """Both points are seen at one pixel; the nearer wins, and pixels count from 1 as in MATLAB."""
    points = np.array([[20, 2, 1, 0], [10, 1, 0.5, 0], [-5, 0, 0, 0]], np.float32)[:, :3]
    T = T_CAMERA_VELO.copy()
    T[2, 3] = 0
    depth = project_scan(points, (world.K @ T[:3]), world.height, world.width)
    assert np.count_nonzero(depth) == 1
    column, row = round(world.K[0, 2] - 0.1 * world.K[0, 0]) - 1, round(world.K[1, 2] - 0.05 * world.K[1, 1]) - 1
    assert depth[row, column] == 10
    T[2, 3] = -0.27
    of_eigen = project_scan(points, (world.K @ T[:3]), world.height, world.width, scanner_depth=True)
    assert of_eigen[of_eigen > 0].min() == 10


@pytest.mark.parametrize("kind", ["auto", "groundtruth", "velodyne_raw", "lidar", "lidar_eigen", "none"])
def test_depth_files_begin_with_the_one_that_is_read(drive: Path, world: Any, kind: str) -> None:
    """Taking any other file away changes nothing; without a file there is no depth."""
    for number, name in enumerate(("groundtruth", "velodyne_raw"), start=5):
        path = drive / "proj_depth" / name / "image_02" / "0000000000.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((world.height, world.width), number * 256, np.uint16))
    (recording,) = open_recordings(drive, ground_truth=kind)
    files = [file for file in recording.depth_files(0) if file.exists()]
    while files:
        depth_m = recording.depth_m(0)
        assert depth_m is not None
        for other in (file for file in files[1:]):
            other.rename(other.with_suffix(".away"))
        assert np.array_equal(recording.depth_m(0), depth_m)
        for other in files[1:]:
            other.with_suffix(".away").rename(other)
        files.pop(0).unlink()
    assert recording.depth_m(0) is None


def test_gps_driving_forward_moves_the_camera_forward() -> None:
    """East is yaw 0: heading and moving east, the next frame's points come nearer: T_next_now has t_z < 0."""
    packets = np.zeros((2, 30))
    packets[:, 0] = 49
    packets[1, 1] = 1e-5
    east = compute_imu_poses(packets)
    assert (np.linalg.inv(east[0]) @ east[1])[0, 3] == pytest.approx(np.cos(np.radians(49)) * 1.11319, rel=1e-4)
    poses = compute_camera_poses(packets, T_CAMERA_VELO)
    T_next_now = np.linalg.inv(poses[1]) @ poses[0]
    assert T_next_now[2, 3] < -0.7
    assert np.abs(T_next_now[:2, 3]).max() < 1e-6


OneLine = Callable[..., None]


def test_gray_pair_is_read(tmp_path: Path, world: Any) -> None:
    (recording,) = open_recordings(world.kitti_odometry(tmp_path, frames=3))
    assert len(recording) == 3
    np.testing.assert_allclose(recording.T_right_left, world.T_right_left, atol=1e-9)
    np.testing.assert_allclose(recording.T_world_camera(2), world.pose(2), atol=1e-9)
    assert np.array_equal(recording.image(1, "right"), world.render(1, "right")[0])
    assert recording.timestamp_s(2) == pytest.approx(0.2)


def test_color_pair_is_offset_from_camera_0(tmp_path: Path, world: Any) -> None:
    """P3 alone would give 0.44 m; camera 2's poses are those of camera 0, moved by its place beside it."""
    world.kitti_odometry(tmp_path, frames=3, cameras=(0, 1, 2, 3))
    (color,) = open_recordings(tmp_path)
    assert color.file(0).parent.name == "image_2"
    np.testing.assert_allclose(color.T_right_left[0, 3], -world.baseline_m, atol=1e-9)
    place = np.eye(4)
    place[0, 3] = -0.06
    np.testing.assert_allclose(color.T_world_camera(2), world.pose(2) @ place, atol=1e-9)
    (gray,) = open_recordings(tmp_path, color="gray")
    assert gray.file(0).parent.name == "image_0"


def test_lidar_scans_give_depth(tmp_path: Path, world: Any) -> None:
    world.kitti_odometry(tmp_path, frames=2)
    folder = tmp_path / "sequences" / "06"
    axes = "0 -1 0 0 0 0 -1 0 1 0 0 0"  # the scanner's x forward, y left, z up
    with (folder / "calib.txt").open("a") as stream:
        stream.write(f"Tr: {axes}\n")
    (folder / "velodyne").mkdir()
    np.array([[10, 0, 0, 1]], np.float32).tofile(folder / "velodyne" / "000000.bin")
    (recording,) = open_recordings(tmp_path)
    assert recording.depth_m(1) is None
    for side, shift in (("left", 0.0), ("right", world.baseline_m * world.K[0, 0] / 10)):
        depth = recording.depth_m(0, side)
        row, column = np.argwhere(depth)[0]
        assert depth[row, column] == pytest.approx(10)
        assert (row, column) == (round(world.K[1, 2]) - 1, round(world.K[0, 2] - shift) - 1)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("P1:", "Q1:", ("P1", "12 numbers")),
        ("P0: ", "P0: x ", ("P0",)),
        ("P0: 1.2", "P0: nan ", ("P0",)),
        ("P0: 1.2", "P0: -1.2", ("P0", "fx -120")),
    ],
)
def test_wrong_calibration_is_named(
    tmp_path: Path, world: Any, one_line: OneLine, old: str, new: str, parts: tuple[str, ...]
) -> None:
    world.kitti_odometry(tmp_path, frames=1)
    path = tmp_path / "sequences" / "06" / "calib.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path)
    one_line(caught.value, path, *parts)


def test_missing_files_are_refused(tmp_path: Path, world: Any, one_line: OneLine) -> None:
    world.kitti_odometry(tmp_path, frames=3)
    poses = tmp_path / "poses" / "06.txt"
    poses.write_text(world.rows([world.pose(0)] * 2))
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path)
    one_line(caught.value, poses, "2 poses", "3, one per image")
    poses.unlink()
    assert open_recordings(tmp_path)[0].T_world_camera(0) is None
    calibration = tmp_path / "sequences" / "06" / "calib.txt"
    calibration.unlink()
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path)
    one_line(caught.value, calibration, "no such file")
    picture = tmp_path / "sequences" / "06" / "image_0" / "cover.png"
    world.save(picture, world.render(0)[0])
    with refuses(DataError, where="cover.png", found="cover"):
        open_recordings(tmp_path)


def test_maps_that_were_projected_before_do_not_judge_the_calibration(drive: Path, world: Any) -> None:
    """FAST-LIVO 162: the inverse calibration was usable by the maps of the download."""
    (scanned,) = open_recordings(drive)
    assert judge_lidar_recording(scanned).notes == ()
    path = drive / "proj_depth" / "velodyne_raw" / "image_02" / "0000000000.png"
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), np.full((world.height, world.width), 256, np.uint16))
    (projected,) = open_recordings(drive)
    (note,) = judge_lidar_recording(projected).notes
    assert "says nothing of calib_velo_to_cam.txt" in note
