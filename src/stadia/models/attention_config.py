"""Configuration of attention, and its cost in multiplications. Imports no torch."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, Field

from stadia.core.config import StrictModel, check_registered
from stadia.models import ATTENTIONS


class AttentionConfig(StrictModel):
    """The attention of a transformer. Fields of other attentions than `name` are ignored.

    name: `sdpa` is exact; `explicit` is the same with the matrix written out. Others are approximations.
    factor: for memory_compressed: tokens of the grid that share one key and value. They form the squarest window of
        that size, wider than high: 2 is 1x2, 3 is 1x3, 4 is 2x2. 1 is exact.
    features: for performer: random features per head; null is int(d ln d), 266 for heads of 64.
    redraw_every: for performer: training passes between two draws of its features; null never redraws.
    merge: for token_merging: share of the grid's tokens to merge into others, at most one half. 0 is exact.
    """

    name: Annotated[str, AfterValidator(check_registered(ATTENTIONS))] = "sdpa"
    factor: int = Field(default=2, ge=1, le=16)
    features: int | None = Field(default=None, ge=1)
    redraw_every: int | None = Field(default=1000, ge=1)
    merge: float = Field(default=0.25, ge=0, le=0.5)

    @property
    def window(self) -> tuple[int, int]:
        """Return (rows, columns) of memory_compressed's windows."""
        rows = max(side for side in range(1, math.isqrt(self.factor) + 1) if self.factor % side == 0)
        return rows, self.factor // rows

    def features_for(self, head_dim: int) -> int:
        """Return performer's number of random features (default of Choromanski et al., arXiv 2009.14794)."""
        return self.features or max(1, int(head_dim * math.log(head_dim)))

    def removed(self, places: int) -> int:
        """Return how many of a grid's tokens token_merging merges, in integers that an export can trace."""
        share = Fraction(str(self.merge))
        return places * share.numerator // share.denominator


# -- multiply-accumulates (MACs) of attention per layer and image; `benchmarks/attention.py` measures times


def count_attention_macs(
    config: AttentionConfig, grid: tuple[int, int], heads: int, head_dim: int, *, first: int = 1
) -> int:
    """Count the MACs from queries, keys and values to the output, without projections; exact attention takes 2 N^2 D.

    Args:
        grid: (height, width) of the tokens.
        first: tokens before the grid.

    Examples:
        >>> count_attention_macs(AttentionConfig(), grid=(12, 40), heads=12, head_dim=64)
        355370496
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
    """Count the rest of a transformer block: 4 N D^2 for the projections, 8 N D^2 for an MLP four times as wide.

    Examples:
        >>> count_block_macs(tokens=481, width=768)
        3404464128
    """
    return 12 * tokens * width**2


def find_break_even_tokens(config: AttentionConfig, heads: int, head_dim: int) -> int | None:
    """Return the number of tokens from which on it takes fewer MACs than exact attention, or None if it never does.

    performer: 4 N m D = 2 N^2 D at N = 2m. memory_compressed: N / r + d = N at N = d r / (r - 1), ignoring grid edges.
    token_merging: 1, where merging saves more than the matching costs, 1 / (8 heads) of exact attention.

    Examples:
        >>> find_break_even_tokens(AttentionConfig(name="performer"), heads=12, head_dim=64)
        532
    """
    if config.name == "performer":
        return 2 * config.features_for(head_dim)
    if config.name == "memory_compressed" and config.factor > 1:
        return math.ceil(head_dim * config.factor / (config.factor - 1))
    if config.name == "token_merging" and (1 - config.merge) ** 2 + 1 / (8 * heads) < 1:
        return 1
    return None


def describe_attention_cost(config: AttentionConfig, grid: tuple[int, int], heads: int, head_dim: int) -> str:
    """Describe in one line the cost of attention on this grid, against exact attention and the rest of the block.

    Examples:
        >>> describe_attention_cost(AttentionConfig(), (12, 40), heads=12, head_dim=64)
        'attention sdpa on 481 tokens: 0.355 GMAC a layer, 9% of the block'
    """
    tokens, width = grid[0] * grid[1] + 1, heads * head_dim
    core = count_attention_macs(config, grid, heads, head_dim)
    exact = count_attention_macs(AttentionConfig(), grid, heads, head_dim)
    share = core / (core + count_block_macs(tokens, width))
    line = f"attention {config.name} on {tokens} tokens: {core / 1e9:.3g} GMAC a layer, {share:.0%} of the block"
    if config.name in ("sdpa", "explicit"):
        return line
    even = find_break_even_tokens(config, heads, head_dim)
    fewer = "fewer multiplications at every length" if even == 1 else f"fewer multiplications above {even} tokens"
    fewer = "never fewer multiplications" if even is None else fewer
    return f"{line}, {core / exact:.2f} times exact attention; {fewer}"
