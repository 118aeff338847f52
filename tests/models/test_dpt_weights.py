"""Weights by their original names: all of them arrive where they belong, and a load that is not whole stops."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch

import stadia.core.torchvision_shim  # noqa: F401

# isort: split

import timm
from timm.layers import StdConv2dSame
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import HybridEmbed
from torch import Tensor, nn

from stadia.core.errors import CheckpointError
from stadia.models import dpt, dpt_networks, hub
from stadia.models.dpt import Dpt
from stadia.models.dpt_config import DptConfig
from stadia.models.dpt_networks import Network
from stadia.models.dpt_weights import LoadReport, transformers_names

Weights = dict[str, Tensor]


def hybrid() -> Network:
    """A shrunken DPT-Hybrid."""
    sizes = {"stem": 32, "stages": (128, 256, 512), "depths": (1, 2, 1), "groups": 32, "width": 32, "blocks": 4, "heads": 4}
    return dpt_networks._hybrid(**sizes, hooks=(1, 3), fusion=16, hub="nobody/nothing")


def plain() -> Network:
    """A shrunken DPT-Large."""
    return dpt_networks._dpt(width=32, blocks=4, heads=4, hooks=(0, 1, 2, 3), neck=(8, 16, 24, 32), fusion=16, hub="nobody/nothing")


def depth_anything() -> Network:
    """A shrunken Depth Anything."""
    return dpt_networks._depth_anything("Tiny", width=32, blocks=4, heads=4, hooks=(0, 1, 2, 3), neck=(8, 16, 24, 32), fusion=16)


def build(facts: Callable[[], Network], weights: Path | None = None, *, seed: int = 0, **config: Any) -> Dpt:
    """A network of these sizes, drawn by the seed, and then loaded where there are weights."""
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpt, "NETWORKS", SimpleNamespace(load=lambda name: facts))
        return Dpt(DptConfig(pretrained=weights is not None, weights=weights and str(weights), **config)).eval()


def drawn(facts: Callable[[], Network]) -> Dpt:
    """A network of which no two weights are alike, norms and biases not being 1 and 0."""
    network = build(facts)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return network


# -- the original names, written down from the other side: what isl-org/DPT calls a weight of transformers ------------------------------

VIT = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
OTHERS = {
    "dpt.embeddings.cls_token": "pretrained.model.cls_token",
    "dpt.embeddings.position_embeddings": "pretrained.model.pos_embed",
    "dpt.embeddings.projection": "pretrained.model.patch_embed.proj",
    "dpt.embeddings.patch_embeddings.projection": "pretrained.model.patch_embed.proj",
    "dpt.embeddings.backbone.bit.embedder.convolution": "pretrained.model.patch_embed.backbone.stem.conv",
    "dpt.embeddings.backbone.bit.embedder.norm": "pretrained.model.patch_embed.backbone.stem.norm",
    "dpt.layernorm": "pretrained.model.norm",
}


def original_name(name: str) -> str:
    stem, _, kind = name.rpartition(".") if name.endswith((".weight", ".bias")) else (name, "", "")
    words = stem.split(".")
    if stem in OTHERS:
        new = OTHERS[stem]
    elif stem.startswith("dpt.encoder.layer."):
        new = f"pretrained.model.blocks.{words[3]}.{VIT['.'.join(words[4:])]}"
    elif stem.startswith("dpt.embeddings.backbone.bit.encoder.stages."):
        new = f"pretrained.model.patch_embed.backbone.stages.{words[6]}.blocks.{words[8]}.{'.'.join(words[9:])}"
    elif stem.startswith("neck.reassemble_stage.readout_projects."):
        new = f"pretrained.act_postprocess{int(words[3]) + 1}.0.project.0"
    elif stem.startswith("neck.reassemble_stage.layers."):
        new = f"pretrained.act_postprocess{int(words[3]) + 1}.{ {'projection': 3, 'resize': 4}[words[4]] }"
    elif stem.startswith("neck.convs."):
        new = f"scratch.layer{int(words[2]) + 1}_rn"
    elif stem.startswith("neck.fusion_stage.layers."):
        inside = {"projection": "out_conv", "residual_layer1": "resConfUnit1", "residual_layer2": "resConfUnit2"}[words[4]]
        new = ".".join([f"scratch.refinenet{4 - int(words[3])}", inside, *(w.replace("convolution", "conv") for w in words[5:])])
    else:
        assert stem.startswith("head.head."), name
        new = f"scratch.output_conv.{words[2]}"
    return f"{new}.{kind}" if kind else new


def originals(network: Dpt) -> Weights:
    """The network's weights as isl-org/DPT would have saved them: joined qkv, and the backbone's classifier of 1000 classes."""
    own = network.network.state_dict()
    saved: Weights = {"pretrained.model.head.weight": torch.randn(10, 32), "pretrained.model.head.bias": torch.randn(10)}
    for name, tensor in own.items():
        if ".attention.attention." not in name:
            saved[original_name(name)] = tensor
        elif ".query." in name:
            _, _, _, block, *_, kind = name.split(".")
            joined = torch.cat([own[name.replace("query", part)] for part in ("query", "key", "value")])
            saved[f"pretrained.model.blocks.{block}.attn.qkv.{kind}"] = joined
    return saved


def saved(folder: Path, weights: Weights) -> Path:
    torch.save(weights, folder / "dpt.pt")
    return folder / "dpt.pt"


def answers(network: Dpt) -> Tensor:
    with torch.no_grad():
        return network.raw(torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("facts", [hybrid, plain])
def test_original_weights_arrive(facts: Callable[[], Network], tmp_path: Path) -> None:
    source = drawn(facts)
    loaded = build(facts, saved(tmp_path, originals(source)), seed=1)
    torch.testing.assert_close(answers(loaded), answers(source), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(answers(build(facts, seed=1)), answers(source), rtol=1e-3)
    report = loaded.load_report
    assert report is not None
    assert set(report.loaded) == set(source.network.state_dict())
    assert report.initialised == report.misfit == report.tied == ()
    assert report.left_over == ("pretrained.model.head.weight", "pretrained.model.head.bias")
    assert loaded.weights == {"network": "pretrained"}
    assert (loaded.scale, loaded.shift) == (1, 0)


# -- timm's networks, of which the published ones were made -------------------------------------------------------------------------


def timm_vit(**config: Any) -> VisionTransformer:
    return VisionTransformer(img_size=384, embed_dim=32, depth=4, num_heads=4, num_classes=10, **config)


def timm_hybrid() -> VisionTransformer:
    conv = partial(StdConv2dSame, eps=1e-8)
    sizes = {"layers": [1, 2, 1], "channels": (128, 256, 512), "stem_chs": 32}
    trunk = ResNetV2(**sizes, num_classes=0, global_pool="", preact=False, stem_type="same", conv_layer=conv)
    return timm_vit(patch_size=1, embed_layer=partial(HybridEmbed, backbone=trunk, patch_size=1))


@pytest.mark.parametrize(("facts", "make"), [(hybrid, timm_hybrid), (plain, timm_vit)])
def test_a_backbone_of_timm_gives_the_same_tokens_here(facts: Callable[[], Network], make: Callable[..., Any], tmp_path: Path) -> None:
    """With joined qkv, computed by those who trained it."""
    torch.manual_seed(3)
    backbone, source = make().eval(), drawn(facts)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    weights = {name: tensor for name, tensor in originals(source).items() if not name.startswith("pretrained.model.")}
    weights |= {f"pretrained.model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    ours, image = build(facts, saved(tmp_path, weights)), torch.rand(1, 3, 384, 384)
    seen: list[Tensor] = []
    for block in ours.network.dpt.encoder.layer:
        block.register_forward_hook(lambda _, __, tokens: seen.append(tokens))
    with torch.no_grad():
        maps = backbone.forward_intermediates((image - 0.5) / 0.5, indices=4, output_fmt="NLC", intermediates_only=True)
        ours(image)
    for expected, tokens in zip(maps, seen, strict=True):
        torch.testing.assert_close(tokens[:, 1:], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "backbone"), [("dpt-hybrid", "vit_base_r50_s16_384"), ("dpt-large", "vit_large_patch16_384")])
def test_the_published_networks_names_and_shapes_are_all_known(name: str, backbone: str) -> None:
    with torch.device("meta"):
        network = Dpt(DptConfig(network=name, pretrained=False))
        trunk = timm.create_model(backbone, pretrained=False).state_dict()
        own = network.network.state_dict()
        weights = {**originals(network), **{f"pretrained.model.{key}": tensor for key, tensor in trunk.items()}}
        renamed = transformers_names(weights, own)
    assert renamed.keys() - own.keys() == {"pretrained.model.head.weight", "pretrained.model.head.bias"}
    assert own.keys() <= renamed.keys()
    assert [key for key in own if renamed[key][1].shape != own[key].shape] == []


# -- other files ----------------------------------------------------------------------------------------------------------------


def as_folder(folder: Path, weights: Weights) -> Path:
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def as_bin(folder: Path, weights: Weights) -> Path:
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def as_safetensors(folder: Path, weights: Weights) -> Path:
    return as_folder(folder, weights) / "model.safetensors"


def as_old_pickle(folder: Path, weights: Weights) -> Path:
    torch.save({"state_dict": weights, "epoch": 3}, folder / "old.pt", _use_new_zipfile_serialization=False)
    return folder / "old.pt"


@pytest.mark.parametrize("write", [as_folder, as_bin, as_safetensors, as_old_pickle])
def test_a_checkpoint_of_transformers_arrives(write: Callable[[Path, Weights], Path], tmp_path: Path) -> None:
    source = drawn(plain)
    loaded = build(plain, write(tmp_path, source.network.state_dict()), seed=1)
    assert torch.equal(answers(loaded), answers(source))


def test_depth_anythings_published_names_arrive(tmp_path: Path) -> None:
    """They are of before transformers 5, which called DINOv2's projections otherwise."""
    source = drawn(depth_anything)
    old = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value", "o_proj": "output.dense"}
    weights = source.network.state_dict()
    for new, former in old.items():
        weights = {name.replace(f"attention.{new}", f"attention.{former}"): tensor for name, tensor in weights.items()}
    assert len(weights.keys() - source.network.state_dict().keys()) == 32
    loaded = build(depth_anything, as_safetensors(tmp_path, weights), seed=1)
    image = torch.rand(1, 3, 28, 56)
    with torch.no_grad():
        assert torch.equal(loaded.raw(image), source.raw(image))


def test_weights_in_half_precision_are_used_in_single(tmp_path: Path) -> None:
    source = drawn(plain)
    loaded = build(plain, as_safetensors(tmp_path, {n: t.half() for n, t in source.network.state_dict().items()}))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(answers(loaded), answers(source), rtol=0.1, atol=0.1)


def test_what_no_answer_depends_on_may_be_missing(tmp_path: Path) -> None:
    """Published files lack the unit that joins a skip to the coarsest map, where there is none."""
    source = drawn(hybrid)
    weights = {name: tensor for name, tensor in originals(source).items() if "refinenet4.resConfUnit1" not in name}
    loaded = build(hybrid, saved(tmp_path, weights), seed=1)
    torch.testing.assert_close(answers(loaded), answers(source), rtol=1e-5, atol=1e-5)
    assert loaded.load_report is not None
    assert [name.rpartition(".")[0] for name in loaded.load_report.initialised[::2]] == [
        f"neck.fusion_stage.layers.0.residual_layer1.convolution{n}" for n in (1, 2)
    ]


def test_what_an_attention_has_of_its_own_is_drawn_and_listed(tmp_path: Path) -> None:
    path = saved(tmp_path, originals(drawn(plain)))
    report = build(plain, path, attention={"name": "memory_compressed"}).load_report
    assert report is not None
    assert len(report.initialised) >= 4
    assert all(".core." in name for name in report.initialised)
    assert len(report.loaded) == len(plain().build().state_dict())


# -- mutations: each is caught ---------------------------------------------------------------------------------------------------


def test_query_and_key_that_changed_places_change_the_answer(tmp_path: Path) -> None:
    """So the comparison above would find it: whose tokens look hard at each other do not look back alike."""
    source = drawn(plain)
    with torch.no_grad():
        for name, parameter in source.network.named_parameters():
            parameter *= 10 if ".query." in name or ".key." in name else 1
    weights = originals(source)
    torch.testing.assert_close(answers(build(plain, saved(tmp_path, weights))), answers(source), rtol=1e-5, atol=1e-5)
    for name in [name for name in weights if ".qkv." in name]:
        q, k, v = weights[name].chunk(3)
        weights[name] = torch.cat((k, q, v))
    difference = (answers(build(plain, saved(tmp_path, weights))) - answers(source)).abs().max()
    assert difference > 100 * 1e-5


def without_a_block(weights: Weights) -> Weights:
    return {name: tensor for name, tensor in weights.items() if ".blocks.2." not in name}


def without_prefix(weights: Weights) -> Weights:
    return {name.removeprefix("pretrained."): tensor for name, tensor in weights.items()}


def with_prefix(weights: Weights) -> Weights:
    return {f"module.{name}": tensor for name, tensor in weights.items()}


def of_another_size(weights: Weights) -> Weights:
    return {**weights, "scratch.output_conv.4.weight": torch.zeros(2, 32, 1, 1)}


def with_more(weights: Weights) -> Weights:
    return {**weights, "auxlayer.0.weight": torch.zeros(1)}


def with_attention_by_other_names(weights: Weights) -> Weights:
    return {name.replace("attn.qkv", "attn.to_qkv"): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (
            without_a_block,
            r"missing 16 \(dpt\.encoder\.layer\.2\.attention\.attention\.query\.weight, .*\), expected all weights of 'dpt-hybrid'",
        ),
        (
            without_prefix,
            r"missing \d+ \(dpt\.embeddings\.cls_token, .*left over \d+ \(model\.head\.weight, .*model\.cls_token",
        ),
        (with_prefix, r"found 0 weights that fit; missing \d+"),
        (of_another_size, r"of another shape 1 \(head\.head\.4\.weight: \(2, 32, 1, 1\) in the file, \(1, 32, 1, 1\) in the network\)"),
        (with_more, r"left over 1 \(auxlayer\.0\.weight\)"),
        (with_attention_by_other_names, r"missing 24 .*; left over 8 \(pretrained\.model\.blocks\.0\.attn\.to_qkv\.weight"),
    ],
)
def test_a_load_that_is_not_whole_stops(mutate: Callable[[Weights], Weights], message: str, tmp_path: Path) -> None:
    path = saved(tmp_path, mutate(originals(drawn(plain))))
    with pytest.raises(CheckpointError, match=message) as refused:
        build(plain, path)
    assert "model.allow_initialised" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_was_named_beforehand_may_be_missing_misfit_or_left_over(tmp_path: Path) -> None:
    source = drawn(plain)
    path = saved(tmp_path, with_more(of_another_size(without_a_block(originals(source)))))
    asked = {"allow_initialised": ("dpt.encoder.layer.2.*", "head.head.4.*"), "allow_left_over": ("auxlayer.*",)}
    report = build(plain, path, **asked).load_report
    assert report is not None
    assert sum(name.startswith("dpt.encoder.layer.2.") for name in report.initialised) == 16
    assert "head.head.4.weight" in report.initialised
    assert len(report.misfit) == 1
    assert "auxlayer.0.weight" in report.left_over
    for name in asked:
        with pytest.raises(CheckpointError):
            build(plain, path, **{key: value for key, value in asked.items() if key != name})


def test_one_attention_saved_for_every_block_is_seen(tmp_path: Path) -> None:
    weights = originals(drawn(plain))
    for block in range(4):
        for kind in ("weight", "bias"):
            weights[f"pretrained.model.blocks.{block}.attn.qkv.{kind}"] = weights[f"pretrained.model.blocks.0.attn.qkv.{kind}"]
    report = build(plain, saved(tmp_path, weights)).load_report
    assert report is not None
    assert report.tied == tuple(
        tuple(f"pretrained.model.blocks.{block}.attn.qkv.{kind}" for block in range(4)) for kind in ("weight", "bias")
    )
    assert "tied         2 (pretrained.model.blocks.0.attn.qkv.weight = " in report.table()


class Instance:
    """What a pickle would call up."""


def broken_file(folder: Path, kind: str) -> Path:
    weights, path = originals(drawn(plain)), folder / "dpt.pt"
    if kind == "truncated":
        whole = saved(folder, weights).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "truncated safetensors":
        path = as_safetensors(folder, weights)
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "stadia":
        path = folder / "best.safetensors"
        safetensors.torch.save_file(weights, path, metadata={"stadia": "{}"})
    elif kind == "empty folder":
        path = folder
    elif kind == "nan":
        weights["pretrained.model.cls_token"][0, 0, 0] = torch.nan
        saved(folder, weights)
    elif kind != "absent":
        torch.save({"code": {"w": Instance()}, "list": [torch.zeros(1)], "number": {"epoch": 3}}[kind], path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "found no such file"),
        ("truncated", "found an unreadable file"),
        ("truncated safetensors", "found an unreadable file"),
        ("code", "found no plain tensors"),
        ("list", "found no names with a tensor each"),
        ("number", "found no names with a tensor each"),
        ("stadia", "found a checkpoint of stadia, .*start_from"),
        ("empty folder", "found a folder without weights, expected model.safetensors or pytorch_model.bin"),
        ("nan", r"found numbers that are not finite \(1 \(dpt\.embeddings\.cls_token\)\)"),
    ],
)
def test_a_file_that_is_no_weights_is_named(kind: str, message: str, tmp_path: Path) -> None:
    path = broken_file(tmp_path, kind)
    with pytest.raises(CheckpointError, match=message) as refused:
        build(plain, path)
    assert str(path) in str(refused.value)


# -- the report, and the hub ------------------------------------------------------------------------------------------------------


def test_the_report_says_it_in_words_and_in_json() -> None:
    never = tuple(f"neck.fusion_stage.layers.0.residual_layer1.convolution{n}.weight" for n in (1, 2))
    report = LoadReport("dpt.pt", loaded=("a", "b", "c"), initialised=(*never, "d"), left_over=("1", "2", "3", "4"), misfit=("d: x",))
    assert report.table().splitlines() == [
        "loaded       3 weights from dpt.pt",
        "initialised  1 (d)",
        "never used   2 that the file lacks and no answer depends on",
        "left over    4 (1, 2, 3, ...)",
        "misfit       1 (d: x)",
        "tied         0",
    ]
    summary = report.summary()
    assert summary["loaded"] == 3
    assert summary["initialised"] == (*never, "d")


def test_published_weights_come_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, asked = drawn(plain), []
    path = as_safetensors(tmp_path, source.network.state_dict())
    monkeypatch.setattr(hub, "fetch", lambda *what: asked.append(what) or path)
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    monkeypatch.setattr(dpt, "NETWORKS", SimpleNamespace(load=lambda name: plain))
    assert torch.equal(answers(Dpt(DptConfig()).eval()), answers(source))
    assert asked == [("nobody/nothing", ("model.safetensors", "pytorch_model.bin"))]


def test_where_the_hub_cannot_be_reached_one_line_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def no_hub(repository: str, name: str) -> str:
        raise huggingface_error("not in the cache")

    huggingface_error = hub.huggingface_hub.errors.LocalEntryNotFoundError
    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_download", no_hub)
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    monkeypatch.setattr(dpt, "NETWORKS", SimpleNamespace(load=lambda name: plain))
    hub.warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        networks = [Dpt(DptConfig()) for _ in range(2)]
    assert [network.weights for network in networks] == [{"network": "random"}] * 2
    assert networks[0].load_report is None
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("no pretrained weights for 'dpt-hybrid' (FileNotFoundError): it starts at random; copy models--nobody--nothing ")


def test_the_small_ones_ask_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", None)
    monkeypatch.setattr(hub, "is_reachable", None)
    assert Dpt(DptConfig(network="dpt-tiny")).weights == {"network": "random"}


def test_no_weights_are_read_where_pretrained_is_off() -> None:
    """A checkpoint is about to be loaded: neither the hub nor the file is asked, which may be gone."""
    network = Dpt(DptConfig(network="dpt-tiny", pretrained=False, weights="/gone.pt"))
    assert network.load_report is None
    assert isinstance(network.network.head.head[-1], nn.Softplus)
