"""Parts that dense prediction transformers add to the layers of transformers.

Exchangeable attention, position embeddings for any grid, padding independent of the size, random initialization.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Self-attention from the projections of transformers, with an exchangeable core.

    Args:
        projections: to queries, keys and values, and of the output if it belongs to the same module, by name.
        core: from `models.ATTENTIONS`, for this block only.
    """

    def __init__(self, projections: dict[str, nn.Module], heads: int, core: nn.Module) -> None:
        super().__init__()
        for name, projection in projections.items():
            self.add_module(name, projection)
        names = tuple(projections)
        self._qkv, self._output = names[:3], names[3:]
        self.heads, self.core = heads, core

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map (B, N, D) tokens, the last of which form `grid` (height, width), to (B, N, D)."""
        shape = (*tokens.shape[:2], self.heads, -1)
        q, k, v = (getattr(self, name)(tokens).view(shape).transpose(1, 2) for name in self._qkv)
        tokens = self.core(q, k, v, grid).transpose(1, 2).flatten(2)
        for name in self._output:
            tokens = getattr(self, name)(tokens)
        return tokens


class TransformerBlock(nn.Module):
    """Run the layers of a block of DPT's ViT or of DINOv2, with the token grid for its attention.

    The blocks of transformers pass other arguments to their attention in each version, and DINOv2's projections have
    other names before version 5. Here all versions have the names of version 5, so that checkpoints fit each of them.

    Args:
        block: of transformers; its layers move here.
        make_core: `make_core(head_dim)` creates the attention core of this block.
    """

    def __init__(self, block: Any, heads: int, make_core: Callable[[int], nn.Module]) -> None:
        super().__init__()
        for name, layer in block.named_children():
            self.add_module(name, layer)
        holder: Any = block.attention
        inner = getattr(holder, "attention", holder)
        projections = {name: getattr(inner, name) for name in ("query", "key", "value") if hasattr(inner, name)}
        self._is_dinov2 = hasattr(block, "layer_scale1")
        if self._is_dinov2:
            layers = (*projections.values(), holder.output.dense) if projections else tuple(inner.children())
            projections = dict(zip(("q_proj", "k_proj", "v_proj", "o_proj"), layers, strict=True))
        head_dim: int = next(iter(projections.values())).out_features // heads
        attention = SelfAttention(projections, heads, make_core(head_dim))
        if self._is_dinov2:
            self.attention: Any = attention
        else:  # the output projection is a separate module
            self.attention.attention = attention

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        layers: Any = self
        if self._is_dinov2:
            update = layers.layer_scale1(self.attention(layers.norm1(tokens), grid))
            tokens = layers.drop_path(update) + tokens
            return layers.drop_path(layers.layer_scale2(layers.mlp(layers.norm2(tokens)))) + tokens
        normalized = layers.layernorm_before(tokens)
        tokens = self.attention.output(self.attention.attention(normalized, grid), normalized) + tokens
        return layers.output(layers.intermediate(layers.layernorm_after(tokens)), tokens)


def resize_position_embeddings(
    positions: Tensor, grid: tuple[int, int], mode: Literal["bilinear", "bicubic"]
) -> Tensor:
    """Resize position embeddings (1, 1 + n * n, D) to another grid: (1, 1 + height * width, D).

    The class token's embedding, the first, stays. The square grid is resized with align_corners=False, so that the
    training grid returns the embeddings unchanged.
    """
    side = math.isqrt(positions.shape[1] - 1)
    token, places = positions[:, :1], positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    places = functional.interpolate(places.float(), size=grid, mode=mode, align_corners=False).to(positions.dtype)
    return torch.cat((token, places.flatten(2).transpose(1, 2)), dim=1)


def embed_image(
    embeddings: Any, image: Tensor, mode: Literal["bilinear", "bicubic"]
) -> tuple[Tensor, tuple[int, int], list[Tensor]]:
    """Embed an image (B, 3, H, W). Returns tokens (B, 1 + N, D), their grid, and a hybrid's maps at 1/4 and 1/8."""
    early: list[Tensor] = []
    if hasattr(embeddings, "backbone"):
        trunk = embeddings.backbone.bit
        features = trunk.embedder(image)
        for stage in trunk.encoder.stages:
            features = stage(features)
            early.append(features)
        features = embeddings.projection(early.pop())
    else:
        features = embeddings.patch_embeddings.projection(image)
    grid = features.shape[-2], features.shape[-1]
    token, places = embeddings.cls_token.expand(image.shape[0], -1, -1), features.flatten(2).transpose(1, 2)
    tokens = torch.cat((token, places), dim=1)
    return tokens + resize_position_embeddings(embeddings.position_embeddings, grid, mode), grid, early


def use_constant_padding(network: nn.Module) -> None:
    """Replace size-dependent "SAME" padding by constant padding, which is equal for even sides.

    Image sides are multiples of the stride, so every map that is halved has even sides. An export then has no
    conditions on the size.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child).__name__ == "DynamicPad2d":
                dynamic: Any = child
                both = max(dynamic.kernel_size[0] - dynamic.stride[0], 0)  # kernels and strides are square
                before, after = both // 2, both - both // 2
                constant = nn.ConstantPad2d((before, after, before, after), dynamic.value) if both else nn.Identity()
                setattr(module, name, constant)


def init_random_weights(network: Any, embeddings: Any, last: nn.Conv2d, start: float) -> None:
    """Initialize a network without pretrained weights so that it trains.

    transformers initializes for fine-tuning: equal position embeddings, and decoder weights so small that the signal
    fades. Here positions are 2D sines and cosines (arXiv 1706.03762) and the decoder keeps the signal's variance (He et
    al., arXiv 1502.01852). The head's output is near `start` everywhere, since below 0 a ReLU has no gradient.

    Args:
        network: of transformers, with `neck` and `head`.
        embeddings: its embeddings.
        last: the last convolution of the head.
        start: initial output of that convolution.
    """
    positions = embeddings.position_embeddings
    with torch.no_grad():
        positions[:, 1:].copy_(make_sincos_positions(math.isqrt(positions.shape[1] - 1), positions.shape[2]))
    for module in (*network.neck.modules(), *network.head.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(last.weight, std=1e-3)
    if last.bias is not None:
        nn.init.constant_(last.bias, start)


def make_sincos_positions(side: int, width: int) -> Tensor:
    """Return (side * side, width): sines and cosines of each position's row, then of its column."""
    quarter = width // 4
    rates = 1.0 / 10_000 ** (torch.arange(quarter) / quarter)
    angles = torch.arange(side)[:, None] * rates
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)  # (side, width / 2)
    return torch.cat((waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)), dim=2).flatten(0, 1)
