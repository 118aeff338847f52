"""Reduce values of pixels to sums, means and mean rotations of objects (segments), with gradients."""

import torch
from torch import Tensor

from stadia.geometry.poses import at_least_float32


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


def quaternion_mean_by_segment(quaternions: Tensor, segment: Tensor, count: int) -> Tensor:
    """Return the mean rotation of each object over its pixels, as quaternions (count, 4) with w >= 0.

    The mean is the principal eigenvector of sum q q^T (Markley et al., JGCD 30(4), 2007). It is zero for an object
    without pixels. The square of a quaternion's length acts as a weight.

    quaternions: (P, 4) w, x, y, z: the rotation at each pixel.
    segment: (P,) object number of each pixel, from 0 to count - 1.
    count: number of objects.

    Examples:
        >>> pixels = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0, 1.0, 0, 0]])
        >>> quaternion_mean_by_segment(pixels, torch.tensor([0, 0, 1]), 2).abs().tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    """
    quaternions = at_least_float32(quaternions)
    return _principal(segment_sums(quaternions[:, :, None] * quaternions[:, None, :], segment, count))


def _principal(outer: Tensor) -> Tensor:
    """Return the principal eigenvector (..., 4) of (..., 4, 4), w >= 0; zero for the zero matrix.

    torch's gradient of `eigh` is NaN for equal eigenvalues; this one needs only dv = sum_j v_j v_j^T dA v / (l - l_j).
    """
    with torch.no_grad(), torch.autocast(outer.device.type, enabled=False):
        values, vectors = torch.linalg.eigh(outer)
        value, vector = values[..., 3], vectors[..., 3]
        gaps = value[..., None] - values[..., :3]
        open_ = gaps > 8 * torch.finfo(gaps.dtype).eps * value[..., None]
        share = torch.where(open_, 1 / gaps.where(open_, 1.0), 0.0)
        vector = torch.where((value > 0)[..., None], torch.where(vector[..., :1] < 0, -vector, vector), 0.0)
    turned = (outer * vector[..., None, :]).sum(-1)
    along = (vectors[..., :3] * (turned - turned.detach())[..., :, None]).sum(-2) * share
    return vector + (vectors[..., :3] * along[..., None, :]).sum(-1)
