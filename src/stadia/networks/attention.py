"""Attention implementations of a vision transformer (`networks.ATTENTIONS`): exact attention and approximations.

Each is created by `(config: AttentionConfig, heads, head_dim)`. It maps queries, keys and values, (B, heads, N, d)
each, to an output of the same shape. `grid` is the (height, width) of the patch tokens, which are the last height *
width tokens; the class token before them has no position.
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
        """Return the attention output (B, H, N, D) for H heads of size D.

        q, k, v: (B, H, N, D) queries, keys and values.
        grid: (height, width) of the patch tokens, which are the last height * width of the N tokens.
        """
        return functional.scaled_dot_product_attention(q, k, v)


class ExplicitAttention(SdpaAttention):
    """Compute exact attention step by step. This is the readable reference implementation."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the attention output (B, H, N, D) for H heads of size D.

        q, k, v: (B, H, N, D) queries, keys and values.
        grid: (height, width) of the patch tokens, which are the last height * width of the N tokens.
        """
        return compute_attention_map(q, k) @ v


def compute_attention_map(q: Tensor, k: Tensor) -> Tensor:
    """Return the attention weights softmax(Q K^T / sqrt(d)), (B, heads, N, N), for example to plot them.

    Each row of a map sums to 1 (arXiv 1706.03762, eq. 1).

    q, k: (B, heads, N, d) queries and keys.
    """
    return (q / math.sqrt(q.shape[-1]) @ k.transpose(-2, -1)).softmax(dim=-1)


# -- memory-compressed attention: neighboring tokens share keys and values (Liu et al., arXiv 1801.10198)


class MemoryCompressedAttention(nn.Module):
    """Compute exact attention to fewer keys and values: `factor` neighboring patch tokens share one key and one value.

    A strided convolution per head compresses each window of the token grid to one key and one value. Initially it takes
    their mean. The logarithm of a window's token count is added to its attention logits (arXiv 2210.09461, eq. 1), so
    factor 1 is exact attention.
    """

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.window = config.window
        mean = torch.eye(head_dim).repeat(heads, 1)[:, :, None, None] / config.factor
        self.weight = nn.Parameter(mean.repeat(1, 1, *self.window))
        self.bias = nn.Parameter(torch.zeros(heads * head_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the attention output (B, H, N, D) for H heads of size D.

        q, k, v: (B, H, N, D) queries, keys and values.
        grid: (height, width) of the patch tokens, which are the last height * width of the N tokens.
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
    """Return how many tokens each window of the token grid contains, (windows,) in row-major order of the windows.

    Windows at the right and lower edge of the grid may have fewer tokens than other windows.

    grid: (height, width) of the grid in tokens.
    window: (height, width) of a window in tokens.
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
    """Approximate attention by positive random features (FAVOR+), in time linear in the number of tokens.

    The approximation is unbiased: its average over random draws of the features is exact. The buffer `features` (m, d)
        has the m features of the last draw. In training they are drawn again after every `redraw_every` forward passes.
        The computation runs in float32.
    """

    features: Tensor

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("features", orthogonal_features(config.features_for(head_dim), head_dim))
        self._redraw_every = config.redraw_every
        self._passes = 0  # forward passes in training

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the approximate attention output (B, H, N, D) for H heads of size D.

        q, k, v: (B, H, N, D) queries, keys and values.
        grid: (height, width) of the patch tokens; this attention does not use it.
        """
        if self.training:
            if self._redraw_every and self._passes and self._passes % self._redraw_every == 0:
                self.redraw()
            self._passes += 1
        with torch.autocast(q.device.type, enabled=False):
            return favor_attention(q.float(), k.float(), v.float(), self.features.float()).to(v.dtype)

    def redraw(self) -> None:
        """Draw new random features into a new tensor. The old one stays valid for a pending backward pass."""
        self.features = orthogonal_features(*self.features.shape).to(self.features)

    def checksum(self) -> int:
        """Return the CRC-32 checksum of the random features. It is equal if two networks have the same ones."""
        return zlib.crc32(self.features.detach().float().cpu().numpy().tobytes())

    def get_extra_state(self) -> Tensor:
        """Return the number of forward passes in training so far, a scalar tensor that the state_dict stores."""
        return torch.tensor(self._passes)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of forward passes in training from a scalar tensor of a state_dict."""
        self._passes = int(state)


def orthogonal_features(count: int, dim: int) -> Tensor:
    """Draw random features (count, dim) for Performer attention: blocks of `dim` orthogonal rows with Gaussian lengths.

    Each row alone is a standard Gaussian vector. Orthogonal rows lower the variance of the approximation.

    count: number of features (rows).
    dim: size of an attention head (columns).
    """
    blocks = math.ceil(count / dim)
    q, r = torch.linalg.qr(torch.randn(blocks, dim, dim))
    haar = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # QR alone is not uniform: its signs are arbitrary
    rows = haar.transpose(-2, -1).reshape(blocks * dim, dim)[:count]
    return rows * torch.randn(count, dim).norm(dim=-1, keepdim=True)


def log_random_features(x: Tensor, features: Tensor) -> Tensor:
    """Return the logarithms (..., N, m) of m positive random features of queries or keys, without the factor 1 /
    sqrt(m).

    They are log(sqrt(m) phi(x)) = W x' - |x'|^2 / 2 with x' = x / d^(1/4). The mean of exp(log phi(q) + log phi(k))
    over draws of W is exp(q . k / sqrt(d)) (Choromanski et al., arXiv 2009.14794, Lemma 1).

    x: (..., N, d) queries or keys.
    features: (m, d) random matrix W.
    """
    x = x * x.shape[-1] ** -0.25
    return x @ features.T - x.square().sum(dim=-1, keepdim=True) / 2


def favor_attention(q: Tensor, k: Tensor, v: Tensor, features: Tensor) -> Tensor:
    """Return the attention output (..., N, d), approximated by random features (arXiv 2009.14794, appendix B.1).

    Maxima are subtracted before exp, so that nothing overflows: one per query and one for all keys. They cancel in the
        result.

    q, k, v: (..., N, d) queries, keys and values.
    features: (m, d) random matrix, as `orthogonal_features` draws it.
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
    """Compute exact attention between fewer tokens: similar patch tokens are merged, and unmerged afterwards.

    The share `merge` of the patch tokens is merged into others. The mean key over the heads decides which tokens merge.
    A group of merged tokens has their mean query, key and value, and the logarithm of its size is added to its
    attention logits (arXiv 2210.09461, eq. 1). Tokens are compared in float32, because tokens of flat image regions are
    equal in bfloat16.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the attention output (B, H, N, D) for H heads of size D.

        q, k, v: (B, H, N, D) queries, keys and values.
        grid: (height, width) of the patch tokens, which are the last height * width of the N tokens.
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
    """Group similar tokens: return the number of each token's group, (B, N), from 0 to N - removed - 1.

    Bipartite soft matching (arXiv 2210.09461, section 3): from token `first` on, every second token is paired with the
    most similar one of the tokens in between. The `removed` most similar pairs merge into one group each.

    metric: (B, N, d) vectors that the comparison of tokens uses.
    removed: number of tokens that join another one, at most half of the tokens from `first` on.
    first: index of the first token that may merge; earlier ones, such as the class token, stay alone.
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
