"""Exact attention: the fused form and the written-out one are the same; and what each attention costs."""

import pytest
import torch
from torch import Tensor

from stadia.networks import ATTENTIONS
from stadia.networks.attention import compute_attention_map
from stadia.networks.config import AttentionConfig

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
