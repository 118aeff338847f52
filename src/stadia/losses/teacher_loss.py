"""Compare inverse depth with a teacher network's: in metres, up to scale, or up to scale and shift."""

from typing import Literal

import torch
from torch import Tensor

from stadia.core.types import DepthScale
from stadia.geometry.align import fit_scale_and_shift, fit_scale_median, masked_median
from stadia.losses.sparse_depth import (
    affine_invariant_residual,
    gradient_matching_error,
    mean_over_labeled_images,
    trimmed_mean,
)

Relation = Literal["metres", "scale", "affine"]
"""How two inverse depths are related: "metres" if equal, "scale" up to a factor, "affine" up to factor and shift."""

GRADIENT_WEIGHT = 0.5
"""Weight of the difference's gradients, as in MiDaS (arXiv 1907.01341, section 5)."""

MIN_INVERSE_DEPTH = 1e-6
"""Inverse depths in 1/m are raised to this bound before their logarithm is taken."""


def find_relation(student: DepthScale, teacher: DepthScale) -> Relation:
    """Return how the depths of a student and a teacher are related, from what each of them predicts."""
    if DepthScale.AFFINE_INVERSE in (student, teacher):
        return "affine"
    return "metres" if student is teacher is DepthScale.METRES else "scale"


def compute_difference(inverse_depth: Tensor, teacher: Tensor, known: Tensor, relation: Relation) -> Tensor:
    """Return the difference from the teacher, (B, 1, H, W); 0 at unknown pixels.

    For "metres" it is the difference of ln z. For "scale" the median of this difference is subtracted. For "affine" it
    is the difference of normalized inverse depths.

    inverse_depth, teacher: (B, 1, H, W). Known values are positive unless the relation is "affine".
    known: (B, 1, H, W) bool mask of the pixels to compare.
    """
    if relation == "affine":
        return affine_invariant_residual(inverse_depth, teacher, known)
    both = (map_.clamp(min=MIN_INVERSE_DEPTH).log() for map_ in (inverse_depth, teacher.where(known, 1.0)))
    own, taught = both
    difference = (taught - own).where(known, 0.0)
    if relation == "scale":
        median = masked_median(difference.flatten(1), known.flatten(1)).view(-1, 1, 1, 1)
        difference = (difference - median.where(median.isfinite(), 0.0)).where(known, 0.0)
    return difference


@torch.no_grad()
def align_teacher(inverse_depth: Tensor, teacher: Tensor, known: Tensor, relation: Relation) -> Tensor:
    """Return the teacher's inverse depth in the student's unit, (B, 1, H, W), at least MIN_INVERSE_DEPTH.

    inverse_depth, teacher: (B, 1, H, W).
    known: (B, 1, H, W) bool mask of the pixels that align the two.
    """
    own, taught, where = inverse_depth.flatten(1), teacher.flatten(1), known.flatten(1)
    scale, shift = torch.ones_like(own[:, 0]), torch.zeros_like(own[:, 0])
    if relation == "scale":
        scale = fit_scale_median(taught, own, where)
    elif relation == "affine":
        scale, shift = fit_scale_and_shift(taught, own, where)
    aligned = scale.view(-1, 1, 1, 1) * teacher + shift.view(-1, 1, 1, 1)
    return aligned.nan_to_num(nan=MIN_INVERSE_DEPTH).clamp(min=MIN_INVERSE_DEPTH)


def teacher_error(difference: Tensor, known: Tensor) -> Tensor:
    """Return the trimmed mean of a difference plus half of its gradients at four sizes, a scalar.

    difference: (B, 1, H, W) of `compute_difference`.
    known: (B, 1, H, W) bool mask of the compared pixels.

    Source: arXiv 1907.01341, eq. 8 and 11.
    """
    of_each = trimmed_mean(difference, known) + GRADIENT_WEIGHT * gradient_matching_error(difference, known)
    return mean_over_labeled_images(of_each, known)
