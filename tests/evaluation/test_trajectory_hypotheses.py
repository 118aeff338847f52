"""What explains a bad score of a path is a note with its gain; correct paths and noise have none."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.evaluation.recording_scores import score_trajectory
from stadia.evaluation.trajectory_hypotheses import (
    explain_motion,
    explain_order,
    find_time_offset,
    fit_lever_arm,
    note_bursts,
    note_clock_rate,
    note_frame_rate,
    note_unrelated_rotations,
)
from stadia.geometry.conventions import QuaternionOrder, reorder_quaternions
from stadia.geometry.poses import invert_pose
from stadia.io.records.trajectory import Trajectory

Array = NDArray[np.float64]


def drive(n: int = 120) -> Array:
    """A camera that turns about all axes, at a speed that changes."""
    s = np.cumsum(1 + 0.8 * np.sin(np.arange(n) / 5)) / 10
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, :3, :3] = Rotation.from_euler("yxz", np.stack([s / 3, 0.4 * np.sin(s), 0.3 * np.cos(s / 2)], 1)).as_matrix()
    T[:, :3, 3] = np.stack([3 * np.sin(s / 3), 0.3 * np.cos(s), 3 * np.cos(s / 3) + 0.2 * s], 1)
    return T


def right(R: Array) -> Callable[[Array], Array]:
    X = np.eye(4)
    X[:3, :3] = R
    return lambda T: T @ X


def flip(T: Array, axis: int) -> Array:
    changed = T.copy()
    changed[:, axis, 3] *= -1
    return changed


M = np.diag([1.0, -1, 1, 1])
BODY = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
MISTAKES: dict[str, tuple[Callable[[Array], Array], str]] = {
    "inverse": (np.linalg.inv, "world-to-camera"),
    "w first": (lambda T: reorder_quaternions(T, QuaternionOrder.XYZW), "w of its quaternions first"),
    "opengl": (right(np.diag([1.0, -1, -1])), "OpenGL"),
    "body": (right(BODY), "a LiDAR or a body"),
    "right angle": (right(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])), "a constant rotation of 90 degrees"),
    "mounted at 40 degrees": (right(Rotation.from_rotvec([0.2, 0.6, -0.3]).as_matrix()), "a constant rotation of 40"),
    "inverse and opengl": (lambda T: np.linalg.inv(right(np.diag([1.0, -1, -1]))(T)), "world-to-camera poses, and"),
    "reverse": (lambda T: T[::-1].copy(), "in reverse order"),
    "left-handed": (lambda T: M @ T @ M, "left-handed"),
    "a sign of a translation": (lambda T: invert_pose(flip(invert_pose(T), 0)), "x of the world-to-camera transl"),
    "a sign of a position": (lambda T: flip(T, 2), "z of the positions has the other sign"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_convention_is_named_with_its_gain(name: str) -> None:
    change, cause = MISTAKES[name]
    noise = np.random.default_rng(0).normal(0, 0.002, (120, 3))
    poses = change(drive())
    poses[:, :3, 3] = 0.7 * poses[:, :3, 3] + noise
    notes = score_trajectory(Trajectory(poses, name="est"), Trajectory(drive(), name="ref")).notes
    (note,) = (note for note in notes if "of its size, by" in note)
    assert cause in note
    assert "Fix: " in note


@pytest.mark.slow
def test_correct_and_bad_paths_have_no_hypothesis() -> None:
    rng, T = np.random.default_rng(1), drive()
    noisy = T.copy()
    noisy[:, :3, 3] += rng.normal(0, 0.3, (120, 3))
    still = np.tile(np.eye(4), (120, 1, 1))
    still[:, :3, 3] = rng.normal(0, 0.1, (120, 3))
    forward = np.tile(np.eye(4), (120, 1, 1))
    forward[:, 2, 3] = np.arange(120)
    for estimate in (T, noisy, still, forward, T[rng.permutation(120)]):
        assert explain_motion(Trajectory(estimate), Trajectory(T)) is None


@pytest.mark.parametrize("has_times", [True, False])
def test_a_constant_offset_of_the_clocks_is_measured(has_times: bool) -> None:
    T, times = drive(200), 100 + np.arange(200) / 10
    late = Trajectory(T[:-8], times[8:] if has_times else None, "est")
    reference = Trajectory(T[8:], times[8:] if has_times else None, "ref")
    offset = find_time_offset(late, reference, 10.0)
    assert offset == pytest.approx(-0.8 if has_times else -8, abs=0.01)
    notes = score_trajectory(late, reference).notes
    assert any("the estimate is " in note and "late against the reference" in note for note in notes)
    assert find_time_offset(reference, reference, 10.0) is None


def test_a_small_offset_of_the_clocks_is_measured() -> None:
    """Recordings of a motion capture start a few frames of the camera early; ATE is then below 1 % of the path."""
    T, times = drive(600), np.arange(600) / 60
    late = Trajectory(T[::3], times[::3] + 0.1)
    notes = score_trajectory(late, Trajectory(T, times)).notes
    assert any("0.1 s late against the reference" in note for note in notes)


def test_a_file_of_positions_only_is_named() -> None:
    positions = np.tile(np.eye(4), (120, 1, 1))
    positions[:, :3, 3] = drive()[:, :3, 3]
    notes = score_trajectory(Trajectory(drive(), name="est"), Trajectory(positions, name="prism")).notes
    assert any("all rotations of prism are equal" in note for note in notes)
    straight = Trajectory(positions)
    assert not any("rotations" in note and "equal" in note for note in score_trajectory(straight, straight).notes)


def test_a_lever_arm_between_two_sensors_is_measured() -> None:
    T, lever = drive(), np.array([0.5, -0.2, 0.8])
    body = T.copy()
    body[:, :3, 3] += T[:, :3, :3] @ lever
    found, ate_m = fit_lever_arm(T, body)
    np.testing.assert_allclose(found, lever, atol=0.02)
    assert ate_m < 0.01
    assert any("two sensors of one rig" in note for note in score_trajectory(Trajectory(T), Trajectory(body)).notes)


@pytest.mark.parametrize(("sign", "fix"), [(-1, "negate x, y, z"), (1.6, "look at the frames")])
def test_poses_that_jump_are_named_with_the_score_without_them(sign: float, fix: str) -> None:
    T = drive()
    T[:, :3, 3] += np.random.default_rng(0).normal(0, 0.002, (len(T), 3))
    T[40:47, :3, 3] *= sign
    T[90, :3, 3] *= sign
    (note,) = (note for note in score_trajectory(Trajectory(T), Trajectory(drive())).notes if "jump" in note)
    assert "poses 40 to 46, 90 jump: without these 8 of 120" in note
    assert fix in note


def test_a_path_that_drifts_does_not_jump() -> None:
    T = drive()
    T[:, :3, 3] *= np.linspace(1, 1.6, len(T))[:, None]
    assert not any("jump" in note for note in score_trajectory(Trajectory(T), Trajectory(drive())).notes)


def test_clocks_are_moved_only_if_the_paths_have_one_shape() -> None:
    times = 5 + np.arange(120) / 10
    other = drive()
    other[:, :3, 3] = np.random.default_rng(1).normal(size=(120, 3)).cumsum(0)
    with refuses(DataError, fix="look at whether both are of one recording"):
        score_trajectory(Trajectory(other, times + 1000), Trajectory(drive(), times))


@pytest.mark.parametrize(
    ("scale", "offset", "names"),
    [(1.0, 1000.0, ("-1000.000",)), (1e3, 0.0, ("1e-3",)), (1.0, 0.02, ("--max-difference", "0.03"))],
)
def test_times_without_overlap_name_the_likely_cause(scale: float, offset: float, names: tuple[str, ...]) -> None:
    times = 5 + np.arange(120) / 10
    with refuses(DataError, names=names):
        score_trajectory(Trajectory(drive(), times * scale + offset), Trajectory(drive(), times))


COUNTED = "numbers of frames or keys of a graph"


@pytest.mark.parametrize(
    ("rows", "times", "words"),
    [
        (slice(0, 120), np.arange(1.0, 121), f"{COUNTED}.*; row k has the pose of row k"),
        (slice(0, 120), 18295873.486 + np.arange(120) * 2.0**-28, COUNTED),
        (slice(20, 120), 1 + np.arange(100) / 10, "add 1305031230.500 s"),
        (slice(0, 90), 1 + np.arange(90) / 10, "add 1305031228.500 s"),
        (slice(0, 120), np.arange(120) * 0.37, "look at whether both are of one recording"),
    ],
)
def test_times_of_another_clock_are_placed_by_the_shape_of_the_path(rows: slice, times: Array, words: str) -> None:
    reference = Trajectory(drive(), 1305031229.5 + np.arange(120) / 10, "ref")
    with pytest.raises(DataError) as caught:
        score_trajectory(Trajectory(drive()[rows], times, "est"), reference)
    assert re.search(words, str(caught.value.fix)), caught.value


def test_rows_in_another_order_are_named() -> None:
    T = drive()
    order = np.r_[1, 2, 3, 0, 40:80, 4:40, 80:120]
    (note,) = (note for note in score_trajectory(Trajectory(T[order]), Trajectory(T)).notes if "another order" in note)
    assert "4 to 43 are 40 to 79" in note
    for right in (T, np.concatenate([T[:60], T[:60] + np.eye(4)[:, 3:] * 2])):  # a lost track is no other order
        assert explain_order(right, T) is None


def test_the_rate_of_a_clock_is_measured() -> None:
    T, times = drive(), 100 + np.arange(120) / 20
    lapse = Trajectory(T, 100 + (times - 100) / 10, "est")
    (note,) = (note for note in score_trajectory(lapse, Trajectory(T, times)).notes if "warning: only" in note)
    assert "multiply its times by 10" in note
    assert "--max-difference" not in note
    part = Trajectory(T[:30], times[:30], "est")  # the beginning of the path at the same rate
    assert note_clock_rate(part, Trajectory(T, times), 0.01) is None


def test_rotations_of_another_path_are_named() -> None:
    T = drive()
    wrong = T.copy()
    angles = Rotation.from_matrix(T[:, :3, :3]).as_euler("xyz", degrees=True)
    wrong[:, :3, :3] = Rotation.from_euler("xyz", angles).as_matrix()
    (note,) = (note for note in score_trajectory(Trajectory(wrong), Trajectory(T)).notes if "positions fit" in note)
    assert "degrees that were read as radians" in note
    assert note_unrelated_rotations(Trajectory(T), Trajectory(T)) is None


def test_times_of_a_delivery_in_bursts_are_named() -> None:
    """Cerberus2.0 6: poses of a motion capture wait, and are then published together."""
    T, times, rng = drive(400), 1e9 + np.arange(400) / 50, np.random.default_rng(7)
    published, latest = times.copy(), 0.0
    for row in range(len(times)):
        wait = rng.exponential(0.12) if rng.random() < 0.12 else 0.001
        latest = published[row] = max(latest + 3e-6, times[row] + wait)
    reference = Trajectory(T, published, "ref.txt")
    (note,) = (one for one in score_trajectory(Trajectory(T, times), reference).notes if "bursts" in one)
    assert note.startswith("the times of ref.txt")
    gained = re.search(r"ATE is (\S+) m \((\S+) m now", note)
    assert gained is not None
    assert float(gained[1]) < 0.1 * float(gained[2])
    assert note_bursts(Trajectory(T, times), Trajectory(T, times + rng.normal(0, 0.001, 400)), 0.01) is None
    lost = np.delete(np.arange(400), np.arange(100, 200, 3))
    assert note_bursts(Trajectory(T[lost], times[lost]), Trajectory(T, times), 0.01) is None


def test_times_of_some_frames_against_rows_of_all_are_named() -> None:
    """MASt3R-SLAM 81: every tenth frame of a video, and ScanNet's poses of all frames, some without a pose."""
    T, known = drive(150), np.delete(np.arange(150), np.arange(40, 44))
    reference = Trajectory(T[known], name="poses.npz", frames=known)
    estimated = Trajectory(T[::10], np.arange(0, 150, 10) / 30, "est.txt")
    (note,) = (one for one in score_trajectory(estimated, reference).notes if "a second" in one)
    assert "write the time k / 30 in front of row k of poses.npz" in note
    assert note_frame_rate(Trajectory(T[known], known / 30.0), replace(reference, frames=known)) is None


def test_a_camera_on_a_body_is_turned_and_away() -> None:
    """VSLAM-LAB 160: the ground truth is of the body, which has other axes and another place."""
    body, mount = drive(), np.eye(4)
    mount[:3, :3] = Rotation.from_euler("xyz", [-90, 0, -90], degrees=True).as_matrix()
    mount[:3, 3] = (0.35, 0, 0.76)
    estimate = body @ mount
    note = explain_motion(Trajectory(estimate, name="est"), Trajectory(body, name="ref"))
    assert note is not None
    assert "two sensors of one rig: the reference's is turned by 120 degrees and at (" in note
    assert "0.76, -0.35) m" in note
    turned = explain_motion(Trajectory(right(mount[:3, :3])(body), name="est"), Trajectory(body, name="ref"))
    assert turned is not None
    assert "two sensors" not in turned


def test_positions_without_rotations_show_another_clock() -> None:
    """Evo 740: UTM of a GNSS, whose clock is 0.8 s late."""
    T, times = drive(150), 1e9 + np.arange(150) / 20
    positions = np.tile(np.eye(4), (150, 1, 1))
    positions[:, :3, 3] = 20 * T[:, :3, 3] + (456231.5, 5428765.25, 112.0)
    estimate = T.copy()
    estimate[:, :3, 3] *= 20
    notes = score_trajectory(Trajectory(estimate, times + 0.8, "est"), Trajectory(positions, times, "gnss")).notes
    assert any("it has positions only" in note for note in notes)
    assert any("0.8 s late" in note for note in notes)
