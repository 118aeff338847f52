"""Attention cost in multiply-accumulates (MACs) per layer and image, computed before a run starts. Imports no torch.

`benchmarks/attention.py` measures which attention is faster on a machine; this module only counts operations.
"""

from __future__ import annotations

import math

from stadia.models.config import AttentionConfig


def count_attention_macs(
    config: AttentionConfig, grid: tuple[int, int], heads: int, head_dim: int, *, first: int = 1
) -> int:
    """Count the MACs from queries, keys and values to the output, without projections; exact attention takes 2 N^2 D.

    Args:
        grid: (height, width) of the tokens.
        first: tokens before the grid.
    """
    places, width = grid[0] * grid[1], heads * head_dim
    tokens = places + first
    if config.name == "performer":
        return 4 * tokens * config.features_for(head_dim) * width
    if config.name == "memory_compressed":
        windows = math.prod(math.ceil(length / step) for length, step in zip(grid, config.window, strict=True))
        return 2 * tokens * (windows + first) * width + 2 * windows * width * head_dim * config.factor
    if config.name == "token_merging" and config.merge:
        return 2 * (tokens - config.removed(places)) ** 2 * width + (places // 2) ** 2 * head_dim
    return 2 * tokens**2 * width


def count_block_macs(tokens: int, width: int) -> int:
    """Count the rest of a transformer block: 4 N D^2 for the projections, 8 N D^2 for an MLP four times as wide."""
    return 12 * tokens * width**2


def find_break_even_tokens(config: AttentionConfig, heads: int, head_dim: int) -> int | None:
    """Return the number of tokens from which on it takes fewer MACs than exact attention, or None if it never does.

    performer: 4 N m D = 2 N^2 D at N = 2m. memory_compressed: N / r + d = N at N = d r / (r - 1), ignoring grid edges.
    token_merging: 1, where merging saves more than the matching costs, 1 / (8 heads) of exact attention.
    """
    if config.name == "performer":
        return 2 * config.features_for(head_dim)
    if config.name == "memory_compressed" and config.factor > 1:
        return math.ceil(head_dim * config.factor / (config.factor - 1))
    if config.name == "token_merging" and (1 - config.merge) ** 2 + 1 / (8 * heads) < 1:
        return 1
    return None


def describe_attention_cost(
    config: AttentionConfig, grid: tuple[int, int], heads: int, head_dim: int, *, first: int = 1
) -> str:
    """Describe in one line the cost of attention on this grid, against exact attention and the rest of the block."""
    tokens, width = grid[0] * grid[1] + first, heads * head_dim
    core = count_attention_macs(config, grid, heads, head_dim, first=first)
    exact = count_attention_macs(AttentionConfig(), grid, heads, head_dim, first=first)
    share = core / (core + count_block_macs(tokens, width))
    line = f"attention {config.name} on {tokens} tokens: {core / 1e9:.3g} GMAC a layer, {share:.0%} of the block"
    if config.name in ("sdpa", "explicit"):
        return line
    even = find_break_even_tokens(config, heads, head_dim)
    fewer = "fewer multiplications at every length" if even == 1 else f"fewer multiplications above {even} tokens"
    fewer = "never fewer multiplications" if even is None else fewer
    return f"{line}, {core / exact:.2f} times exact attention; {fewer}"
