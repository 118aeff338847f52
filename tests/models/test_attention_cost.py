"""What attention costs: the published table, and the length from which an approximation is the cheaper one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stadia.models.attention_config import (
    AttentionConfig,
    count_attention_macs,
    count_block_macs,
    describe_attention_cost,
    find_break_even_tokens,
)

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


def test_the_rest_of_a_block() -> None:
    assert count_block_macs(481, 768) / 1e9 == pytest.approx(1.135 + 2.270, abs=1e-3)


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


def test_performer_breaks_even_at_twice_its_features() -> None:
    assert find_break_even_tokens(PERFORMER, 12, 64) == 532
    assert find_break_even_tokens(AttentionConfig(name="performer", features=100), 12, 64) == 200


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


def test_the_cost_needs_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import stadia.models.config"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
