"""Memory-compressed attention: keys and values of neighboring tokens share one (Liu et al. 2018, arXiv 1801.10198,
section 4.2.4).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.models.attention_config import AttentionConfig


class MemoryCompressed(nn.Module):
    """Exact attention to a grid of keys and values that is `factor` times smaller.

    Windows of the token grid are brought to one key and one value by a strided convolution that both share, one group a
    head. It starts as the mean of the window, so that pretrained projections keep their meaning from the first step.

    Windows are those of `AttentionConfig.window`: on the grid rather than along the sequence, because there a window
        would join
    the end of a row with the start of the next, and because a square holds tokens that are more alike than as many in
    line. Where a grid is no multiple of the window, its last row and column are repeated. The tokens before the grid
    stay as they are.

    A key counts as often as the tokens that it stands for: log of their number is added to its logits (proportional
        attention,
    as in arXiv 2210.09461, eq. 1). So attention is exact wherever the tokens of each window are equal, and with a
    factor of 1. There is no null key; the scale is 1 / sqrt(d) of the head.
    """

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.window = config.window
        mean = torch.eye(head_dim).repeat(heads, 1)[:, :, None, None] / config.factor
        self.weight = nn.Parameter(mean.repeat(1, 1, *self.window))
        self.bias = nn.Parameter(torch.zeros(heads * head_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, heads, N, d) each, to (B, heads, N, d)."""
        first = k.shape[-2] - grid[0] * grid[1]
        counts = torch.cat([k.new_ones(first), tokens_in_windows(grid, self.window).to(k)])
        keys, values = (torch.cat([x[:, :, :first], self._compressed(x[:, :, first:], grid)], dim=2) for x in (k, v))
        return functional.scaled_dot_product_attention(q, keys, values, attn_mask=counts.log()[None, None, None])

    def _compressed(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, heads, height * width, d) to (B, heads, windows, d)."""
        batch, heads, _, head_dim = x.shape
        image = x.transpose(2, 3).reshape(batch, heads * head_dim, *grid)
        rows, columns = self.window
        # The most that can be missing is repeated always, and what does not fill a window is left out by the stride.
        repeated = functional.pad(image, (0, columns - 1, 0, rows - 1), mode="replicate")
        compressed = functional.conv2d(repeated, self.weight, self.bias, stride=self.window, groups=heads)
        return compressed.reshape(batch, heads, head_dim, -1).transpose(2, 3)


def tokens_in_windows(grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """How many tokens of the grid lie in each window, row after row: fewer at the edges than within."""
    rows, columns = (
        (length - step * torch.arange((length + step - 1) // step)).clamp(max=step)
        for length, step in zip(grid, window, strict=True)
    )
    return (rows[:, None] * columns).flatten()
