"""Token merging: the most similar tokens share one query, key, value and output.

Bolya et al., arXiv 2210.09461 (matching, proportional attention); Bolya and Hoffman, arXiv 2303.17604 (tokens are
unmerged right after attention, so that dense outputs keep every token).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.models.attention_config import AttentionConfig


class TokenMergingAttention(nn.Module):
    """Exact attention between fewer tokens: the share `merge` of the grid's tokens is merged, then unmerged.

    The mean key over heads decides for each sample which tokens merge (`match_tokens`). The query, key and value of a
    group are the means of its tokens, and the log of its size is added to its logits (proportional attention, arXiv
    2210.09461, eq. 1). So attention is exact without merging, and where merged tokens are equal. Every call starts from
    single tokens, so the papers' size-weighted mean is a plain mean. The tokens before the grid never merge. It has no
    weights. Similarity and sums use float32, since flat image regions tie in bfloat16.
    """

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.config = config

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        places = grid[0] * grid[1]
        if self.config.merge == 0 or places < 2:
            return functional.scaled_dot_product_attention(q, k, v)
        removed = self.config.removed(places)
        with torch.autocast(k.device.type, enabled=False):
            group = match_tokens(k.float().mean(dim=1), removed, first=k.shape[-2] - places)
        kept = k.shape[-2] - removed
        ones = torch.ones_like(group, dtype=torch.float32)
        size = ones.new_zeros(k.shape[0], kept).scatter_add(1, group, ones)
        of_group = group[:, None, :, None].expand_as(k)

        def merged(x: Tensor) -> Tensor:
            sums = size.new_zeros(*x.shape[:2], kept, x.shape[-1]).scatter_add(2, of_group, x.float())
            return (sums / size[:, None, :, None]).to(x.dtype)

        log_size = size.log()[:, None, None].to(q.dtype)
        output = functional.scaled_dot_product_attention(merged(q), merged(k), merged(v), attn_mask=log_size)
        return output.gather(2, of_group)


def match_tokens(metric: Tensor, removed: int, *, first: int) -> Tensor:
    """Assign tokens to groups by bipartite soft matching (arXiv 2210.09461, section 3).

    From `first` on, every other token is paired with the most similar of the tokens between, by cosine similarity. The
    `removed` most similar pairs merge; several tokens may join the same one. Tokens before `first` stay single.

    Args:
        metric: (B, N, d) to compare tokens by.
        removed: how many tokens merge into another, at most half of those from `first` on.

    Returns: (B, N) group numbers from 0 to N - removed - 1.
    """
    batch, tokens, dim = metric.shape
    pairs = (tokens - first) // 2
    directions = functional.normalize(metric[:, first : first + 2 * pairs].detach(), dim=-1)
    directions = directions.reshape(batch, pairs, 2, dim)
    alike, partner = (directions[:, :, 0] @ directions[:, :, 1].transpose(1, 2)).max(dim=-1)
    chosen = alike.topk(removed, dim=-1, sorted=False).indices
    joining, joined = first + 2 * chosen, first + 2 * partner.gather(1, chosen) + 1
    stays = torch.ones(batch, tokens, dtype=torch.long, device=metric.device).scatter(1, joining, 0)
    number = stays.cumsum(dim=-1) - 1
    return number.scatter(1, joining, number.gather(1, joined))
