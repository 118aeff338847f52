"""Activation functions of `models.ACTIVATIONS`. Each keeps the shape and has no weights."""

from __future__ import annotations

from torch import Tensor, nn


def relu() -> nn.Module:
    """Clamp negative values to 0."""
    return nn.ReLU()


def leaky_relu() -> nn.Module:
    """Scale negative values by 0.01, so that no unit dies."""
    return nn.LeakyReLU(0.01)


def elu() -> nn.Module:
    """Replace negative values by exp(x) - 1: smooth, and never below -1."""
    return nn.ELU()


def rrelu() -> nn.Module:
    """Scale negative values by random slopes between 1/8 and 1/3, and by their mean in evaluation."""
    return nn.RReLU()


class Snake(nn.Module):
    """x + sin(x)^2, monotonic with periodic slopes (Ziyin et al. 2020, arXiv 2006.08195, eq. 3 with a = 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.sin().square()
