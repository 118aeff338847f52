"""Activations by name: each row of `models.ACTIVATIONS` makes a layer that keeps shapes and owns no weights."""

from __future__ import annotations

from torch import Tensor, nn


def relu() -> nn.Module:
    """Positive values as they are, 0 for the others."""
    return nn.ReLU()


def leaky_relu() -> nn.Module:
    """Positive values as they are, negative ones divided by 100: no unit dies."""
    return nn.LeakyReLU(0.01)


def elu() -> nn.Module:
    """Positive values as they are, else exp(x) - 1: smooth, and never below -1."""
    return nn.ELU()


def rrelu() -> nn.Module:
    """Positive values as they are, negative ones by slopes drawn between 1/8 and 1/3; in evaluation by their mean."""
    return nn.RReLU()


class Snake(nn.Module):
    """x + sin(x)^2: rises everywhere, and goes on in waves (Ziyin et al. 2020, arXiv 2006.08195, eq. 3 with a = 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.sin().square()
