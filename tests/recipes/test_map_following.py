"""The path of a prediction is that of the map beside the video, in the unit of the predicted depth."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stadia.core.types import DepthScale
from stadia.datasets.video.content_hash import hash_source
from stadia.evaluation.frame_preparation import Frame
from stadia.predict.map_following import MappedPath, find_mapped_path

FRAMES, LOST = 6, 3
K = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])


def move(metres: float, side: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = (side, 0, metres)
    return T


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A map that moves by .1 a frame, is lost at one, and starts away from its origin."""
    folder, source = tmp_path / "drive.map", tmp_path / "drive.mp4"
    folder.mkdir()
    source.write_bytes(b"a video")
    camera: dict[str, Any] = {"origin": "given", "focal_px": 50.0, "center_px": [31.5, 23.5]}
    camera |= {"distortion": [0, 0, 0, 0]}
    poses = {n: move(0.1 * n, 5.0)[:3].tolist() for n in range(FRAMES) if n != LOST}
    frames = [{"index": n, "name": f"{n:06d}", "status": "key", "T_world_camera": poses.get(n)} for n in range(FRAMES)]
    road = {"normal": [0, -1, 0], "height": 0.1, "height_deviation": 0.001, "pitch_deg": 0, "pitch_deviation_deg": 0.1}
    camera |= {"height": 48, "width": 64}
    record = {"format": "stadia-map", "fingerprint": hash_source(source), "camera": camera}
    (folder / "map.json").write_text(json.dumps({**record, "frames": frames, "road": road}))
    return source


def predict(step: float) -> list[Any]:
    """Frames whose predicted depth moves the camera by `step` each."""
    return [
        SimpleNamespace(frame=SimpleNamespace(name=f"{n:06d}"), T_world_camera=move(step * n), is_aligned=True)
        for n in range(FRAMES)
    ]


def follow(path: MappedPath, frames: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(
        "stadia.predict.map_following.replace", lambda frame, **new: SimpleNamespace(**{**vars(frame), **new})
    )
    return list(path.follow(frames))


def first_frame(focal: float = 1.0) -> Frame:
    filmed = K.copy()
    filmed[:2, :2] *= focal
    return Frame("000000", np.zeros((48, 64, 3), np.uint8), filmed)


def test_the_height_over_the_road_gives_the_path_metres(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = find_mapped_path(video, first_frame(), 1.5)
    assert isinstance(path, MappedPath)
    assert path.scale == pytest.approx(15)
    followed = follow(path, predict(0.3), monkeypatch)
    expected = [0, 1.5, 3, 3.3, 6, 7.5]  # the lost frame moves as the depth says
    np.testing.assert_allclose([frame.T_world_camera[2, 3] for frame in followed], expected, atol=1e-9)
    np.testing.assert_allclose(followed[0].T_world_camera, np.eye(4), atol=1e-9)
    assert [frame.is_aligned for frame in followed] == [None, None, None, True, None, None]
    (line,) = path.lines(DepthScale.METRES)
    assert line == (
        "path: that of drive.map, scaled by the height of 1.5 m over its road: 7.5 m, +- 4% (95 %);"
        " by the predicted depth it is 0.20 times as long"
    )


def test_a_map_alone_gives_a_path(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each n-th frame depth estimates no motion; a frame that the map lost has no pose then."""
    path = find_mapped_path(video, first_frame(), 1.5)
    assert isinstance(path, MappedPath)
    frames = predict(0.3)
    for frame in frames:
        frame.T_world_camera = None
    followed = follow(path, frames, monkeypatch)
    assert [frame.T_world_camera is None for frame in followed] == [n == LOST for n in range(FRAMES)]
    assert followed[-1].T_world_camera[2, 3] == pytest.approx(7.5)
    (line,) = path.lines(DepthScale.METRES)
    assert line == "path: that of drive.map, scaled by the height of 1.5 m over its road: 7.5 m, +- 4% (95 %)"
    assert path.describe_origin() == line.removeprefix("path: ").removesuffix(": 7.5 m, +- 4% (95 %)")


def test_a_map_of_another_camera_is_not_used(video: Path) -> None:
    why = find_mapped_path(video, first_frame(1.25), 1.5)
    assert why == "its focal length is that of the depth over 1.25; make it again with this camera"
    assert find_mapped_path(video.with_name("other.mp4"), first_frame(), 1.5) is None
    unscaled = find_mapped_path(video, first_frame(), None)
    assert isinstance(unscaled, MappedPath)
    assert np.isnan(unscaled.scale)
