"""Which prediction is which object: one to one, and within one picture and class.

A prediction that is no object is a false positive, an object without a prediction a false negative: neither is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Matches:
    """predicted, true: (K,) rows of the pairs.  false_positives, false_negatives: rows that are in none."""

    predicted: Indices
    true: Indices
    false_positives: Indices
    false_negatives: Indices


def mask_iou(predicted: Tensor, true: Tensor, predicted_count: int, true_count: int) -> Floats:
    """Shared by joint pixels, (P, G), of instance maps (H, W) of one picture: 0 = none, n = the n-th object from 1."""
    seen = (true_count + 1) * predicted.long().flatten() + true.long().flatten()
    pixels = torch.bincount(seen, minlength=(predicted_count + 1) * (true_count + 1)).view(predicted_count + 1, true_count + 1)
    shared = pixels[1:, 1:].double()
    joint = pixels[1:].sum(1, keepdim=True) + pixels[:, 1:].sum(0, keepdim=True) - shared
    found: Floats = (shared / joint.clamp(min=1)).cpu().numpy()
    return found


def best_pairs(overlap: Floats, same_class: Truth, threshold: float = 0.5) -> Matches:
    """The pairs (Hungarian method) with the largest sum of overlaps (P, G) among those of one class that reach the threshold."""
    worth = np.where(same_class & (overlap >= threshold), overlap, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    paired = worth[rows, columns] > 0
    return _matches(rows[paired], columns[paired], overlap.shape)


def greedy_pairs(cost: Floats, allowed: Truth, score: Floats) -> Indices:
    """For each prediction the object that it takes, (P,), -1 = none: in order of score the cheapest (P, G) free and allowed one."""
    taken = np.full(cost.shape[0], -1, dtype=np.int64)
    free = np.ones(cost.shape[1], dtype=bool)
    able = np.any(allowed, axis=1)
    for row in np.argsort(-score, kind="stable"):
        if able[row] and (open_ := allowed[row] & free).any():
            taken[row] = np.where(open_, cost[row], np.inf).argmin()
            free[taken[row]] = False
    return taken


def _matches(predicted: Indices, true: Indices, shape: tuple[int, ...]) -> Matches:
    left = (np.setdiff1d(np.arange(size), of) for size, of in zip(shape, (predicted, true), strict=True))
    return Matches(predicted, true, *left)
