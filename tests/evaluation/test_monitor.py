"""What validates a depth network: each sample by itself, scaled only where it claims no metres."""

from __future__ import annotations

import pytest
import torch

from stadia.core.types import Claim
from stadia.evaluation.monitor import CAP_M, depth_scores


def test_a_depth_twice_too_large_is_perfect_up_to_scale_and_wrong_in_metres() -> None:
    true_m = torch.rand(2, 1, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20 + 1
    twice = 1 / (2 * true_m)
    assert depth_scores(twice, true_m, Claim.UP_TO_SCALE)["abs_rel"].tolist() == pytest.approx([0, 0], abs=1e-12)
    assert depth_scores(twice, true_m, Claim.METRES)["abs_rel"].tolist() == pytest.approx([1, 1])
    assert set(depth_scores(twice, true_m, Claim.METRES)) == {"abs_rel", "rmse", "d1"}


def test_none_and_beyond_the_cap_are_not_scored() -> None:
    true_m = torch.tensor([[10.0, 0.0, 2 * CAP_M], [0.0, 0.0, 0.0]]).view(2, 1, 1, 3)
    scores = depth_scores(torch.full((2, 1, 1, 3), 0.1), true_m, Claim.METRES)
    assert float(scores["rmse"][0]) == pytest.approx(0, abs=1e-5)
    assert bool(scores["rmse"][1].isnan())
