"""Stereo cameras, and poses, that are some frames late: by the distances to epipolar lines and by rotations alone."""

from itertools import pairwise
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stadia.diagnostics.finding import Severity
from stadia.diagnostics.preflight import pose_checks
from stadia.diagnostics.preflight.pose_checks import check_synchronization, find_pose_shift

WIDTH, LATE = 640, 2


def report(monkeypatch: pytest.MonkeyPatch, distances_px: dict[int, float], *, spread: float = 0.0) -> list:
    """Findings of six pairs whose matches lie so far from their epipolar lines, by the shift of the right image."""
    survey = SimpleNamespace(
        stereo=True,
        anchors=range(3, 9),
        length=12,
        recording=SimpleNamespace(camera=lambda index: SimpleNamespace(width=WIDTH)),
        pairs=0,
        match_shifted=lambda shift: shift,
    )
    measured = lambda survey, shift: {i: distances_px[shift] * (1 + spread * (i % 2)) for i in survey.anchors}  # noqa: E731
    monkeypatch.setattr(pose_checks, "_measure_distances", measured)
    return list(check_synchronization(survey))  # type: ignore[arg-type]


def around(**distances_px: float) -> dict[int, float]:
    return dict.fromkeys(range(-3, 4), 2.0) | {int(name[1:]) * (-1) ** (name[0] == "m"): v
                                                    for name, v in distances_px.items()}  # fmt: skip


@pytest.mark.parametrize(("shift", "words"), [(1, "1 frame late"), (3, "3 frames late"), (-2, "2 frames early")])
def test_a_late_camera_is_named_with_its_frames(shift: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = report(monkeypatch, around() | {shift: 0.1})
    assert (found.code, found.severity) == ("E10", Severity.STOP)
    assert words in found.cause
    assert f"right image i{shift:+d}" in found.fix


def test_synchronized_and_standing_cameras_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report(monkeypatch, around(p0=0.1)) == []
    assert report(monkeypatch, dict.fromkeys(range(-3, 4), 0.1)) == []


def test_shifts_that_fit_alike_are_undecided_and_prescribe_none(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = report(monkeypatch, around(p1=0.11, p2=0.1))
    assert "undecided" in found.cause
    assert "by timestamp" in found.fix
    assert "i+2" not in found.fix


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


@pytest.mark.parametrize(
    ("as_given_deg", "shifted_deg", "is_found"), [(0.2, 0.05, True), (0.2, 0.11, False), (0.06, 0.01, False)]
)
def test_a_shift_of_poses_must_be_clearly_better(
    as_given_deg: float, shifted_deg: float, is_found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {0: as_given_deg, 1: shifted_deg}
    measured = lambda survey, steps, shift: dict.fromkeys(range(6), errors.get(shift, 0.5))  # noqa: E731
    monkeypatch.setattr(pose_checks, "_rotation_errors_deg", measured)
    found = find_pose_shift(SimpleNamespace(), [])  # type: ignore[arg-type]
    assert (found is not None) == is_found
