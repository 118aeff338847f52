"""Weights by their original names: all of them arrive where they belong, and a load that is not whole stops."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.refusals import refuses

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split

import timm
from tests.networks.dpt_files import build, drawn, hybrid, originals, plain, predict, saved
from timm.layers import StdConv2dSame
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import HybridEmbed
from torch import Tensor

from stadia.core.errors import CheckpointError
from stadia.networks.config import DptConfig
from stadia.networks.depth.dpt import Architecture, Dpt
from stadia.networks.depth.dpt_weights import rename_to_transformers


@pytest.mark.slow
@pytest.mark.parametrize("arch", [hybrid, plain])
def test_original_weights_arrive(arch: Callable[[], Architecture], tmp_path: Path) -> None:
    source = drawn(arch)
    loaded = build(arch, saved(tmp_path, originals(source)), seed=1)
    torch.testing.assert_close(predict(loaded), predict(source), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(predict(build(arch, seed=1)), predict(source), rtol=1e-3)
    report = loaded.load_report
    assert report is not None
    assert set(report.loaded) == set(source.network.state_dict())
    assert report.missing == report.mismatched == ()
    assert report.unexpected == ("pretrained.model.head.weight", "pretrained.model.head.bias")
    assert loaded.weights == {"network": "pretrained"}
    assert (loaded.scale, loaded.shift) == (1, 0)


SCRIPTED = ((r"act_postprocess(\d)\.0\.project", r"readout_oper\1.0.project"), (r"(act_postprocess\d)\.3", r"\1.0"))
SCRIPTED += ((r"(act_postprocess\d)\.4", r"\1.1"),)
"""Names of isl-org/DPT, and of the files for scripting, which lack the layers that only reshape."""


@pytest.mark.slow
@pytest.mark.parametrize("arch", [hybrid, plain])
def test_weights_of_the_files_for_scripting_arrive_whole(arch: Callable[[], Architecture], tmp_path: Path) -> None:
    source = drawn(arch)
    weights = originals(source)
    for old, new in SCRIPTED:
        weights = {re.sub(old, new, name): tensor for name, tensor in weights.items()}
    assert any(name.startswith("pretrained.readout_oper3.0.project.0") for name in weights)
    loaded = build(arch, saved(tmp_path, weights), seed=1)
    torch.testing.assert_close(predict(loaded), predict(source), rtol=1e-5, atol=1e-5)
    assert loaded.load_report is not None
    assert set(loaded.load_report.loaded) == set(source.network.state_dict())
    name = "pretrained.act_postprocess4.1.weight"
    with refuses(CheckpointError, where="dpt.pt", found="neck.reassemble_stage.layers.3.resize"):
        build(arch, saved(tmp_path, {key if key != name else "renamed": tensor for key, tensor in weights.items()}))


# -- timm's networks, of which the published ones were made


def timm_vit(**config: Any) -> VisionTransformer:
    return VisionTransformer(img_size=384, embed_dim=32, depth=4, num_heads=4, num_classes=10, **config)


def timm_hybrid() -> VisionTransformer:
    conv = partial(StdConv2dSame, eps=1e-8)
    sizes = {"layers": [1, 2, 1], "channels": (128, 256, 512), "stem_chs": 32}
    trunk = ResNetV2(**sizes, num_classes=0, global_pool="", preact=False, stem_type="same", conv_layer=conv)
    return timm_vit(patch_size=1, embed_layer=partial(HybridEmbed, backbone=trunk, patch_size=1))


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "make"), [(hybrid, timm_hybrid), (plain, timm_vit)])
def test_a_backbone_of_timm_gives_the_same_tokens_here(
    arch: Callable[[], Architecture], make: Callable[..., Any], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    backbone, source = make().eval(), drawn(arch)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    weights = {name: tensor for name, tensor in originals(source).items() if not name.startswith("pretrained.model.")}
    weights |= {f"pretrained.model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    ours, image = build(arch, saved(tmp_path, weights)), torch.rand(1, 3, 384, 384)
    seen: list[Tensor] = []
    for block in ours.network.dpt.encoder.layer:
        block.register_forward_hook(lambda _, __, tokens: seen.append(tokens))
    with torch.no_grad():
        maps = backbone.forward_intermediates((image - 0.5) / 0.5, indices=4, output_fmt="NLC", intermediates_only=True)
        ours(image)
    for expected, tokens in zip(maps, seen, strict=True):
        torch.testing.assert_close(tokens[:, 1:], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backbone"), [("hybrid", "vit_base_r50_s16_384"), ("large", "vit_large_patch16_384")])
def test_the_published_networks_names_and_shapes_are_all_known(name: str, backbone: str) -> None:
    with torch.device("meta"):
        network = Dpt(DptConfig(size=name), pretrained=False)
        trunk = timm.create_model(backbone, pretrained=False).state_dict()
        own = network.network.state_dict()
        weights = {**originals(network), **{f"pretrained.model.{key}": tensor for key, tensor in trunk.items()}}
        renamed = rename_to_transformers(weights, own)
    assert renamed.keys() - own.keys() == {"pretrained.model.head.weight", "pretrained.model.head.bias"}
    assert own.keys() <= renamed.keys()
    assert [key for key in own if renamed[key][1].shape != own[key].shape] == []


# -- other files
