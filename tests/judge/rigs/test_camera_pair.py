"""Two cameras that move together: laws of the measured error of their calibration, on points without images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.campaign.cases import copy_sound
from numpy.typing import NDArray

from stadia.cli.main import run
from stadia.geometry.image_features import SiftFeatures
from stadia.geometry.poses import from_rotation_translation, invert_pose, se3_exp, so3_exp
from stadia.judge.rigs.camera_pair import CameraPairError, Instant, judge_pair, match_instants, measure_pair

Array = NDArray[np.float64]

K = np.array([[500.0, 0, 319.5], [0, 500, 199.5], [0, 0, 1]])
T_RIGHT_LEFT = from_rotation_translation(so3_exp(np.radians([0.5, -2.0, 1.0])), np.array([-0.4, 0.01, 0.02]))
STEP_S = 0.1
MOTION = np.array([0.2, 0.1, 1.0, 0.02, 0.06, 0.02])
"""The largest twist of the scene in the first camera during a step."""


def project(points: Array, random: np.random.Generator) -> Array:
    pixels = points @ K.T
    return pixels[:, :2] / pixels[:, 2:] + random.normal(size=(len(points), 2)) * 0.2


def transform(T: Array, points: Array) -> Array:
    return points @ T[:3, :3].T + T[:3, 3]


def make_instants(
    T: Array = T_RIGHT_LEFT, *, late_s: float = 0.0, turn_after: Array | None = None, is_steady: bool = False
) -> list[Instant]:
    random = np.random.default_rng(0)
    instants = []
    for number in range(12):
        depth = np.exp(random.uniform(np.log(3), np.log(30), 250))
        pixels = random.uniform((0, 0), (640, 400), (250, 2))
        points = np.column_stack([(pixels - K[:2, 2]) / 500 * depth[:, None], depth])
        seen = T if turn_after is None or number < 6 else turn_after @ T
        motion = MOTION * (1.0 if is_steady else random.uniform(-1, 1, 6))
        later = transform(se3_exp(motion * late_s / STEP_S), points)
        first = project(points, random)
        following = project(transform(se3_exp(motion), points), random)
        instants.append(Instant(first, project(transform(seen, later), random), first, following, STEP_S))
    return instants


def make_strip(random: np.random.Generator, count: int) -> list[Instant]:
    """Return matches of far things in a narrow strip of both images, which lenses bend by less than a pixel."""
    instants = []
    T = invert_pose(T_SURROUND)
    for _ in range(3):
        depth = random.uniform(15, 80, count)
        pixels = random.uniform((580, 60), (636, 340), (count, 2))
        points = np.column_stack([(pixels - K[:2, 2]) / 500 * depth[:, None], depth])
        second = project(transform(T, points), random)
        second[:, 1] += 0.4 * np.sin(second[:, 1] / 60)
        instants.append(Instant(project(points, random), second))
    return instants


T_SURROUND = from_rotation_translation(so3_exp(np.radians([0.0, 55.0, 0.0])), np.array([0.15, 0.02, 0.03]))
"""Pose of a camera that looks to the right in one that looks ahead; they share a strip of the border."""


def list_causes(error: CameraPairError) -> list[str]:
    return [cause.name for cause in judge_pair("rig", error).causes]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [30, 60])
def test_a_narrow_strip_of_far_things_accuses_no_calibration(seed: int, count: int) -> None:
    error = measure_pair(make_strip(np.random.default_rng(seed), count), K, K, invert_pose(T_SURROUND))
    assert error.across_m is not None
    assert list_causes(error) == []


def test_cameras_without_a_shared_view_have_no_matches() -> None:
    """Epipolar geometry fits some of any matches."""
    random = np.random.default_rng(0)

    def detect(index: int, side: str) -> SiftFeatures:
        pixels = random.uniform((0, 0), (640, 400), (400, 2))
        return SiftFeatures(pixels, np.round(random.uniform(0, 255, (400, 128))).astype(np.float32))

    instants = match_instants(detect, ("left", "right"), 8, None, side_px=640)
    assert sum(len(instant.first_px) for instant in instants) == 0


def test_matches_on_one_line_leave_the_rotation_open() -> None:
    """No deviation of thousands of degrees is printed."""
    random = np.random.default_rng(0)
    depth = random.uniform(5, 6, 200)
    points = np.column_stack([random.uniform(0, 0.02, 200) * depth, 0 * depth, depth])
    first, second = project(points, random), project(transform(T_RIGHT_LEFT, points), random)
    error = measure_pair([Instant(first, second)], K, K, T_RIGHT_LEFT)
    assert error.rotation_deg is None
    assert "leave the rotation open" in error.reason
    assert judge_pair("rig", error).grade == "not judged"


def test_a_right_calibration_is_not_accused() -> None:
    error = measure_pair(make_instants(), K, K, T_RIGHT_LEFT)
    assert list_causes(error) == []
    assert judge_pair("rig", error).grade == "usable"


@pytest.mark.parametrize("turn_deg", [(0.5, 0, 0), (0, 1.5, 0), (0, 0, -0.4), (1.0, -0.5, 0.7)])
def test_a_turn_is_measured(turn_deg: tuple[float, float, float]) -> None:
    D = from_rotation_translation(so3_exp(np.radians(turn_deg)), np.zeros(3))
    error = measure_pair(make_instants(), K, K, D @ T_RIGHT_LEFT)
    assert error.rotation_deg is not None
    for measured, true in zip(error.rotation_deg, turn_deg, strict=True):
        assert measured.value == pytest.approx(true, abs=2 * measured.deviation)
        assert measured.deviation < 0.4
    assert error.T_second_first is not None
    left_deg = np.degrees(np.linalg.norm((error.T_second_first - T_RIGHT_LEFT)[:3, :3]))
    assert left_deg < 0.1


def test_a_move_across_the_baseline_is_measured_and_one_along_it_is_not() -> None:
    given = T_RIGHT_LEFT.copy()
    given[:3, 3] += [0.0, 0.03, 0.0]
    error = measure_pair(make_instants(), K, K, given)
    assert error.across_m is not None
    assert error.across is not None
    for measured, true in zip(error.across_m, error.across @ np.array([0.0, 0.03, 0.0]), strict=True):
        assert measured.value == pytest.approx(true, abs=2 * measured.deviation)
    assert "position" in list_causes(error)
    longer = T_RIGHT_LEFT.copy()
    longer[:3, 3] *= 1.5
    assert list_causes(measure_pair(make_instants(), K, K, longer)) == []


def test_a_turn_that_moves_far_points_behind_the_cameras_is_no_exchange() -> None:
    D = from_rotation_translation(so3_exp(np.radians([0.0, 6.0, 0.0])), np.zeros(3))
    for turn in (D, invert_pose(D)):
        assert "exchanged" not in list_causes(measure_pair(make_instants(), K, K, turn @ T_RIGHT_LEFT))


def test_exchanged_cameras_and_k_of_another_size_are_named() -> None:
    instants = make_instants()
    assert list_causes(measure_pair(instants, K, K, invert_pose(T_RIGHT_LEFT))) == ["exchanged"]
    half = K.copy()
    half[:2] *= 0.5
    error = measure_pair(instants, K, half, T_RIGHT_LEFT)
    assert list_causes(error) == ["size-of-k"]
    assert error.focal_share is not None
    assert error.focal_share.value == pytest.approx(-0.5, abs=0.01)


@pytest.mark.parametrize("late_s", [0.01, -0.03])
def test_a_late_camera_is_measured_in_seconds(late_s: float) -> None:
    error = measure_pair(make_instants(late_s=late_s), K, K, T_RIGHT_LEFT)
    assert error.offset_s is not None
    assert error.offset_s.value == pytest.approx(late_s, abs=max(2 * error.offset_s.deviation, 0.002))
    assert list_causes(error) == ["not-synchronized"]


def test_a_steady_motion_shows_no_moment() -> None:
    """A late camera that moves evenly sees what one at another place sees."""
    error = measure_pair(make_instants(late_s=0.03, is_steady=True), K, K, T_RIGHT_LEFT)
    assert "not-synchronized" not in list_causes(error)


def test_a_loose_camera_is_named() -> None:
    turn = from_rotation_translation(so3_exp(np.radians([0.0, 0.0, 0.8])), np.zeros(3))
    error = measure_pair(make_instants(turn_after=turn), K, K, T_RIGHT_LEFT)
    assert "loose" in list_causes(error)
    assert error.change_deg is not None
    assert error.change_deg.value == pytest.approx(0.8, abs=0.1)


def test_cameras_that_share_nothing_are_not_judged() -> None:
    few = [Instant(np.zeros((3, 2)), np.zeros((3, 2)))]
    error = measure_pair(few, K, K, T_RIGHT_LEFT)
    assert judge_pair("rig", error).grade == "not judged"
    assert "share 3 matches" in error.reason


def test_the_command_prints_a_verdict(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_sound(sound, tmp_path, ["kitti"])
    with pytest.raises(SystemExit) as ending:
        run(["rig", "cameras", str(tmp_path / "kitti"), "--json"])
    assert ending.value.code in (0, 1, 3)
    (record,) = json.loads(capsys.readouterr().out)
    assert record["name"]
