"""A map is written whole, after a killed writer too, with one row for each index of the video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.datasets.video.video_map import RECORD, read_map
from stadia.mapping.build_map import CameraEstimate, VideoMap
from stadia.mapping.frame_poses import FrameStatus, PlacedFrame, place_frames
from stadia.mapping.frame_stream import FrameStream, SmallFrame
from stadia.mapping.key_frames import KeyFrames
from stadia.mapping.map_files import write_map
from stadia.mapping.sparse_map import LensCamera, SparseMap

LENS = LensCamera(40.0, (31.5, 23.5), (0, 0, 0, 0), 48, 64)


def make_sparse(keys: list[int]) -> SparseMap:
    """A wall four units away that a camera passes, .1 a frame to the right."""
    points = np.column_stack((np.linspace(-1, 1, 9), np.linspace(-0.5, 0.5, 9), np.full(9, 4.0)))
    T = np.tile(np.eye(4), (len(keys), 1, 1))
    T[:, 0, 3] = -0.1 * np.array(keys)
    observed = np.array([(row, point) for row in range(len(keys)) for point in range(9)])
    xy = np.concatenate([LENS.project(points + T[row, :3, 3]) for row in range(len(keys))])
    return SparseMap(LENS, np.array(keys), T, points, np.zeros((9, 3), np.uint8), observed, xy)


def make_map(folder: Path) -> tuple[FrameStream, VideoMap]:
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8))
    sparse = make_sparse([0, 1, 2])
    placed = [PlacedFrame(row, str(row), None, FrameStatus.KEY, sparse.T_camera_world[row]) for row in range(3)]
    estimate = CameraEstimate(LENS, "given", None)
    return FrameStream.open(folder), VideoMap(estimate, sparse, placed, KeyFrames(frames=3), None)


@pytest.mark.parametrize("has_earlier", [True, False])
def test_what_a_killed_writer_left_is_replaced(tmp_path, has_earlier):
    stream, found = make_map(tmp_path / "images")
    folder = tmp_path / "drive.map"
    for name in [".drive.map.new", ".drive.map.old"] + ["drive.map"] * has_earlier:
        write_map(tmp_path / "other.map", stream, found)
        (tmp_path / "other.map").rename(tmp_path / name)
    (folder / RECORD).write_text("earlier") if has_earlier else None
    write_map(folder, stream, found)
    assert len(read_map(folder).names) == 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["drive.map", "images"]


def test_an_earlier_map_stays_until_the_new_one_is_complete(tmp_path, monkeypatch):
    stream, found = make_map(tmp_path / "images")
    folder = tmp_path / "drive.map"
    write_map(folder, stream, found)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("stadia.mapping.map_files.write_json", fail)
    with pytest.raises(MemoryError):
        write_map(folder, stream, found)
    assert len(read_map(folder).names) == 3


def test_a_lost_frame_has_a_row_and_moves_no_other():
    pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    gray = np.full((48, 64), 128, np.uint8)
    frames = [SmallFrame(index, f"{index:06d}", index / 10, gray, np.dstack([gray] * 3)) for index in (1, 2, 4, 5, 6)]
    placed = list(place_frames(frames, make_sparse([1, 6]), frozenset(), frozenset()))
    assert [frame.index for frame in placed] == list(range(7))
    assert [frame.index for frame in placed if frame.status is FrameStatus.LOST] == [0, 3]
    assert placed[4].T_camera_world is not None
    assert placed[4].T_camera_world[0, 3] == pytest.approx(-0.4)
