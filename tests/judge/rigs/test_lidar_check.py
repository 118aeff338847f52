"""Disturbed calibrations of a LiDAR and a camera: the measured error, and what is not measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.judge.rigs.box_world import BoxWorld, K

from stadia.cli.main import run
from stadia.geometry.poses import se3_exp, se3_log
from stadia.judge.rigs.lidar_check import LidarError, ScannedImage, judge_lidar, measure_lidar

COUNT = 14


def find_path(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    twists = random.normal(size=(COUNT, 6)) * [0.5, 0.1, 0.6, 0.01, 0.03, 0.01]
    return [se3_exp(twist) for twist in twists]


@pytest.fixture(scope="module")
def scans() -> list[ScannedImage]:
    world = BoxWorld(0)
    return [world.scan(T) for T in find_path()]


def move(scans: list[ScannedImage], D: np.ndarray) -> list[ScannedImage]:
    """The scans with points that a wrong calibration moves."""
    return [replace(scan, jumps=tuple(xyz @ D[:3, :3].T + D[:3, 3] for xyz in scan.jumps)) for scan in scans]


def list_causes(error: LidarError) -> list[str]:
    return [cause.name for cause in judge_lidar("", error).causes]


@pytest.mark.parametrize("seed", range(3))
def test_a_disturbance_is_measured_within_its_deviations(scans: list[ScannedImage], seed: int) -> None:
    random = np.random.default_rng(seed)
    twist = random.normal(size=6) * [0.03, 0.03, 0.03, 0.02, 0.02, 0.02]
    error = measure_lidar(move(scans, se3_exp(twist)), K)
    assert error.reason == ""
    assert error.rotation_deg is not None
    assert error.position_m is not None
    for measured, true in zip(
        (*error.position_m, *error.rotation_deg), (*twist[:3], *np.degrees(twist[3:])), strict=True
    ):
        assert abs(measured.value - true) < 3 * measured.deviation
    assert max(one.deviation for one in error.rotation_deg) < 0.2
    assert "rotation" in list_causes(error)
    assert error.T_right_given is not None
    np.testing.assert_allclose(se3_log(error.T_right_given)[3:], -twist[3:], atol=0.006)


def test_a_right_calibration_is_not_accused(scans: list[ScannedImage]) -> None:
    error = measure_lidar(scans, K)
    assert error.offset_s is None, "without poses"
    assert list_causes(error) == []
    assert judge_lidar("", error).grade == "usable"


def test_a_late_scan_is_measured_in_seconds() -> None:
    """If the motion changes, which an error of the position does not explain."""
    world, random = BoxWorld(1), np.random.default_rng(1)
    late = []
    for T in find_path(1):
        motion = np.r_[random.normal(size=3) * [4, 0.2, 6], random.normal(size=3) * [0.1, 0.5, 0.1]]
        late.append(world.scan(T, motion, late=T @ se3_exp(0.05 * motion)))
    error = measure_lidar(late, K)
    assert error.offset_s is not None
    assert abs(error.offset_s.value - 0.05) < 3 * error.offset_s.deviation
    assert "not-synchronized" in list_causes(error)


def test_what_shows_nothing_is_not_judged(scans: list[ScannedImage]) -> None:
    assert "at least 12" in measure_lidar(scans[:5], K).reason
    assert "0 places" in measure_lidar([replace(scan, jumps=(np.zeros((0, 3)),) * 2) for scan in scans], K).reason
    random = np.random.default_rng(0)
    gray = random.integers(0, 255, scans[0].gray.shape, np.uint8)
    assert "no edges" in measure_lidar([replace(scan, gray=gray) for scan in scans], K).reason


def test_the_command_judges_a_dataset_without_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "kitchen" / "seq-01"
    folder.mkdir(parents=True)

    for index in range(3):
        cv2.imwrite(str(folder / f"frame-{index:06d}.color.png"), np.zeros((480, 640, 3), np.uint8))
        np.savetxt(folder / f"frame-{index:06d}.pose.txt", np.eye(4))
    with pytest.raises(SystemExit) as ending:
        run(["rig", "lidar", str(tmp_path), "--json"])
    assert ending.value.code == 3
    (found,) = json.loads(capsys.readouterr().out)
    assert "0 images have a scan" in found["not_measurable"]
