"""Poses that are some frames late, found by rotations alone; mutations have the late stereo cameras."""

from itertools import pairwise
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stadia.judge.recordings.pose_checks import find_pose_shift


def world(frames: int = 20) -> list[np.ndarray]:
    random, found = np.random.default_rng(0), [np.eye(4)]
    for _ in range(frames - 1):
        step = np.eye(4)
        step[:3, :3] = cv2.Rodrigues(np.radians(random.uniform(-1, 1, 3)))[0]
        step[2, 3] = 1.0
        found.append(found[-1] @ step)
    return found


def pose_shift(
    noise_deg: float, late: int, *, is_straight: bool = False
) -> tuple[int, list[int], dict[int, float]] | None:
    """The shift that is found where the poses are `late` frames late and rotations are measured with this noise."""
    true, random = world(), np.random.default_rng(1)
    for first, second in pairwise(true):
        if is_straight:
            second[:3, :3] = first[:3, :3]
    written = [true[min(max(i - late, 0), len(true) - 1)] for i in range(len(true))]

    def motion(of: list[np.ndarray], first: int, second: int) -> np.ndarray:
        return np.linalg.solve(of[second], of[first])

    def measured(first: int, second: int) -> SimpleNamespace:
        error = cv2.Rodrigues(np.radians(random.normal(0, noise_deg, 3)))[0]
        return SimpleNamespace(R=error @ motion(true, first, second)[:3, :3])

    steps = [SimpleNamespace(first=i, second=i + 2, measured=measured(i, i + 2)) for i in range(3, 15, 2)]
    survey = SimpleNamespace(length=len(true), given_motion=lambda first, second: motion(written, first, second))
    return find_pose_shift(survey, steps)  # type: ignore[arg-type]


@pytest.mark.parametrize("late", [-3, -1, 1, 2])
def test_late_poses_are_found_by_rotations(late: int) -> None:
    found = pose_shift(0.01, late)
    assert found is not None
    assert found[:2] == (late, [])


def test_right_poses_and_a_straight_drive_have_no_shift() -> None:
    assert pose_shift(0.01, 0) is None
    assert pose_shift(0.3, 0) is None
    assert pose_shift(0.01, 2, is_straight=True) is None
