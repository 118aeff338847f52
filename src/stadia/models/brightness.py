"""Brightness between two images: a gain a and an offset b, a * first + b being as bright as the second (D3VO, arXiv
2003.01060, eq. 3).

What a network says is bounded, so that neither can wipe an image out, and closed under inversion: the brightness of a
pair seen in the other order is that of the negated logits. With b = sqrt(a) c the inverse (1/a, -b/a) has -log a and
-c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST_GAIN = 2.0
"""a lies between 1/2 and 2: one stop of exposure."""

LARGEST_OFFSET = 0.5
"""b lies between -1/2 and 1/2, for images in [0, 1], whatever a is."""

FLAT = 1 / 255
"""Standard deviation of an image of one color, for images in [0, 1]: a step of eight bits."""


def change_of_moments(earlier: Tensor, later: Tensor) -> Tensor:
    """(B, 3, H, W) twice to (B, 2): log a and c of the one gain and offset that give the earlier image the later one's
    mean and spread.

    Two images that see mostly the same thing differ in both mainly by exposure, so this is near what is to be learnt;
    what else has come into view is not exposure, so it is no more than evidence. The other order negates it. An image
    of one color has no spread
    to compare: its gain is taken as 1.
    """
    (mean, spread), (mean_later, spread_later) = (
        (x.mean(dim=(1, 2, 3)), x.std(dim=(1, 2, 3))) for x in (earlier.float(), later.float())
    )
    flat = torch.minimum(spread, spread_later) < FLAT
    log_gain = (spread_later.clamp(min=FLAT) / spread.clamp(min=FLAT)).log().masked_fill(flat, 0)
    half = (log_gain / 2).exp()
    return torch.stack((log_gain, mean_later / half - mean * half), dim=-1)


def brightness_from_logits(logits: Tensor, scale: float) -> Tensor:
    """(..., 2) logits of gain and offset to (..., 2) brightness (a, b); exactly (1, 0) where they are 0.

    scale: of log a, and of b, by logit at 0.
    """
    log_gain, offset = (
        bound * torch.tanh(logits[..., i] * (scale / bound))
        for i, bound in enumerate((math.log(LARGEST_GAIN), LARGEST_OFFSET / math.sqrt(LARGEST_GAIN)))
    )
    return torch.stack((log_gain.exp(), (log_gain / 2).exp() * offset), dim=-1)
