"""The path of a map: its scale, the estimated motion where it is lost, and when it is not used."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.data.mapped_images import make_record, write_points

from stadia.core.types import DepthScale
from stadia.data.frame_preparation import Frame, PredictedFrame
from stadia.evaluation.predictions_folder import Provenance, write_predictions
from stadia.geometry.cameras import CropWindow
from stadia.io.video_decoding import hash_video
from stadia.predict.predict_frames import predict_frame_depth
from stadia.sfm.odometry.camera_path import CameraPath
from stadia.sfm.odometry.mapped_path import (
    MappedPath,
    compare_paths,
    count_reversing,
    follow_map,
    measure_scale,
    scale_poses,
)

FRAMES = 6
MADE_BY = Provenance(recipe="selfsup", config_hash="0")
K = np.array([[40.0, 0, 31.5], [0, 40, 23.5], [0, 0, 1]])
ROAD = {"normal": [0, -1, 0], "height": 0.5, "height_deviation": 0.01, "pitch_deg": 0, "pitch_deviation_deg": 0.1}


def make_path(steps: np.ndarray, turn_deg: float = 3.0) -> np.ndarray:
    """Poses T_world_camera (N, 4, 4) that move by (N, 3) in their own axes and turn by `turn_deg` each."""
    angle = np.radians(turn_deg)
    path = [np.eye(4)]
    for step in steps:
        T = np.eye(4)
        T[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        T[:3, 3] = step
        path.append(path[-1] @ T)
    return np.array(path)


TRUE = make_path(np.tile([0.0, 0, 1], (9, 1)))
NOISY = make_path(np.tile([0.1, 0, 0.9], (9, 1)), 2.0)


@pytest.mark.parametrize(
    "lost", [slice(0), slice(7, None), slice(2), slice(4, 6)], ids=["none", "end", "start", "middle"]
)
def test_lost_frames_follow_the_estimated_motion_and_the_others_the_map(lost):
    mapped = scale_poses(TRUE, 0.2)
    mapped[lost] = np.nan
    path, inverse = follow_map(NOISY, mapped, 5.0), np.linalg.inv
    np.testing.assert_allclose(path[0], np.eye(4), atol=1e-12)
    known = np.flatnonzero(np.isfinite(mapped).all((1, 2)))
    origin = path[known[0]] @ inverse(TRUE[known[0]])
    np.testing.assert_allclose(path[known], origin @ TRUE[known], atol=1e-12)
    for row in set(range(1, 10)) - set(known):
        np.testing.assert_allclose(inverse(path[row - 1]) @ path[row], inverse(NOISY[row - 1]) @ NOISY[row], atol=1e-12)


def test_the_scale_is_predicted_over_mapped_depth():
    random = np.random.default_rng(0)
    points = random.uniform((-1, -1, 2), (1, 1, 6), (200, 3))
    lens = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    depth = np.full((48, 64), 4.0)
    x, y = (np.rint(lens[row, row] * points[:, row] / points[:, 2] + lens[row, 2]).astype(int) for row in (0, 1))
    depth[y.clip(0, 47), x.clip(0, 63)] = 2.5 * points[:, 2]
    assert measure_scale(1 / depth, lens, points) == pytest.approx(2.5, rel=0.02)
    assert np.isnan(measure_scale(1 / depth, lens, points[:5]))
    assert np.isnan(measure_scale(1 / depth, lens, points * (1, 1, -1))), "points behind the camera"


def test_paths_that_differ_by_a_similarity_do_not_differ_and_reversing_steps_are_counted():
    assert compare_paths(TRUE, scale_poses(TRUE, 3.0)) == pytest.approx(0, abs=1e-9)
    broken = TRUE.copy()
    broken[5, :3, 3] = TRUE[3, :3, 3]
    assert compare_paths(TRUE, broken) > 0.05
    assert count_reversing(broken).sum() == 2


def move(x: float, z: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = (x, 0, z)
    return T


class MapFolder:
    """A video's name, beside it a map of a wall 4 units away; the camera moves by .1 a frame to the right."""

    def __init__(self, folder: Path) -> None:
        self.video = folder / "drive.mp4"
        self.video.write_bytes(b"frames")
        self.file = folder / "drive.map" / "map.json"
        self.file.parent.mkdir()
        self.write([move(0.1 * n, 5.0) for n in range(FRAMES)])
        write_points(self.file.parent, 9.0, range(FRAMES), deviation=0.0)

    def write(self, poses: list[np.ndarray | None], **others: Any) -> None:
        self.file.write_text(json.dumps(make_record(hash_video(self.video), poses, **others)))


@pytest.fixture
def mapped(tmp_path: Path) -> MapFolder:
    return MapFolder(tmp_path)


SIZE = {"crop": "none", "height": 48, "width": 64, "depth_scale": DepthScale.METRES}
PREDICTOR: Any = SimpleNamespace(**SIZE, inverse_depth=lambda *_: np.full((1, 1, 48, 64), 0.125, np.float32))
PREDICT_DEPTH = partial(predict_frame_depth, PREDICTOR)
"""A network that predicts 8 m everywhere."""


def make_frames(focal: float = 1.0) -> list[Frame]:
    filmed = K.copy()
    filmed[:2, :2] *= focal
    return [Frame(f"{n:06d}", np.zeros((48, 64, 3), np.uint8), filmed) for n in range(FRAMES)]


def replace_path(
    mapped: MapFolder, by_depth: list[np.ndarray] | None = None, *, focal: float = 1.0, height_m: float | None = None
) -> CameraPath:
    found = MappedPath.find(mapped.video, DepthScale.METRES, height_m)
    assert found is not None
    frames = make_frames(focal)
    assert list(found.observe(PREDICT_DEPTH, frames)) == frames
    estimated = np.array([move(0.1 * n * (-1) ** n) for n in range(FRAMES)] if by_depth is None else by_depth)
    names = tuple(frame.name for frame in frames)
    return found.replace_path(CameraPath(estimated, names, (None,) * FRAMES, "", 1, np.ones(FRAMES)))


def test_the_path_is_that_of_the_map_in_the_unit_of_the_depth(mapped):
    path = replace_path(mapped)
    np.testing.assert_allclose(path.T_world_camera, [move(0.2 * n) for n in range(FRAMES)], atol=1e-6)
    assert "4 of 4 steps (the map: 0)" in path.notes[0]


def test_the_road_is_compared_where_the_map_has_one(mapped):
    """The network predicts 8 m; the map's road is 6 to 20 heights of .5 ahead, its points 9 units."""
    mapped.write([move(0.1 * n) for n in range(FRAMES)], road=ROAD)
    path = MappedPath.find(mapped.video, DepthScale.METRES)
    assert path is not None
    list(path.observe(PREDICT_DEPTH, make_frames()))
    unit = path.unit
    assert unit is not None
    assert unit.by_points == pytest.approx(8 / 9)
    assert unit.by_road == pytest.approx(8 / (0.5 * 13), rel=0.15)


def test_a_height_over_the_road_scales_the_path(mapped):
    mapped.write([move(0.1 * n) for n in range(FRAMES)], road=ROAD)
    path = replace_path(mapped, height_m=1.5)
    np.testing.assert_allclose(path.T_world_camera[:, 0, 3], 0.3 * np.arange(FRAMES), atol=1e-6)
    assert "height of 1.5 m" in path.notes[0]


def test_a_map_of_another_camera_is_not_used(mapped):
    path = replace_path(mapped, focal=1.2)
    assert path.T_world_camera[1, 0, 3] == pytest.approx(-0.1)
    assert "0.83" in path.notes[0]


def follow(path: MappedPath, by_depth: list[np.ndarray | None]) -> list[PredictedFrame]:
    """Follow the map with frames that have these poses by the predicted depth."""
    inverse, box = np.full((48, 64), 0.125, np.float32), CropWindow(0, 0, 48, 64)
    predicted = [
        PredictedFrame(frame, DepthScale.METRES, inverse, K, T, (48, 64), box, is_aligned=True)
        for frame, T in zip(make_frames(), by_depth, strict=True)
    ]
    return list(path.follow(predicted))


def open_path(mapped: MapFolder) -> MappedPath:
    path = MappedPath.find(mapped.video, DepthScale.METRES, 7.5)
    assert path is not None
    return path


def test_predicted_frames_take_the_poses_of_the_map(mapped):
    """A lost frame moves as the depth says; without motion by depth it has no pose."""
    mapped.write([None if n == 3 else move(0.1 * n, 5) for n in range(FRAMES)], road=ROAD)
    path, alone = open_path(mapped), open_path(mapped)
    followed = follow(path, [move(0.3 * n) for n in range(FRAMES)])
    expected = [0, 1.5, 3, 3.3, 6, 7.5]
    positions = [frame.T_world_camera[0, 3] for frame in followed if frame.T_world_camera is not None]
    np.testing.assert_allclose(positions, expected, atol=1e-9)
    np.testing.assert_allclose(followed[0].T_world_camera, np.eye(4), atol=1e-9)
    assert [frame.is_aligned for frame in followed] == [None, None, None, True, None, None]
    (line,) = path.lines(DepthScale.METRES)
    assert ": 7.5 m, +- 6% (95 %); by the predicted depth it is 0.20 times as long" in line

    followed = follow(alone, [None] * FRAMES)
    assert [frame.T_world_camera is None for frame in followed] == [n == 3 for n in range(FRAMES)]
    assert followed[-1].T_world_camera is not None
    assert followed[-1].T_world_camera[0, 3] == pytest.approx(7.5)
    (line,) = alone.lines(DepthScale.METRES)
    assert line.endswith("the height of 7.5 m over its road: 7.5 m, +- 6% (95 %)")


@pytest.mark.parametrize("reached", [1, 2])
def test_the_written_path_has_the_frames_that_the_map_places(mapped, tmp_path, reached):
    """The depth reaches the first frames and ends before the map begins: these frames have another origin."""
    mapped.write([move(0.1 * n, 5) if n in (3, 4) else None for n in range(FRAMES)], road=ROAD)
    path = open_path(mapped)
    followed = follow(path, [move(0.3 * n) if n < reached else None for n in range(FRAMES)])
    written = write_predictions(followed, PREDICTOR, tmp_path / "out", MADE_BY, source="drive")
    assert written.record is not None
    assert list(written.record.path) == ["000003", "000004"]
    assert "000004" in written.record.path_ends
    assert "000000" not in written.record.path_ends
    assert path.lines(DepthScale.METRES)[0].startswith("path: from drive.map")
    assert len(path.places) == 2
