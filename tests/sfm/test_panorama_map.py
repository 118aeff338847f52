"""Map a video of panoramas that are rendered in a textured room."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.verdict import Verdict
from stadia.evaluation.plots.videos import open_video_file
from stadia.geometry.panorama import make_rays, make_rotation
from stadia.io.video_decoding import hash_video
from stadia.predict.inputs import open_inputs
from stadia.sfm import panorama_map
from stadia.sfm.frame_stream import is_panorama_video
from stadia.sfm.map_files import check_map_folder
from stadia.sfm.panorama_map import PanoramaEvidence, _name_frame, count_held_out, map_panorama

HALF = np.array([4.0, 2.0, 5.0])
SPHERICAL = b"\x00\x00\x00\x2eudta<GSpherical:Spherical>true</G...>"


def draw_room(position: NDArray[np.float64], yaw_deg: float, textures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the panorama (256, 512, 3) of a box whose six walls have textures, at a position in it."""
    rays = make_rays(256, 512) @ make_rotation(yaw_deg, 0).T
    with np.errstate(divide="ignore"):
        lengths = (np.sign(rays) * HALF - position) / rays
    axis = lengths.argmin(-1)
    points = position + rays * lengths.min(-1, keepdims=True)
    image = np.zeros(rays.shape, np.uint8)
    for wall in range(3):
        across, down = [other for other in range(3) if other != wall]
        for side in (0, 1):
            hit = (axis == wall) & ((rays[..., wall] > 0) == bool(side))
            x, y = ((points[hit][:, other] / HALF[other] + 1) * 255.5 for other in (across, down))
            image[hit] = textures[2 * wall + side][y.astype(int), x.astype(int)][:, None]
    return image


def write_panoramas(path: Path, count: int, step_m: float) -> NDArray[np.float64]:
    """Write a video of a camera that walks and turns; return its positions (count, 3)."""
    random = np.random.default_rng(0)
    textures = [cv2.resize(random.integers(0, 255, (40, 40), np.uint8), (512, 512)) for _ in range(6)]
    positions = np.array([[0.3 * np.sin(index), 0.1 * np.cos(index), -2 + step_m * index] for index in range(count)])
    with open_video_file(path, 10.0) as write:
        for index, position in enumerate(positions if step_m else 0 * positions):
            write(draw_room(position, 5 * index, np.array(textures)))
    return positions


def change_half(model: Any, turn_deg: float, factor: float) -> Any:
    """Return a copy of a model whose second half is turned, and scaled from its first place."""
    import pycolmap

    changed = copy.deepcopy(model)
    frames = sorted((changed.frames[number] for number in changed.reg_frame_ids()), key=_name_frame(changed))
    poses = [frame.rig_from_world.inverse() for frame in frames[len(frames) // 2 :]]
    start, turn = poses[0].translation.copy(), make_rotation(turn_deg, 0)
    for frame, pose in zip(frames[len(frames) // 2 :], poses, strict=True):
        R, center = turn @ pose.rotation.matrix(), start + factor * turn @ (pose.translation - start)
        frame.rig_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(R), center).inverse()
    return changed


rescale_half, turn_half = partial(change_half, turn_deg=0.0, factor=1.5), partial(change_half, turn_deg=3.0, factor=1.0)


@pytest.mark.slow
def test_a_walk_through_a_room_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    video = tmp_path / "walk.mp4"
    positions = write_panoramas(video, 5, 0.4)
    assert is_panorama_video(video)
    wrong = list[Verdict]()

    def count(model: Any, database: Path) -> tuple[list[str], Any, Any]:
        right = count_held_out(model, database)
        for disturb in (rescale_half, turn_half):
            wrong.append(PanoramaEvidence(1.0, 9.0, *count_held_out(disturb(model), database)).judge().verdict)
        return right

    monkeypatch.setattr(panorama_map, "count_held_out", count)
    found = map_panorama(video, has_views=True)
    assert wrong == [Verdict.UNUSABLE, Verdict.UNUSABLE]
    T = found.T_world_camera
    assert np.isfinite(T).all()
    moved, true = T[:, :3, 3], positions - positions[0]
    factor = np.linalg.norm(true) / np.linalg.norm(moved)
    np.testing.assert_allclose(factor * moved, true, atol=0.03)
    turns = np.degrees(np.arccos(np.clip((np.trace(T[1:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
    np.testing.assert_allclose(turns, 5 * np.arange(1, 5), atol=0.3)
    check_map_folder(found.folder, video, hash_video(video))  # the same command may replace it
    record = json.loads((found.folder / "map.json").read_text())
    assert record["format"] == "stadia-panorama-map"
    assert record["verdict"] == {"grade": "usable", "reason": ""}
    assert record["held_out_within"] > 0.8
    assert {"colmap/rigs.bin", "points.ply", "trajectory.txt", "trajectory_tum.txt"} <= record["files"].keys()
    assert len(list((found.folder / "images" / record["views"][0]["name"]).glob("*.jpg"))) >= 4


def test_a_header_states_that_a_video_is_spherical(tmp_path: Path) -> None:
    from stadia.io.video_decoding import stream_video

    video = tmp_path / "sphere.mp4"
    with open_video_file(video, 10.0) as write:
        write(np.zeros((64, 64, 3), np.uint8))
    assert not is_panorama_video(video)
    video.write_bytes(video.read_bytes() + SPHERICAL)
    assert is_panorama_video(video)
    with pytest.raises(DataError) as error:
        next(stream_video(video))
    assert "stadia map" in error.value.fix


def test_a_video_of_two_fisheye_circles_is_no_video_of_a_pinhole(tmp_path: Path) -> None:
    """Untagged: its circles show what it is."""
    circle = cv2.circle(np.zeros((128, 128, 3), np.uint8), (63, 63), 63, (200, 150, 100), -1)
    video = tmp_path / "dual.mp4"
    with open_video_file(video, 10.0) as write:
        for _ in range(4):
            write(np.hstack((circle, circle)))
    assert is_panorama_video(video)
    with pytest.raises(DataError, match="360 degrees"):
        open_inputs(video)
