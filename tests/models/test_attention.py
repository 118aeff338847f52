"""Exact attention: the fused form and the written-out one are the same; and what each attention costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stadia.models import ATTENTIONS
from stadia.models.attention import compute_attention_map
from stadia.models.attention_config import (
    AttentionConfig,
    count_attention_macs,
    describe_attention_cost,
    find_break_even_tokens,
)

GRID = (12, 40)


def tokens(norm: float | None = None, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random q, k, v (1, 12, 481, 64); with a norm, each query and key has it."""
    q, k, v = torch.randn(3, 1, 12, 481, 64, generator=torch.Generator().manual_seed(seed))
    if norm is not None:
        q, k = (norm * x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    return q, k, v


def exact(name: str) -> torch.nn.Module:
    return ATTENTIONS.load(name)(AttentionConfig(name=name), 12, 64)


@pytest.mark.parametrize("norm", [1, 8, 16, 64])
def test_the_fused_form_and_the_explicit_one_are_equal(norm: float) -> None:
    q, k, v = tokens(norm)
    torch.testing.assert_close(exact("sdpa")(q, k, v, GRID), exact("explicit")(q, k, v, GRID), atol=1e-5, rtol=0)


def test_the_attention_map_gives_the_weight_of_each_token() -> None:
    k = 40 * torch.eye(5)[None, None]
    num_checked = torch.tensor([3, 0, 4, 1, 2])
    weights = compute_attention_map(k[:, :, num_checked], k)
    assert weights.shape == (1, 1, 5, 5)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 1, 5))
    assert weights[0, 0].argmax(dim=-1).tolist() == num_checked.tolist()


# -- multiplications: the published table, and the length from which an approximation takes fewer

SDPA, PERFORMER, HALF, THIRD = (
    AttentionConfig(),
    AttentionConfig(name="performer"),
    AttentionConfig(name="memory_compressed", factor=2),
    AttentionConfig(name="memory_compressed", factor=3),
)
TABLE = {  # GMAC a layer of 12 heads of 64: softmax, performer, memory-compressed by 2 and by 3 with their convolutions
    (12, 40): (0.355, 0.393, 0.179 + 0.047, 0.120 + 0.047),
    (24, 24): (0.511, 0.471, 0.257 + 0.057, 0.172 + 0.057),
    (30, 40): (2.216, 0.981, 1.111 + 0.118, 0.742 + 0.118),
    (22, 76): (4.299, 1.367, 2.153 + 0.165, 1.436 + 0.165),
}


@pytest.mark.parametrize("grid", TABLE)
def test_the_published_table(grid: tuple[int, int]) -> None:
    softmax, performer, half, third = (
        count_attention_macs(config, grid, 12, 64) / 1e9 for config in (SDPA, PERFORMER, HALF, THIRD)
    )
    assert (softmax, performer) == pytest.approx(TABLE[grid][:2], abs=6e-4)
    assert (half, third) == pytest.approx(TABLE[grid][2:], rel=0.05)  # there along the sequence, with a null key


@pytest.mark.parametrize("config", [PERFORMER, HALF, THIRD, AttentionConfig(name="memory_compressed", factor=4)])
def test_costs_are_equal_at_the_break_even_length(config: AttentionConfig) -> None:
    even = find_break_even_tokens(config, 12, 64)
    assert even is not None
    for tokens, cheaper in ((even - 12, False), (even + 12, True)):
        tokens -= tokens % 12
        grid = (2, tokens // 2)
        assert (
            count_attention_macs(config, grid, 12, 64, first=0) < count_attention_macs(SDPA, grid, 12, 64, first=0)
        ) is cheaper


def test_merging_takes_fewer_multiplications_from_the_start_and_exact_attention_never() -> None:
    merging = AttentionConfig(name="token_merging", merge=0.25)
    assert find_break_even_tokens(merging, 12, 64) == 1
    assert count_attention_macs(merging, (12, 40), 12, 64) < 0.6 * count_attention_macs(SDPA, (12, 40), 12, 64)
    for never in (
        SDPA,
        AttentionConfig(name="token_merging", merge=0),
        AttentionConfig(name="memory_compressed", factor=1),
    ):
        assert find_break_even_tokens(never, 12, 64) is None


def test_cost_is_described_in_one_line() -> None:
    assert describe_attention_cost(PERFORMER, (12, 40), 12, 64) == (
        "attention performer on 481 tokens: 0.393 GMAC a layer, 10% of the block, 1.11 times exact attention; "
        "fewer multiplications above 532 tokens"
    )
    assert (
        describe_attention_cost(SDPA, (12, 40), 12, 64)
        == "attention sdpa on 481 tokens: 0.355 GMAC a layer, 9% of the block"
    )
