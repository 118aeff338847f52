"""Check logged losses: the total is the sum of its terms, and no term lies below its minimum.

A term below its minimum is computed wrongly, whatever the network predicts (SILog falls below 0 where its two means are
not over the same pixels). A total that is not the sum of its terms trains something that no curve shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from stadia.core.errors import RunError

ROUNDING = 1e-5
"""Relative to the terms, in float32: a hundred times the rounding of a sum of terms, or of means over accumulation."""


def broken_laws(
    total: float, terms: Mapping[str, float], least: Mapping[str, float], dtype: torch.dtype = torch.float32
) -> list[str]:
    """Return a line for each broken law, with the numbers.

    Args:
        total: what is minimized.
        terms: its parts by name, weighted as they enter.
        least: the minimum of a term, by name; a term without one (a logarithm) is left out.
        dtype: of the loss: in half precision sums agree less.
    """
    rounding = max(ROUNDING, 8 * torch.finfo(dtype).eps)
    broken = [
        f"term '{name}' is {terms[name]:.6g}, below its minimum {bound:g}"
        for name, bound in least.items()
        if name in terms and terms[name] < bound - rounding * max(1.0, abs(bound))
    ]
    size, added = sum(map(abs, terms.values())), sum(terms.values())
    if terms and abs(total - added) > rounding * max(size, abs(total)) + torch.finfo(dtype).tiny:
        broken.append(f"the total is {total:.6g}, the sum of its terms {added:.6g}")
    return [] if not math.isfinite(total) else broken  # a loss that is not finite has its own error


def check_loss(
    step: int, total: float, terms: Mapping[str, float], least: Mapping[str, float], dtype: torch.dtype = torch.float32
) -> None:
    """Raise RunError where a law is broken; see `broken_laws`."""
    if broken := broken_laws(total, terms, least, dtype):
        raise RunError(
            f"loss of step {step}",
            found="; ".join(broken),
            expected="the sum of its terms, each at its minimum or above",
            fix="correct the loss: means over the same pixels with one count, and every term weighted as it enters",
        )
