"""Score depth and masks of composite images: sums of each image, and scores over a set with equal weight per pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from stadia.core.types import Claim
from stadia.geometry.align import scale_median
from stadia.metrics.mask import mask_counts, mask_scores
from stadia.metrics.pooled import added_up, depth_sums, pooled_depth_scores

Range = tuple[float, float]


def weaker(predicted: Claim, labeled: Claim) -> Claim:
    """Return the weaker of two claims: the scale at which both can be compared."""
    order = list(Claim)
    return max(predicted, labeled, key=order.index)


def image_sums(
    depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor, claim: Claim, scored: Range
) -> list[dict[str, float]]:
    """Compute the sums of each image that add up over a set.

    Args:
        depth, mask_logits: (B, 1, H, W) as predicted.
        true: (B, 1, H, W) z, 0 = none.
        mask: (B, 1, H, W) bool.
        claim: the weaker of both claims. Depth up to scale is scaled by the ratio of medians of each image.
        scored: labels strictly between these are scored. Predictions are clamped to it, in the unit of the labels.
    """
    known = (true > scored[0]) & (true < scored[1])
    if claim is not Claim.METRES:
        scale = scale_median(depth.flatten(1), true.flatten(1), known.flatten(1))
        depth = depth * torch.where(known.flatten(1).any(1), scale, 1.0)[:, None, None, None]
    depth = torch.where(depth.isfinite(), depth.clamp(*scored), depth)
    counts = mask_counts(mask_logits, mask) | depth_sums(depth[:, 0], true[:, 0], known[:, 0])
    columns = torch.stack(list(counts.values()), dim=1).tolist()  # one transfer
    return [dict(zip(counts, row, strict=True)) for row in columns]


def overlay_scores(images: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Compute depth errors and mask scores of several images, and `depth_and_mask_error`, the sum of AbsRel and 1 -
    IoU.

    Scores without labels are left out, so no score is NaN.
    """
    sums = added_up(images)
    scores = mask_scores(sums) | pooled_depth_scores(sums)
    if scores:
        scores["depth_and_mask_error"] = scores.get("abs_rel", 0.0) + 1 - scores["mask_iou"]
    return scores
