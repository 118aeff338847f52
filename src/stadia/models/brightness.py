"""Affine brightness between two images: gain a and offset b, a * first + b matches the second (D3VO, arXiv 2003.01060).

Predictions are bounded, so neither image can be faded out. They are closed under inversion: swapping the images
negates the logits. With b = sqrt(a) c, the inverse (1/a, -b/a) has -log a and -c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_GAIN = 2.0
"""a lies between 1/2 and 2: one stop of exposure."""

MAX_OFFSET = 0.5
"""b lies between -1/2 and 1/2 for any a, with images in [0, 1]."""

MIN_IMAGE_STD = 1 / 255
"""Standard deviation below which an image in [0, 1] counts as uniform: one 8-bit step."""


def compare_image_moments(earlier: Tensor, later: Tensor) -> Tensor:
    """Return (B, 2) log a and c that give the earlier images (B, 3, H, W) the later ones' mean and standard deviation.

    Images of mostly the same scene differ in both mainly by exposure, so this is close to the target of training. It
    is only evidence, because new content also changes both. Swapping the images negates it. Uniform images have no
    contrast to compare: their gain is 1.
    """
    (mean, spread), (mean_later, spread_later) = (
        (x.mean(dim=(1, 2, 3)), x.std(dim=(1, 2, 3))) for x in (earlier.float(), later.float())
    )
    flat = torch.minimum(spread, spread_later) < MIN_IMAGE_STD
    log_gain = (spread_later.clamp(min=MIN_IMAGE_STD) / spread.clamp(min=MIN_IMAGE_STD)).log().masked_fill(flat, 0)
    half = (log_gain / 2).exp()
    return torch.stack((log_gain, mean_later / half - mean * half), dim=-1)


def decode_brightness(logits: Tensor, scale: float) -> Tensor:
    """Map (..., 2) logits of gain and offset to (..., 2) brightness (a, b); zeros give exactly (1, 0).

    scale: slope of log a, and of b, at logit 0.
    """
    log_gain, offset = (
        bound * torch.tanh(logits[..., i] * (scale / bound))
        for i, bound in enumerate((math.log(MAX_GAIN), MAX_OFFSET / math.sqrt(MAX_GAIN)))
    )
    return torch.stack((log_gain.exp(), (log_gain / 2).exp() * offset), dim=-1)
