"""What holds of every loss, asked of the numbers that are logged anyway: it is the sum of its terms, and none lies
below its least value.

A term that is below its least value is computed wrongly, whatever the network answers (SILog falls below 0 where its
two means are not over the same pixels); a total that is not the sum of its terms trains something that no curve shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from stadia.core.errors import RunError

ROUNDING = 1e-5
"""Of the terms' sizes, in float32: a hundred times what adding up a few terms, or means over accumulated batches,
loses.
"""


def broken_laws(
    total: float, terms: Mapping[str, float], least: Mapping[str, float], dtype: torch.dtype = torch.float32
) -> list[str]:
    """What is wrong, in words with the numbers; nothing where all is well.

    Args:
        total: what is minimized.
        terms: its parts by name, as they enter.
        least: the smallest value that a term can have, by name; a term that is not in it has none (a logarithm's, say).
        dtype: of the loss: in half precision sums agree less.
    """
    rounding = max(ROUNDING, 8 * torch.finfo(dtype).eps)
    broken = [
        f"term '{name}' is {terms[name]:.6g}, below its least value {bound:g}"
        for name, bound in least.items()
        if name in terms and terms[name] < bound - rounding * max(1.0, abs(bound))
    ]
    size, added = sum(map(abs, terms.values())), sum(terms.values())
    if terms and abs(total - added) > rounding * max(size, abs(total)) + torch.finfo(dtype).tiny:
        broken.append(f"the total is {total:.6g}, the sum of its terms {added:.6g}")
    return [] if not math.isfinite(total) else broken  # what is not finite is told by its own error


def check_loss(
    step: int, total: float, terms: Mapping[str, float], least: Mapping[str, float], dtype: torch.dtype = torch.float32
) -> None:
    """Raise RunError where a law is broken; see `broken_laws`."""
    if broken := broken_laws(total, terms, least, dtype):
        raise RunError(
            f"loss of step {step}",
            found="; ".join(broken),
            expected="the sum of its terms, each at its least value or above",
            fix="correct the loss: means over the same pixels with one count, and every term weighted as it enters",
        )
