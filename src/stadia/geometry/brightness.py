"""Brightness between two images: gain a and offset b; a * first + b is as bright as the second (D3VO, arXiv 2003.01060,
eq. 3).
"""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_brightness(brightness: Tensor) -> Tensor:
    """Return (..., 2) of the pair in the other order: y = a x + b gives x = y / a - b / a."""
    gain, offset = brightness.unbind(-1)
    return torch.stack((1 / gain, -offset / gain), dim=-1)
