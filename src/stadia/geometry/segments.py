"""Sums and means over segments: values of pixels to values of objects, of a whole batch at once and without a loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Segments:
    """Which pixels make up which object of a batch, objects counted by picture and then by their number in it.

    pixel: (P,) where each pixel stands in the flattened (B, H, W).
    segment: (P,) the object that it shows, 0 <= segment < M.
    picture: (M,) the picture of each object, 0 <= picture < B.
    instance: (M,) its number there, > 0.
    """

    pixel: Tensor
    segment: Tensor
    picture: Tensor
    instance: Tensor

    @property
    def count(self) -> int:
        """M, the objects."""
        return len(self.picture)

    def of(self, maps: Tensor) -> Tensor:
        """What maps (B, C, H, W) say at the pixels: (P, C)."""
        channels = maps.shape[1]
        return maps.movedim(1, -1).reshape(-1, channels)[self.pixel]


def segments_of(instances: Tensor) -> Segments:
    """The objects of instance maps (B, H, W), whole numbers, 0 = none. A number that no pixel has is no object."""
    of_picture = instances.flatten(1).long()
    base = int(of_picture.max()) + 1 if of_picture.numel() else 1
    numbered = (of_picture + base * torch.arange(len(instances), device=instances.device)[:, None]).flatten()
    pixel = (of_picture.flatten() > 0).nonzero()[:, 0]
    numbered = numbered[pixel]
    shown = torch.bincount(numbered, minlength=base * len(instances)) > 0  # counting instead of sorting every pixel
    number = shown.nonzero()[:, 0]
    return Segments(pixel, (shown.cumsum(0) - 1)[numbered], number // base, number % base)


def segment_sums(values: Tensor, segment: Tensor, count: int) -> Tensor:
    """The sums (count, ...) of values (P, ...) over the pixels of each segment; 0 for a segment without a pixel."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, segment, values)


def segment_means(values: Tensor, segment: Tensor, count: int, weights: Tensor | None = None) -> Tensor:
    """The means (count, ...) of values (P, ...), weighted by (P,); 0 for a segment without weight."""
    weights = torch.ones_like(segment, dtype=values.dtype) if weights is None else weights.to(values.dtype)
    total = segment_sums(weights, segment, count)
    weights, total = (x.reshape(-1, *[1] * (values.ndim - 1)) for x in (weights, total))
    sums = segment_sums(weights * values, segment, count)
    return torch.where(total > 0, sums / total.where(total > 0, 1.0), 0.0)
