"""Exact attention: fused, and written out.

Every attention of the table ATTENTIONS is made by `(config: AttentionConfig, heads, head_dim)` and called alike:
queries, keys and values (B, heads, N, d), and the grid (height, width) that the last height * width tokens form, row
after row; the tokens before it (the class token) belong to no place. What it gives has the shape of the values.
Projections are not its own: they stay with the network, so that pretrained ones serve every attention. An instance
belongs to one block of the network.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from stadia.models.attention_config import AttentionConfig


class Sdpa(nn.Module):
    """Exact, by PyTorch's fused kernels: the N x N matrix is never held (`torch.nn.attention.sdpa_kernel` chooses the
    kernel).
    """

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, heads, N, d) each, to (B, heads, N, d)."""
        return functional.scaled_dot_product_attention(q, k, v)


class Explicit(nn.Module):
    """Exact, and written out: the twin that can be read, and that the others are held against."""

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, heads, N, d) each, to (B, heads, N, d)."""
        return attention_map(q, k) @ v


def attention_map(q: Tensor, k: Tensor) -> Tensor:
    """How much each token takes from each other: softmax(Q K^T / sqrt(d)), (B, heads, N, N), whose rows add up to 1.

    The fused kernels do not hold it; for images it is computed here (Vaswani et al. 2017, arXiv 1706.03762, eq. 1).
    """
    return (q / math.sqrt(q.shape[-1]) @ k.transpose(-2, -1)).softmax(dim=-1)
