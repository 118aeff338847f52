"""Poses written in another convention are recognized as such, by motions alone."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from stadia.geometry.two_views import TwoViewMotion, estimate_motion, pixel_rays
from stadia.judge.catalog import NotChecked
from stadia.judge.recordings import pose_checks


def drive(frames: int = 12) -> list[np.ndarray]:
    """T_world_camera of a camera that drives, turns about all axes and rises; the world's axes are not those of the
    first frame.
    """
    random = np.random.default_rng(1)
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.3, -0.8, 0.2]))[0]
    T[:3, 3] = (40, -3, 12)
    found = [T]
    for _ in range(frames - 1):
        step = np.eye(4)
        step[:3, :3] = cv2.Rodrigues(np.radians(random.uniform(-4, 4, 3)))[0]
        step[:3, 3] = random.normal((0.2, -0.1, 1.0), 0.2)
        found.append(found[-1] @ step)
    return found


WORLD_CAMERA = drive()
SEEN = [
    TwoViewMotion(
        (T := np.linalg.solve(second, first))[:3, :3],
        T[:3, 3] / np.linalg.norm(T[:3, 3]),
        False,
        np.ones(1, bool),
        10.0,
    )
    for first, second in pairwise(WORLD_CAMERA)
]
CONVENTIONS = pose_checks.make_conventions()


def fit(convention: pose_checks.Convention, written: list[np.ndarray]) -> pose_checks.PoseFit:
    return pose_checks.fit_poses([convention.motion(a, b) for a, b in pairwise(written)], SEEN)


def test_poses_as_they_must_be_fit() -> None:
    motions = [pose_checks.relative_pose(a, b) for a, b in pairwise(WORLD_CAMERA)]
    assert pose_checks.fit_poses(motions, SEEN).is_good
    assert not any(fit(convention, WORLD_CAMERA).score < 1 for convention in CONVENTIONS)


def test_the_poses_of_a_map_are_not_compared_with_two_frames() -> None:
    """On a straight road they differ by 30 degrees, and the map is right."""
    pose = {"T_world_camera": lambda index, side="left": WORLD_CAMERA[index]}
    recording = SimpleNamespace(**pose, map_points=lambda index: ())
    survey: Any = SimpleNamespace(recording=recording, length=len(WORLD_CAMERA), steps=[])
    with pytest.raises(NotChecked):
        list(pose_checks.check_poses(survey))
    recording.map_points = lambda index: None
    with pytest.raises(NotChecked):
        list(pose_checks.check_poses(survey))


HEIGHT, WIDTH, FRAMES = 240, 320, 12
FOCAL_PX = 200.0
K = np.array([[FOCAL_PX, 0, WIDTH / 2 - 0.5], [0, FOCAL_PX, HEIGHT / 2 - 0.5], [0, 0, 1]])
DOWN = np.diag([1.0, -1, -1])  # looks along -z of the world


def texture(seed: int, side: int = 1200) -> np.ndarray:
    """(side, side, 3) blots of every size, and rectangles."""
    random = np.random.default_rng(seed)
    gray = np.zeros((side, side), np.float32)
    for size in (4, 12, 40, 120):
        gray += cv2.GaussianBlur(random.standard_normal((side, side)).astype(np.float32), (0, 0), size / 4) * size
    for x, y, w, h in random.integers((0, 0, 8, 8), (side, side, 80, 80), (400, 4)):
        gray[y : y + h, x : x + w] += random.normal() * 6
    return cv2.cvtColor(cv2.normalize(gray, None, 10, 245, cv2.NORM_MINMAX).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def path(step: tuple[float, float, float], height_m: float, turns_deg: float, seed: int) -> list[np.ndarray]:
    """Return T_world_camera of a camera above the plane that shakes."""
    random, poses = np.random.default_rng(seed), []
    for i in range(FRAMES):
        T = np.eye(4)
        T[:3, :3] = DOWN @ cv2.Rodrigues(np.radians(random.normal(size=3) * turns_deg))[0]
        T[:3, 3] = np.array((0, 0, height_m)) + (i - FRAMES / 2) * np.array(step)
        poses.append(T)
    return poses


def test_plane_is_distinguished_from_a_scene_with_depth() -> None:
    random = np.random.default_rng(0)
    first = random.uniform((0, 0), (WIDTH, HEIGHT), (200, 2))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(np.radians((0.5, 1.5, -0.3)))[0], (0.6, 0.1, -0.3)
    flat, deep = np.full(200, 8.0), random.uniform(4, 12, 200)
    planar = []
    for depth in (flat, deep):
        moved = (pixel_rays(first, K) * depth[:, None]) @ T[:3, :3].T + T[:3, 3]
        second = moved @ K.T
        motion = estimate_motion(first, second[:, :2] / second[:, 2:] + random.normal(0, 0.2, (200, 2)), K)
        assert motion is not None
        planar.append(motion.planar)
    assert planar == [True, False]
