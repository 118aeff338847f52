"""Group the pixels of an image into object instances, and find the objects' centers by votes of their pixels."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.differentiable.segments import segment_means, segment_sums
from stadia.geometry.cameras import inverse_intrinsics
from stadia.geometry.poses import at_least_float32
from stadia.geometry.segments import subsample_evenly

STEP = 0.5  # step of following the directions, in cells of the map of directions

MAX_CLASS_LOSS = 2.0  # pixels leave an object whose class is on average e^2 times less probable than their own


def group_instances(class_logits: Tensor, directions: Tensor, *, min_px: int = 1) -> Tensor:
    """Group pixels into objects; return each pixel's object, (B, H, W) int64, from 1 in each image, or 0 for none.

    Pixels whose predicted directions lead to the same place form one object (as in Stringer et al., "Cellpose",
    Nature Methods 2021). Pixels of it whose class clearly differs join an adjacent object of that class, or form
    their own object.

    class_logits: (B, C, H, W) logits of C classes at each pixel; class 0 is the background.
    directions: (B, 2, h, w) x and y of the direction from each cell of a coarser map towards its object's center.
    min_px: objects with fewer pixels are dropped.
    """
    images, classes, height, width = class_logits.shape
    shown = class_logits.max(1).indices > 0
    pixel = shown.flatten().nonzero()[:, 0]
    log_p = class_logits.movedim(1, 0).reshape(classes, -1)[1:].index_select(1, pixel).log_softmax(0).T
    place, count = group_by_destination(directions, pixel, height, width)
    fragment, stray = _split_fragments(log_p, place, count)
    of_pixel = torch.full_like(shown, -1, dtype=torch.long)
    of_pixel.view(-1)[pixel] = fragment
    whole = _join_strays(of_pixel, stray, classes - 1)[fragment]
    image = torch.div(pixel, height * width, rounding_mode="floor")
    found = torch.zeros_like(of_pixel)
    found.view(-1)[pixel] = _number_objects(whole, image, images, min_px)
    return found


def group_by_destination(directions: Tensor, pixel: Tensor, height: int, width: int) -> tuple[Tensor, int]:
    """Follow the directions from each pixel to its destination; return destination numbers (P,), and their count.

    Destinations in touching cells of the map are the same. They are numbered from 0 over all images.

    directions: (B, 2, h, w) x and y of the direction from each cell towards its object's center.
    pixel: (P,) indices of the pixels in the flattened batch of images (B, height, width).
    height: height of the images in pixels, a multiple of h.
    width: width of the images in pixels, a multiple of w.
    """
    images, _, rows, columns = directions.shape
    stride = height // rows
    within, image = pixel % (height * width), torch.div(pixel, height * width, rounding_mode="floor")
    y, x = (torch.div(n, d, rounding_mode="floor") for n, d in ((within, width * stride), (within % width, stride)))
    first = image * rows * columns  # number of the first cell of each pixel's image
    end = follow_directions(F.normalize(directions, dim=1))[first + y * columns + x] + first
    reached = torch.bincount(end, minlength=images * rows * columns).view(images, 1, rows, columns) > 0
    touching = F.max_pool2d(F.pad(reached.float(), (1, 0, 1, 0)), 2, 1)  # cells that touch at a corner share a side
    cells = touching[:, 0].to(torch.uint8).cpu().numpy()
    labels = np.stack([cv2.connectedComponents(image, connectivity=4)[1] for image in cells])
    number = torch.from_numpy(labels).to(touching.device).long()
    count = number.amax((1, 2))
    number = number + (count.cumsum(0) - count)[:, None, None] - 1
    return number.flatten()[end], int(count.sum())


def follow_directions(towards: Tensor) -> Tensor:
    """Return the index y w + x of the last map cell of a walk along the directions from each cell, (B h w,).

    towards: (B, 2, h, w) unit vectors, x and y, from each cell towards its object's center.
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
    """Return each pixel's fragment, place times kinds + kind, and which fragments differ from their place's kind."""
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
    """Return (F,), the object of each fragment (B, H, W), -1 = none: strays join adjacent fragments of their kind."""
    from scipy.sparse import coo_matrix  # slow to import
    from scipy.sparse.csgraph import connected_components

    edges = []
    for before, after in ((fragment[:, 1:], fragment[:, :-1]), (fragment[:, :, 1:], fragment[:, :, :-1])):
        border = ((before != after) & (before >= 0) & (after >= 0)).flatten().nonzero()[:, 0]
        edges.append(torch.stack((before.flatten()[border], after.flatten()[border])))
    a, b = torch.cat(edges, 1)
    linked = (a % kinds == b % kinds) & (stray[a] | stray[b])
    a, b = a[linked].cpu().numpy(), b[linked].cpu().numpy()
    graph = coo_matrix((torch.ones(len(a)).numpy(), (a, b)), shape=(len(stray), len(stray)))
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long().to(fragment.device)


def _number_objects(whole: Tensor, image: Tensor, images: int, min_px: int) -> Tensor:
    """Return the objects of pixels (P,) counted from 1 in each image, 0 if they have fewer pixels."""
    size = torch.bincount(whole)
    kept = size >= max(min_px, 1)
    of_image = torch.zeros_like(size).scatter_(0, whole, image)
    count = torch.bincount(of_image[kept], minlength=images)
    order = torch.zeros_like(size)
    order[kept] = of_image[kept].argsort(stable=True).argsort()  # image after image
    number = torch.where(kept, order + 1 - (count.cumsum(0) - count)[of_image], 0)
    return number[whole]


MIN_SPREAD = 1e-4  # smallest eigenvalue of the mean of I - d d^T at which lines cross (about 0.6 degrees)
_MAX_SCORED = 1 << 22  # pixels times hypotheses that are scored at once


@dataclass(frozen=True, slots=True)
class VotedCenters:
    """Hold the centers, in pixels, that the pixels of M objects have voted for.

    pixel: (M, 2) x and y. If an object's lines do not cross, this is the mean position of its pixels.
    known: (M,) bool, false if the lines from an object's pixels along their directions do not cross.
    """

    pixel: Tensor
    known: Tensor


def unit_directions(center: Tensor, pixels: Tensor) -> Tensor:
    """Return unit vectors (..., 2) from pixels towards object centers; 0 for a pixel at the center itself.

    center: (..., 2) x and y of the centers.
    pixels: (..., 2) x and y of the pixels.
    """
    return F.normalize(center - pixels, dim=-1)


def vote_center(
    pixels: Tensor, directions: Tensor, segment: Tensor, count: int, weights: Tensor | None = None
) -> VotedCenters:
    """Return for each object the image point nearest to the lines from all its pixels along their predicted directions.

    It minimizes sum w |(I - d d^T) (c - p)|^2 over the point c, for pixels p with directions d and weights w, in
    closed form. This also finds occluded centers (Xiang et al., "PoseCNN", RSS 2018; Peng et al., "PVNet", CVPR
    2019). It is differentiable.

    pixels: (P, 2) x and y of the pixels of all objects.
    directions: (P, 2) direction from each pixel towards its object's center, of any length; 0 casts no vote.
    segment: (P,) number of each pixel's object, from 0 to count - 1.
    count: number of objects.
    weights: (P,) weights of the pixels, at least 0; None weights all the same.
    """
    pixels, directions = at_least_float32(pixels), F.normalize(at_least_float32(directions), dim=-1)
    middle = segment_means(pixels, segment, count)
    x, y = (pixels - middle[segment]).unbind(-1)  # the numbers stay small, as float32 needs
    d_x, d_y = directions.unbind(-1)
    some = (directions != 0).any(-1).to(pixels.dtype)
    xx, xy, yy = some - d_x * d_x, -d_x * d_y, some - d_y * d_y
    rows = torch.stack((xx, xy, yy, xx * x + xy * y, xy * x + yy * y), -1)
    a, b, d, r, s = segment_means(rows, segment, count, weights).unbind(-1)
    # The trace is at most 1 (each I - d d^T has 1), so the smaller eigenvalue is about the determinant.
    determinant = a * d - b * b
    known = determinant > MIN_SPREAD * (a + d)
    inverse = 1 / determinant.where(known, 1.0)
    offset = torch.stack((d * r - b * s, a * s - b * r), -1) * inverse[:, None]
    return VotedCenters(middle + offset.where(known[:, None], 0.0), known)


def vote_center_ransac(
    pixels: Tensor,
    directions: Tensor,
    segment: Tensor,
    count: int,
    *,
    generator: torch.Generator,
    hypotheses: int = 128,
    min_cosine: float = 0.99,
    voters: int = 512,
) -> VotedCenters:
    """Find object centers as `vote_center` does, but with RANSAC, so that pixels with wrong directions do not count.

    Crossings of the lines of two random pixels are tried, and the one that most pixels point at is chosen.
    `vote_center` of these pixels (the inliers) is returned. Only this last step is differentiable.

    pixels: (P, 2) x and y of the pixels of all objects.
    directions: (P, 2) direction from each pixel towards its object's center, of any length.
    segment: (P,) number of each pixel's object, from 0 to count - 1.
    count: number of objects.
    generator: random generator on the CPU that draws all random pixels.
    hypotheses: number of crossings that are tried for each object.
    min_cosine: smallest cosine of the angle between an inlier's direction and the direction to the crossing.
    voters: largest number of pixels of each object that choose among its crossings.
    """
    with torch.no_grad():
        where, towards = at_least_float32(pixels), F.normalize(at_least_float32(directions), dim=-1)
        middle = segment_means(where, segment, count)
        centered = where - middle[segment]
        guesses, crossing = _crossings(centered, towards, segment, count, hypotheses, generator)
        chosen = subsample_evenly(segment, count, voters)
        votes = torch.zeros_like(crossing, dtype=where.dtype)
        step = max(1, _MAX_SCORED // max(1, len(chosen)))
        place, where_to, who = centered[chosen], towards[chosen], segment[chosen]
        for k in range(0, hypotheses, step):
            agrees = _agrees_with(guesses[:, k : k + step][who], place, where_to, min_cosine)
            votes[:, k : k + step] = segment_sums(agrees.to(where.dtype), who, count)
        best = (votes * crossing).argmax(1)
        winner = guesses[torch.arange(count, device=where.device), best]
        agree = _agrees_with(winner[segment][:, None], centered, towards, min_cosine)[:, 0]
    return vote_center(pixels, directions, segment, count, agree)


def translation_from_center(center: Tensor, depth_m: Tensor, camera: Camera) -> Tensor:
    """Return the positions z K^-1 (u, v, 1), (..., 3) in camera coordinates in metres, of centers seen at (u, v).

    center: (..., 2) pixels at which the object centers are seen.
    depth_m: (...) z of the centers in camera coordinates, in metres.
    camera: its K is (3, 3), or has the leading dimensions of the centers.
    """
    rays = inverse_intrinsics(camera.K).to(center.dtype)
    homogeneous = torch.cat((center, torch.ones_like(center[..., :1])), -1)
    return depth_m[..., None] * (rays * homogeneous[..., None, :]).sum(-1)


def center_from_translation(t: Tensor, camera: Camera) -> Tensor:
    """Project object centers into the image, and return their pixels (..., 2). It inverts `translation_from_center`.

    t: (..., 3) object centers in camera coordinates with z > 0.
    camera: its K is (3, 3), or has the leading dimensions of t.
    """
    projected = (camera.K.to(t.dtype) * t[..., None, :]).sum(-1)
    return projected[..., :2] / projected[..., 2:]


def _crossings(
    pixels: Tensor, directions: Tensor, segment: Tensor, count: int, hypotheses: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return crossings (count, K, 2) of the lines of two random pixels of each object, and which are valid."""
    order = segment.argsort(stable=True)
    size = torch.bincount(segment, minlength=count)
    start = size.cumsum(0) - size
    chance = torch.rand(2, 1, hypotheses, generator=generator, dtype=torch.float64)  # the same for every object
    chance = chance.to(pixels.device)
    drawn = (start[:, None] + (chance * size[:, None]).long()).clamp(max=max(len(order) - 1, 0))
    if not len(order):
        nothing = pixels.new_zeros(count, hypotheses, 2)
        return nothing, nothing[..., 0] > 0
    (p, q), (d, e) = pixels[order[drawn]], directions[order[drawn]]
    determinant = d[..., 0] * e[..., 1] - d[..., 1] * e[..., 0]  # the sine between both
    crossing = determinant.abs() > 1e-2
    along = ((q - p)[..., 0] * e[..., 1] - (q - p)[..., 1] * e[..., 0]) / determinant.where(crossing, 1.0)
    return (p + along[..., None] * d).where(crossing[..., None], 0.0), crossing


def _agrees_with(guesses: Tensor, pixels: Tensor, directions: Tensor, min_cosine: float) -> Tensor:
    """Return (P, K) bool: each pixel's direction (P, 2) points to the guesses (P, K, 2) within `min_cosine`."""
    x, y = guesses[..., 0] - pixels[:, :1], guesses[..., 1] - pixels[:, 1:]
    along = x * directions[:, :1] + y * directions[:, 1:]
    return (along > 0) & (along * along >= min_cosine**2 * (x * x + y * y))
