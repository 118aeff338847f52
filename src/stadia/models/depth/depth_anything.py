"""The depth network `depth_anything`: Depth Anything V2 (arXiv 2406.09414)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from stadia.models.depth.config import DepthAnythingConfig
from stadia.models.depth.transformer_network import Architecture, TransformerDepthNetwork, import_transformers

PATCH = 14
"""Pixels along a side of an image patch of DINOv2."""


class DepthAnything(TransformerDepthNetwork):
    """DINOv2 with patches of 14 pixels and a DPT decoder, which ignores the class token.

    An image whose sides are no multiples of 14 is resized to the next ones inside, and its depth back.
    """

    Config = DepthAnythingConfig
    source = "https://arxiv.org/abs/2406.09414"
    positions = "bicubic"
    config: DepthAnythingConfig

    @staticmethod
    def find_architecture(config: DepthAnythingConfig) -> Architecture:
        return SIZES[config.size]

    @staticmethod
    def build(arch: Architecture) -> Any:
        transformers = import_transformers()
        return transformers.DepthAnythingForDepthEstimation(transformers.DepthAnythingConfig(**arch.settings))

    @property
    def body(self) -> Any:
        return self.network.backbone

    @property
    def last_layer(self) -> Any:
        return self.network.head.conv3

    def replace_last_activation(self, activation: nn.Module) -> None:
        self.network.head.activation2 = activation

    def raw(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        inside = (height + PATCH - 1) // PATCH * PATCH, (width + PATCH - 1) // PATCH * PATCH
        resized = functional.interpolate(image, size=inside, mode="bilinear", align_corners=False)
        return functional.interpolate(super().raw(resized), size=(height, width), mode="bilinear", align_corners=False)

    def hook(self, tokens: Tensor) -> Tensor:
        normalized: Tensor = self.body.layernorm(tokens)
        return normalized

    def decode(self, features: list[Tensor], grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        head = self.network.head
        finest = head.conv1(self.network.neck(features, *grid)[-1])
        finest = functional.interpolate(finest, size=size, mode="bilinear", align_corners=True)
        output: Tensor = head.activation2(head.conv3(head.activation1(head.conv2(finest))))
        return output


def make_architecture(
    *,
    width: int,
    blocks: int,
    heads: int,
    hooks: tuple[int, ...],
    neck: tuple[int, ...],
    fusion: int,
    published: str | None = None,
    licence: str = "",
) -> Architecture:
    """DINOv2 with patches of 14 pixels and a DPT decoder, which ignores the class token."""
    trunk = {
        "model_type": "dinov2",
        "image_size": 518,
        "patch_size": 14,
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "out_indices": [block + 1 for block in hooks],  # transformers counts the embeddings as 0
        "apply_layernorm": True,
        "reshape_hidden_states": False,
    }
    settings: dict[str, Any] = {"backbone_config": trunk, "patch_size": 14, "reassemble_hidden_size": width}
    settings |= {"neck_hidden_sizes": list(neck), "fusion_hidden_size": fusion}
    hub = None if published is None else f"depth-anything/Depth-Anything-V2-{published}-hf"
    return Architecture(settings=settings, blocks=blocks, heads=heads, hooks=hooks, hub=hub, licence=licence)


SIZES = {
    "tiny": make_architecture(  # 1.9 million parameters; trains from scratch on two cores
        width=128, blocks=4, heads=4, hooks=(0, 1, 2, 3), neck=(24, 48, 96, 96), fusion=32
    ),
    "small": make_architecture(  # DINOv2 ViT-S/14
        width=384,
        blocks=12,
        heads=6,
        hooks=(2, 5, 8, 11),
        neck=(48, 96, 192, 384),
        fusion=64,
        published="Small",
        licence="Apache-2.0",
    ),
    "base": make_architecture(  # DINOv2 ViT-B/14
        width=768,
        blocks=12,
        heads=12,
        hooks=(2, 5, 8, 11),
        neck=(96, 192, 384, 768),
        fusion=128,
        published="Base",
        licence="CC-BY-NC-4.0",
    ),
    "large": make_architecture(  # DINOv2 ViT-L/14
        width=1024,
        blocks=24,
        heads=16,
        hooks=(4, 11, 17, 23),
        neck=(256, 512, 1024, 1024),
        fusion=256,
        published="Large",
        licence="CC-BY-NC-4.0",
    ),
}
"""Architecture of each size. Published weights are up to scale and shift."""
