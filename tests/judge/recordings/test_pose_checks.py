"""Poses written in another convention are recognized as such, by motions alone."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from stadia.core.types import Camera, Recording
from stadia.differentiable.view_synthesis import intrinsics
from stadia.geometry.conventions import describe_axes, list_axes
from stadia.geometry.two_views import TwoViewMotion, estimate_motion, pixel_rays
from stadia.judge.catalog import NotChecked
from stadia.judge.finding import Severity
from stadia.judge.recordings import pose_checks
from stadia.judge.recordings.preflight_runner import run_preflight


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


def test_inverted_poses_are_recognized() -> None:
    written = [np.linalg.inv(T) for T in WORLD_CAMERA]
    assert [c.code for c in CONVENTIONS if fit(c, written).score < 1] == ["E06"]


@pytest.mark.parametrize("number", [0, 1, 2, 20, 30, 46])
def test_turned_axes_are_recognized_by_name(number: int) -> None:
    axes = np.eye(4)
    axes[:3, :3] = list_axes()[1:][number]
    written = [T @ axes.T for T in WORLD_CAMERA]
    (convention,) = [c for c in CONVENTIONS if fit(c, written).score < 1]
    assert convention.name == f"axes of the poses: {describe_axes(axes[:3, :3])}"


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


class Plane(Recording):
    """A planar scene: z = 0 of the world, `per_m` pixels of texture to a metre, with exact poses."""

    def __init__(self, poses: list[np.ndarray], seed: int, per_m: float) -> None:
        self.name, self.poses, self.texture = "plane", poses, texture(seed)
        middle = self.texture.shape[0] / 2
        self.world_texture = np.linalg.inv([[per_m, 0, middle], [0, per_m, middle], [0, 0, 1]])

    def __len__(self) -> int:
        return len(self.poses)

    def image(self, index: int, side: str = "left") -> np.ndarray:
        T = np.linalg.inv(self.poses[index])
        H = K @ np.column_stack([T[:3, 0], T[:3, 1], T[:3, 3]]) @ self.world_texture
        return cv2.warpPerspective(
            self.texture, H, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
        )

    def camera(self, index: int, side: str = "left") -> Camera:
        return intrinsics(K[0, 0], K[1, 1], K[0, 2], K[1, 2], height=HEIGHT, width=WIDTH)

    def T_world_camera(self, index: int, side: str = "left") -> np.ndarray:
        return self.poses[index]

    def timestamp_s(self, index: int) -> float:
        return 0.1 * index


def path(step: tuple[float, float, float], height_m: float, turns_deg: float, seed: int) -> list[np.ndarray]:
    """Return T_world_camera of a camera above the plane that shakes."""
    random, poses = np.random.default_rng(seed), []
    for i in range(FRAMES):
        T = np.eye(4)
        T[:3, :3] = DOWN @ cv2.Rodrigues(np.radians(random.normal(size=3) * turns_deg))[0]
        T[:3, 3] = np.array((0, 0, height_m)) + (i - FRAMES / 2) * np.array(step)
        poses.append(T)
    return poses


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "height_m", "turns_deg", "per_m"),
    [
        pytest.param((1.5, 0, 0), 50, 0, 10, id="drone", marks=pytest.mark.exhaustive),
        pytest.param((1.5, 0, 0), 50, 1, 10, id="drone in wind"),
        pytest.param((0.04, 0, -0.02), 2.5, 1.5, 200, id="before a wall", marks=pytest.mark.exhaustive),
    ],
)
def test_exact_poses_over_a_plane_are_not_blamed(
    step: tuple[float, float, float], height_m: float, turns_deg: float, per_m: float
) -> None:
    seed = 0
    found = run_preflight([Plane(path(step, height_m, turns_deg, seed), seed, per_m)])
    assert {finding.severity for finding in found} == {Severity.NOTE}
    (poses,) = [finding.measured for finding in found if finding.measured.startswith("poses:")]
    assert "show one plane, which two motions explain" in poses


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
