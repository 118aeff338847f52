"""The last step of a loss: many values to one."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, known: Tensor) -> Tensor:
    """The mean, a scalar, of values over what is `known` (bool, broadcast to them); 0 where nothing is, still part of
    the graph.

    What is not known is neither read nor counted: a larger background leaves the mean as it is.
    """
    known = known.expand_as(values)
    return values.where(known, 0.0).sum() / known.sum().clamp(min=1)


def mean_count(counts: Tensor) -> Tensor:
    """Counts (...) of what a process's batch has to their mean over all processes that train together; all of them have
    to call it.

    DDP takes the mean of their gradients. So a sum over the own values by this count is, in that mean, the sum over all
    values by how many
    there are: the mean of one large batch, however unequally it is shared. The mean of a process's own values is not.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return counts
    total = counts.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def sum_by(values: Tensor, count: Tensor) -> Tensor:
    """The sum of values, a scalar, by `mean_count` of how many there are; 0 where there are none, still part of the
    graph.
    """
    return values.sum() / count.where(count > 0, 1.0)
