"""Trajectory metrics: against evo (GPL: in tests only), against KITTI's definition written again, and lawful."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from evo.core import metrics as evo
from evo.core.trajectory import PosePath3D
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation

from stadia.core.errors import GeometryError
from stadia.metrics import TRAJECTORY_METRICS
from stadia.metrics.trajectory_metrics import (
    PathAlignment,
    align_path,
    ate_rmse_m,
    length_ratio,
    path_length_m,
    pose_pairs_at_interval,
    r_err_deg_per_100m,
    relative_pose_errors,
    t_err_percent,
)

Array = NDArray[np.float64]


def drive(n: int, seed: int = 0, step_m: float = 1.0, noise: float = 0.0) -> Array:
    """A car that bends: (n, 4, 4) camera-to-world from the identity, optionally with noise on every motion."""
    rng = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (n, 1, 1))
    for k in range(1, n):
        motion = np.eye(4)
        turn = np.array([0.001 * np.sin(k / 7), 0.02 * np.sin(k / 40), 0.002 * np.cos(k / 11)])
        motion[:3, :3] = Rotation.from_rotvec(turn + noise * rng.normal(0, 0.01, 3)).as_matrix()
        motion[:3, 3] = np.array([0, 0, step_m]) + noise * rng.normal(0, 0.05, 3)
        T[k] = T[k - 1] @ motion
    return T


def pair(n: int = 400) -> tuple[Array, Array]:
    """An estimate in a world of its own, and the reference."""
    elsewhere = np.eye(4)
    elsewhere[:3, :3], elsewhere[:3, 3] = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix(), [5, -3, 9]
    estimate = elsewhere @ drive(n, noise=1.0)
    return estimate, drive(n)


def kitti_segment_errors(estimate: Array, reference: Array) -> tuple[float, float]:
    """evaluate_odometry.cpp's definition, loop by loop: mean |t| / length, mean angle / length (radians a metre)."""
    distance = [0.0]
    for a, b in itertools.pairwise(reference):
        distance.append(distance[-1] + float(np.linalg.norm(a[:3, 3] - b[:3, 3])))
    t_errors, r_errors = [], []
    for first in range(0, len(reference), 10):
        for length in (100, 200, 300, 400, 500, 600, 700, 800):
            last = next((i for i in range(first, len(reference)) if distance[i] > distance[first] + length), -1)
            if last == -1:
                continue
            true = np.linalg.inv(reference[first]) @ reference[last]
            result = np.linalg.inv(estimate[first]) @ estimate[last]
            error = np.linalg.inv(result) @ true
            t_errors.append(np.linalg.norm(error[:3, 3]) / length)
            r_errors.append(np.arccos(np.clip((np.trace(error[:3, :3]) - 1) / 2, -1, 1)) / length)
    return float(np.mean(t_errors)), float(np.mean(r_errors))


def evo_rmse(metric: evo.PE, estimate: Array, reference: Array) -> float:
    paths = tuple(PosePath3D(poses_se3=list(T)) for T in (reference, estimate))
    metric.process_data(paths)
    return float(metric.get_statistic(evo.StatisticsType.rmse))


def evo_aligned(estimate: Array, reference: Array, *, with_scale: bool) -> tuple[Array, float]:
    path = PosePath3D(poses_se3=list(estimate))
    _, _, scale = path.align(PosePath3D(poses_se3=list(reference)), correct_scale=with_scale)
    return np.stack(path.poses_se3), scale


@pytest.mark.parametrize("alignment", [PathAlignment.NONE, PathAlignment.SE3, PathAlignment.SIM3])
def test_ate_and_rpe_as_evo_has_them(alignment: PathAlignment) -> None:
    estimate, reference = pair()
    ours = align_path(estimate, reference, alignment)
    theirs, scale = estimate, 1.0
    if alignment is not PathAlignment.NONE:
        theirs, scale = evo_aligned(estimate, reference, with_scale=alignment is PathAlignment.SIM3)
    assert ours.scale == pytest.approx(scale, rel=1e-9)
    expected = {
        "ate_rmse_m": evo_rmse(evo.APE(evo.PoseRelation.translation_part), theirs, reference),
        "rpe_trans_m": evo_rmse(
            evo.RPE(evo.PoseRelation.translation_part, 1, evo.Unit.frames, all_pairs=True), theirs, reference
        ),
        "rpe_rot_deg": evo_rmse(
            evo.RPE(evo.PoseRelation.rotation_angle_deg, 1, evo.Unit.frames, all_pairs=True), theirs, reference
        ),
    }
    for name, value in expected.items():
        assert TRAJECTORY_METRICS.load(name)(ours.T_world_camera, reference) == pytest.approx(value, rel=1e-7), name


def test_kitti_errors_as_the_development_kit_defines_them() -> None:
    estimate, reference = pair(1100)
    t, r = kitti_segment_errors(estimate, reference)
    assert t_err_percent(estimate, reference) == pytest.approx(100 * t, rel=1e-9)
    assert r_err_deg_per_100m(estimate, reference) == pytest.approx(100 * np.rad2deg(r), rel=1e-9)


def test_short_paths_have_no_segment_error() -> None:
    estimate, reference = pair(50)
    assert t_err_percent(estimate, reference) is None
    assert r_err_deg_per_100m(estimate, reference) is None


def test_the_scale_is_the_one_that_makes_ate_least() -> None:
    reference = drive(300)
    estimate = drive(300, noise=1.0)
    estimate[:, :3, 3] = 0.3 * estimate[:, :3, 3] + np.array([1.0, 2.0, 3.0])

    def ate(scale: float) -> float:
        scaled = estimate.copy()
        scaled[:, :3, 3] = estimate[0, :3, 3] + scale * (estimate[:, :3, 3] - estimate[0, :3, 3])
        return ate_rmse_m(scaled, reference)

    best = minimize_scalar(ate, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9})
    fitted = align_path(estimate, reference, PathAlignment.SCALE)
    assert fitted.scale == pytest.approx(best.x, rel=1e-5)
    assert ate_rmse_m(fitted.T_world_camera, reference) == pytest.approx(best.fun, rel=1e-9)
    np.testing.assert_allclose(fitted.T_world_camera[:, :3, :3], estimate[:, :3, :3])


@pytest.mark.parametrize("name", TRAJECTORY_METRICS)
def test_perfect_is_zero_and_near_perfect_is_finite(name: str) -> None:
    reference = drive(300)
    metric = TRAJECTORY_METRICS.load(name)
    assert metric(reference, reference) == pytest.approx(0, abs=1e-6)
    for size in (1e-16, 1e-12, 1e-8):  # where arccos of a trace is NaN, or wrong by 1e-8 rad
        shaken = reference + size * np.random.default_rng(0).normal(size=reference.shape)
        value = metric(shaken, reference)
        assert np.isfinite(value)
        assert value < 1e-2


def test_alignment_undoes_what_it_may() -> None:
    reference = drive(200)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0.1, 2, -1]).as_matrix()
    turn[:3, 3] = 1, -2, 3
    scaled = reference.copy()
    scaled[:, :3, 3] *= 0.2
    for estimate, alignment, scale in (
        (turn @ reference, PathAlignment.SE3, 1.0),
        (turn @ scaled, PathAlignment.SIM3, 5.0),
        (scaled, PathAlignment.SCALE, 5.0),
    ):
        fitted = align_path(estimate, reference, alignment)
        assert fitted.scale == pytest.approx(scale)
        np.testing.assert_allclose(fitted.T_world_camera, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("alignment", [PathAlignment.SCALE, PathAlignment.SE3, PathAlignment.SIM3])
def test_a_path_that_stands_still_cannot_be_aligned(alignment: PathAlignment) -> None:
    reference = drive(20)
    with pytest.raises(GeometryError):
        align_path(np.tile(np.eye(4), (20, 1, 1)), reference, alignment)


@pytest.mark.real
@pytest.mark.parametrize("name", ["ORB", "SPTAM"])
def test_kitti_errors_of_real_estimates(name: str, real_data: Path) -> None:
    def poses(file: str) -> Array:
        T = np.tile(np.eye(4), (4541, 1, 1))
        T[:, :3] = np.loadtxt(real_data / "trajectories" / file).reshape(-1, 3, 4)
        return T

    # The files round their rotations, which an arccos of the trace sees in the fifth digit.
    estimate, reference = poses(f"KITTI_00_{name}.txt"), poses("KITTI_00_gt.txt")
    t, r = kitti_segment_errors(estimate, reference)
    assert t_err_percent(estimate, reference) == pytest.approx(100 * t, rel=1e-5)
    assert r_err_deg_per_100m(estimate, reference) == pytest.approx(100 * np.rad2deg(r), rel=1e-4)


def wander(frames: int = 600, step_m: float = 0.1, seed: int = 3) -> Array:
    """Return (N, 4, 4) poses of a camera that drives curves, at small steps."""
    heading = np.cumsum(np.random.default_rng(seed).normal(0, 0.02, frames))
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[:, 0, 3] = np.cumsum(np.sin(heading)) * step_m
    T[:, 2, 3] = np.cumsum(np.cos(heading)) * step_m
    return T


@pytest.mark.parametrize("scale", [0.5, 0.93, 1.0, 3.0])
def test_the_length_ratio_follows_the_scale(scale: float) -> None:
    reference = wander()
    estimate = reference.copy()
    estimate[:, :3, 3] += 0.05 * np.random.default_rng(0).normal(size=(len(reference), 3))
    ratio = length_ratio(estimate, reference)
    estimate[:, :3, 3] *= scale
    assert length_ratio(estimate, reference) == pytest.approx(scale * ratio, rel=1e-12)
    moved = align_path(estimate, reference, PathAlignment.SE3).T_world_camera
    assert length_ratio(moved, reference) == pytest.approx(scale * ratio, rel=1e-9)


@pytest.mark.parametrize("frames", [60, 300, 3000])
def test_a_camera_that_stands_still_has_no_length_ratio(frames: int) -> None:
    reference, estimate = (np.tile(np.eye(4), (frames, 1, 1)) for _ in range(2))
    rng = np.random.default_rng(frames)
    for path, noise_m in ((reference, 1e-3), (estimate, 1e-2)):
        path[:, :3, 3] = noise_m * rng.normal(size=(frames, 3))
    assert path_length_m(reference) > 0
    assert length_ratio(estimate, reference) is None


def test_rpe_over_an_interval_as_evo_has_it() -> None:
    estimate, reference = pair(120)
    pairs = pose_pairs_at_interval(np.arange(120) / 10, 1.0)
    ours = relative_pose_errors(estimate, reference, *pairs)
    kinds = evo.PoseRelation.translation_part, evo.PoseRelation.rotation_angle_deg
    theirs = [evo_rmse(evo.RPE(kind, 10, evo.Unit.frames, all_pairs=True), estimate, reference) for kind in kinds]
    assert ours == pytest.approx(theirs, rel=1e-7)
