"""Measured depth and speed beside view synthesis."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import Camera, Prediction, Targets
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.sparse_depth import MeasuredTerms, compute_speed_error
from stadia.recipes import configure


def scene() -> tuple[Targets, Prediction]:
    image, K = torch.zeros(2, 3, 4, 6), torch.eye(3).expand(2, 3, 3)
    true = torch.eye(4).expand(2, 3, 4, 4).clone()
    true[:, 0, 2, 3], true[:, 1, 2, 3], true[:, 2, 0, 3] = -1.0, 2.0, 9.0
    depth_m = torch.zeros(2, 1, 4, 6)
    depth_m[0, 0, 1, 2] = 10.0
    camera = Camera(K, 4, 6)
    sources = Camera(K[:, None].expand(2, 3, 3, 3), 4, 6)
    targets = Targets(image, image[:, None].expand(2, 3, 3, 4, 6), camera, sources, true, depth_m)
    inverse_depth = torch.full((2, 1, 4, 6), 0.2).requires_grad_()
    return targets, Prediction((inverse_depth,), true.clone().requires_grad_())


NAMES = ("-1", "+1", "stereo")


def test_right_motion_costs_nothing_whatever_its_direction() -> None:
    targets, _ = scene()
    T = targets.T_source_target_true.clone()
    T[:, 0, :3, 3] = torch.tensor([1.0, 0.0, 0.0])
    assert compute_speed_error(T, targets.T_source_target_true, NAMES).item() == pytest.approx(0)
    T[:, 2, 0, 3] = 100.0
    assert compute_speed_error(T, targets.T_source_target_true, NAMES).item() == pytest.approx(0), "no rig"
    T[:, 1, :3, 3] *= 1.5
    assert compute_speed_error(T, targets.T_source_target_true, NAMES).item() == pytest.approx(0.5)


def test_unknown_motions_and_standing_cameras_have_finite_gradients() -> None:
    targets, _ = scene()
    true = targets.T_source_target_true.clone()
    true[0] = torch.nan
    T = torch.eye(4).expand(2, 3, 4, 4).clone().requires_grad_()
    error = compute_speed_error(T, true, NAMES)
    error.backward()
    assert error.item() == pytest.approx(1.5)
    assert T.grad is not None
    assert T.grad.isfinite().all()
    assert compute_speed_error(T.detach(), torch.full_like(true, torch.nan), NAMES).item() == 0


def test_depth_is_compared_where_it_is_measured() -> None:
    targets, prediction = scene()
    report = MeasuredTerms(SelfSupervisedLossConfig(sparse_depth=0.5, speed=2.0))(targets, prediction, NAMES)
    assert report.terms["sparse_depth"].item() == pytest.approx(0.5 * torch.tensor(2.0).log().item())
    assert report.terms["speed"].item() == pytest.approx(0)
    report.total.backward()
    gradient = prediction.inverse_depth[0].grad
    assert gradient is not None
    assert (gradient != 0).sum() == 1
    none = MeasuredTerms(SelfSupervisedLossConfig(sparse_depth=1.0))
    assert none(replace(targets, depth_m=None), prediction, NAMES).total.item() == 0


def test_a_term_without_its_data_is_one_line() -> None:
    with refuses(ConfigError, found="loss.sparse_depth"):
        configure("selfsup", ["data.path=x", "loss.sparse_depth=1"])
    with refuses(ConfigError, found="loss.speed"):
        configure("selfsup", ["data.path=x", "loss.speed=1", "data.offsets=[]"])
    with refuses(ConfigError, found="data.extra_datasets"):
        configure("supervised", ["data.path=x", "balance=min_norm"])
