"""Scores of depth and masks of composed images: sums of each image, and what they come to over a set, each pixel alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from stadia.core.types import Claim
from stadia.geometry.align import scale_median
from stadia.metrics.mask import mask_counts, mask_scores
from stadia.metrics.pooled import added_up, depth_sums, pooled_depth_scores

Range = tuple[float, float]


def weaker(said: Claim, labeled: Claim) -> Claim:
    """Of two claims, as which both can be compared: neither can be held to more than the other says."""
    order = list(Claim)
    return max(said, labeled, key=order.index)


def image_sums(
    depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor, claim: Claim, scored: Range
) -> list[dict[str, float]]:
    """What adds up, of each image.

    Args:
        depth, mask_logits: (B, 1, H, W) as predicted.
        true: (B, 1, H, W) z, 0 = none.  mask: (B, 1, H, W) bool.
        claim: the weaker of both sides': metres are scored as they are, depth up to scale by the ratio of medians of
            each image.
        scored: labels strictly between are; predictions are clamped to it, once they are in the labels' unit.
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
    """Depth errors and mask scores of so many images, and `depth_and_mask_error`: AbsRel and 1 - IoU added up, or what
    there is of it.

    What nothing was labeled for is left out; no score is NaN.
    """
    sums = added_up(images)
    scores = mask_scores(sums) | pooled_depth_scores(sums)
    if scores:
        scores["depth_and_mask_error"] = scores.get("abs_rel", 0.0) + 1 - scores["mask_iou"]
    return scores
