"""What attention costs in multiplications, so that a run can tell before it starts. Imports no torch.

Multiply-accumulates (MACs) of one layer and one image. Which attention is faster also depends on how well its products
run on the machine at hand (`benchmarks/attention.py` measures that); which is cheaper for long sequences does not.
"""

from __future__ import annotations

import math

from stadia.models.attention_config import AttentionConfig


def core_macs(config: AttentionConfig, grid: tuple[int, int], heads: int, head_dim: int, *, first: int = 1) -> int:
    """From queries, keys and values to the answer, projections left out; exact attention is 2 N^2 D.

    Args:
        grid: (height, width) of the tokens.
        first: the tokens before the grid.
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


def block_macs(tokens: int, width: int) -> int:
    """The rest of a transformer's block: the projections 4 N D^2, and an MLP four times as wide, 8 N D^2."""
    return 12 * tokens * width**2


def break_even_tokens(config: AttentionConfig, heads: int, head_dim: int) -> int | None:
    """From how many tokens on it takes no more multiplications than exact attention; None where it never takes fewer.

    performer: 4 N m D = 2 N^2 D at N = 2m. memory_compressed: N / r + d = N at N = d r / (r - 1), edges of the grid
        left out.
    token_merging: from the first on, where what merging saves is above the matching, 1 / (8 heads) of exact attention.
    """
    if config.name == "performer":
        return 2 * config.features_for(head_dim)
    if config.name == "memory_compressed" and config.factor > 1:
        return math.ceil(head_dim * config.factor / (config.factor - 1))
    if config.name == "token_merging" and (1 - config.merge) ** 2 + 1 / (8 * heads) < 1:
        return 1
    return None


def cost_line(config: AttentionConfig, grid: tuple[int, int], heads: int, head_dim: int, *, first: int = 1) -> str:
    """One line for a run: what its attention costs on this grid, against exact attention and against the rest of the
    block.
    """
    tokens, width = grid[0] * grid[1] + first, heads * head_dim
    core = core_macs(config, grid, heads, head_dim, first=first)
    exact = core_macs(AttentionConfig(), grid, heads, head_dim, first=first)
    share = core / (core + block_macs(tokens, width))
    line = f"attention {config.name} on {tokens} tokens: {core / 1e9:.3g} GMAC a layer, {share:.0%} of the block"
    if config.name in ("sdpa", "explicit"):
        return line
    return f"{line}, {core / exact:.2f} times exact attention; {_fewer(break_even_tokens(config, heads, head_dim))}"


def _fewer(even: int | None) -> str:
    if even is None:
        return "never fewer multiplications"
    return f"fewer multiplications {'at every length' if even == 1 else f'above {even} tokens'}"
