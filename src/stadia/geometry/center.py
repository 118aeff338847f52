"""Find object centers from votes of their pixels, and convert between centers and translations.

Each pixel votes for a direction to its object's center; two crossing lines determine the point. So a center that is
hidden or outside of the image is found as well (Xiang et al., "PoseCNN", RSS 2018; Peng et al., "PVNet", CVPR 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.geometry.camera import inverse_intrinsics
from stadia.geometry.segments import evenly, segment_means, segment_sums

MIN_SPREAD = 1e-4
"""Smallest eigenvalue of the mean of I - d d^T at which lines cross (about 0.6 degrees between all directions)."""

_MAX_SCORED = 1 << 22  # pixels times hypotheses that are scored at once


@dataclass(frozen=True, slots=True)
class Centers:
    """Centers of M objects.

    pixel: (M, 2) x, y; may lie outside of the image.
    known: (M,) bool; false where an object's lines do not cross or it has no pixel: `pixel` is then the mean of its
        pixels.
    """

    pixel: Tensor
    known: Tensor


def directions_to(center: Tensor, pixels: Tensor) -> Tensor:
    """Return unit vectors (..., 2) from pixels to centers, (..., 2) both; 0 at the center itself."""
    return F.normalize(center - pixels, dim=-1)


def vote_center(
    pixels: Tensor, directions: Tensor, segment: Tensor, count: int, weights: Tensor | None = None
) -> Centers:
    """Return the points nearest to all lines of each object, in closed form: min sum w |(I - d d^T) (c - p)|^2.

    Args:
        pixels: (P, 2) x, y.
        directions: (P, 2) towards the center, of any length; 0 is no direction.
        segment: (P,) the object of each pixel, below `count`.
        weights: (P,), none below 0.

    Differentiable.
    """
    pixels, directions = _at_least_float32(pixels), F.normalize(_at_least_float32(directions), dim=-1)
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
    return Centers(middle + offset.where(known[:, None], 0.0), known)


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
) -> Centers:
    """Return `vote_center` of the inliers: the crossing of two pixels' lines with the most votes, then a fit to its
    voters.

    A pixel votes for a crossing where the cosine of the angle is at least `min_cosine` (a direction has a sign, unlike
    a line). About `voters` pixels of each object, spread evenly, choose the crossing; all pixels take part in the fit.
    `generator`, of the CPU, is the only source of randomness. It draws once for all objects, so that the result for one
    does not depend on the others. Only the last fit is differentiable.
    """
    with torch.no_grad():
        where, towards = _at_least_float32(pixels), F.normalize(_at_least_float32(directions), dim=-1)
        middle = segment_means(where, segment, count)
        centered = where - middle[segment]
        guesses, crossing = _crossings(centered, towards, segment, count, hypotheses, generator)
        chosen = evenly(segment, count, voters)
        votes = torch.zeros_like(crossing, dtype=where.dtype)
        step = max(1, _MAX_SCORED // max(1, len(chosen)))
        for k in range(0, hypotheses, step):
            agrees = _agrees_with(
                guesses[:, k : k + step][segment[chosen]], centered[chosen], towards[chosen], min_cosine
            )
            votes[:, k : k + step] = segment_sums(agrees.to(where.dtype), segment[chosen], count)
        best = (votes * crossing).argmax(1)
        winner = guesses[torch.arange(count, device=where.device), best]
        agree = _agrees_with(winner[segment][:, None], centered, towards, min_cosine)[:, 0]
    return vote_center(pixels, directions, segment, count, agree)


def translation_from_center(center: Tensor, depth_m: Tensor, camera: Camera) -> Tensor:
    """Return translations (..., 3) in metres of objects with centers at pixels (..., 2) and z = depth_m (...): z K^-1
    (u, v, 1).

    camera.K is (3, 3), or has the leading axes of both.
    """
    rays = inverse_intrinsics(camera.K).to(center.dtype)
    homogeneous = torch.cat((center, torch.ones_like(center[..., :1])), -1)
    return depth_m[..., None] * (rays * homogeneous[..., None, :]).sum(-1)


def center_of_translation(t: Tensor, camera: Camera) -> Tensor:
    """Return pixels (..., 2) of translations (..., 3), z > 0: the inverse of `translation_from_center`."""
    projected = (camera.K.to(t.dtype) * t[..., None, :]).sum(-1)
    return projected[..., :2] / projected[..., 2:]


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _crossings(
    pixels: Tensor, directions: Tensor, segment: Tensor, count: int, hypotheses: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return crossings (count, K, 2) of the lines of two random pixels of each object, and which of them are valid."""
    order = segment.argsort(stable=True)
    size = torch.bincount(segment, minlength=count)
    start = size.cumsum(0) - size
    chance = torch.rand(2, 1, hypotheses, generator=generator, dtype=torch.float64).to(
        pixels.device
    )  # the same for every object
    drawn = (start[:, None] + (chance * size[:, None]).long()).clamp(max=max(len(order) - 1, 0))
    if not len(order):
        return pixels.new_zeros(count, hypotheses, 2), torch.zeros(
            count, hypotheses, dtype=torch.bool, device=pixels.device
        )
    (p, q), (d, e) = pixels[order[drawn]], directions[order[drawn]]
    determinant = d[..., 0] * e[..., 1] - d[..., 1] * e[..., 0]  # the sine between both
    crossing = determinant.abs() > 1e-2
    along = ((q - p)[..., 0] * e[..., 1] - (q - p)[..., 1] * e[..., 0]) / determinant.where(crossing, 1.0)
    return (p + along[..., None] * d).where(crossing[..., None], 0.0), crossing


def _agrees_with(guesses: Tensor, pixels: Tensor, directions: Tensor, min_cosine: float) -> Tensor:
    """Return (P, K) bool: the cosine between each pixel's direction (P, 2) and the way to guesses (P, K, 2) is large
    enough.
    """
    x, y = guesses[..., 0] - pixels[:, :1], guesses[..., 1] - pixels[:, 1:]
    along = x * directions[:, :1] + y * directions[:, 1:]
    return (along > 0) & (along * along >= min_cosine**2 * (x * x + y * y))
