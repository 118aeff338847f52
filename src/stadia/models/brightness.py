"""Brightness between two pictures: a gain a and an offset b, a * first + b being as bright as the second (D3VO, arXiv 2003.01060, eq. 3).

What a network says is bounded, so that neither can wipe a picture out, and closed under inversion: the brightness of a pair seen
in the other order is that of the negated logits. With b = sqrt(a) c the inverse (1/a, -b/a) has -log a and -c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST_GAIN = 2.0
"""a lies between 1/2 and 2: one stop of exposure."""

LARGEST_OFFSET = 0.5
"""b lies between -1/2 and 1/2, for pictures in [0, 1], whatever a is."""


def brightness_from_logits(logits: Tensor, scale: float) -> Tensor:
    """(..., 2) logits of gain and offset to (..., 2) brightness (a, b); exactly (1, 0) where they are 0.

    scale: of log a, and of b, by logit at 0.
    """
    log_gain, offset = (
        bound * torch.tanh(logits[..., i] * (scale / bound))
        for i, bound in enumerate((math.log(LARGEST_GAIN), LARGEST_OFFSET / math.sqrt(LARGEST_GAIN)))
    )
    return torch.stack((log_gain.exp(), (log_gain / 2).exp() * offset), dim=-1)
