"""Match predictions to objects, one to one, within one image and class.

A prediction without an object is a false positive, an object without a prediction a false negative; both are counted.
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
    """Return IoU (P, G) of instance maps (H, W) of one image: 0 = none, n = the n-th object from 1."""
    seen = (true_count + 1) * predicted.long().flatten() + true.long().flatten()
    pixels = torch.bincount(seen, minlength=(predicted_count + 1) * (true_count + 1)).view(
        predicted_count + 1, true_count + 1
    )
    shared = pixels[1:, 1:].double()
    joint = pixels[1:].sum(1, keepdim=True) + pixels[:, 1:].sum(0, keepdim=True) - shared
    found: Floats = (shared / joint.clamp(min=1)).cpu().numpy()
    return found


def best_pairs(overlap: Floats, same_class: Truth, threshold: float = 0.5) -> Matches:
    """Return the pairs of one class with the largest sum of overlaps (P, G) above the threshold (Hungarian method)."""
    worth = np.where(same_class & (overlap >= threshold), overlap, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    paired = worth[rows, columns] > 0
    return _make_matches(rows[paired], columns[paired], overlap.shape)


def greedy_pairs(cost: Floats, allowed: Truth, score: Floats) -> Indices:
    """Return the object taken by each prediction, (P,), -1 = none: by score, the cheapest (P, G) free and allowed one.

    Predictions of equal score choose together: as many as possible, with the least sum of costs (Hungarian method). So
    the order of rows does not matter.
    """
    taken = np.full(cost.shape[0], -1, dtype=np.int64)
    free = np.ones(cost.shape[1], dtype=bool)
    able = np.any(allowed, axis=1)
    for one in np.unique(-score[able]):
        rows = np.flatnonzero(able & (-score == one))
        columns = np.flatnonzero(free & np.any(allowed[rows], axis=0))
        chosen, of_columns = _match_cheapest(cost[np.ix_(rows, columns)], allowed[np.ix_(rows, columns)])
        taken[rows[chosen]] = columns[of_columns]
        free[columns[of_columns]] = False
    return taken


def _match_cheapest(cost: Floats, allowed: Truth) -> tuple[Indices, Indices]:
    """Return rows and columns of as many allowed pairs (P, G) as possible, with the least sum of costs."""
    if len(cost) == 1:
        columns = np.flatnonzero(allowed[0])
        return np.zeros(min(len(columns), 1), dtype=np.int64), columns[cost[0, columns].argsort(kind="stable")[:1]]
    least, span = cost.min(initial=np.inf, where=allowed), np.ptp(cost[allowed]) if allowed.any() else 0.0
    worth = np.where(
        allowed, len(cost) + 1 - (np.where(allowed, cost, least) - least) / (span or 1.0), 0.0
    )  # one pair more outweighs all
    rows, columns = linear_sum_assignment(worth, maximize=True)
    paired = allowed[rows, columns]
    return rows[paired], columns[paired]


def _make_matches(predicted: Indices, true: Indices, shape: tuple[int, ...]) -> Matches:
    left = (np.setdiff1d(np.arange(size), of) for size, of in zip(shape, (predicted, true), strict=True))
    return Matches(predicted, true, *left)
