"""Compute signs that the depth of road video has failed: ratios that need no ground truth."""

import torch
from torch import Tensor

from stadia.geometry.segments import Segments, segment_quantiles

MIN_ROW_PIXELS = 8
"""Smallest number of road pixels of an image row whose mean depth is used; an object needs the square of this number.
"""

MAX_ROW_RATIO = 0.99
"""An image row of road is out of order if its mean depth is below this share of the mean depth of the row below it."""

LIMIT_SHARE = 0.95
"""Depth beyond this share of the largest depth that the network can predict counts as being at that limit."""


def object_extent(depth: Tensor, objects: Segments) -> Tensor:
    """Return how deep each object is along the camera's z axis, relative to its distance, (M,) without unit.

    It is the 90 % quantile minus the 10 % quantile of the depths of the object's pixels, divided by their median. It
    is 0 for a plane that faces the camera, and NaN for an object with fewer than MIN_ROW_PIXELS^2 pixels.

    depth: (B, 1, H, W) predicted z in any unit.
    objects: the pixels of the M objects in the B images.

    Examples:
        >>> from stadia.geometry.segments import segments_from_instances
        >>> depth = torch.full((1, 1, 20, 20), 10.0)  # a flat object
        >>> object_extent(depth, segments_from_instances(torch.ones(1, 20, 20, dtype=torch.long))).item()
        0.0
    """
    if objects.count == 0:
        return depth.new_zeros(0)
    low, middle, high = segment_quantiles(objects.gather(depth)[:, 0], objects.segment, objects.count, (0.1, 0.5, 0.9))
    pixels = torch.bincount(objects.segment, minlength=objects.count)
    return ((high - low) / middle).where(pixels >= MIN_ROW_PIXELS**2, torch.nan)


def rows_out_of_order(depth: Tensor, road: Tensor) -> Tensor:
    """Return the share of road rows of each image, (B,), that are wrongly nearer to the camera than the row below.

    On a road, depth grows from the bottom of the image upwards. The mean depths of the road pixels of neighboring
    image rows are compared, where both rows have at least MIN_ROW_PIXELS of them. The share is NaN for an image
    without such a pair of rows.

    depth: (B, 1, H, W) predicted z in any unit.
    road: (B, 1, H, W) bool, true for pixels that show road.

    Examples:
        >>> depth = torch.tensor([30.0, 20.0, 10.0]).view(1, 1, 3, 1).expand(1, 1, 3, 40)  # deeper upwards
        >>> rows_out_of_order(depth, torch.ones(1, 1, 3, 40, dtype=torch.bool)).item()
        0.0
    """
    count = road.sum(-1)[:, 0]
    mean = (depth * road).sum(-1)[:, 0] / count.clamp(min=1)
    both = (count[:, 1:] >= MIN_ROW_PIXELS) & (count[:, :-1] >= MIN_ROW_PIXELS)
    wrong = both & (mean[:, :-1] < MAX_ROW_RATIO * mean[:, 1:])
    return wrong.sum(-1) / both.sum(-1)


def share_at_max_depth(depth: Tensor, pixels: Tensor, max_depth: float | Tensor) -> Tensor:
    """Return the share of given pixels whose depth is at the largest depth that the network can predict, as a scalar.

    A depth beyond LIMIT_SHARE of the largest depth is at it. The share is NaN if no pixels are given.

    depth: (B, 1, H, W) predicted depth.
    pixels: (B, 1, H, W) bool, true for the pixels that are counted.
    max_depth: largest depth that the network can predict, in the unit of depth; a number, or a tensor that broadcasts
        to the shape of depth.

    Examples:
        >>> depth = torch.tensor([1.0, 100.0]).view(1, 1, 1, 2)
        >>> share_at_max_depth(depth, torch.ones(1, 1, 1, 2, dtype=torch.bool), 100.0).item()
        0.5
    """
    return ((depth > LIMIT_SHARE * max_depth) & pixels).sum() / pixels.sum()
