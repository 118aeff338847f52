"""Attention cores of `models.ATTENTIONS`: exact ones and approximations.

A core is created by `(config: AttentionConfig, heads, head_dim)` for one block. It maps queries, keys and values
(B, heads, N, d) to (B, heads, N, d). `grid` is the (height, width) of the last height * width tokens, in row order.
The tokens before them (the class token) have no position. The network owns the projections, so pretrained ones fit
every core.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from stadia.models.attention_config import AttentionConfig


class SdpaAttention(nn.Module):
    """Exact attention by PyTorch's fused kernels, which never hold the N x N matrix."""

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v)


class ExplicitAttention(nn.Module):
    """Exact attention written out: the readable reference of the other cores."""

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        return attention_map(q, k) @ v


def attention_map(q: Tensor, k: Tensor) -> Tensor:
    """Compute softmax(Q K^T / sqrt(d)), (B, heads, N, N), for plots (Vaswani et al., arXiv 1706.03762, eq. 1)."""
    return (q / math.sqrt(q.shape[-1]) @ k.transpose(-2, -1)).softmax(dim=-1)
