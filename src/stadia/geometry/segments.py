"""Find the pixels of objects (segments), and the quantiles of their values.

The functions take arrays of NumPy or tensors of torch and return the same kind. Sums and means of segments, which need
gradients, are in `differentiable.segments`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from array_api_compat import array_namespace

from stadia.core.types import Array


@dataclass(frozen=True, slots=True)
class Segments(Generic[Array]):
    """The P pixels of the M objects of a batch of images.

    Objects are numbered from 0 to M - 1 over the whole batch: by image, then by their number in the image's instance
    map.

    pixel: (P,) index of each pixel in the flattened batch (B, H, W).
    segment: (P,) object number of each pixel, from 0 to M - 1.
    image: (M,) index in the batch of the image that shows each object.
    instance: (M,) number of each object in the instance map of its image, above 0.
    """

    pixel: Array
    segment: Array
    image: Array
    instance: Array

    @property
    def count(self) -> int:
        """Return the number M of objects in the batch."""
        return len(self.image)

    def gather(self, maps: Array) -> Array:
        """Return the values (P, C) of maps (B, C, H, W) at the P pixels of the objects."""
        channels_last = array_namespace(maps).moveaxis(maps, 1, -1)
        return channels_last.reshape(-1, maps.shape[1])[self.pixel]


def segments_from_instances(instances: Array) -> Segments[Array]:
    """Collect the objects of a batch of instance maps, with the pixels of each.

    instances: (B, H, W) integer maps, each with the number of the object at every pixel; 0 means no object.

    Examples:
        >>> found = segments_from_instances(np.array([[[0, 1, 1], [0, 0, 2]]]))
        >>> (found.count, found.pixel.tolist(), found.segment.tolist())
        (2, [1, 2, 5], [0, 0, 1])
    """
    xp = array_namespace(instances)
    of_image = xp.astype(instances.reshape(len(instances), -1), xp.int64)
    base = int(of_image.max()) + 1 if 0 not in of_image.shape else 1
    numbered = (of_image + base * xp.arange(len(instances), device=instances.device)[:, None]).reshape(-1)
    (pixel,) = xp.nonzero(of_image.reshape(-1) > 0)
    numbered = numbered[pixel]
    shown = xp.zeros(base * len(instances), dtype=xp.bool, device=instances.device)
    shown[numbered] = True  # marking is faster than sorting every pixel
    (number,) = xp.nonzero(shown)
    return Segments(pixel, (xp.cumulative_sum(shown, dtype=xp.int64) - 1)[numbered], number // base, number % base)


def segment_bounds(ordered_segment: Array, count: int) -> tuple[Array, Array]:
    """Return the first place (count,) of each segment among sorted segments (P,), and its size (count,)."""
    xp = array_namespace(ordered_segment)
    numbers = xp.arange(count + 1, dtype=ordered_segment.dtype, device=ordered_segment.device)
    bounds = xp.searchsorted(ordered_segment, numbers)
    return bounds[:-1], bounds[1:] - bounds[:-1]


def subsample_segments(segments: Segments[Array], max_pixels: int) -> Segments[Array]:
    """Return the same objects with at most `max_pixels` pixels each.

    The pixels that stay are evenly spaced among the pixels of the object.

    Examples:
        >>> found = segments_from_instances(np.ones((1, 2, 4), dtype=int))
        >>> len(subsample_segments(found, 4).pixel)
        4
    """
    chosen = subsample_evenly(segments.segment, segments.count, max_pixels)
    return Segments(segments.pixel[chosen], segments.segment[chosen], segments.image, segments.instance)


def subsample_evenly(segment: Array, count: int, max_pixels: int) -> Array:
    """Choose at most `max_pixels` evenly spaced pixels of each object; return their indices into `segment`.

    segment: (P,) object number of each pixel.
    count: number of objects.
    max_pixels: largest number of pixels that are kept per object.

    Examples:
        >>> subsample_evenly(np.zeros(6, dtype=int), 1, 3).tolist()
        [0, 2, 4]
    """
    xp = array_namespace(segment)
    order = xp.argsort(segment, stable=True)
    ordered = segment[order]
    first, size = segment_bounds(ordered, count)
    rank = xp.arange(len(order), device=order.device) - first[ordered]
    step = (-(-size // max_pixels)).clip(min=1)  # size / max_pixels, rounded up
    return order[rank % step[ordered] == 0]


def segment_quantiles(values: Array, segment: Array, count: int, quantiles: Sequence[float]) -> Array:
    """Return quantiles (len(quantiles), count) of the values (P,) of each object's pixels.

    A quantile is NaN if the object has no pixel, or if one of its values is NaN. A quantile between two values is
    interpolated linearly. Gradients reach only the one or two values that determine a quantile.

    values: (P,) value of each pixel.
    segment: (P,) object number of each pixel, below `count`.
    count: number of objects.
    quantiles: shares from 0 (minimum) to 1 (maximum).

    Examples:
        >>> segment_quantiles(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 1]), 2, (0.5,)).tolist()
        [[2.0, 5.0]]
    """
    xp = array_namespace(values)
    if not len(values):
        return xp.full((len(quantiles), count), xp.nan, dtype=values.dtype, device=values.device)
    order = xp.argsort(values)
    order = order[xp.argsort(segment[order], stable=True)]  # The result is sorted by segment, then by value.
    ordered, (first, size) = values[order], segment_bounds(segment[order], count)
    steps = (size - 1).clip(min=0)
    place = xp.asarray(quantiles, dtype=xp.float64, device=values.device)[:, None] * steps
    step = xp.astype(xp.floor(place), xp.int64)
    step_above = xp.minimum(step + 1, steps)
    below, above = (ordered[(first + at).clip(max=len(ordered) - 1)] for at in (step, step_above))
    share = xp.astype(place - step, values.dtype)
    found = xp.where((share > 0) & (above > below), below + share * (above - below), below)
    is_known = (size > 0) & ~xp.isnan(ordered[(first + steps).clip(max=len(ordered) - 1)])  # a NaN is sorted last
    return xp.where(is_known, found, xp.full_like(found, xp.nan))
