"""Performer: attention by random features, linear in the number of tokens (Choromanski et al. 2021, arXiv 2009.14794).

exp(q . k / sqrt(d)) is the mean of phi(q) . phi(k) over random features, so that softmax(Q K^T / sqrt(d)) V becomes
phi(Q) (phi(K)^T V), brought to rows that add up to 1. The estimate is good while |q| and |k| are small (for heads of 64
and unit Gaussian values, which have a norm of 8, it is not), and cheaper than exact attention only above 2m tokens.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor, nn

from stadia.models.attention_config import AttentionConfig

FLOOR = 1e-4
"""Added to every feature, so that no query sees nothing (the value of the authors' code)."""


class Performer(nn.Module):
    """Exact on average over draws of its features (FAVOR+), and linear in the number of tokens.

    `features` (m, d) is a buffer, saved with the checkpoint. In training it is drawn anew, from torch's generator,
    after every `redraw_every` forward passes; in evaluation never. `checksum` tells whether it was. A pass that
    activation checkpointing
    repeats counts as well: an even `redraw_every` then leaves both passes the same features.
    Computed in float32 whatever the precision around it is.
    """

    features: Tensor

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("features", orthogonal_features(config.features_for(head_dim), head_dim))
        self._redraw_every = config.redraw_every
        self._passes = 0  # forward passes in training

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, heads, N, d) each, to (B, heads, N, d)."""
        if self.training:
            if self._redraw_every and self._passes and self._passes % self._redraw_every == 0:
                self.redraw()
            self._passes += 1
        with torch.autocast(q.device.type, enabled=False):
            return favor(q.float(), k.float(), v.float(), self.features.float()).to(v.dtype)

    def redraw(self) -> None:
        """Draw the features anew. A tensor of its own: a backward pass that is still to come keeps the old ones."""
        self.features = orthogonal_features(*self.features.shape).to(self.features)

    def checksum(self) -> int:
        """Of the features' bytes: two are equal where no draw lies between."""
        return zlib.crc32(self.features.detach().float().cpu().numpy().tobytes())

    def get_extra_state(self) -> Tensor:
        """The passes made, so that a resumed training draws when the uninterrupted one would have."""
        return torch.tensor(self._passes)

    def set_extra_state(self, state: Tensor) -> None:
        self._passes = int(state)


def orthogonal_features(count: int, dim: int) -> Tensor:
    """(count, dim): rows in blocks of `dim` orthogonal ones, each Haar-distributed, as long as Gaussian vectors are.

    Each row alone is a standard Gaussian vector, which keeps the estimate unbiased; orthogonal ones vary less together.
    Drawn from torch's default generator.
    """
    blocks = math.ceil(count / dim)
    q, r = torch.linalg.qr(torch.randn(blocks, dim, dim))
    haar = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # QR alone is not uniform: its signs are the algorithm's
    rows = haar.transpose(-2, -1).reshape(blocks * dim, dim)[:count]
    return rows * torch.randn(count, dim).norm(dim=-1, keepdim=True)


def exponents(x: Tensor, features: Tensor) -> Tensor:
    """The logarithm of sqrt(m) phi(x): W x' - |x'|^2 / 2 with x' = x / d^(1/4). (..., N, d) and (m, d) to (..., N, m).

    The mean over features of exp(exponents(q) + exponents(k)) is, on average over draws, exp(q . k / sqrt(d)) (Lemma
    1).
    """
    x = x * x.shape[-1] ** -0.25
    return x @ features.T - x.square().sum(dim=-1, keepdim=True) / 2


def favor(q: Tensor, k: Tensor, v: Tensor, features: Tensor) -> Tensor:
    """Attention by positive random features, in the precision of what it is given (appendix B.1, bidirectional).

    What is subtracted before exp cancels in the quotient: of a query a number of its own, its |x'|^2 / 2 included; of
        the keys
    the largest exponent of all tokens and features together. So the largest feature is 1 and nothing overflows, nor do
    all features of a far key vanish for that key alone, as they do where W x' alone is what the maximum is taken of.

    Args:
        q, k, v: (..., N, d).
        features: (m, d), of `orthogonal_features`.
    """
    scale = features.shape[0] ** -0.5
    of_q, of_k = exponents(q, features), exponents(k, features)
    phi_q = scale * ((of_q - of_q.detach().amax(dim=-1, keepdim=True)).exp() + FLOOR)
    phi_k = scale * ((of_k - of_k.detach().amax(dim=(-2, -1), keepdim=True)).exp() + FLOOR)
    sums = phi_q @ phi_k.sum(dim=-2)[..., None]
    return phi_q @ (phi_k.transpose(-2, -1) @ v) / sums
