"""Group pixels into object instances, from the class of each pixel and its direction to its object's center.

Following the directions leads the pixels of one object to one place, whatever their classes (as in Stringer et al.,
"Cellpose", Nature Methods 2021). The class is then that of the whole object: one that is half cup, half can is not cut
in two.
"""

from __future__ import annotations

import math

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components as connected_nodes
from torch import Tensor
from torch.nn import functional as F

from stadia.geometry.components import connected_components
from stadia.geometry.segments import segment_means, segment_sums

STEP = 0.5
"""Step of following the directions, in cells of the map of directions."""

MAX_CLASS_LOSS = 2.0
"""Pixels are split from an object where its class is on average e^2 times less probable to them than their own class.
"""


def instances_of(class_logits: Tensor, directions: Tensor, *, fewest_px: int = 1) -> Tensor:
    """Return the object of each pixel: (B, H, W) int64, 0 = none, counted from 1 in each image.

    A pixel shows an object where the background, class 0, is not its most probable class. Pixels that lead to one place
    are one object. Those of them with a clearly different class join an adjacent object of that class, or form their
    own.

    Args:
        class_logits: (B, C, H, W).
        directions: (B, 2, h, w) x, y towards the center, of any length; h and w divide H and W by the same number.
        fewest_px: objects with fewer pixels are dropped.
    """
    images, classes, height, width = class_logits.shape
    shown = class_logits.max(1).indices > 0
    pixel = shown.flatten().nonzero()[:, 0]
    log_p = class_logits.movedim(1, 0).reshape(classes, -1)[1:].index_select(1, pixel).log_softmax(0).T
    place, count = meeting_places(directions, pixel, height, width)
    fragment, stray = _split_fragments(log_p, place, count)
    of_pixel = torch.full_like(shown, -1, dtype=torch.long)
    of_pixel.view(-1)[pixel] = fragment
    whole = _join_strays(of_pixel, stray, classes - 1)[fragment]
    image = torch.div(pixel, height * width, rounding_mode="floor")
    found = torch.zeros_like(of_pixel)
    found.view(-1)[pixel] = _number_objects(whole, image, images, fewest_px)
    return found


def meeting_places(directions: Tensor, pixel: Tensor, height: int, width: int) -> tuple[Tensor, int]:
    """Return where pixels (P,) of flattened images (B, height, width) end by directions (B, 2, h, w).

    Returns (P,) numbers below the second result. Equal numbers are one place; those of an image exceed those of the
    image before it.
    """
    images, _, rows, columns = directions.shape
    stride = height // rows
    within, image = pixel % (height * width), torch.div(pixel, height * width, rounding_mode="floor")
    y, x = (
        torch.div(within, width * stride, rounding_mode="floor"),
        torch.div(within % width, stride, rounding_mode="floor"),
    )
    first = image * rows * columns  # of each pixel's image
    end = end_of_walk(F.normalize(directions, dim=1))[first + y * columns + x] + first
    reached = torch.bincount(end, minlength=images * rows * columns).view(images, 1, rows, columns) > 0
    near = F.max_pool2d(F.pad(reached.float(), (1, 0, 1, 0)), 2, 1)[
        :, 0
    ]  # so that cells that touch at a corner share a side
    number = connected_components(near)
    before = number.amax((1, 2)).cumsum(0)
    number = number + (before - number.amax((1, 2)))[:, None, None] - 1
    return number.flatten()[end], int(before[-1])


def end_of_walk(towards: Tensor) -> Tensor:
    """Return the cell (B h w,), y w + x, at the end of each cell's path along unit vectors (B, 2, h, w).

    The path is at least half of the longer side long. Each round doubles its length.
    """
    rows, columns = towards.shape[-2:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    grid = torch.stack((x, y)).to(towards)
    scale = torch.tensor([2 / columns, 2 / rows]).to(towards)
    walk = STEP * towards
    for _ in range(math.ceil(math.log2(max(rows, columns)))):
        at = (grid + walk).movedim(1, -1)
        walk = walk + F.grid_sample(walk, (at + 0.5) * scale - 1, padding_mode="border", align_corners=False)
    x, y = (grid + walk).round().long().unbind(1)
    return (y.clamp(0, rows - 1) * columns + x.clamp(0, columns - 1)).flatten()


def _split_fragments(log_p: Tensor, place: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the fragment of each pixel, place times kinds + kind, and which fragments are strays: not of their place's
    kind.

    log_p: (P, kinds).  place: (P,), below `count`.
    """
    kinds = log_p.shape[1]
    kind_of_place = segment_sums(log_p, place, count).argmax(1)
    best, own = log_p.max(1)
    settled = place * kinds + kind_of_place[place]
    fragment = place * kinds + own
    loss = best - log_p.gather(1, kind_of_place[place][:, None])[:, 0]
    is_split = segment_means(loss, fragment, count * kinds) > MAX_CLASS_LOSS
    stray = torch.ones(count, kinds, dtype=torch.bool, device=place.device)
    stray.scatter_(1, kind_of_place[:, None], False)
    return torch.where(is_split[fragment], fragment, settled), stray.flatten()


def _join_strays(fragment: Tensor, stray: Tensor, kinds: int) -> Tensor:
    """Return (F,), the object of each fragment: strays join adjacent fragments of their kind. fragment: (B, H, W), -1 =
    none.
    """
    edges = []
    for one, other in ((fragment[:, 1:], fragment[:, :-1]), (fragment[:, :, 1:], fragment[:, :, :-1])):
        border = ((one != other) & (one >= 0) & (other >= 0)).flatten().nonzero()[:, 0]
        edges.append(torch.stack((one.flatten()[border], other.flatten()[border])))
    a, b = torch.cat(edges, 1)
    linked = (a % kinds == b % kinds) & (stray[a] | stray[b])
    a, b = a[linked].cpu().numpy(), b[linked].cpu().numpy()
    graph = coo_matrix((torch.ones(len(a)).numpy(), (a, b)), shape=(len(stray), len(stray)))
    return torch.from_numpy(connected_nodes(graph, directed=False)[1]).long().to(fragment.device)


def _number_objects(whole: Tensor, image: Tensor, images: int, fewest_px: int) -> Tensor:
    """Return the objects of pixels (P,) counted from 1 in each image, 0 where they have fewer pixels."""
    size = torch.bincount(whole)
    kept = size >= max(fewest_px, 1)
    of_image = torch.zeros_like(size).scatter_(0, whole, image)
    count = torch.bincount(of_image[kept], minlength=images)
    order = torch.zeros_like(size)
    order[kept] = of_image[kept].argsort(stable=True).argsort()  # image after image
    number = torch.where(kept, order + 1 - (count.cumsum(0) - count)[of_image], 0)
    return number[whole]
