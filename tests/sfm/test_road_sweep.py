"""The road below a camera that drives: its height by the plane that maps one frame onto another."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from tests.combinations import mark_others

from stadia.sfm.road_sweep import choose_pairs, find_road_plane, find_travel_direction
from stadia.sfm.sparse_map import LensCamera

K = np.array([[260.0, 0, 159.5], [0, 260, 89.5], [0, 0, 1]])
CAMERA = LensCamera(260.0, (159.5, 89.5), (0, 0, 0, 0), 180, 320)
PITCH_DEG = 2.0
STEP = 0.4


def make_poses(count: int = 12, *, height: float = 1.4) -> np.ndarray:
    """T_world_camera of a camera that points up by PITCH_DEG and drives ahead; the road is y = 0, y down."""
    angle = np.radians(PITCH_DEG)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    T[:, 1, 3] = -height
    T[:, 2, 3] = STEP * np.arange(count)
    return T


def render(T_world_camera: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """The road with a texture of 10 pixels a unit, x from -20 and z from 0."""
    R, c = T_world_camera[:3, :3], T_world_camera[:3, 3]
    to_world = np.column_stack(([0.1, 0, 0], [0, 0, 0.1], [-20, 0, 0] - c))  # of (column, row, 1) of the texture
    H = K @ R.T @ to_world
    image = cv2.warpPerspective(texture, H, (320, 180), flags=cv2.INTER_LINEAR, borderValue=200)
    horizon = int(K[1, 2] + K[1, 1] * np.tan(np.radians(PITCH_DEG))) + 2
    image[:horizon] = 200
    return image


def make_frames(poses: np.ndarray, *, is_even: bool = False) -> dict[int, np.ndarray]:
    noise = np.random.default_rng(0).integers(40, 200, (150, 100)).astype(np.uint8)
    texture = cv2.resize(noise, (400, 600), interpolation=cv2.INTER_CUBIC)
    if is_even:
        texture[:] = 90
    return {index: render(T, texture) for index, T in enumerate(poses)}


@pytest.mark.slow
@pytest.mark.parametrize("height", mark_others([1.0, 1.8], [1.8]))
def test_the_height_of_the_camera_is_that_of_the_road_below_it(height):
    poses = make_poses(height=height)
    found = find_road_plane(make_frames(poses), choose_pairs(poses, [0, 2, 4, 6, 8, 10]), poses, CAMERA)
    assert found.height == pytest.approx(height, rel=0.03)
    assert abs(found.height - height) < 2.5 * found.deviation
    assert found.pitch_deg == pytest.approx(PITCH_DEG, abs=0.01)
    np.testing.assert_allclose(found.normal @ [0, 1, 0], -np.cos(np.radians(PITCH_DEG)), atol=1e-6)


@pytest.mark.slow
def test_a_car_that_drives_ahead_is_left_out_by_its_mask():
    """A dark car covers the middle of the road, and has no part in its height; where it hides all, there is none."""
    poses = make_poses()
    frames, pairs = make_frames(poses), choose_pairs(poses, [0, 2, 4, 6, 8, 10])
    car = np.zeros((180, 320), bool)
    car[100:170, 110:210] = True
    pattern = np.random.default_rng(1).integers(0, 255, (180, 320)).astype(np.uint8)
    driving = {index: np.where(car, cv2.GaussianBlur(pattern, (0, 0), 2), image) for index, image in frames.items()}
    found = find_road_plane(driving, pairs, poses, CAMERA, dict.fromkeys(frames, car))
    assert found.height == pytest.approx(1.4, rel=0.03)
    assert found.agreement > 0.9
    assert find_road_plane(frames, pairs, poses, CAMERA, dict.fromkeys(frames, np.ones_like(car))) is None


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 1.4])
def test_a_height_that_changes_along_the_path_is_the_zoom_or_drift_of_its_scale(factor):
    """The map's unit grows along the path, as for a lens that zooms on a straight drive."""
    poses = make_poses(24)
    drifting = poses.copy()
    drifting[1:, 2, 3] = np.cumsum(STEP * np.linspace(1, factor, 23))
    found = find_road_plane(make_frames(poses), choose_pairs(drifting, range(0, 24, 2)), drifting, CAMERA)
    assert found.drift == pytest.approx(factor ** (2 / 3), rel=0.04)


@pytest.mark.slow
def test_an_even_road_and_a_camera_that_turns_on_the_spot_have_no_height():
    poses = make_poses()
    pairs = choose_pairs(poses, [0, 2, 4, 6, 8, 10])
    assert find_road_plane(make_frames(poses, is_even=True), pairs, poses, CAMERA) is None
    spinning = poses.copy()
    spinning[:, :3, 3] = 0
    assert find_travel_direction(spinning) is None
    assert find_road_plane(make_frames(poses), pairs, spinning, CAMERA) is None


@pytest.mark.slow
def test_the_distortion_of_a_lens_changes_no_height():
    poses = make_poses()
    lens = replace(CAMERA, distortion=(-0.3, 0.05, 0.001, 0))
    y, x = np.mgrid[:180, :320].astype(np.float64)
    pixels = np.stack((x, y), -1).reshape(-1, 1, 2)
    straight = cv2.undistortPoints(pixels, K, np.array(lens.distortion), P=K).reshape(180, 320, 2).astype(np.float32)
    bend = (straight[..., 0], straight[..., 1], cv2.INTER_LINEAR)
    frames = {index: cv2.remap(image, *bend, borderValue=200) for index, image in make_frames(poses).items()}
    found = find_road_plane(frames, choose_pairs(poses, [0, 2, 4, 6, 8, 10]), poses, lens)
    assert found.height == pytest.approx(1.4, rel=0.03)


def test_a_path_sideways_or_back_follows_no_road():
    sideways = make_poses()
    sideways[:, :3, 3] = sideways[:, :3, 3][:, [2, 1, 0]]
    assert find_travel_direction(sideways) is None
    assert find_travel_direction(make_poses()[::-1]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "turned"),
    mark_others(
        [("a stop", False), ("a stop", True), ("slow and fast", False), ("slow and fast", True)],
        [("a stop", True), ("slow and fast", False)],
    ),
)
def test_a_drive_that_stops_or_changes_its_speed_has_its_road(kind, turned):
    steps = np.repeat([STEP, 0, STEP], [14, 14, 14]) if kind == "a stop" else np.repeat([0.01, 1.2], [100, 10])
    poses = make_poses(len(steps) + 1)
    poses[:, 2, 3] = np.append(0, np.cumsum(steps))
    world = np.eye(4)
    if turned:
        world[:3, :3] = cv2.Rodrigues(np.array([0.1, 0.3, 0.2]))[0]
    keys = [0, *(1 + np.flatnonzero(np.diff(poses[:, 2, 3] // (2 * STEP))))]
    pairs = choose_pairs(world @ poses, keys)
    found = find_road_plane(make_frames(poses), pairs, world @ poses, CAMERA)
    assert found.height == pytest.approx(1.4, rel=0.03)


def test_pairs_have_two_distances_and_known_poses():
    poses = make_poses(20)
    poses[5] = np.nan
    pairs = choose_pairs(poses, [0, 4, 8, 12, 16])
    assert {2, 4} <= {second - first for first, second in pairs} <= {2, 3, 4, 5}
    assert all(5 not in pair for pair in pairs)
