"""Where the straight edges along a road meet in the picture: a point of the horizon."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STEEP_DEG, _FLAT_DEG = 80.0, 8.0  # upright edges, and those that cross the road, do not lead along it


def vanishing_point(
    segments: Tensor,
    centre: Tensor,
    reach_px: float,
    *,
    generator: torch.Generator,
    tolerance_deg: float = 1.5,
    trials: int = 500,
) -> tuple[Tensor, float] | None:
    """The point (2,), x, y, that the longest edges lead to, and the share of their length that does; RANSAC over pairs of edges.

    Args:
        segments: (N, 4) x0, y0, x1, y1 in pixels.
        centre: (2,) where a camera that looks along the road would have it: the principal point.
        reach_px: how far from there it may be.
        generator: of the CPU, the only source of chance.
        tolerance_deg: an edge leads there when the line from its middle is no further turned.
        trials: pairs.

    None where fewer than two edges lead anywhere near.
    """
    segments = segments.double()
    along = segments[:, 2:] - segments[:, :2]
    length = along.norm(dim=-1)
    slope_deg = torch.rad2deg(torch.atan2(along[:, 1].abs(), along[:, 0].abs()))
    leads = (slope_deg > _FLAT_DEG) & (slope_deg < _STEEP_DEG) & (length > 0)
    segments, along, length = segments[leads], along[leads], length[leads]
    if len(segments) < 2:
        return None
    middle = (segments[:, 2:] + segments[:, :2]) / 2
    normal = torch.stack((-along[:, 1], along[:, 0]), -1) / length[:, None]
    lines = torch.cat((normal, -(normal * middle).sum(-1, keepdim=True)), -1)
    pairs = torch.multinomial(length.expand(trials, -1), 2, generator=generator)
    meets = torch.linalg.cross(lines[pairs[:, 0]], lines[pairs[:, 1]])
    points = meets[:, :2] / torch.where(meets[:, 2:].abs() > 1e-9, meets[:, 2:], torch.nan)
    points = points[(points - centre.double()).norm(dim=-1) < reach_px]
    if not len(points):
        return None
    votes = (_towards(points, middle, normal, tolerance_deg) * length).sum(-1)
    best = points[votes.argmax()]
    for _ in range(3):  # least squares of the distances between the point and the edges' lines, turned into angles
        agree = _towards(best[None], middle, normal, tolerance_deg)[0]
        if int(agree.sum()) < 2:
            return None
        weight = (length[agree] / (best - middle[agree]).norm(dim=-1).clamp(min=1)).sqrt()[:, None]
        best = torch.linalg.lstsq(weight * normal[agree], -weight * lines[agree, 2:]).solution[:, 0]
    agree = _towards(best[None], middle, normal, tolerance_deg)[0]
    return best, float(length[agree].sum() / length.sum())


def _towards(points: Tensor, middle: Tensor, normal: Tensor, tolerance_deg: float) -> Tensor:
    """(P, N) bool: whether each line through a middle leads to each point."""
    offset = points[:, None] - middle
    across = (offset * normal).sum(-1).abs()
    return across < math.sin(math.radians(tolerance_deg)) * offset.norm(dim=-1)
