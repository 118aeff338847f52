"""Find the vanishing point of the straight edges along a road: a point of the horizon."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STEEP_DEG, _FLAT_DEG = 80.0, 8.0  # upright edges, and those that cross the road, do not lead along it
_VANISHING_REFITS = 8


def vanishing_point(
    segments: Tensor,
    center: Tensor,
    reach_px: float,
    *,
    generator: torch.Generator,
    tolerance_deg: float = 1.5,
    trials: int = 1000,
) -> tuple[Tensor, float] | None:
    """Return the point (2,), x, y, where the longest edges meet, and their share of all length; RANSAC over pairs of
    edges.

    An edge's vote falls with its angle to the point (1 - (angle / tolerance)^2), so that many edges that nearly meet do
    not outvote fewer that meet. A point's weight falls with its row's distance from the center's (Gauss, deviation a
    third of the reach), since roofs and stairs meet too, and a driven road vanishes near the middle.

    Args:
        segments: (N, 4) x0, y0, x1, y1 in pixels.
        center: (2,) the vanishing point of the optical axis: the principal point.
        reach_px: largest distance in rows from the center. Roads turn: twice as many columns are allowed.
        generator: of the CPU, the only source of randomness.
        tolerance_deg: largest angle between an edge and the line from its middle to the point.
        trials: pairs.

    None where fewer than three edges meet.
    """
    segments = segments.double()
    along = segments[:, 2:] - segments[:, :2]
    length = along.norm(dim=-1)
    slope_deg = torch.rad2deg(torch.atan2(along[:, 1].abs(), along[:, 0].abs()))
    leads = (slope_deg > _FLAT_DEG) & (slope_deg < _STEEP_DEG) & (length > 0)
    segments, along, length = segments[leads], along[leads], length[leads]
    if len(segments) < 3:
        return None
    middle = (segments[:, 2:] + segments[:, :2]) / 2
    normal = torch.stack((-along[:, 1], along[:, 0]), -1) / length[:, None]
    lines = torch.cat((normal, -(normal * middle).sum(-1, keepdim=True)), -1)
    pairs = torch.multinomial(length.expand(trials, -1), 2, generator=generator)
    meets = torch.linalg.cross(lines[pairs[:, 0]], lines[pairs[:, 1]])
    points = meets[:, :2] / torch.where(meets[:, 2:].abs() > 1e-9, meets[:, 2:], torch.nan)
    offset = (points - center.double()).abs()
    points = points[(offset[:, 0] < 2 * reach_px) & (offset[:, 1] < reach_px)]
    if not len(points):
        return None
    likely = (-((points[:, 1] - center[1]) / (reach_px / 3)).square() / 2).exp()
    votes = (_count_votes(points, middle, normal, tolerance_deg) * length).sum(-1) * likely
    best = points[votes.argmax()]
    for _ in range(
        _VANISHING_REFITS
    ):  # least squares of the distances between the point and the edges' lines, turned into angles
        agree = _count_votes(best[None], middle, normal, tolerance_deg)[0]
        if int((agree > 0).sum()) < 3:
            return None
        weight = ((agree * length).sqrt() / (best - middle).norm(dim=-1).clamp(min=1))[:, None]
        best = torch.linalg.lstsq(weight * normal, -weight * lines[:, 2:]).solution[:, 0]
    agree = _count_votes(best[None], middle, normal, tolerance_deg)[0] > 0
    return best, float(length[agree].sum() / length.sum())


def _count_votes(points: Tensor, middle: Tensor, normal: Tensor, tolerance_deg: float) -> Tensor:
    """Return (P, N), the vote of each line for each point: 1 exactly, 0 beyond the tolerance."""
    offset = points[:, None] - middle
    across = (offset * normal).sum(-1).abs() / offset.norm(dim=-1).clamp(min=1e-9)
    return (1 - (across / math.sin(math.radians(tolerance_deg))).square()).clamp(min=0)
