"""Poses written in another convention are recognized as such, by motions alone."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from stadia.diagnostics.catalog import NotChecked
from stadia.diagnostics.preflight import pose_checks
from stadia.diagnostics.preflight.two_view_geometry import TwoViewMotion


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


def test_there_are_48_axes_less_the_right_ones_each_once() -> None:
    axes = pose_checks.list_axes()
    assert len({a.astype(int).tobytes() for a in axes}) == len(axes) == 47
    assert not any(np.array_equal(a, np.eye(3)) for a in axes)
    assert all(np.allclose(a @ a.T, np.eye(3)) for a in axes)


def test_inverted_poses_are_recognized() -> None:
    written = [np.linalg.inv(T) for T in WORLD_CAMERA]
    assert [c.code for c in CONVENTIONS if fit(c, written).score < 1] == ["E06"]


@pytest.mark.parametrize("number", [0, 1, 2, 20, 30, 46])
def test_turned_axes_are_recognized_by_name(number: int) -> None:
    axes = np.eye(4)
    axes[:3, :3] = pose_checks.list_axes()[number]
    written = [T @ axes.T for T in WORLD_CAMERA]
    (convention,) = [c for c in CONVENTIONS if fit(c, written).score < 1]
    assert convention.name == f"axes of the poses: {pose_checks.describe_axes(axes[:3, :3])}"


def test_axes_are_described_in_words() -> None:
    body = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # of the camera's z, -x and -y
    assert pose_checks.describe_axes(body) == "x forward, y left, z up"
    assert pose_checks.describe_axes(np.diag([1.0, -1, -1])) == "x right, y up, z back"


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
