"""Predicted against true motion, axis by axis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stadia.core.types import DepthScale, Meta
from stadia.evaluation.validation_metrics import MotionPairs, compute_motion_scores
from stadia.geometry.se3 import from_rotation_translation, inverse, so3_exp
from stadia.metrics.trajectory_metrics import motion_components

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


def test_axes_are_translation_and_degrees(true: Tensor) -> None:
    assert torch.allclose(motion_components(transforms(true)), true)


def test_slope_and_correlation_of_each_axis_and_none_where_nothing_moves(true: Tensor) -> None:
    said = true * torch.tensor([1, 1, 2, 0.5, -1, 0], dtype=torch.float64) + 3
    scores = compute_motion_scores(said, true)
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
        torch.stack([inverse(ahead), ahead], 1),
        torch.stack([inverse(later_earlier), later_earlier], 1),
    )
    predicted, found = motions.collect()
    camera_motion = motion_components(inverse(later_earlier))
    assert torch.allclose(found[:40], camera_motion, atol=1e-9)
    assert torch.allclose(found[40:], camera_motion, atol=1e-9)
    scores = compute_motion_scores(predicted, found)
    assert abs(scores["motion_slope/tz"]) < 1e-6
    assert abs(scores["motion_correlation/tz"]) < 1e-6


@pytest.mark.parametrize("times", [1.0, 0.3, 0.0, -1.0])
def test_how_far_motion_goes_along_the_true_one(true: Tensor, times: float) -> None:
    sideways = torch.stack(
        [-true[:, 2], true[:, 1], true[:, 0]], dim=1
    )  # across the true one, which counts for nothing
    said = torch.cat([times * true[:, :3] + 0.5 * sideways, true[:, 3:]], dim=1)
    assert compute_motion_scores(said, true)["motion_along"] == pytest.approx(times)
    assert "motion_along" not in compute_motion_scores(said, torch.zeros_like(true))


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
