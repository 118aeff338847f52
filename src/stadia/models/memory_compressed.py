"""Memory-compressed attention: neighboring tokens share keys and values (Liu et al., arXiv 1801.10198)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.models.attention_config import AttentionConfig


class MemoryCompressedAttention(nn.Module):
    """Attend exactly to a grid of keys and values that is `factor` times smaller.

    A strided convolution, one group per head, compresses each window of the token grid to one key and one value. It
    starts as the mean of the window, so pretrained projections keep their meaning.

    Windows (`AttentionConfig.window`) lie on the grid, because windows along the sequence would join the end of a row
    with the start of the next. A grid that is no multiple of the window repeats its last row and column. The tokens
    before the grid stay as they are.

    The log of a window's token count is added to its logits (proportional attention, arXiv 2210.09461, eq. 1). So
    attention is exact with factor 1, and wherever the tokens of each window are equal. There is no null key.
    """

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.window = config.window
        mean = torch.eye(head_dim).repeat(heads, 1)[:, :, None, None] / config.factor
        self.weight = nn.Parameter(mean.repeat(1, 1, *self.window))
        self.bias = nn.Parameter(torch.zeros(heads * head_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        first = k.shape[-2] - grid[0] * grid[1]
        counts = torch.cat([k.new_ones(first), count_window_tokens(grid, self.window).to(k)])
        keys, values = (torch.cat([x[:, :, :first], self._compressed(x[:, :, first:], grid)], dim=2) for x in (k, v))
        return functional.scaled_dot_product_attention(q, keys, values, attn_mask=counts.log()[None, None, None])

    def _compressed(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map (B, heads, height * width, d) to (B, heads, windows, d)."""
        batch, heads, _, head_dim = x.shape
        image = x.transpose(2, 3).reshape(batch, heads * head_dim, *grid)
        rows, columns = self.window
        # Always pad by the maximum; the stride drops what does not fill a window.
        repeated = functional.pad(image, (0, columns - 1, 0, rows - 1), mode="replicate")
        compressed = functional.conv2d(repeated, self.weight, self.bias, stride=self.window, groups=heads)
        return compressed.reshape(batch, heads, head_dim, -1).transpose(2, 3)


def count_window_tokens(grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Count the grid's tokens in each window, in row order; windows at the edges hold fewer."""
    rows, columns = (
        (length - step * torch.arange((length + step - 1) // step)).clamp(max=step)
        for length, step in zip(grid, window, strict=True)
    )
    return (rows[:, None] * columns).flatten()
