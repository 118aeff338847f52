"""The last step of a loss: many values to one."""

from __future__ import annotations

from torch import Tensor


def masked_mean(values: Tensor, known: Tensor) -> Tensor:
    """The mean, a scalar, of values over what is `known` (bool, broadcast to them); 0 where nothing is, still part of the graph.

    What is not known is neither read nor counted: a larger background leaves the mean as it is.
    """
    known = known.expand_as(values)
    return values.where(known, 0.0).sum() / known.sum().clamp(min=1)
