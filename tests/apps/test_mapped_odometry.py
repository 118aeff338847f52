"""`stadia odometry` takes the path of the map beside the video, in the unit of the depth; or states why not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stadia.core.types import DepthScale
from stadia.datasets.video.content_hash import hash_video
from stadia.evaluation.frame_preparation import Frame
from stadia.odometry.visual_odometry import CameraPath
from stadia.predict.mapped_odometry import MappedOdometry

FRAMES = 6
K = np.array([[40.0, 0, 31.5], [0, 40, 23.5], [0, 0, 1]])


def move(x: float) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = x
    return T


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video's name, beside it a map of a wall 4 units away; the camera moves by .1 a frame to the right."""
    folder = tmp_path / "drive.map"
    folder.mkdir()
    camera = {
        "origin": "given",
        "focal_px": 40.0,
        "center_px": [31.5, 23.5],
        "distortion": [0, 0, 0, 0],
        "height": 48,
        "width": 64,
    }
    frames = [
        {"index": n, "name": f"{n:06d}", "status": "key", "T_world_camera": move(0.1 * n)[:3].tolist()}
        for n in range(FRAMES)
    ]
    source = tmp_path / "drive.mp4"
    source.write_bytes(b"frames")
    record = {"format": "stadia-map", "fingerprint": hash_video(source), "camera": camera, "frames": frames}
    (folder / "map.json").write_text(json.dumps(record))
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    points = np.column_stack((x.ravel(), y.ravel(), np.full(x.size, 4.0)))
    observed = np.array([(row, point) for row in range(FRAMES) for point in range(len(points))])
    np.savez(folder / "points.npz", points=points, observed=observed, frames=np.arange(FRAMES))
    return source


def make_predictor(scale: DepthScale = DepthScale.METRES) -> Any:
    """A network that predicts 8 m everywhere."""
    return SimpleNamespace(
        crop="none",
        height=48,
        width=64,
        depth_scale=scale,
        inverse_depth=lambda image, camera: torch.full((1, 1, 48, 64), 0.125),
    )


def run(
    video: Path, *, focal: float = 1.0, by_depth: Any = None, height_m: float | None = None
) -> tuple[CameraPath, list[str]]:
    mapped = MappedOdometry.open(video, make_predictor(), height_m)
    assert mapped is not None
    filmed = K.copy()
    filmed[:2, :2] *= focal
    frames = [Frame(f"{n:06d}", np.zeros((48, 64, 3), np.uint8), filmed) for n in range(FRAMES)]
    assert [frame.name for frame in mapped.observe(frames)] == [frame.name for frame in frames]
    estimated = np.array([move(0.1 * n * (-1) ** n) for n in range(FRAMES)] if by_depth is None else by_depth)
    names = tuple(frame.name for frame in frames)
    return mapped.replace_path(CameraPath(estimated, names, (None,) * FRAMES, "", 1, np.ones(FRAMES)))


def test_the_path_is_that_of_the_map_in_the_unit_of_the_depth(video):
    path, notes = run(video)
    np.testing.assert_allclose(path.T_world_camera, [move(0.2 * n) for n in range(FRAMES)], atol=1e-6)
    assert "reverses in 4 of 4 steps, the map's in 0" in notes[0]


def test_a_height_over_the_road_scales_the_path(video):
    file = video.with_suffix(".map") / "map.json"
    road = {"normal": [0, -1, 0], "height": 0.5, "height_deviation": 0.01, "pitch_deg": 0, "pitch_deviation_deg": 0.1}
    file.write_text(json.dumps({**json.loads(file.read_text()), "road": road}))
    path, (note,) = run(video, height_m=1.5)
    np.testing.assert_allclose(path.T_world_camera[:, 0, 3], 0.3 * np.arange(FRAMES), atol=1e-6)
    assert note.endswith("the height of 1.5 m over its road scales it")


def test_frames_that_the_map_lost_do_not_count_as_turning_back(video):
    """They move as the depth does: where the map goes on, the path may step back."""
    file = video.with_suffix(".map") / "map.json"
    record = json.loads(file.read_text())
    record["frames"][2]["T_world_camera"] = None
    file.write_text(json.dumps(record))
    forward = [move(0.9 * n) for n in range(FRAMES)]
    path, notes = run(video, by_depth=forward)
    assert "the map's in 0" in notes[0]
    assert np.diff(path.T_world_camera[:, 0, 3]).min() < 0


def test_a_map_that_turns_back_alone_is_not_used(video):
    """A map from a wrong first pair bends; where the path by depth turns back as often, the map's stays."""
    forward = [move(0.1 * n) for n in range(FRAMES)]
    file = video.with_suffix(".map") / "map.json"
    record = json.loads(file.read_text())
    turned = [move(0.1 * min(n, 6 - n)) for n in range(FRAMES)]
    for frame, T in zip(record["frames"], turned, strict=True):
        frame["T_world_camera"] = T[:3].tolist()
    file.write_text(json.dumps(record))
    path, notes = run(video, by_depth=forward)
    np.testing.assert_array_equal(path.T_world_camera, forward)
    (note,) = notes
    assert note.startswith("the map beside the video was not used: its path differs by ")
    assert note.endswith("reverses in 1 of 4 steps, that by depth in 0")
    path, _ = run(video, by_depth=turned)
    np.testing.assert_allclose(path.T_world_camera[:, 0, 3], [0.2 * min(n, 6 - n) for n in range(FRAMES)], atol=1e-6)


def test_a_map_of_another_camera_is_not_used(video):
    path, notes = run(video, focal=1.2)
    assert path.T_world_camera[1, 0, 3] == pytest.approx(-0.1)
    assert notes == [
        "the map beside the video was not used: its focal length is that of the depth over 1.20;"
        " make it again with this camera"
    ]


def test_there_is_none_without_a_map_and_for_depth_without_a_scale(video, tmp_path):
    assert MappedOdometry.open(tmp_path / "other.mp4", make_predictor()) is None
    assert MappedOdometry.open(video, make_predictor(DepthScale.AFFINE_INVERSE)) is None
