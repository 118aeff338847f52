"""Encoders: every family gives features at powers of two, and mistakes are named."""

from __future__ import annotations

import logging

import pytest
import torch

from stadia.core.errors import ConfigError
from stadia.models import encoders, pretrained_weights
from stadia.models.encoders import Encoder


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"],
)
def test_features_have_the_channels_and_strides_they_claim(name: str) -> None:
    encoder = Encoder(name, pretrained=False).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, 3, 64, 96))
    assert [tuple(f.shape[1:]) for f in features] == [
        (c, 64 // s, 96 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)
    ]


def test_resnet18_has_the_strides_of_monodepth2() -> None:
    encoder = Encoder("resnet18", pretrained=False)
    assert (encoder.strides, encoder.channels) == ([2, 4, 8, 16, 32], [64, 64, 128, 256, 512])


def test_two_images_are_six_channels() -> None:
    encoder = Encoder("resnet18", images=2, pretrained=False).eval()
    assert encoder(torch.rand(1, 6, 32, 32))[0].shape[1] == 64


def test_a_image_is_normalized_inside() -> None:
    encoder = Encoder("resnet18", pretrained=False).eval()
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder(encoder.mean.expand(1, 3, 32, 32))
    assert seen[0].abs().max() < 1e-6


def test_a_size_that_does_not_divide_names_the_nearest_that_does() -> None:
    with pytest.raises(ConfigError, match=r"found 100x60; expected multiples of 32. Fix: for example 96x64"):
        Encoder("resnet18", pretrained=False)(torch.rand(1, 3, 60, 100))


def test_a_misspelt_encoder_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        Encoder("resnt18", pretrained=False)


def test_a_patch_of_fourteen_is_refused() -> None:
    with pytest.raises(ConfigError, match="powers of two"):
        Encoder("vit_small_patch14_dinov2", pretrained=False)


def count_zero_scales(encoder: torch.nn.Module) -> int:
    """Count the normalizations whose scale is zero."""
    return sum(not p.any() for name, p in encoder.named_parameters() if p.ndim == 1 and name.endswith("weight"))


@pytest.mark.parametrize("name", ["resnet18", "regnetx_002"])
def test_random_residual_blocks_start_with_their_branch(name: str) -> None:
    """Timm's own start makes every block its skip connection: bad on unseen images."""
    assert count_zero_scales(encoders.timm.create_model(name, features_only=True)) > 7, "timm's start"
    assert count_zero_scales(Encoder(name, pretrained=False)) == 0


def test_pretrained_scales_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    real = encoders.timm.create_model
    monkeypatch.setattr(encoders.timm, "create_model", lambda name, *, pretrained=False, **words: real(name, **words))
    monkeypatch.setattr(pretrained_weights, "is_reachable", lambda: False)
    assert count_zero_scales(Encoder("resnet18", pretrained=True)) == 8, "as they were loaded"


def test_unavailable_weights_are_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = encoders.timm.create_model

    def no_hub(name: str, *, pretrained: bool = False, **words: object) -> torch.nn.Module:
        if pretrained:
            raise OSError("no route to the hub")
        return real(name, **words)

    monkeypatch.setattr(encoders.timm, "create_model", no_hub)
    monkeypatch.setattr(pretrained_weights, "is_reachable", lambda: False)
    pretrained_weights.warn_missing_weights.cache_clear()
    with caplog.at_level(logging.WARNING):
        encoder = Encoder("resnet18", pretrained=True)
        assert (encoder.weights, count_zero_scales(encoder)) == ("random", 0)
        assert Encoder("resnet18", images=2, pretrained=True).weights == "random"
    (message,) = (r.getMessage() for r in caplog.records)
    assert message.startswith(
        "no pretrained weights for 'resnet18' (OSError): it starts at random; copy models--timm--resnet18.a1_in1k"
    )
    assert pretrained_weights.huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_the_kind_of_initial_weights_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = encoders.timm.create_model
    monkeypatch.setattr(encoders.timm, "create_model", lambda name, *, pretrained=False, **words: real(name, **words))
    monkeypatch.setattr(pretrained_weights, "is_reachable", lambda: False)
    assert Encoder("resnet18", pretrained=True).weights == "pretrained"
    assert Encoder("resnet18", pretrained=False).weights == "random"
