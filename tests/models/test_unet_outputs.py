"""Outputs of the U-Net: depth without an upper limit, limits of the uncertainty."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from stadia.geometry.depth_maps import init_softplus_bias, softplus_to_inverse_depth
from stadia.models.depth.config import UnetConfig
from stadia.models.depth.unet import Unet, bound_log_uncertainty


@pytest.mark.parametrize("init_m", [0.6, 12.0, 400.0])
def test_softplus_starts_at_the_initial_depth_without_an_upper_limit(init_m: float) -> None:
    bias = init_softplus_bias(init_m, 0.5)
    assert 1 / softplus_to_inverse_depth(torch.tensor(bias, dtype=torch.float64), 0.5).item() == pytest.approx(init_m)
    depth = 1 / softplus_to_inverse_depth(torch.linspace(-50, 5000, 200), 0.5)
    assert (depth.diff() >= 0).all()
    assert depth[0].item() == pytest.approx(0.5)
    assert depth[-1] > 4000


def test_unet_predicts_softplus_depth() -> None:
    torch.manual_seed(0)
    config = UnetConfig(encoder="resnet10t", depth_output="softplus", init_depth_m=300.0, max_depth_m=100.0, scales=2)
    assert config.depth_range_m is None
    maps = Unet(config, pretrained=False).eval()(torch.rand(1, 3, 64, 64)).inverse_depth
    assert (1 / maps[0]).median().item() == pytest.approx(300, rel=0.1)
    with pytest.raises(ValidationError, match="min_depth_m < init_depth_m"):
        UnetConfig(depth_output="softplus", init_depth_m=0.4)


def test_limits_of_the_uncertainty_are_those_of_the_configuration() -> None:
    torch.manual_seed(0)
    config = UnetConfig(encoder="resnet10t", uncertainty=True, log_uncertainty_range=(-1.0, 0.5), scales=1)
    net = Unet(config, pretrained=False).eval()
    with torch.no_grad():
        net.decoder.heads["1"].bias[-1] = 100.0
        assert net(torch.rand(1, 3, 64, 64)).log_uncertainty[0].max().item() == pytest.approx(0.5)
        net.decoder.heads["1"].bias[-1] = -100.0
        assert net(torch.rand(1, 3, 64, 64)).log_uncertainty[0].min().item() == pytest.approx(-1)
    logit = torch.linspace(-0.01, 0.01, 5)
    torch.testing.assert_close(bound_log_uncertainty(logit, (-1.0, 0.5)), logit, atol=1e-5, rtol=0)
    with pytest.raises(ValidationError):
        UnetConfig(log_uncertainty_range=(0.5, 2.0))
