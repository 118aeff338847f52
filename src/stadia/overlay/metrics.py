"""Compute depth and mask scores of composite images from sums that can be added over images."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import DepthScale
from stadia.geometry.align import fit_scale_median
from stadia.geometry.poses import at_least_float32
from stadia.metrics.depth_metrics import depth_error_sums, pooled_depth_scores, sum_over_images

TOLERANCE = 0.008  # largest boundary distance over the image's diagonal, rounded up (Perazzi et al., DAVIS, CVPR 2016)


def mask_counts(logits: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Count pixels and sum errors of predicted masks; return (B,) float64 tensors by name, to be added over images.

    mask_pixels: number of pixels of the image.
    mask_both: number of pixels inside both the predicted and the true mask.
    mask_predicted: number of pixels inside the predicted mask.
    mask_true: number of pixels inside the true mask.
    mask_absolute: sum over pixels of |p - t| with the predicted probability p and the truth t, 0 or 1.
    mask_surprise: sum over pixels of the binary cross-entropy.
    boundary_predicted: number of pixels on the boundary of the predicted mask.
    boundary_true: number of pixels on the boundary of the true mask.
    boundary_predicted_near: number of pixels of the predicted boundary that are near the true boundary
        (`dilate_boundary`).
    boundary_true_near: number of pixels of the true boundary that are near the predicted boundary.
    logits: (B, 1, H, W) predicted logits, above 0 inside the predicted mask. A value that is not finite counts as
        outside the mask, with the largest error.
    true: (B, 1, H, W) bool true masks.
    """
    finite, truth = logits.isfinite(), true.double()
    predicted, x = (logits > 0) & finite, logits.double()
    p = x.sigmoid()
    surprise = F.binary_cross_entropy_with_logits(x, truth, reduction="none").where(finite, torch.inf)
    maps = {
        "mask_pixels": torch.ones_like(truth),
        "mask_both": predicted & true,
        "mask_predicted": predicted,
        "mask_true": true,
        "mask_absolute": (p - truth).abs().where(finite, 1.0),
        "mask_surprise": surprise,
    }
    here, there = mask_boundary(predicted), mask_boundary(true)
    maps |= {
        "boundary_predicted": here,
        "boundary_true": there,
        "boundary_predicted_near": here & dilate_boundary(there),
        "boundary_true_near": there & dilate_boundary(here),
    }
    return {name: values.flatten(1).sum(1, dtype=torch.float64) for name, values in maps.items()}


def mask_boundary(mask: Tensor) -> Tensor:
    """Return the boundary of masks, (B, 1, H, W) bool: pixels inside the mask that have a neighbor outside of it.

    Pixels beyond the image's edge do not count as neighbors, so a mask that touches the edge has no boundary there.

    mask: (B, 1, H, W) bool.
    """
    return mask & (F.max_pool2d((~mask).float(), 3, stride=1, padding=1) > 0)


def dilate_boundary(boundary: Tensor) -> Tensor:
    """Widen boundaries: return all pixels near a boundary pixel, (B, 1, H, W) bool.

    A pixel is near if it is at most TOLERANCE of the image's diagonal away, along rows and along columns.

    boundary: (B, 1, H, W) bool.
    """
    height, width = boundary.shape[-2:]
    reach = math.ceil(TOLERANCE * math.hypot(height, width))
    return F.max_pool2d(boundary.float(), 2 * reach + 1, stride=1, padding=reach) > 0


def mask_scores(sums: Mapping[str, float]) -> dict[str, float]:
    """Compute mask scores over all images from their added `mask_counts`; the result is empty if no image was counted.

    Return IoU (mask_iou), Dice (mask_dice), F score of the boundary (mask_boundary_f), mean absolute error of the
    probability (mask_mae), and mean binary cross-entropy (mask_bce).

    sums: the values of `mask_counts`, added over images.
    """
    if not sums.get("mask_pixels"):
        return {}
    both, either = sums["mask_both"], sums["mask_predicted"] + sums["mask_true"]
    here, there = sums["boundary_predicted"], sums["boundary_true"]
    precision = _share(sums["boundary_predicted_near"], here, empty=float(not there))
    recall = _share(sums["boundary_true_near"], there, empty=float(not here))
    return {
        "mask_iou": _share(both, either - both, empty=1.0),
        "mask_dice": _share(2 * both, either, empty=1.0),
        "mask_boundary_f": _share(2 * precision * recall, precision + recall, empty=0.0),
        "mask_mae": sums["mask_absolute"] / sums["mask_pixels"],
        "mask_bce": sums["mask_surprise"] / sums["mask_pixels"],
    }


def _share(part: float, whole: float, *, empty: float) -> float:
    return part / whole if whole else empty


def weaker_scale(predicted: DepthScale, labeled: DepthScale) -> DepthScale:
    """Return the weaker of two depth scales (metres, up to scale, ...), at which prediction and label are comparable.

    predicted: what is known about the scale of the predicted depth.
    labeled: what is known about the scale of the labeled depth.

    Examples:
        >>> weaker_scale(DepthScale.METRES, DepthScale.UP_TO_SCALE)
        <DepthScale.UP_TO_SCALE: 'up-to-scale'>
    """
    order = list(DepthScale)
    return max(predicted, labeled, key=order.index)


def compute_image_sums(
    depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor, depth_scale: DepthScale, scored: tuple[float, float]
) -> list[dict[str, float]]:
    """Return the sums of depth and mask errors of each image, by name, which can be added over a dataset.

    depth: (B, 1, H, W) predicted z.
    mask_logits: (B, 1, H, W) predicted logits of the mask.
    true: (B, 1, H, W) true z; 0 means unknown.
    mask: (B, 1, H, W) true mask.
    depth_scale: scale at which both depths are comparable. Unless it is metres, each predicted map is multiplied by
        median(true) / median(predicted).
    scored: limits of the true depth, exclusive, between which pixels are scored. Predictions are clamped to them.
    """
    known = (true > scored[0]) & (true < scored[1])
    if depth_scale is not DepthScale.METRES:
        scale = fit_scale_median(depth.flatten(1), true.flatten(1), known.flatten(1))
        depth = depth * torch.where(known.flatten(1).any(1), scale, 1.0)[:, None, None, None]
    depth = torch.where(depth.isfinite(), depth.clamp(*scored), depth)
    predicted, truth, scored_pixels = (maps[:, 0].detach().cpu() for maps in (at_least_float32(depth), true, known))
    sums = depth_error_sums(predicted.numpy(), truth.numpy(), scored_pixels.numpy())
    counts = mask_counts(mask_logits, mask)
    columns = torch.stack(list(counts.values()), dim=1).cpu().numpy()  # one transfer
    columns = np.concatenate([columns, np.stack(list(sums.values()), axis=1)], axis=1)
    return [dict(zip((*counts, *sums), row, strict=True)) for row in columns.tolist()]


def compute_overlay_scores(images: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return depth errors and mask scores over several images. `depth_and_mask_error` is AbsRel plus 1 - IoU."""
    sums = sum_over_images(images)
    scores = mask_scores(sums) | pooled_depth_scores(sums)
    if scores:
        scores["depth_and_mask_error"] = scores.get("abs_rel", 0.0) + 1 - scores["mask_iou"]
    return scores
