"""Fit the rigid or similarity transform of corresponding points with many outliers: RANSAC, then Umeyama on the
inliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stadia.core.errors import GeometryError
from stadia.geometry.align import Similarity, umeyama

_REFITS = 50  # at most, until the inliers of a fit are those that it was fitted to


@dataclass(frozen=True, slots=True)
class RobustAlignment:
    """target = similarity(source) for the inliers.

    similarity: float64, not batched; the least-squares fit of exactly the inliers.
    inlier: (N,) bool, the points within the distance of it.
    """

    similarity: Similarity
    inlier: Tensor


def umeyama_ransac(
    source: Tensor,
    target: Tensor,
    kind: Literal["se3", "sim3"] = "se3",
    *,
    inlier_distance: float,
    generator: torch.Generator,
    iterations: int = 128,
    sample: int = 5,
    min_inlier_share: float = 0.1,
) -> RobustAlignment:
    """Return the transform with the most inliers among the points (Fischler and Bolles, CACM 24(6), 1981).

    Args:
        source, target: (N, 3), corresponding by row.
        kind: as of `align.umeyama`.
        inlier_distance: largest distance of an inlier from its target, in the unit of the target.
        generator: of the CPU, the only source of randomness.
        iterations: number of samples.
        sample: points of each; 3 determine the transform, 5 are more stable against noise.
        min_inlier_share: smallest share of inliers.

    Raises GeometryError (and never returns an identity instead) where points do not correspond, are too few or not
    finite, or where too few are inliers: wrong correspondences, a distance in another unit, or mirrored axes.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[-1] != 3 or len(source) < max(3, sample):
        raise GeometryError(
            "robust alignment",
            found=f"{tuple(source.shape)} and {tuple(target.shape)}",
            expected=f"two of (N, 3) with N at least {max(3, sample)}",
            fix="leave out objects with so few pixels",
        )
    source, target = source.detach().double(), target.detach().double()
    if not bool((source.isfinite() & target.isfinite()).all()):
        raise GeometryError(
            "robust alignment", found="NaN or infinity", expected="finite points", fix="leave out pixels without depth"
        )

    drawn = (
        torch.rand(iterations, len(source), generator=generator, dtype=torch.float64)
        .topk(sample, dim=1)
        .indices.to(source.device)
    )
    samples = source[drawn]  # (iterations, sample, 3)
    drawn = drawn[(samples - samples.mean(1, keepdim=True)).square().sum((1, 2)) > 0]  # all one point: no transform
    if not len(drawn):
        raise GeometryError(
            "robust alignment", found="a source of one point", expected="distinct points", fix="check the coordinates"
        )
    found = umeyama(source[drawn], target[drawn], kind)
    candidates = (
        Similarity(*one) for one in zip(found.scale, found.R, found.t, strict=True)
    )  # one by one: N may be large
    inlier = max(
        (_agreeing(candidate, source, target, inlier_distance) for candidate in candidates),
        key=lambda agree: int(agree.sum()),
    )

    needed = max(3, sample, min_inlier_share * len(source))
    for _ in range(_REFITS):
        if int(inlier.sum()) < needed:
            break
        fitted = umeyama(source[inlier], target[inlier], kind)
        before, inlier = inlier, _agreeing(fitted, source, target, inlier_distance)
        if bool((inlier == before).all()):
            return RobustAlignment(fitted, inlier)
    raise GeometryError(
        "robust alignment",
        found=f"{int(inlier.sum())} of {len(source)} points within {inlier_distance:g} of their targets",
        expected=f"at least {needed:g}, the same ones after a fit",
        fix="check units and signs of the axes of both, or allow a larger distance",
    )


def _agreeing(similarity: Similarity, source: Tensor, target: Tensor, distance: float) -> Tensor:
    return (similarity.apply(source) - target).norm(dim=-1) <= distance
