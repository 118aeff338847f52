"""Attention cores of `models.ATTENTIONS`: exact attention and approximations.

A core is created by `(config: AttentionConfig, heads, head_dim)`. It maps queries, keys and values, (B, heads, N, d)
each, to an output of the same shape. `grid` is the (height, width) of the last height * width tokens; the class token
before them has no position.
"""

import math
import zlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.networks.config import AttentionConfig


class SdpaAttention(nn.Module):
    """Compute exact attention with PyTorch's fused kernels, which never store the N x N matrix."""

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.config = config

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the attention output for queries q, keys k and values v, all (B, H, N, D) for H heads of size D.

        grid: (height, width) of the last height * width tokens.
        """
        return functional.scaled_dot_product_attention(q, k, v)


class ExplicitAttention(SdpaAttention):
    """Compute exact attention step by step. This is the readable reference implementation."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the attention output for queries q, keys k and values v, all (B, H, N, D) for H heads of size D.

        grid: (height, width) of the last height * width tokens.
        """
        return compute_attention_map(q, k) @ v


def compute_attention_map(q: Tensor, k: Tensor) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)), (B, heads, N, N), for plots (arXiv 1706.03762, eq. 1).

    q, k: (B, heads, N, d) queries and keys.
    """
    return (q / math.sqrt(q.shape[-1]) @ k.transpose(-2, -1)).softmax(dim=-1)


# -- memory-compressed attention: neighboring tokens share keys and values (Liu et al., arXiv 1801.10198)


class MemoryCompressedAttention(nn.Module):
    """Compute exact attention to a grid of keys and values that is `factor` times smaller.

    A strided convolution per head compresses each window of the token grid to one key and one value. It is initialized
    to the mean. The logarithm of a window's token count is added to its logits (arXiv 2210.09461, eq. 1), so factor 1
    is exact.
    """

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.window = config.window
        mean = torch.eye(head_dim).repeat(heads, 1)[:, :, None, None] / config.factor
        self.weight = nn.Parameter(mean.repeat(1, 1, *self.window))
        self.bias = nn.Parameter(torch.zeros(heads * head_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the attention output for queries q, keys k and values v, all (B, H, N, D) for H heads of size D.

        grid: (height, width) of the last height * width tokens.
        """
        first = k.shape[-2] - grid[0] * grid[1]
        counts = torch.cat([k.new_ones(first), count_window_tokens(grid, self.window).to(k)])
        keys, values = (torch.cat([x[:, :, :first], self._compressed(x[:, :, first:], grid)], dim=2) for x in (k, v))
        return functional.scaled_dot_product_attention(q, keys, values, attn_mask=counts.log()[None, None, None])

    def _compressed(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map (B, heads, height * width, d) to (B, heads, windows, d)."""
        batch, heads, _, head_dim = x.shape
        image = x.transpose(2, 3).reshape(batch, heads * head_dim, *grid)
        rows, columns = self.window
        # Always pad by the maximum; the stride drops an incomplete window.
        repeated = functional.pad(image, (0, columns - 1, 0, rows - 1), mode="replicate")
        compressed = functional.conv2d(repeated, self.weight, self.bias, stride=self.window, groups=heads)
        return compressed.reshape(batch, heads, head_dim, -1).transpose(2, 3)


def count_window_tokens(grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Return the number of tokens in each window of the grid, (windows,) in row order.

    Windows at the right and lower edge have fewer tokens.

    grid: (height, width) of the tokens.
    window: (height, width) of a window.
    """
    count = torch.arange
    sizes = zip(grid, window, strict=True)
    rows, columns = ((length - step * count((length + step - 1) // step)).clamp(max=step) for length, step in sizes)
    return (rows[:, None] * columns).flatten()


# -- Performer: attention by random features, linear in the number of tokens (Choromanski et al., arXiv 2009.14794)
#
# exp(q . k / sqrt(d)) is the mean of phi(q) . phi(k) over random features. So softmax(Q K^T / sqrt(d)) V becomes
# phi(Q) (phi(K)^T V), with rows normalized to 1. The estimate is good while |q| and |k| are small. It is cheaper than
# exact attention only above 2m tokens.

FEATURE_FLOOR = 1e-4  # added to every feature, so that no row of attention sums to 0 (the authors' value)


class PerformerAttention(nn.Module):
    """Approximate attention by positive random features (FAVOR+). The average over draws of features is exact.

    `features` (m, d) is a buffer. In training it is drawn again after every `redraw_every` forward passes. The
    computation runs in float32.
    """

    features: Tensor

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("features", orthogonal_features(config.features_for(head_dim), head_dim))
        self._redraw_every = config.redraw_every
        self._passes = 0  # forward passes in training

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the approximate attention output for queries, keys and values (B, H, N, D), with H heads of size D.

        grid: (height, width) of the last height * width tokens.
        """
        if self.training:
            if self._redraw_every and self._passes and self._passes % self._redraw_every == 0:
                self.redraw()
            self._passes += 1
        with torch.autocast(q.device.type, enabled=False):
            return favor_attention(q.float(), k.float(), v.float(), self.features.float()).to(v.dtype)

    def redraw(self) -> None:
        """Draw new features into a new tensor. A pending backward pass still needs the old tensor."""
        self.features = orthogonal_features(*self.features.shape).to(self.features)

    def checksum(self) -> int:
        """Return the CRC-32 of the features."""
        return zlib.crc32(self.features.detach().float().cpu().numpy().tobytes())

    def get_extra_state(self) -> Tensor:
        """Return the number of training passes, a scalar tensor."""
        return torch.tensor(self._passes)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of training passes from a scalar tensor."""
        self._passes = int(state)


def orthogonal_features(count: int, dim: int) -> Tensor:
    """Draw random features (M, D): blocks of `dim` orthogonal, Haar-distributed rows with Gaussian lengths.

    Each row alone is a standard Gaussian vector. Orthogonal rows lower the variance of the approximation.

    count, dim: number of features M, and their size D.
    """
    blocks = math.ceil(count / dim)
    q, r = torch.linalg.qr(torch.randn(blocks, dim, dim))
    haar = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # QR alone is not uniform: its signs are arbitrary
    rows = haar.transpose(-2, -1).reshape(blocks * dim, dim)[:count]
    return rows * torch.randn(count, dim).norm(dim=-1, keepdim=True)


def log_random_features(x: Tensor, features: Tensor) -> Tensor:
    """Return log(sqrt(m) phi(x)) = W x' - |x'|^2 / 2 with x' = x / d^(1/4), (..., N, m).

    The mean of exp(log phi(q) + log phi(k)) over draws of the features is exp(q . k / sqrt(d)) (Lemma 1).

    x: (..., N, d) queries or keys.
    features: (m, d) rows of W.
    """
    x = x * x.shape[-1] ** -0.25
    return x @ features.T - x.square().sum(dim=-1, keepdim=True) / 2


def favor_attention(q: Tensor, k: Tensor, v: Tensor, features: Tensor) -> Tensor:
    """Return the attention (..., N, d) of q, k, v (..., N, d) approximated by random features (m, d) (appendix B.1).

    Maxima are subtracted before exp, so that nothing overflows: one per query and one for all keys. They cancel in the
    result.
    """
    scale = features.shape[0] ** -0.5
    of_q, of_k = log_random_features(q, features), log_random_features(k, features)
    phi_q = scale * ((of_q - of_q.detach().amax(dim=-1, keepdim=True)).exp() + FEATURE_FLOOR)
    phi_k = scale * ((of_k - of_k.detach().amax(dim=(-2, -1), keepdim=True)).exp() + FEATURE_FLOOR)
    sums = phi_q @ phi_k.sum(dim=-2)[..., None]
    return phi_q @ (phi_k.transpose(-2, -1) @ v) / sums


# -- token merging: the most similar tokens share one query, key, value and output
#
# Bolya et al., arXiv 2210.09461 (matching, proportional attention); Bolya and Hoffman, arXiv 2303.17604 (tokens are
# unmerged right after attention, so that dense outputs keep every token).


class TokenMergingAttention(SdpaAttention):
    """Compute exact attention between fewer tokens: the share `merge` of the grid's tokens is merged, then unmerged.

    The mean key over the heads decides which tokens merge. A group has the mean query, key and value of its tokens, and
    the logarithm of its size is added to its logits (arXiv 2210.09461, eq. 1). Tokens are compared in float32, because
    tokens of flat regions are equal in bfloat16.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the attention output for queries q, keys k and values v, all (B, H, N, D) for H heads of size D.

        grid: (height, width) of the last height * width tokens.
        """
        places = grid[0] * grid[1]
        if self.config.merge == 0 or places < 2:
            return super().forward(q, k, v, grid)
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
    """Return the group of each token, (B, N) with values below N - removed (arXiv 2210.09461, section 3).

    Bipartite soft matching: every other token from `first` on is paired with the most similar one of the tokens in
    between. The `removed` most similar pairs merge.

    metric: (B, N, d) vectors by which tokens are compared.
    removed: number of merged tokens, at most half of the tokens from `first` on.
    first: index of the first token that may merge.
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
