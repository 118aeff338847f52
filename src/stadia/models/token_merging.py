"""Token merging: the most similar tokens are attended to as one, and take the answer as one.

Bolya et al. 2023, arXiv 2210.09461 (the matching, proportional attention); Bolya and Hoffman 2023, arXiv 2303.17604
(merged tokens are put back right after the part, so that a dense output keeps every token).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.models.attention_config import AttentionConfig


class TokenMerging(nn.Module):
    """Exact attention between fewer tokens: a share `merge` of the grid's is merged into others, and put back
    afterwards.

    Which are merged is decided by the keys, for each sample, and for all heads alike (`groups`). A group's query, key
    and value are the means of its tokens, and log of their number is added to its logits (proportional attention, arXiv
    2210.09461, eq. 1); its answer is given to each of its tokens. So attention is exact where merged tokens are equal,
    and without merging. Every call starts from single tokens, which makes the papers' mean weighted by size a plain
    one. The tokens before the grid stay alone. It has no weights. Tokens are compared and added up in float32 whatever
    the precision around it is: in bfloat16 flat parts of a image tie.
    """

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.config = config

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, heads, N, d) each, to (B, heads, N, d)."""
        places = grid[0] * grid[1]
        if self.config.merge == 0 or places < 2:
            return functional.scaled_dot_product_attention(q, k, v)
        removed = self.config.removed(places)
        with torch.autocast(k.device.type, enabled=False):
            group = groups(k.float().mean(dim=1), removed, first=k.shape[-2] - places)
        kept = k.shape[-2] - removed
        ones = torch.ones_like(group, dtype=torch.float32)
        size = ones.new_zeros(k.shape[0], kept).scatter_add(1, group, ones)
        of_group = group[:, None, :, None].expand_as(k)

        def merged(x: Tensor) -> Tensor:
            sums = size.new_zeros(*x.shape[:2], kept, x.shape[-1]).scatter_add(2, of_group, x.float())
            return (sums / size[:, None, :, None]).to(x.dtype)

        more = size.log()[:, None, None].to(q.dtype)
        return functional.scaled_dot_product_attention(merged(q), merged(k), merged(v), attn_mask=more).gather(
            2, of_group
        )


def groups(metric: Tensor, removed: int, *, first: int) -> Tensor:
    """Which group each token belongs to, by bipartite soft matching (arXiv 2210.09461, section 3).

    From `first` on, every other token looks for the most similar one (by the cosine) among those between; the `removed`
    pairs that are most alike are joined. Several tokens may join the same one. The tokens before `first` are left
    alone.

    Args:
        metric: (B, N, d), what tokens are compared by.
        removed: how many tokens are merged into another, at most half of those from `first` on.

    Returns: (B, N), numbers from 0 to N - removed - 1.
    """
    batch, tokens, dim = metric.shape
    pairs = (tokens - first) // 2
    directions = functional.normalize(metric[:, first : first + 2 * pairs].detach(), dim=-1).reshape(
        batch, pairs, 2, dim
    )
    alike, partner = (directions[:, :, 0] @ directions[:, :, 1].transpose(1, 2)).max(dim=-1)
    chosen = alike.topk(removed, dim=-1, sorted=False).indices
    joining, joined = first + 2 * chosen, first + 2 * partner.gather(1, chosen) + 1
    stays = torch.ones(batch, tokens, dtype=torch.long, device=metric.device).scatter(1, joining, 0)
    number = stays.cumsum(dim=-1) - 1
    return number.scatter(1, joining, number.gather(1, joined))
