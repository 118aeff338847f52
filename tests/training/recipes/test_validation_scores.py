"""What validates a depth network: each sample by itself, scaled only where it predicts no metres."""

import numpy as np
import pytest
import torch
from torch import Tensor

from stadia.core.types import DepthScale
from stadia.differentiable.batch import Meta
from stadia.geometry.poses import from_rotation_translation, invert_pose, so3_exp
from stadia.metrics.trajectory_metrics import motion_components
from stadia.training.recipes.base.validation_scores import (
    INTERVAL_PERCENTS,
    MAX_DEPTH_M,
    MotionPairs,
    compute_depth_scores,
    compute_motion_scores,
    compute_uncertainty_scores,
)


def test_a_depth_twice_too_large_is_perfect_up_to_scale_and_wrong_in_metres() -> None:
    true_m = torch.rand(2, 1, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20 + 1
    twice = 1 / (2 * true_m)
    assert compute_depth_scores(twice, true_m, DepthScale.UP_TO_SCALE)["abs_rel"].tolist() == pytest.approx(
        [0, 0], abs=1e-12
    )
    assert compute_depth_scores(twice, true_m, DepthScale.METRES)["abs_rel"].tolist() == pytest.approx([1, 1])
    assert set(compute_depth_scores(twice, true_m, DepthScale.METRES)) == {"abs_rel", "rmse", "d1"}


def test_inverse_depth_up_to_scale_and_shift_is_fitted_to_each_sample() -> None:
    """Negative values too; in metres, or up to scale alone, the same answer is wrong."""
    true_m = torch.rand(2, 1, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20 + 1
    answer = 300 / true_m - torch.tensor([40.0, 90.0], dtype=torch.float64).view(2, 1, 1, 1)
    known_m = true_m.masked_fill(torch.rand(true_m.shape, generator=torch.Generator().manual_seed(1)) < 0.3, 0)
    assert compute_depth_scores(answer, known_m, DepthScale.AFFINE_INVERSE)["abs_rel"].tolist() == pytest.approx(
        [0, 0], abs=1e-12
    )
    assert (compute_depth_scores(answer.clamp(min=1), known_m, DepthScale.UP_TO_SCALE)["abs_rel"] > 0.1).all()


def test_an_affine_fit_that_falls_below_zero_is_held_at_the_cap_and_a_sample_without_labels_is_nan() -> None:
    """Least squares through inverse depths of 1/2, 1/4 and 1/79 at answers 2, 1 and -2 is at -0.007 at the last."""
    true_m = torch.tensor([[2.0, 4.0, 79.0], [0.0, 0.0, 0.0]], dtype=torch.float64).view(2, 1, 1, 3)
    answer = torch.tensor([[2.0, 1.0, -2.0], [1.0, 2.0, 3.0]], dtype=torch.float64).view(2, 1, 1, 3)
    scores = compute_depth_scores(answer, true_m, DepthScale.AFFINE_INVERSE)
    slope, shift = torch.linalg.lstsq(
        torch.stack([answer[0].flatten(), torch.ones(3, dtype=torch.float64)], 1), 1 / true_m[0].flatten()[:, None]
    ).solution
    depth = 1 / (slope * answer[0].flatten() + shift).clamp(min=1 / MAX_DEPTH_M)
    assert scores["rmse"][0].item() == pytest.approx((depth - true_m[0].flatten()).square().mean().sqrt().item())
    assert all(bool(value[1].isnan()) for value in scores.values())


@pytest.mark.parametrize("depth_scale", list(DepthScale))
def test_a_sample_scores_the_same_in_any_batch(depth_scale: DepthScale) -> None:
    """D-12, sparse truth of different density: nothing of one sample enters another's score."""
    draw = torch.Generator().manual_seed(0)
    true_m = torch.rand(4, 1, 20, 30, dtype=torch.float64, generator=draw) * 70 + 2
    true_m[torch.rand(true_m.shape, generator=draw) > torch.tensor([0.9, 0.05, 0.3, 0.0]).view(4, 1, 1, 1)] = 0
    answer = 1 / (torch.rand(true_m.shape, dtype=torch.float64, generator=draw) * 70 + 2)
    together = compute_depth_scores(answer, true_m, depth_scale)
    for name, scores in together.items():
        alone = [compute_depth_scores(answer[k : k + 1], true_m[k : k + 1], depth_scale)[name].item() for k in range(4)]
        assert scores.tolist() == pytest.approx(alone, abs=1e-12, nan_ok=True)
        assert bool(scores[3].isnan()), "nothing to score is no score"


def test_an_uncertainty_is_scored_by_the_order_of_depth_and_the_scale_of_the_residual() -> None:
    """Laplace residuals of scale Sigma: each interval holds what it says; errors of depth in Sigma's order leave
    nothing to the oracle.
    """
    draw = torch.Generator().manual_seed(0)
    log_sigma = torch.randn(2, 1, 400, 400, generator=draw)
    residual = log_sigma.exp() * torch.empty_like(log_sigma).exponential_(generator=draw)
    found = compute_uncertainty_scores(residual, log_sigma)
    for percent in INTERVAL_PERCENTS:
        assert found[f"inside_{percent}"].tolist() == pytest.approx([percent / 100] * 2, abs=0.02)
    assert found["residual_over_sigma"].tolist() == pytest.approx([1, 1], abs=0.04)
    assert (found["residual_spearman"] > 0.4).all()
    twice_too_sure = compute_uncertainty_scores(residual, log_sigma - 0.6931)
    assert twice_too_sure["residual_over_sigma"].tolist() == pytest.approx([2, 2], abs=0.08)
    assert (twice_too_sure["inside_50"] < 0.35).all()
    assert (
        compute_uncertainty_scores(residual, torch.zeros_like(residual))["residual_spearman"].tolist()
        == [pytest.approx(0, abs=1e-9)] * 2
    )
    true_m = torch.rand(2, 1, 20, 30, generator=draw, dtype=torch.float64) * 20 + 1
    error = torch.rand(true_m.shape, generator=draw, dtype=torch.float64)
    true_m[1] = 0
    right, wrong = (
        compute_depth_scores(1 / (true_m * (1 + error)), true_m, DepthScale.METRES, doubt)
        for doubt in (error.log(), -error)
    )
    assert right["ause"][0].item() == pytest.approx(0, abs=1e-9)
    assert wrong["ause"][0] > wrong["ause_of_random"][0] > 0
    assert bool(right["ause"][1].isnan())


META = [Meta("drive", index) for index in range(40)]


def transforms(axes: Tensor) -> Tensor:
    """(N, 6), rotations in degrees, to (N, 4, 4)."""
    return from_rotation_translation(so3_exp(torch.deg2rad(axes[:, 3:])), axes[:, :3])


@pytest.fixture
def true() -> Tensor:
    """Ahead by about a metre, with turns; nothing up or down."""
    spread = torch.tensor([0.1, 0.0, 0.2, 0.5, 2.0, 0.3], dtype=torch.float64)
    ahead = torch.tensor([0.0, 0.0, -1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    return ahead + spread * torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_slope_and_correlation_of_each_axis_and_none_where_nothing_moves(true: Tensor) -> None:
    said = true * torch.tensor([1, 1, 2, 0.5, -1, 0], dtype=torch.float64) + 3
    scores = compute_motion_scores(said.numpy(), true.numpy())
    assert {name.split("/")[1] for name in scores if "/" in name} == {"tx", "tz", "rx", "ry", "rz"}
    assert [scores[f"motion_slope/{axis}"] for axis in ("tx", "tz", "rx", "ry", "rz")] == pytest.approx(
        [1, 2, 0.5, -1, 0]
    )
    assert [scores[f"motion_correlation/{axis}"] for axis in ("tx", "tz", "rx", "ry", "rz")] == pytest.approx(
        [1, 1, 1, -1, 0]
    )


def test_constant_motion_has_no_correlation(true: Tensor) -> None:
    """Pairs of both directions are laid in order of time: else the truth would be two heaps, and "ahead" right about
    them.
    """
    later_earlier = transforms(true)
    ahead = transforms(torch.tensor([[0.0, 0, -1, 0, 0, 0]], dtype=torch.float64)).expand(40, 4, 4)
    motions = MotionPairs(DepthScale.METRES)
    motions.add(
        META,
        ("-1", "+1"),
        torch.stack([invert_pose(ahead), ahead], 1),
        torch.stack([invert_pose(later_earlier), later_earlier], 1),
    )
    predicted, found = motions.collect()
    camera_motion = motion_components(invert_pose(later_earlier).numpy())
    assert np.allclose(found, np.concatenate([camera_motion, camera_motion]), atol=1e-9)
    scores = compute_motion_scores(predicted, found)
    assert abs(scores["motion_slope/tz"]) < 1e-6
    assert abs(scores["motion_correlation/tz"]) < 1e-6


@pytest.mark.parametrize("times", [1.0, 0.3, 0.0, -1.0])
def test_how_far_motion_goes_along_the_true_one(true: Tensor, times: float) -> None:
    sideways = torch.stack(
        [-true[:, 2], true[:, 1], true[:, 0]], dim=1
    )  # across the true one, which counts for nothing
    said = torch.cat([times * true[:, :3] + 0.5 * sideways, true[:, 3:]], dim=1).numpy()
    assert compute_motion_scores(said, true.numpy())["motion_along"] == pytest.approx(times)
    assert "motion_along" not in compute_motion_scores(said, np.zeros_like(true))


def test_up_to_scale_one_factor_brings_translation_to_size_and_leaves_rotation(true: Tensor) -> None:
    said = transforms(true * torch.tensor([0.1, 0.1, 0.1, 1, 1, 1], dtype=torch.float64))
    slopes = []
    for depth_scale in (DepthScale.UP_TO_SCALE, DepthScale.METRES):
        motions = MotionPairs(depth_scale)
        motions.add(META, ("+1",), said[:, None].float(), transforms(true)[:, None])
        scores = compute_motion_scores(*motions.collect())
        slopes.append([scores[f"motion_slope/{axis}"] for axis in ("tz", "ry")])
    assert slopes[0] == pytest.approx([1, 1], abs=1e-4)
    assert slopes[1] == pytest.approx([0.1, 1], abs=1e-4)


def test_a_rig_and_unknown_poses_are_left_out_and_a_pair_counts_once(true: Tensor) -> None:
    T = transforms(true)[:, None].expand(40, 2, 4, 4).clone()
    unknown = T.clone()
    unknown[:10] = torch.nan
    motions = MotionPairs(DepthScale.METRES)
    for _ in range(2):
        motions.add(META, ("+1", "stereo"), T, unknown)
    assert len(motions.collect()[1]) == 30
    empty = MotionPairs(DepthScale.UP_TO_SCALE).collect()
    assert (empty[0].shape, compute_motion_scores(*empty)) == ((0, 6), {})


def test_nan_prediction_has_infinite_error() -> None:
    true_m = torch.full((2, 1, 3, 4), 10.0)
    answer = torch.full((2, 1, 3, 4), 0.1)
    answer[1, 0, 0, 0] = torch.nan
    scores = compute_depth_scores(answer, true_m, DepthScale.METRES)
    assert scores["abs_rel"].tolist() == pytest.approx([0, float("inf")], abs=1e-6)
    assert scores["d1"].tolist() == pytest.approx([1, 11 / 12])
