"""A gyroscope and a camera: the measured axes, clock and bias, and the mistakes that are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.gyroscopes import make_pair
from tests.refusals import refuses

from stadia.cli.main import run
from stadia.core.errors import ConfigError, DataError
from stadia.geometry.poses import invert_pose, so3_exp, so3_log
from stadia.io.records.gyroscope import GyroscopeLog, read_gyroscope
from stadia.io.records.robot_log import read_rotation
from stadia.io.records.trajectory import Trajectory, write_tum_trajectory
from stadia.judge.purposes import GYROSCOPE_PURPOSES, parse_purpose
from stadia.judge.rigs.gyroscope_check import GyroscopeVerdict, check_gyroscope


def list_causes(verdict: GyroscopeVerdict) -> list[str]:
    return [cause.name for cause in verdict.causes if cause.name != "bias"]


@pytest.mark.parametrize("offset_s", [0.0, 0.005, -0.2])
def test_axes_and_clock_are_measured(offset_s: float) -> None:
    path, log, axes = make_pair(1, offset_s=offset_s)
    verdict = check_gyroscope(path, log)
    assert verdict.R_camera_gyroscope is not None
    assert verdict.offset_s is not None
    error_deg = float(np.degrees(np.linalg.norm(so3_log(verdict.R_camera_gyroscope.T @ axes))))
    assert error_deg < 3 * verdict.deviation_deg < 1
    assert abs(verdict.offset_s.value - offset_s) < max(3 * verdict.offset_s.deviation, 0.0005)
    assert list_causes(verdict) == ["clock-offset"] * bool(offset_s)


def test_a_bias_is_measured() -> None:
    path, log, _ = make_pair(2)
    before, after = (
        check_gyroscope(path, GyroscopeLog(log.times_s, log.rates + add, "log"))
        for add in (0.0, np.array([0.02, 0, 0]))
    )
    assert before.bias_deg is not None
    assert after.bias_deg is not None
    assert after.bias_deg[0].value - before.bias_deg[0].value == pytest.approx(np.degrees(0.02), abs=0.02)


def test_mistakes_are_named() -> None:
    path, log, axes = make_pair(3)
    inverse = Trajectory(np.asarray(invert_pose(path.T_world_camera)), path.times_s)
    assert list_causes(check_gyroscope(inverse, log)) == ["inverse"]
    degrees = GyroscopeLog(log.times_s, np.degrees(log.rates), "log")
    assert list_causes(check_gyroscope(path, degrees)) == ["degrees"]
    mirrored = GyroscopeLog(log.times_s, log.rates * (1, 1, -1), "log")
    assert list_causes(check_gyroscope(path, mirrored)) == ["mirrored-axis"]
    assert list_causes(check_gyroscope(path, log, given=axes)) == []
    assert list_causes(check_gyroscope(path, log, given=axes.T)) == ["calibration-inverse"]


def test_other_motions_are_not_judged() -> None:
    path, _, _ = make_pair(4)
    _, other, _ = make_pair(5)
    assert "do not turn as one" in check_gyroscope(path, other).reason
    turned, log, _ = make_pair(6, turn=(0.6, 0.0, 0.0))
    assert "one axis" in check_gyroscope(turned, log).reason
    assert check_gyroscope(Trajectory(path.T_world_camera), other).grade == "not judged"


def test_the_command_reads_the_format_of_euroc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, log, _ = make_pair(7)
    write_tum_trajectory(tmp_path / "poses.txt", path)
    header = "#timestamp [ns],w_RS_S_x [rad s^-1],w_RS_S_y [rad s^-1],w_RS_S_z [rad s^-1],a_RS_S_x [m s^-2]"
    rows = [
        f"{round(1e9 * (time_s + 2))},{x},{y},{z},9.8" for time_s, (x, y, z) in zip(log.times_s, log.rates, strict=True)
    ]
    (tmp_path / "data.csv").write_text("\n".join([header, *rows]))
    assert read_gyroscope(tmp_path / "data.csv").rates.shape == log.rates.shape
    shifted = Trajectory(path.T_world_camera, None if path.times_s is None else path.times_s + 2)
    write_tum_trajectory(tmp_path / "poses.txt", shifted)
    with pytest.raises(SystemExit) as ending:
        run(["rig", "imu", str(tmp_path / "poses.txt"), str(tmp_path / "data.csv"), "--json"])
    assert ending.value.code == 0
    assert json.loads(capsys.readouterr().out)["grade"] == "usable"


@pytest.mark.parametrize(("asked", "code"), [("odometry=20ms", 0), ("odometry=5ms", 1), ("odometry", 1)])
def test_the_offset_of_the_clocks_is_judged_by_the_given_number(
    asked: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, log, _ = make_pair(7, offset_s=0.01)
    write_tum_trajectory(tmp_path / "poses.txt", path)
    np.savetxt(tmp_path / "rates.txt", np.column_stack([log.times_s, log.rates]))
    with pytest.raises(SystemExit) as ending:
        run(["rig", "imu", str(tmp_path / "poses.txt"), str(tmp_path / "rates.txt"), "--for", asked, "--json"])
    assert ending.value.code == code
    purpose = json.loads(capsys.readouterr().out)["purposes"][0]
    assert purpose["holds"] == (code == 0)


def test_another_unit_of_a_purpose_is_refused() -> None:
    with refuses(ConfigError, where="--for", expected="odometry=5ms"):
        parse_purpose("odometry=5px", GYROSCOPE_PURPOSES)


def test_a_rotation_to_check_is_a_matrix_a_pose_or_an_earlier_result(tmp_path: Path) -> None:
    R = so3_exp(np.array([0.1, -0.5, 0.3]))
    pose = np.eye(4)
    pose[:3, :3] = R
    np.savetxt(tmp_path / "R.txt", R)
    np.savetxt(tmp_path / "pose.txt", pose)
    np.save(tmp_path / "R.npy", R)
    (tmp_path / "R.json").write_text(json.dumps({"R_camera_gyroscope": R.tolist()}))
    for name in ("R.txt", "pose.txt", "R.npy", "R.json"):
        np.testing.assert_allclose(read_rotation(tmp_path / name), R, atol=1e-12)
    np.savetxt(tmp_path / "R.txt", -R)
    with refuses(DataError, where="R.txt", found="no rotation"):
        read_rotation(tmp_path / "R.txt")


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n3,4\n", "1 2 3\n4 5 6\n7 8 9\n", "1 nan 2 3\n2 1 1 1\n3 1 1 1\n"])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text(text)
    with pytest.raises(DataError):
        read_gyroscope(tmp_path / "rates.csv")
