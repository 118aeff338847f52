"""Signs of failed depth of road video that no loss shows: ratios that need no ground truth."""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.geometry.segments import Segments, segment_quantiles

MIN_ROW_PIXELS = 8
"""Smallest number of pixels of a row for a meaningful mean; objects need eight times as many."""

MAX_ROW_RATIO = 0.99
"""A row is out of order where it is nearer than this share of the row below it."""

LIMIT_SHARE = 0.95
"""Share of the largest depth that a network can predict."""


def object_extent(depth: Tensor, objects: Segments) -> Tensor:
    """Return (M,) the relative depth of each object: between the 10 % quantiles, over its median.

    0 for a plane that faces the camera, NaN for a small object.

    Args:
        depth: (B, 1, H, W) z in any unit.
        objects: of (B, H, W).
    """
    if objects.count == 0:
        return depth.new_zeros(0)
    low, middle, high = segment_quantiles(objects.of(depth)[:, 0], objects.segment, objects.count, (0.1, 0.5, 0.9))
    pixels = torch.bincount(objects.segment, minlength=objects.count)
    return ((high - low) / middle).where(pixels >= MIN_ROW_PIXELS**2, torch.nan)


def rows_out_of_order(depth: Tensor, road: Tensor) -> Tensor:
    """Return (B,) the share of the road's rows that are nearer than the row below: depth of a road grows upwards.

    Args:
        depth: (B, 1, H, W) z in any unit.
        road: (B, 1, H, W) bool. NaN for an image without two neighboring rows of road.
    """
    count = road.sum(-1)[:, 0]
    mean = (depth * road).sum(-1)[:, 0] / count.clamp(min=1)
    both = (count[:, 1:] >= MIN_ROW_PIXELS) & (count[:, :-1] >= MIN_ROW_PIXELS)
    wrong = both & (mean[:, :-1] < MAX_ROW_RATIO * mean[:, 1:])
    return wrong.sum(-1) / both.sum(-1)


def at_limit(depth: Tensor, pixels: Tensor, max_depth: float) -> Tensor:
    """Return () the share of `pixels` (B, 1, H, W) bool with depth (B, 1, H, W) near the largest possible; NaN without
    pixels.
    """
    return ((depth > LIMIT_SHARE * max_depth) & pixels).sum() / pixels.sum()
