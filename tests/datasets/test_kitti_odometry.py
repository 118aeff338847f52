"""KITTI odometry's layout: both pairs of cameras, parts of sequences, and the baseline from both matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.datasets.open_dataset import open_recordings

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
