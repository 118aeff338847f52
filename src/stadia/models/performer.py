"""Performer: attention by random features, linear in the number of tokens (Choromanski et al., arXiv 2009.14794).

exp(q . k / sqrt(d)) is the mean of phi(q) . phi(k) over random features. So softmax(Q K^T / sqrt(d)) V becomes
phi(Q) (phi(K)^T V), with rows normalized to 1. The estimate is good while |q| and |k| are small. It is poor for
heads of 64 with unit Gaussian values, whose norm is 8. It is cheaper than exact attention only above 2m tokens.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor, nn

from stadia.models.attention_config import AttentionConfig

FEATURE_FLOOR = 1e-4
"""Added to every feature, so that no row of attention sums to 0 (the value of the authors' code)."""


class PerformerAttention(nn.Module):
    """Approximate attention by positive random features (FAVOR+): exact on average over draws.

    `features` (m, d) is a buffer and is saved with the checkpoint. In training, torch's generator redraws it after
    every `redraw_every` forward passes; in evaluation it stays. Passes that activation checkpointing repeats count too:
    with an even `redraw_every` both passes use the same features. Runs in float32 under autocast.
    """

    features: Tensor

    def __init__(self, config: AttentionConfig, heads: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("features", orthogonal_features(config.features_for(head_dim), head_dim))
        self._redraw_every = config.redraw_every
        self._passes = 0  # forward passes in training

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.training:
            if self._redraw_every and self._passes and self._passes % self._redraw_every == 0:
                self.redraw()
            self._passes += 1
        with torch.autocast(q.device.type, enabled=False):
            return favor_attention(q.float(), k.float(), v.float(), self.features.float()).to(v.dtype)

    def redraw(self) -> None:
        """Draw new features into a new tensor, so that a pending backward pass keeps the old ones."""
        self.features = orthogonal_features(*self.features.shape).to(self.features)

    def checksum(self) -> int:
        """Return the CRC-32 of the features: equal values mean that nothing was redrawn in between."""
        return zlib.crc32(self.features.detach().float().cpu().numpy().tobytes())

    def get_extra_state(self) -> Tensor:
        """Return the number of training passes, so that a resumed run redraws at the same steps."""
        return torch.tensor(self._passes)

    def set_extra_state(self, state: Tensor) -> None:
        self._passes = int(state)


def orthogonal_features(count: int, dim: int) -> Tensor:
    """Draw (count, dim) features: blocks of `dim` orthogonal Haar-distributed rows with Gaussian lengths.

    Each row alone is a standard Gaussian vector, which keeps the estimate unbiased. Orthogonal rows lower its variance.
    """
    blocks = math.ceil(count / dim)
    q, r = torch.linalg.qr(torch.randn(blocks, dim, dim))
    haar = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # QR alone is not uniform: its signs are arbitrary
    rows = haar.transpose(-2, -1).reshape(blocks * dim, dim)[:count]
    return rows * torch.randn(count, dim).norm(dim=-1, keepdim=True)


def log_random_features(x: Tensor, features: Tensor) -> Tensor:
    """Compute log(sqrt(m) phi(x)) = W x' - |x'|^2 / 2 with x' = x / d^(1/4): (..., N, d) to (..., N, m).

    The mean of exp(log phi(q) + log phi(k)) over draws is exp(q . k / sqrt(d)) (Lemma 1).
    """
    x = x * x.shape[-1] ** -0.25
    return x @ features.T - x.square().sum(dim=-1, keepdim=True) / 2


def favor_attention(q: Tensor, k: Tensor, v: Tensor, features: Tensor) -> Tensor:
    """Compute attention by positive random features in the input's precision (appendix B.1, bidirectional).

    The maxima subtracted before exp cancel in the quotient. Each query has its own; the keys share one over all tokens
    and features. So the largest feature is 1 and nothing overflows, and the features of a distant key do not all
    vanish.

    Args:
        q, k, v: (..., N, d).
        features: (m, d) from `orthogonal_features`.
    """
    scale = features.shape[0] ** -0.5
    of_q, of_k = log_random_features(q, features), log_random_features(k, features)
    phi_q = scale * ((of_q - of_q.detach().amax(dim=-1, keepdim=True)).exp() + FEATURE_FLOOR)
    phi_k = scale * ((of_k - of_k.detach().amax(dim=(-2, -1), keepdim=True)).exp() + FEATURE_FLOOR)
    sums = phi_q @ phi_k.sum(dim=-2)[..., None]
    return phi_q @ (phi_k.transpose(-2, -1) @ v) / sums
