"""Performer, memory-compressed attention and token merging: where they are exact, how far off they are elsewhere,
finite always.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.networks import ATTENTIONS
from stadia.networks.attention import (
    MemoryCompressedAttention,
    PerformerAttention,
    TokenMergingAttention,
    compute_attention_map,
    log_random_features,
    match_tokens,
    orthogonal_features,
)
from stadia.networks.config import AttentionConfig

GRID = (12, 40)


def build(name: str, heads: int = 12, head_dim: int = 64, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    return ATTENTIONS.load(name)(AttentionConfig(name=name, **settings), heads, head_dim).eval()


def random_tokens(
    norm: float, *, grid: tuple[int, int] = GRID, heads: int = 12, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k of a norm and v, of a class token and a grid: (1, heads, N, 64)."""
    q, k, v = torch.randn(3, 1, heads, grid[0] * grid[1] + 1, 64, generator=torch.Generator().manual_seed(seed))
    q, k = (norm * x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    return q, k, v


def smooth_tokens(cells: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of random projections of tokens that change over the grid as smoothly as noise on so many cells does."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 768, *cells, generator=generator)
    places = functional.interpolate(coarse, GRID, mode="bicubic", align_corners=True).flatten(2).transpose(1, 2)
    tokens = functional.layer_norm(torch.cat([torch.randn(1, 1, 768, generator=generator), places], dim=1), (768,))
    q, k, v = (
        (tokens @ torch.randn(3, 768, 768, generator=generator) / 768**0.5).reshape(3, 1, 481, 12, 64).transpose(2, 3)
    )
    return q, k, v


def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return compute_attention_map(q, k) @ v


def error(attention: nn.Module, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int] = GRID) -> float:
    """Relative to exact attention, in norms over all tokens and heads."""
    with torch.no_grad():
        return float((attention(q, k, v, grid) - exact(q, k, v)).norm() / exact(q, k, v).norm())


# -- where they are exact


def equals_exact_attention(attention: nn.Module, grid: tuple[int, int] = (5, 7)) -> None:
    q, k, v = random_tokens(8, grid=grid, heads=3)
    torch.testing.assert_close(
        attention(q, k, v, grid), functional.scaled_dot_product_attention(q, k, v), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("name", "settings"), [("memory_compressed", {"factor": 1}), ("token_merging", {"merge": 0.0})]
)
def test_without_compression_it_is_exact(name: str, settings: dict[str, float]) -> None:
    equals_exact_attention(build(name, heads=3, **settings))


@pytest.mark.parametrize("factor", [2, 3, 4, 6])
def test_equal_tokens_of_a_window_are_compressed_without_loss(factor: int) -> None:
    attention, grid = build("memory_compressed", heads=3, factor=factor), (7, 11)
    rows, columns = attention.window
    q, k, v = random_tokens(8, grid=grid, heads=3)
    k, v = (torch.cat([x[:, :, :1], blocks(x[:, :, 1:], grid, rows, columns)], dim=2) for x in (k, v))
    torch.testing.assert_close(attention(q, k, v, grid), exact(q, k, v), atol=1e-5, rtol=0)


def blocks(x: Tensor, grid: tuple[int, int], rows: int, columns: int) -> Tensor:
    """(1, heads, height * width, d), each window with the value of its first token."""
    image = x.transpose(2, 3).reshape(1, -1, *grid)
    constant = (
        image[..., ::rows, ::columns]
        .repeat_interleave(rows, -2)
        .repeat_interleave(columns, -1)[..., : grid[0], : grid[1]]
    )
    return constant.reshape(1, x.shape[1], x.shape[-1], -1).transpose(2, 3)


def test_equal_tokens_are_merged_without_loss() -> None:
    grid = (4, 6)
    q, k, v = (
        torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)], dim=2)
        for x in random_tokens(8, grid=(4, 3), heads=3)
    )
    torch.testing.assert_close(
        build("token_merging", heads=3, merge=0.5)(q, k, v, grid), exact(q, k, v), atol=1e-5, rtol=0
    )


# -- how far off they are


@pytest.mark.slow
def test_performer_is_right_on_average() -> None:
    torch.manual_seed(0)
    q, k = (2 * x / x.norm(dim=-1, keepdim=True) for x in torch.randn(2, 6, 16))
    draws = [orthogonal_features(44, 16) for _ in range(3000)]
    estimates = torch.stack(
        [(log_random_features(q, W).exp() @ log_random_features(k, W).exp().T) / len(W) for W in draws]
    )
    standard_error = estimates.std(dim=0) / len(draws) ** 0.5
    true = (q @ k.T / 4).exp()
    assert ((estimates.mean(dim=0) - true).abs() < 4 * standard_error).all()
    assert (standard_error < 0.02 * true).all()


def test_features_are_orthogonal_and_as_long_as_gaussian_ones() -> None:
    torch.manual_seed(0)
    draws = torch.stack([orthogonal_features(20, 8) for _ in range(400)])
    directions = functional.normalize(draws, dim=-1)
    assert (directions[:, :8] @ directions[:, :8].transpose(1, 2) - torch.eye(8)).abs().max() < 1e-5
    assert draws.square().sum(dim=-1).mean().item() == pytest.approx(
        8, rel=0.02
    )  # chi-square of 8 degrees, variance 16
    assert draws.square().sum(dim=-1).var().item() == pytest.approx(16, rel=0.1)
    assert directions.mean(dim=0).abs().max() < 0.08  # uniform: QR alone would leave the algorithm's signs


# -- finite, in every precision


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", [4, 16])
def test_finite_with_its_slopes_in_every_precision(name: str, dtype: torch.dtype, norm: float) -> None:
    attention = build(name, heads=2).to(dtype)
    q, k, v = (x.to(dtype).requires_grad_() for x in random_tokens(norm, heads=2))
    output = attention(q, k, v, GRID)
    assert output.dtype == dtype
    output.float().square().mean().backward()
    assert output.isfinite().all()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v))


# -- order of tokens


# -- the features of performer


def passes(attention: PerformerAttention, count: int) -> list[int]:
    """The checksum of the features after each of so many forward passes."""
    q, k, v = random_tokens(2, grid=(2, 3), heads=2)
    return [(attention(q, k, v, (2, 3)), attention.checksum())[1] for _ in range(count)]


def test_features_are_drawn_anew_in_training_and_never_in_evaluation() -> None:
    attention = build("performer", heads=2, redraw_every=3)
    first = attention.checksum()
    assert set(passes(attention.eval(), 8)) == {first}
    a, b, c = passes(attention.train(), 9)[::3]
    assert first == a != b != c != a
    torch.manual_seed(0)
    again = build("performer", heads=2, redraw_every=3).train()
    assert passes(again, 9) == [a] * 3 + [b] * 3 + [c] * 3


# -- which tokens are merged


def test_the_class_token_is_never_merged() -> None:
    q = torch.ones(1, 2, 13, 8)
    v = torch.arange(13.0).view(1, 1, 13, 1).expand(1, 2, 13, 8)
    group = match_tokens(q.mean(dim=1), 6, first=1)
    assert group[0].tolist().count(group[0, 0]) == 1
    assert sorted(set(group[0].tolist())) == list(range(7))
    torch.testing.assert_close(TokenMergingAttention(AttentionConfig(merge=0.5), 2, 8)(q, q, v, (3, 4)), exact(q, q, v))


# -- parts of a network


def test_compression_starts_from_the_mean_and_its_parameters_are_the_published_number() -> None:
    for factor, parameters in ((2, 99_072), (3, 148_224)):
        attention = build("memory_compressed", factor=factor)
        assert sum(p.numel() for p in attention.parameters()) == parameters
    assert isinstance(attention, MemoryCompressedAttention)
    kernel = attention.weight.view(12, 64, 64, 3)
    torch.testing.assert_close(kernel, torch.eye(64)[None, :, :, None].expand_as(kernel) / 3)


class Block(nn.Module):
    """Every attention as a network calls it: from a map of tokens and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.qkv = nn.Parameter(torch.randn(1, 1, 16)), nn.Linear(16, 48)
        self.attentions = nn.ModuleDict({name: build(name, heads=2, head_dim=8) for name in ATTENTIONS})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 16, H, W) to (B, 2, 1 + H W, 8) of each."""
        tokens = torch.cat([self.first.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        q, k, v = self.qkv(tokens).reshape(x.shape[0], -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
        return {name: attention(q, k, v, (x.shape[-2], x.shape[-1])) for name, attention in self.attentions.items()}
