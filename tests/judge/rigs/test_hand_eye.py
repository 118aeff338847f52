"""Laws of the calibration of hand and eye, and the mistakes of robot logs that are named and undone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.hand_eye import MISTAKES, MOST_M, Robot, is_right, make_log, make_noise, make_robot, pair

from stadia.cli.main import run
from stadia.core.errors import ConfigError
from stadia.geometry.poses import invert_pose, se3_exp, so3_log
from stadia.io.records.robot_log import read_robot_log, write_robot_log
from stadia.io.records.trajectory import Trajectory, write_tum_trajectory
from stadia.judge.purposes import RIG_PURPOSES, parse_purpose
from stadia.judge.rigs.check_hand_eye import HandEyeVerdict, judge_hand_eye
from stadia.judge.rigs.hand_eye import explain_motion, find_jacobian, find_residuals, solve_hand_eye
from stadia.judge.rigs.pose_log_mistakes import LogPairing


def judge(robot: Robot, **settings: object) -> HandEyeVerdict:
    return judge_hand_eye(pair(robot, make_log(robot.T_base_hand)), **settings)  # type: ignore[arg-type]


def list_causes(verdict: HandEyeVerdict) -> list[str]:
    return [cause.name for cause in verdict.causes]


# -- laws of the solution


@pytest.mark.parametrize("factor", [1.0, 1000.0, None])
def test_exact_poses_give_the_exact_calibration(factor: float | None) -> None:
    random = np.random.default_rng(0)
    X, Z, A = (se3_exp(random.normal(size=size)) for size in (6, 6, (8, 6)))
    scaled = A.copy()
    scaled[:, :3, 3] *= factor or 3.0
    fit = solve_hand_eye(A, invert_pose(Z) @ scaled @ X, factor=factor)
    np.testing.assert_allclose(fit.T_hand_camera, X, atol=1e-7)
    np.testing.assert_allclose(fit.T_base_world, Z, atol=1e-7)
    assert fit.factor == pytest.approx(factor or 3.0)


def test_a_wrong_pair_takes_no_part() -> None:
    robot = make_robot(1, count=20)
    T = robot.T_base_hand.copy()
    T[[3, 11]] = T[[11, 3]]
    fit = solve_hand_eye(T, robot.T_world_camera)
    assert np.flatnonzero(~fit.is_used).tolist() == [3, 11]
    assert is_right(fit.T_hand_camera, robot.T_hand_camera)


def test_the_derivative_is_that_of_differences() -> None:
    robot, random = make_robot(2), np.random.default_rng(0)
    A, B = robot.T_base_hand, robot.T_world_camera
    fit = solve_hand_eye(A, B, factor=None)
    J = find_jacobian(A, B, fit.T_hand_camera, fit.positions)
    step = 1e-5 * random.normal(size=13)
    X, Z = fit.T_hand_camera @ se3_exp(step[:6]), fit.T_base_world @ se3_exp(step[6:12])
    moved = np.hstack(find_residuals(A, B, X, Z, fit.factor + step[12]))
    np.testing.assert_allclose(moved - np.hstack([fit.rotations, fit.positions]), J @ step, atol=3e-7)


def test_errors_are_as_large_as_their_deviations() -> None:
    """Each of the six numbers of the calibration scatters by its deviation."""
    ratios = []
    for seed in range(60):
        robot = make_robot(100 + seed)
        fit = solve_hand_eye(robot.T_base_hand, robot.T_world_camera, factor=None if seed % 2 else 1.0)
        E = invert_pose(fit.T_hand_camera) @ robot.T_hand_camera
        error = np.r_[E[:3, 3], so3_log(E[:3, :3])]
        ratios.append(error / np.sqrt(np.diag(fit.covariance)[:6]))
    scatter = np.sqrt((np.array(ratios) ** 2).mean(0))
    assert ((scatter > 0.75) & (scatter < 1.35)).all(), scatter


@pytest.mark.parametrize(
    ("turn", "count", "words"),
    [((0.4, 0.0, 0.0), None, "one axis"), ((0.01, 0.01, 0.01), None, "degrees only"), ((0.4, 0.4, 0.4), 4, "too few")],
)
def test_motion_that_determines_nothing_is_refused(
    turn: tuple[float, float, float], count: int | None, words: str
) -> None:
    verdict = judge(make_robot(3, turn=turn, count=count))
    assert words in verdict.reason
    assert (verdict.grade, verdict.causes) == ("not judged", ())
    assert explain_motion(make_robot(3).T_world_camera, 0.001) == ""


# -- mistakes


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_named_and_undone(kind: str) -> None:
    make, cause = MISTAKES[kind]
    robot, random = make_robot(7), np.random.default_rng(1)
    verdict = judge_hand_eye(make(robot, random))
    assert list_causes(verdict) == [cause]
    assert verdict.T_hand_camera is not None
    if kind != "size of the target":
        assert is_right(verdict.T_hand_camera, robot.T_hand_camera)


def test_two_mistakes_are_named() -> None:
    robot = make_robot(8)
    log = make_log(invert_pose(robot.T_base_hand))
    wrong = replace(log, positions=1000 * log.positions, rotations=log.rotations[:, [3, 0, 1, 2]])
    verdict = judge_hand_eye(pair(robot, wrong))
    assert sorted(list_causes(verdict)) == ["inverse", "quaternion-order", "units"]
    assert verdict.T_hand_camera is not None
    assert is_right(verdict.T_hand_camera, robot.T_hand_camera)


@pytest.mark.parametrize("seed", range(5))
def test_a_right_log_is_not_accused(seed: int) -> None:
    verdict = judge(make_robot(20 + seed))
    assert verdict.causes == ()
    assert verdict.grade == "usable"


def test_poses_of_two_recordings_do_not_move_as_one() -> None:
    first, second = make_robot(9, count=20), make_robot(10, count=20)
    verdict = judge(replace(first, T_base_hand=second.T_base_hand))
    assert verdict.grade == "unusable"
    assert list_causes(verdict) == ["two-motions"]


def test_a_camera_on_the_base_is_a_robot_with_inverse_poses() -> None:
    """The camera is fixed, and sees a target on the hand."""
    robot = make_robot(11)
    fixed = replace(robot, T_base_hand=invert_pose(robot.T_base_hand))
    verdict = judge(fixed, is_on_hand=False)
    assert verdict.causes == ()
    assert verdict.T_hand_camera is not None
    assert is_right(verdict.T_hand_camera, robot.T_hand_camera)
    assert "--camera-on base" in judge(fixed).causes[0].fix


def test_either_file_may_be_the_inverse_one() -> None:
    """Both explanations fit equally well; only a rough calibration tells them apart."""
    robot = make_robot(11)
    log = replace(robot, T_base_hand=invert_pose(robot.T_base_hand))
    cameras = replace(robot, T_world_camera=invert_pose(robot.T_world_camera))
    for one in (log, cameras):
        verdict = judge(one)
        assert "does not show which" in verdict.reason
        assert (verdict.grade, verdict.purposes) == ("unusable", ())
        numbers = [float(text) for text in re.findall(r"-?\d+(?=[, ]|$)", verdict.causes[0].fix)]
        misses = [np.abs(np.array(numbers[k : k + 3]) - 1000 * robot.T_hand_camera[:3, 3]).max() for k in (0, 3)]
        assert min(misses) < 1000 * MOST_M, verdict.causes[0].fix
    rough = robot.T_hand_camera @ se3_exp(np.array([0.01, 0, 0, 0, 0.03, 0]))
    for one, cause in ((log, "inverse"), (cameras, "inverse-cameras")):
        verdict = judge(one, given=rough, purposes=[RIG_PURPOSES["reaching"]])
        assert list_causes(verdict) == [cause]
        assert [asked.purpose.name for asked in verdict.purposes] == ["reaching"]
        assert verdict.T_hand_camera is not None
        assert is_right(verdict.T_hand_camera, robot.T_hand_camera)


def test_both_files_may_be_inverse() -> None:
    """A X = Z B and A^-1 Z = X B^-1 fit equally well; a camera far from the hand makes the second likelier."""
    robot = make_robot(11)
    far = replace(robot, T_base_hand=invert_pose(robot.T_base_hand), T_world_camera=invert_pose(robot.T_world_camera))
    (note,) = judge(far).notes
    found = re.search(r"it is at (-?\d+), (-?\d+), (-?\d+) mm", note)
    assert found is not None, note
    assert np.abs(np.array(found.groups(), float) - 1000 * robot.T_hand_camera[:3, 3]).max() < 1000 * MOST_M
    assert judge(robot).notes == ()


def test_inverse_poses_are_inverted_once() -> None:
    robot = make_robot(11)
    log = replace(robot, T_base_hand=invert_pose(robot.T_base_hand))
    verdict = judge(log, tries_inverse=False)
    assert list_causes(verdict) == ["inverse"]
    assert "does not show which" not in verdict.reason


def test_columns_of_kortex_are_read(tmp_path: Path) -> None:
    rows = ["x,y,z,theta_x,theta_y,theta_z", "0.1,0.2,0.3,90.0,0.0,90.0", "0.1,0.2,0.4,90.0,0.0,0.0"]
    (tmp_path / "robot.csv").write_text("\n".join(rows) + "\n")
    T = read_robot_log(tmp_path / "robot.csv").make_poses()
    np.testing.assert_allclose(T[0, :3, :3], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(T[1, :3, 3], [0.1, 0.2, 0.4])


def test_the_error_of_a_given_calibration_is_measured() -> None:
    robot = make_robot(12, count=30)
    moved = robot.T_hand_camera @ se3_exp(np.array([0.01, 0, 0, 0, np.radians(1.0), 0]))
    verdict = judge(robot, given=moved, purposes=[parse_purpose("grasping=5mm", RIG_PURPOSES)])
    assert verdict.calibration_m is not None
    assert verdict.calibration_deg is not None
    assert abs(verdict.calibration_m.value - 0.01) < 3 * verdict.calibration_m.deviation
    assert abs(verdict.calibration_deg.value - 1.0) < 3 * verdict.calibration_deg.deviation
    assert verdict.grade == "unusable"
    inverse = judge(robot, given=invert_pose(robot.T_hand_camera))
    assert list_causes(inverse) == ["calibration-inverse"]
    assert inverse.calibration_deg is not None
    assert inverse.calibration_deg.value < 4 * inverse.calibration_deg.deviation, "after it is inverted"


@pytest.mark.parametrize(("scale", "grade"), [(1.08, "unusable"), (1.01, "usable")])
def test_a_large_error_of_the_target_is_a_fault(scale: float, grade: str) -> None:
    robot = make_robot(21, count=30)
    T = robot.T_world_camera.copy()
    T[:, :3, 3] *= scale
    verdict = judge(replace(robot, T_world_camera=T))
    assert list_causes(verdict) == ["scale"]
    assert verdict.grade == grade


@pytest.mark.parametrize("still", ["hand", "camera"])
def test_a_hand_or_a_camera_that_turns_in_one_place_determines_the_calibration(still: str) -> None:
    """But not the unit of a path that has none."""
    robot, random = make_robot(7, count=30), np.random.default_rng(0)
    X, A, B = robot.T_hand_camera, robot.T_base_hand.copy(), robot.T_world_camera.copy()
    if still == "hand":
        A[:, :3, 3] = A[0, :3, 3]
        B = A @ X
    else:
        B[:, :3, 3] = B[0, :3, 3]
        A = B @ invert_pose(X)
    turned = replace(
        robot,
        T_base_hand=A @ make_noise(random, 30, 0.03, 0.0003),
        T_world_camera=B @ make_noise(random, 30, 0.15, 0.001),
    )
    verdict = judge(turned)
    assert verdict.reason == ""
    assert verdict.causes == ()
    assert verdict.T_hand_camera is not None
    assert verdict.calibration_m is not None
    error_m = float(np.linalg.norm(verdict.T_hand_camera[:3, 3] - X[:3, 3]))
    assert error_m < 4 * verdict.calibration_m.deviation < 0.01
    assert "shows no lengths" in judge(turned, has_unit=False).reason


def test_path_without_a_unit_gets_no_cause_of_scale() -> None:
    robot = make_robot(13)
    T = robot.T_world_camera.copy()
    T[:, :3, 3] *= 7.3
    verdict = judge(replace(robot, T_world_camera=T), has_unit=False)
    assert verdict.causes == ()
    assert verdict.T_hand_camera is not None
    assert is_right(verdict.T_hand_camera, robot.T_hand_camera)


def test_an_unknown_purpose_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_purpose("splats", RIG_PURPOSES)
    assert "grasping=5mm" in caught.value.expected


# -- the command


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as ending:
        run(["rig", "hand-eye", *map(str, words)])
    return int(str(ending.value.code))


def test_the_corrected_log_and_calibration_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robot = make_robot(14)
    cameras, log, fixed, out = (tmp_path / name for name in ("poses.txt", "robot.csv", "fixed.csv", "hand-eye.json"))
    write_tum_trajectory(cameras, Trajectory(robot.T_world_camera, robot.times_s))
    millimetres = robot.T_base_hand.copy()
    millimetres[:, :3, 3] *= 1000
    write_robot_log(log, millimetres, [], None)
    log.write_text(log.read_text().partition("\n")[2])
    assert call(cameras, log, "--fix", fixed, "--out", out) == 1
    assert "multiply the log's by 0.001" in capsys.readouterr().out
    assert call(cameras, fixed, "--calibration", out, "--for", "grasping=5mm", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["grade"], record["causes"]) == ("usable", [])
    assert is_right(np.array(record["calibration"]), robot.T_hand_camera)
    assert call(cameras, fixed, "--for", "grasping=0.1mm") == 1
    assert call(cameras, log, "--fix", cameras) == 2  # an input is never replaced


def test_one_file_of_opencv_has_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robot = make_robot(15)
    target = invert_pose(robot.T_world_camera)
    hand = robot.T_base_hand
    arrays = {"R_gripper2base": hand[:, :3, :3], "t_gripper2base": hand[:, :3, 3:],
              "R_target2cam": target[:, :3, :3], "t_target2cam": target[:, :3, 3:]}  # fmt: skip
    np.savez(tmp_path / "poses.npz", **arrays)  # type: ignore[arg-type]
    assert call(tmp_path / "poses.npz", "--for", "grasping=5mm") == 0
    (tmp_path / "poses.json").write_text(json.dumps({name: values.tolist() for name, values in arrays.items()}))
    assert call(tmp_path / "poses.json", "--for", "grasping=5mm") == 0
    capsys.readouterr()


def test_motion_that_determines_nothing_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robot = make_robot(16, turn=(0.3, 0.0, 0.0))
    write_tum_trajectory(tmp_path / "poses.txt", Trajectory(robot.T_world_camera, robot.times_s))
    write_robot_log(tmp_path / "robot.csv", robot.T_base_hand, [], robot.times_s)
    assert call(tmp_path / "poses.txt", tmp_path / "robot.csv") == 3
    assert "one axis" in capsys.readouterr().out


def test_images_are_paired_by_their_names() -> None:
    robot = make_robot(17, count=15)
    pairing = pair(robot, make_log(robot.T_base_hand))
    rows = np.random.default_rng(0).permutation(15)
    log = replace(pairing.log.rows(rows), names=tuple(pairing.names[row] for row in rows))
    from stadia.judge.rigs.check_hand_eye import pair_rows

    again = pair_rows(log, robot.T_world_camera, pairing.names, path=Path("cameras"))
    assert isinstance(again, LogPairing)
    assert judge_hand_eye(again).causes == ()


def test_a_corrected_log_without_its_wrong_rows_is_checked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = make_robot(19, count=20)
    wrong = robot.T_base_hand.copy()
    wrong[[4, 9]] = se3_exp(np.random.default_rng(0).normal(size=(2, 6)))
    np.savetxt(tmp_path / "poses.txt", robot.T_world_camera.reshape(-1, 16))
    write_robot_log(tmp_path / "robot.csv", wrong, [], None)
    fixed = tmp_path / "fixed.csv"
    assert call(tmp_path / "poses.txt", tmp_path / "robot.csv", "--fix", fixed) == 1
    assert f"{fixed}: 18 poses" in capsys.readouterr().out
    assert call(tmp_path / "poses.txt", fixed) == 0
    assert "18 of 18 images have a pose" in capsys.readouterr().out


def test_files_of_another_kind_are_not_written(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for option, name in (("--fix", "fixed.json"), ("--out", "calibration.txt")):
        assert call(tmp_path / "a", tmp_path / "a", option, tmp_path / name) == 2
        assert not (tmp_path / name).exists()


def test_written_logs_are_read_again(tmp_path: Path) -> None:
    robot = make_robot(18)
    names = [f"image {row}, left.png" for row in range(len(robot.times_s))]
    write_robot_log(tmp_path / "log.csv", robot.T_base_hand, names, robot.times_s)
    read = read_robot_log(tmp_path / "log.csv")
    np.testing.assert_allclose(read.make_poses(), robot.T_base_hand, atol=1e-6)
    assert read.names == tuple(names)
    np.testing.assert_allclose(np.asarray(read.times_s), robot.times_s)
