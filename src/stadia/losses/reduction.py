"""Reductions of per-pixel losses to one number."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, known: Tensor) -> Tensor:
    """Average values over `known` (bool, broadcast to them), a scalar; 0 if none is known, still in the graph."""
    known = known.expand_as(values)
    return values.where(known, 0.0).sum() / known.sum().clamp(min=1)


def mean_count(counts: Tensor) -> Tensor:
    """Average counts (...) over all processes that train together; all of them have to call it.

    DDP averages gradients. A sum divided by this count therefore becomes, over all processes, the mean of one large
    batch, however unequally it is split. A process's own mean does not.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return counts
    total = counts.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def sum_by(values: Tensor, count: Tensor) -> Tensor:
    """Divide the sum of values, a scalar, by `mean_count`; 0 for a count of 0, still in the graph."""
    return values.sum() / count.where(count > 0, 1.0)
