"""Balance the terms of a loss by the measured size of their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from stadia.training.flops import pause_flop_counters
from stadia.training.validation_scores import gather_from_processes

MOMENTUM = 0.8
"""Of the size that was known, at each measurement: one batch says little."""

MAX_FACTOR = 10.0
"""The largest factor, and its inverse the least: a term that is learnt has next to no gradient, and is not to be blown
up for it.
"""


class GradientBalance:
    """Sizes of the terms' gradients by what all heads read, a moving mean; part of a checkpoint (`state_dict`).

    A term whose gradient is 0, of a batch without its labels, is left as it was known. (Chen et al., GradNorm, arXiv
    1711.02257, measure at the same place; here weights are set by what was measured, and are not learnt.)

    Args:
        every: so many steps between measurements.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.sizes: dict[str, float] = {}
        self._measured_at = -1

    def measure(self, step: int, terms: Mapping[str, Tensor], shared: Tensor) -> None:
        """Where a measurement is due: |d term / d shared| of each, unweighted. All processes call it at the same steps.

        terms: scalars with their graph, which stays.  shared: (B, C, H, W), what they were all made of.
        """
        if step == self._measured_at or (self.sizes and step % self.every):
            return
        self._measured_at = step
        found = {}
        for name, term in terms.items():
            with pause_flop_counters():
                (gradient,) = torch.autograd.grad(term, shared, retain_graph=True, allow_unused=True)
            found[name] = 0.0 if gradient is None else float(gradient.float().norm())
        each = gather_from_processes(found)
        for name in found:
            size = fmean(one[name] for one in each)
            if 0 < size < math.inf:
                self.sizes[name] = MOMENTUM * self.sizes[name] + (1 - MOMENTUM) * size if name in self.sizes else size

    def factors(self) -> dict[str, float]:
        """What each term is multiplied by, so that all have one size: their geometric mean, which leaves the loss's own
        as it was.

        Not beyond MOST, nor below its inverse: sizes that are farther apart stay so.
        """
        if not self.sizes:
            return {}
        mean = math.exp(fmean(map(math.log, self.sizes.values())))
        return {name: min(max(mean / size, 1 / MAX_FACTOR), MAX_FACTOR) for name, size in self.sizes.items()}

    def shares(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Of the gradient, by these weights as they enter: each term's size over the sum of all."""
        sizes = {name: weights[name] * size for name, size in self.sizes.items() if name in weights}
        total = sum(sizes.values())
        return {name: size / total for name, size in sizes.items()} if total else {}

    def state_dict(self) -> dict[str, Any]:
        return {"sizes": dict(self.sizes), "measured_at": self._measured_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sizes = {str(name): float(size) for name, size in state["sizes"].items()}
        self._measured_at = int(state["measured_at"])
