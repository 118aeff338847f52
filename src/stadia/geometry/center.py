"""Where an object's center stands in the image, voted by its pixels, and what its translation is.

Each pixel says in which direction the center lies. A line alone does not say where on it; two that cross do. So a
center that is hidden, or outside of the image, is found as well (Xiang et al., "PoseCNN", RSS 2018; Peng et al.,
"PVNet", CVPR 2019).
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
"""Below it (the smaller eigenvalue of the mean of I - d d^T, as if all directions lay within 0.6 degrees) lines do not
cross.
"""

_MAX_SCORED = 1 << 22  # pixels times hypotheses that are scored at once


@dataclass(frozen=True, slots=True)
class Centers:
    """Centers of M objects.

    pixel: (M, 2) x, y; it may lie outside of the image.
    known: (M,) bool; false where an object's lines do not cross, or it has no pixel: `pixel` is then the mean of its
        pixels.
    """

    pixel: Tensor
    known: Tensor


def directions_to(center: Tensor, pixels: Tensor) -> Tensor:
    """Unit vectors (..., 2) from pixels to centers, (..., 2) both; 0 at the center itself."""
    return F.normalize(center - pixels, dim=-1)


def vote_center(
    pixels: Tensor, directions: Tensor, segment: Tensor, count: int, weights: Tensor | None = None
) -> Centers:
    """The points nearest to all lines of each object, in closed form and differentiable: min sum w |(I - d d^T) (c -
    p)|^2.

    Args:
        pixels: (P, 2) x, y.
        directions: (P, 2) towards the center, of any length; 0 is no direction.
        segment: (P,) the object that each pixel shows, below `count`.
        weights: (P,), none below 0.
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
    """`vote_center` of the pixels that agree: the crossing of two pixels' lines that most others point at, then fitted
    to those.

    A pixel points at a crossing where the cosine of the angle is at least `min_cosine` (unlike a line, a direction has
    a sign). Crossings are chosen by about `voters` pixels of each object, spread evenly over it; all pixels take part
    in the fit. `generator`, of the CPU, is the only source of chance. It draws once for all objects, so what is voted
    of one does not depend on the others. Not differentiable but for the last fit.
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
            agrees = _points_at(
                guesses[:, k : k + step][segment[chosen]], centered[chosen], towards[chosen], min_cosine
            )
            votes[:, k : k + step] = segment_sums(agrees.to(where.dtype), segment[chosen], count)
        best = (votes * crossing).argmax(1)
        winner = guesses[torch.arange(count, device=where.device), best]
        agree = _points_at(winner[segment][:, None], centered, towards, min_cosine)[:, 0]
    return vote_center(pixels, directions, segment, count, agree)


def translation_from_center(center: Tensor, depth_m: Tensor, camera: Camera) -> Tensor:
    """Translations (..., 3) in metres of objects whose centers stand at pixels (..., 2), z = depth_m (...): z K^-1 (u,
    v, 1).

    camera.K is (3, 3), or has the leading axes of both.
    """
    rays = inverse_intrinsics(camera.K).to(center.dtype)
    homogeneous = torch.cat((center, torch.ones_like(center[..., :1])), -1)
    return depth_m[..., None] * (rays * homogeneous[..., None, :]).sum(-1)


def center_of_translation(t: Tensor, camera: Camera) -> Tensor:
    """Pixels (..., 2) of translations (..., 3), z > 0: the inverse of `translation_from_center`."""
    projected = (camera.K.to(t.dtype) * t[..., None, :]).sum(-1)
    return projected[..., :2] / projected[..., 2:]


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _crossings(
    pixels: Tensor, directions: Tensor, segment: Tensor, count: int, hypotheses: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Crossings (count, K, 2) of the lines of two pixels of each object drawn at random, and which of them are
    crossings.
    """
    order = segment.argsort(stable=True)
    size = torch.bincount(segment, minlength=count)
    start = size.cumsum(0) - size
    chance = torch.rand(2, 1, hypotheses, generator=generator, dtype=torch.float64).to(
        pixels.device
    )  # whatever stands beside an object
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


def _points_at(guesses: Tensor, pixels: Tensor, directions: Tensor, min_cosine: float) -> Tensor:
    """(P, K) bool: the angle between the direction (P, 2) of a pixel and the way to guesses (P, K, 2) has at least that
    cosine.
    """
    x, y = guesses[..., 0] - pixels[:, :1], guesses[..., 1] - pixels[:, 1:]
    along = x * directions[:, :1] + y * directions[:, 1:]
    return (along > 0) & (along * along >= min_cosine**2 * (x * x + y * y))
