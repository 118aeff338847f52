"""The depth network `dpt`: a dense prediction transformer (Ranftl et al., ICCV 2021, arXiv 2103.13413)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from stadia.models.depth.config import DptConfig
from stadia.models.depth.transformer_network import Architecture, TransformerDepthNetwork, import_transformers

LICENCE = "Apache-2.0"
"""Of the published weights, Intel/dpt-hybrid-midas and Intel/dpt-large."""


class Dpt(TransformerDepthNetwork):
    """DPT-Hybrid, DPT-Large, or a small one that trains on two cores."""

    Config = DptConfig
    source = "https://arxiv.org/abs/2103.13413"
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    positions = "bilinear"
    config: DptConfig

    @staticmethod
    def find_architecture(config: DptConfig) -> Architecture:
        return SIZES[config.size]

    @staticmethod
    def build(arch: Architecture) -> Any:
        transformers = import_transformers()
        return transformers.DPTForDepthEstimation(transformers.DPTConfig(**arch.settings))

    @property
    def body(self) -> Any:
        return self.network.dpt

    @property
    def last_layer(self) -> Any:
        return self.network.head.head[-2]

    def replace_last_activation(self, activation: nn.Module) -> None:
        self.network.head.head[-1] = activation

    def decode(self, features: list[Tensor], grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        output: Tensor = self.network.head.head(self.network.neck(features, *grid)[-1])
        return output


def make_plain(
    *, width: int, blocks: int, heads: int, hooks: tuple[int, ...], neck: tuple[int, ...], fusion: int, hub: str | None
) -> Architecture:
    """A ViT with patches of 16 pixels; tokens of four blocks become maps at 1/4, 1/8, 1/16 and 1/32."""
    decoder = {"neck_hidden_sizes": list(neck), "fusion_hidden_size": fusion}
    settings = {**_vit(width, blocks, heads), "backbone_out_indices": list(hooks), **decoder}
    return Architecture(settings=settings, blocks=blocks, heads=heads, hooks=hooks, hub=hub, licence=LICENCE)


def make_hybrid(
    *,
    stem: int,
    stages: tuple[int, int, int],
    depths: tuple[int, int, int],
    groups: int,
    width: int,
    blocks: int,
    heads: int,
    hooks: tuple[int, int],
    fusion: int,
    hub: str | None,
) -> Architecture:
    """Three ResNet stages (BiT: standardized weights, group norm) and a ViT; two stages give maps at 1/4 and 1/8."""
    trunk = {
        "model_type": "bit",
        "embedding_size": stem,
        "hidden_sizes": list(stages),
        "depths": list(depths),
        "num_groups": groups,
        "layer_type": "bottleneck",
        "global_padding": "same",
        "embedding_dynamic_padding": True,
        "out_features": ["stage1", "stage2", "stage3"],
    }
    settings = {
        **_vit(width, blocks, heads),
        "is_hybrid": True,
        "backbone_config": trunk,
        "backbone_featmap_shape": [1, stages[-1], 24, 24],
        "backbone_out_indices": [0, 1, *hooks],
        "reassemble_factors": [1, 1, 1, 0.5],
        "neck_hidden_sizes": [*stages[:2], width, width],
        "fusion_hidden_size": fusion,
    }
    return Architecture(settings=settings, blocks=blocks, heads=heads, hooks=hooks, hub=hub, licence=LICENCE)


def _vit(width: int, blocks: int, heads: int) -> dict[str, Any]:
    vit: dict[str, Any] = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": blocks}
    vit |= {"num_attention_heads": heads, "image_size": 384, "patch_size": 16, "readout_type": "project"}
    return vit | {"layer_norm_eps": 1e-6}  # timm's, in which the weights were trained; the default is 1e-12


SIZES = {
    "tiny": make_hybrid(  # 1.8 million parameters; trains from scratch on two cores
        stem=16,
        stages=(32, 64, 128),
        depths=(1, 1, 1),
        groups=8,
        width=128,
        blocks=6,
        heads=4,
        hooks=(2, 5),
        fusion=32,
        hub=None,
    ),
    "small": make_plain(  # ViT-Ti/16 with a small decoder; no published weights
        width=192, blocks=12, heads=3, hooks=(2, 5, 8, 11), neck=(48, 96, 192, 192), fusion=64, hub=None
    ),
    "hybrid": make_hybrid(  # ResNet-50 (BiT) and ViT-B/16 of isl-org/DPT, 122.4 million parameters
        stem=64,
        stages=(256, 512, 1024),
        depths=(3, 4, 9),
        groups=32,
        width=768,
        blocks=12,
        heads=12,
        hooks=(8, 11),
        fusion=256,
        hub="Intel/dpt-hybrid-midas",
    ),
    "large": make_plain(  # ViT-L/16 of isl-org/DPT
        width=1024,
        blocks=24,
        heads=16,
        hooks=(5, 11, 17, 23),
        neck=(256, 512, 1024, 1024),
        fusion=256,
        hub="Intel/dpt-large",
    ),
}
"""Architecture of each size. Published weights are up to scale and shift."""
