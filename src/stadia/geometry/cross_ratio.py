"""Fit the horizon and the camera's height to boxes of objects alone: cross ratios of pairs, and RANSAC.

For two objects of one height, the line through their feet and the line through their tops meet on the horizon. For
unequal heights, the cross ratio of foot, top and the other's height moves one top to the other's height first
(Criminisi, Reid and Zisserman, Single view metrology, IJCV 40, 2000). With s = height in pixels / height in metres the
meeting point is s_i (x_j, y_j, 1) - s_j (x_i, y_i, 1). It lies on a line l for every pair if and only if s = l . (x, y,
1) for every object. So three objects determine the line and, by its length, the camera's height.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.errors import GeometryError

_REFITS = 20
_MIN_SPREAD_PX = 2.0  # of the feet, root mean square, in the direction in which they differ least


@dataclass(frozen=True, slots=True)
class ObjectHorizon:
    """Horizon and camera height fitted to boxes of objects.

    horizon: (3,) float64, as of `geometry.horizon`: distances in pixels, positive above.
    camera_height_m: () float64, in the unit of the objects' heights.
    log_height_ratio: (N,) ln of the camera height implied by each object over that; infinite above the horizon.
    inlier_mask: (N,) bool, the inliers.
    """

    horizon: Tensor
    camera_height_m: Tensor
    log_height_ratio: Tensor
    inlier_mask: Tensor


def horizon_of_objects(
    foot: Tensor,
    height_px: Tensor,
    height_m: Tensor,
    *,
    generator: torch.Generator,
    tolerance: float = 0.2,
    trials: int = 512,
) -> ObjectHorizon:
    """Return the horizon and camera height with the most inliers (Fischler and Bolles, CACM 24(6), 1981); not batched.

    Args:
        foot: (N, 2) x, y in pixels: the middle of each box's lower edge, from images with one camera orientation.
        height_px: (N,) heights of the boxes along y, edge to edge (of a mask: last row - first row + 1). Camera roll is
            ignored.
        height_m: (N,) known heights.
        generator: of the CPU, the only source of randomness.
        tolerance: largest |log_height_ratio| of an inlier.
        trials: samples of three objects.

    It needs many objects, near and far. Measured on 100 ray-cast cars 6 to 45 m away: horizon within 0.15 degrees,
    camera height 2 to 7 % too small, also with three in ten heights wrong.
    Raises GeometryError for fewer than 3 objects, and for values that are not finite and positive. Raises it too where
    no three objects agree, and where the inliers stand on one line of the image, which leaves the horizon undetermined.
    """
    _check_objects(foot, height_px, height_m)
    at = torch.cat((foot.detach().double(), torch.ones(len(foot), 1, dtype=torch.float64, device=foot.device)), -1)
    px_per_m = height_px.detach().double() / height_m.detach().double()
    drawn = torch.rand(trials, len(at), generator=generator, dtype=torch.float64).topk(3, dim=1).indices.to(at.device)
    lines, failed = torch.linalg.solve_ex(at[drawn], px_per_m[drawn])
    votes = (_log_height_ratio(lines, at, px_per_m).abs() < tolerance).sum(-1).masked_fill(failed.bool(), 0)
    line = lines[votes.argmax()]
    inlier_mask = (_log_height_ratio(line, at, px_per_m).abs() < tolerance) & (votes.max() > 0)
    for _ in range(_REFITS):
        _check_inliers(foot[inlier_mask], len(foot))
        line = torch.linalg.lstsq(
            at[inlier_mask] / px_per_m[inlier_mask, None], torch.ones_like(px_per_m[inlier_mask, None])
        ).solution[:, 0]
        before, inlier_mask = inlier_mask, _log_height_ratio(line, at, px_per_m).abs() < tolerance
        if bool((inlier_mask == before).all()):
            break
    length = line[:2].norm()
    return ObjectHorizon(-line / length, 1 / length, _log_height_ratio(line, at, px_per_m), inlier_mask)


def _log_height_ratio(line: Tensor, at: Tensor, px_per_m: Tensor) -> Tensor:
    """Return ln((l . (x, y, 1)) / s) (..., N) of lines (..., 3); infinite where it is not positive."""
    expected = (line[..., None, :] * at).sum(-1)
    return torch.where(expected > 0, expected / px_per_m, torch.inf).log()


def _check_objects(foot: Tensor, height_px: Tensor, height_m: Tensor) -> None:
    if foot.ndim != 2 or foot.shape[-1] != 2 or not len(foot) == len(height_px) == len(height_m) >= 3:
        raise GeometryError(
            "objects of a horizon",
            found=f"feet {tuple(foot.shape)}, heights {tuple(height_px.shape)} and {tuple(height_m.shape)}",
            expected="(N, 2), (N,) and (N,), N at least 3",
            fix="pass more objects",
        )
    heights = torch.stack((height_px, height_m.to(height_px.dtype)))
    if not bool(foot.isfinite().all() & heights.isfinite().all() & (heights > 0).all()):
        raise GeometryError(
            "objects of a horizon",
            found="NaN, infinity or a height of 0",
            expected="finite numbers, heights above 0",
            fix="leave out objects without a known height",
        )


def _check_inliers(foot: Tensor, count: int) -> None:
    spread = (
        torch.linalg.svdvals(foot.double() - foot.double().mean(0))[-1] / len(foot) ** 0.5 if len(foot) >= 3 else 0.0
    )
    if len(foot) < 3 or spread < _MIN_SPREAD_PX:
        raise GeometryError(
            "horizon of objects",
            found=f"{len(foot)} of {count} that agree"
            + (", with feet on one line of the image" if len(foot) >= 3 else ""),
            expected="at least 3, near and far",
            fix="pass more objects, of one camera with one orientation",
        )
