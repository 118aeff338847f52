"""Shrunken networks, and their weights in files as others write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split

from torch import Tensor

from stadia.networks.depth import dpt
from stadia.networks.depth.dpt import Architecture, Dpt, make_hybrid, make_plain

Weights = dict[str, Tensor]


def hybrid() -> Architecture:
    """A shrunken DPT-Hybrid."""
    sizes = {
        "stem": 32,
        "stages": (128, 256, 512),
        "depths": (1, 2, 1),
        "groups": 32,
        "width": 32,
        "blocks": 4,
        "heads": 4,
    }
    return make_hybrid(**sizes, hooks=(1, 3), fusion=16, hub="nobody/nothing")


def plain() -> Architecture:
    """A shrunken DPT-Large."""
    return make_plain(
        width=32, blocks=4, heads=4, hooks=(0, 1, 2, 3), neck=(8, 16, 24, 32), fusion=16, hub="nobody/nothing"
    )


def build(arch: Callable[[], Architecture], weights: Path | None = None, *, seed: int = 0, **config: Any) -> Dpt:
    """Build a network of these sizes, with the weights of a file, if there is one."""
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(dpt.SIZES, "hybrid", arch())
        settings = Dpt.Config(weights=weights and str(weights), **config)
        return Dpt(settings, pretrained=weights is not None).eval()


def drawn(arch: Callable[[], Architecture]) -> Dpt:
    """A network of which no two weights are alike, norms and biases not being 1 and 0."""
    network = build(arch)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return network


# -- the original names, written down from the other side: what isl-org/DPT calls a weight of transformers

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
        inside = {"projection": "out_conv", "residual_layer1": "resConfUnit1", "residual_layer2": "resConfUnit2"}[
            words[4]
        ]
        new = ".".join(
            [f"scratch.refinenet{4 - int(words[3])}", inside, *(w.replace("convolution", "conv") for w in words[5:])]
        )
    else:
        assert stem.startswith("head.head."), name
        new = f"scratch.output_conv.{words[2]}"
    return f"{new}.{kind}" if kind else new


def originals(network: Dpt) -> Weights:
    """The network's weights as isl-org/DPT would have saved them: joined qkv, and the backbone's classifier of 1000
    classes.
    """
    own = network.network.state_dict()
    saved: Weights = {
        "pretrained.model.head.weight": torch.randn(10, 32),
        "pretrained.model.head.bias": torch.randn(10),
    }
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


def predict(network: Dpt) -> Tensor:
    with torch.no_grad():
        return network.raw(torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1)))


def as_folder(folder: Path, weights: Weights) -> Path:
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def as_safetensors(folder: Path, weights: Weights) -> Path:
    return as_folder(folder, weights) / "model.safetensors"
