"""Reduce values of pixels to values of objects (segments)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Segments:
    """The P pixels of the M objects of a batch of images.

    Objects are numbered from 0 to M - 1 over the whole batch: by image, then by their number in the image's instance
    map.

    pixel: (P,) index of each pixel in the flattened batch (B, H, W).
    segment: (P,) object number of each pixel, from 0 to M - 1.
    image: (M,) index in the batch of the image that shows each object.
    instance: (M,) number of each object in the instance map of its image, above 0.
    """

    pixel: Tensor
    segment: Tensor
    image: Tensor
    instance: Tensor

    @property
    def count(self) -> int:
        """Return the number M of objects in the batch."""
        return len(self.image)

    def gather(self, maps: Tensor) -> Tensor:
        """Return the values (P, C) of maps (B, C, H, W) at the P pixels of the objects."""
        channels = maps.shape[1]
        return maps.movedim(1, -1).reshape(-1, channels)[self.pixel]


def segments_from_instances(instances: Tensor) -> Segments:
    """Collect the objects of a batch of instance maps, with the pixels of each.

    instances: (B, H, W) integer maps, each with the number of the object at every pixel; 0 means no object.

    Examples:
        >>> found = segments_from_instances(torch.tensor([[[0, 1, 1], [0, 0, 2]]]))
        >>> (found.count, found.pixel.tolist(), found.segment.tolist())
        (2, [1, 2, 5], [0, 0, 1])
    """
    of_image = instances.flatten(1).long()
    base = int(of_image.max()) + 1 if of_image.numel() else 1
    numbered = (of_image + base * torch.arange(len(instances), device=instances.device)[:, None]).flatten()
    pixel = (of_image.flatten() > 0).nonzero()[:, 0]
    numbered = numbered[pixel]
    shown = torch.bincount(numbered, minlength=base * len(instances)) > 0  # counting is faster than sorting every pixel
    number = shown.nonzero()[:, 0]
    return Segments(pixel, (shown.cumsum(0) - 1)[numbered], number // base, number % base)


def subsample_segments(segments: Segments, max_pixels: int) -> Segments:
    """Return the same objects with at most `max_pixels` pixels each.

    The pixels that stay are evenly spaced among the pixels of the object.

    Examples:
        >>> found = segments_from_instances(torch.ones(1, 2, 4, dtype=torch.long))
        >>> len(subsample_segments(found, 4).pixel)
        4
    """
    chosen = subsample_evenly(segments.segment, segments.count, max_pixels)
    return Segments(segments.pixel[chosen], segments.segment[chosen], segments.image, segments.instance)


def subsample_evenly(segment: Tensor, count: int, max_pixels: int) -> Tensor:
    """Choose at most `max_pixels` evenly spaced pixels of each object; return their indices into `segment`.

    segment: (P,) object number of each pixel.
    count: number of objects.
    max_pixels: largest number of pixels that are kept per object.

    Examples:
        >>> subsample_evenly(torch.zeros(6, dtype=torch.long), 1, 3).tolist()
        [0, 2, 4]
    """
    order = segment.argsort(stable=True)
    size = torch.bincount(segment, minlength=count)
    rank = torch.arange(len(order), device=order.device) - (size.cumsum(0) - size)[segment[order]]
    return order[rank % (size / max_pixels).ceil().long().clamp(min=1)[segment[order]] == 0]


def segment_sums(values: Tensor, segment: Tensor, count: int) -> Tensor:
    """Return the sums (count, ...) of values (P, ...) over the pixels of each object; 0 for an object without pixels.

    segment: (P,) object number of each pixel, below `count`.
    count: number of objects.

    Examples:
        >>> segment_sums(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 0, 1]), 2).tolist()
        [3.0, 5.0]
    """
    return values.new_zeros(count, *values.shape[1:]).index_add(0, segment, values)


def segment_means(values: Tensor, segment: Tensor, count: int, weights: Tensor | None = None) -> Tensor:
    """Return the means (count, ...) of values (P, ...) over the pixels of each object; 0 for an object without weight.

    segment: (P,) object number of each pixel, below `count`.
    count: number of objects.
    weights: (P,) weights of the pixels; None weighs all pixels equally.

    Examples:
        >>> segment_means(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 0, 1]), 2).tolist()
        [1.5, 5.0]
    """
    weights = torch.ones_like(segment, dtype=values.dtype) if weights is None else weights.to(values.dtype)
    total = segment_sums(weights, segment, count)
    weights, total = (x.reshape(-1, *[1] * (values.ndim - 1)) for x in (weights, total))
    sums = segment_sums(weights * values, segment, count)
    return torch.where(total > 0, sums / total.where(total > 0, 1.0), 0.0)


def segment_quantiles(values: Tensor, segment: Tensor, count: int, quantiles: Sequence[float]) -> Tensor:
    """Return quantiles (len(quantiles), count) of the values (P,) of each object's pixels.

    A quantile is NaN if the object has no pixel, or if one of its values is NaN. A quantile between two values is
    interpolated linearly. Gradients reach only the one or two values that determine a quantile.

    values: (P,) value of each pixel.
    segment: (P,) object number of each pixel, below `count`.
    count: number of objects.
    quantiles: shares from 0 (minimum) to 1 (maximum).

    Examples:
        >>> segment_quantiles(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), 2, (0.5,)).tolist()
        [[2.0, 5.0]]
    """
    if not len(values):
        return values.new_full((len(quantiles), count), torch.nan)
    order = values.argsort()
    order = order[segment[order].argsort(stable=True)]  # The result is sorted by segment, then by value.
    ordered, size = values[order], torch.bincount(segment, minlength=count)
    last = size.cumsum(0) - 1  # last place of each segment, which has a NaN if the segment has one
    place = torch.tensor(quantiles, dtype=torch.float64, device=values.device)[:, None] * (size - 1).clamp(min=0)
    step = place.floor().long()
    first = last - (size - 1).clamp(min=0)
    step_above = torch.minimum(step + 1, size - 1)
    below, above = (ordered[(first + at).clamp(0, len(ordered) - 1)] for at in (step, step_above))
    share = (place - step).to(values.dtype)
    found = torch.where((share > 0) & (above > below), below + share * (above - below), below)
    return torch.where((size > 0) & ~ordered[last.clamp(min=0)].isnan(), found, torch.nan)


def interpolate_at(maps: Tensor, index: Tensor, place: Tensor, stride: int) -> Tensor:
    """Sample coarse maps bilinearly at pixels of images that are `stride` times as large; return the values (P, C).

    The result equals `F.interpolate(maps, scale_factor=stride, mode="bilinear", align_corners=False)` at these pixels.

    maps: (N, C, h, w) coarse maps, such as features of a network.
    index: (P,) which of the N maps is sampled for each pixel.
    place: (P, 2) x and y of each pixel in the large image (h * stride, w * stride); NaN gives NaN.
    stride: size of the image divided by the size of its map.

    Examples:
        >>> maps = torch.tensor([[[[0.0, 1.0]]]])  # one map of 1x2, of an image of 2x4
        >>> interpolate_at(maps, torch.tensor([0]), torch.tensor([[1.5, 0.5]]), stride=2).tolist()
        [[0.5]]
    """
    height, width = maps.shape[-2:]
    at = (place.to(maps.dtype) + 0.5) / stride - 0.5
    x, y = at[:, 0].clamp(0, width - 1), at[:, 1].clamp(0, height - 1)
    left, top = (at.detach().nan_to_num(nan=0.0).floor().long() for at in (x, y))  # a NaN must not become an index
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    to_right, to_bottom = (x - left)[:, None], (y - top)[:, None]
    rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    above, below = (index * height + top) * width, (index * height + bottom) * width
    upper = rows.index_select(0, above + left) * (1 - to_right) + rows.index_select(0, above + right) * to_right
    lower = rows.index_select(0, below + left) * (1 - to_right) + rows.index_select(0, below + right) * to_right
    return upper * (1 - to_bottom) + lower * to_bottom
