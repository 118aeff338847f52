"""Ignored pixels train nothing and count nowhere, on both paths of the loss."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from stadia.core.types import Camera
from stadia.differentiable.batch import Prediction, Targets
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.reprojection import TorchReprojector
from stadia.losses.selfsup_loss import SelfSupervisedLoss

HEIGHT, WIDTH = 16, 24
CONFIG = SelfSupervisedLossConfig(smoothness=0.0, auto_mask=False)


def scene(seed: int = 0) -> tuple[Targets, Prediction]:
    random = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, HEIGHT, WIDTH, generator=random)
    sources = torch.rand(2, 2, 3, HEIGHT, WIDTH, generator=random)
    K = torch.tensor([[20.0, 0, 11.5], [0, 20, 7.5], [0, 0, 1]]).expand(2, 3, 3)
    camera = Camera(K, HEIGHT, WIDTH)
    T = torch.eye(4).expand(2, 2, 4, 4).clone()
    T[:, 0, 2, 3], T[:, 1, 2, 3] = 0.1, -0.1
    unknown = torch.full((2, 2, 4, 4), torch.nan)
    targets = Targets(image, sources, camera, Camera(K[:, None].expand(2, 2, 3, 3), HEIGHT, WIDTH), unknown)
    inverse_depth = torch.rand(2, 1, HEIGHT, WIDTH, generator=random) * 0.2 + 0.1
    return targets, Prediction((inverse_depth.requires_grad_(),), T.requires_grad_())


def ignore(targets: Targets) -> Targets:
    region = torch.zeros(2, 1, HEIGHT, WIDTH, dtype=torch.bool)
    region[:, :, 12:] = True
    return replace(targets, ignored=region)


@pytest.mark.parametrize("pyramid", [1, 2])
def test_both_paths_agree_in_values_and_gradients(pyramid: int) -> None:
    config = CONFIG.model_copy(update={"pyramid": pyramid})
    found = []
    for reprojector in (None, TorchReprojector):
        targets, prediction = scene()
        report = SelfSupervisedLoss(config, reprojector=reprojector)(ignore(targets), prediction, ["-1", "+1"])
        report.total.backward()
        found.append((report.total.detach(), prediction.inverse_depth[0].grad, prediction.T_source_target.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_region_has_no_gradient_and_its_content_no_influence() -> None:
    targets, prediction = scene()
    ignored = ignore(targets)
    report = SelfSupervisedLoss(CONFIG)(ignored, prediction, ["-1", "+1"])
    report.total.backward()
    gradient = prediction.inverse_depth[0].grad
    assert gradient is not None
    assert not gradient[:, :, 12:].any()
    assert gradient[:, :, :11].any()
    painted = ignored.image.clone()
    painted[:, :, 13:] = 0.0
    again = SelfSupervisedLoss(CONFIG)(replace(ignored, image=painted), prediction, ["-1", "+1"])
    torch.testing.assert_close(again.total, report.total)
    assert (report.maps["winner"][:, :, 12:] == -1).all()


def test_a_pixel_that_a_source_explains_by_its_own_hood_does_not_count() -> None:
    targets, _ = scene()
    T = torch.eye(4).expand(2, 2, 4, 4).clone()
    T[:, :, 1, 3] = 2.0
    depth = torch.full((2, 1, HEIGHT, WIDTH), 0.2)  # 5 units away: 2 / 5 * 20 = 8 rows
    report = SelfSupervisedLoss(CONFIG)(ignore(targets), Prediction((depth,), T), ["-1", "+1"])
    assert (report.maps["winner"][:, :, 4:] == -1).all()
    assert (report.maps["winner"][:, :, :2] >= 0).all()


def test_a_residual_threshold_and_motion_alone_leave_the_region_out(monkeypatch: Any) -> None:
    config = CONFIG.model_copy(update={"residual_threshold": 0.3, "temporal_from_step": None})
    targets, prediction = scene()
    report = SelfSupervisedLoss(config)(ignore(targets), prediction, ["-1", "stereo"])
    report.total.backward()
    gradient = prediction.inverse_depth[0].grad
    assert gradient is not None
    assert not gradient[:, :, 12:].any()
    assert prediction.T_source_target.grad is not None
