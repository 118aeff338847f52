"""Boundary F1 of depth maps: how many depth edges of the truth a prediction has, and how many of its own are true.

An edge lies between neighbors whose depths have a ratio above t. F1 is the mean over four directions of precision and
recall, and over ten thresholds from 1.05 to 1.25, weighted by t.

Source: Bochkovskii et al., "Depth Pro: sharp monocular metric depth in less than a second", arXiv 2410.02073,
section 3.3. There, an edge counts within 0 px; depth and color cameras are not aligned so well, hence `radius`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]
Mask = NDArray[np.bool_]

THRESHOLDS = np.linspace(1.05, 1.25, 10)


def find_edges(depth: Map, threshold: float) -> list[Mask]:
    """Return the edges of (H, W) positive depth by direction: nearer on the left, right, top and bottom, (H, W)."""
    edges = []
    for axis in (1, 0):
        ratio = np.ones_like(depth)
        first, second = (
            np.take(depth, range(depth.shape[axis] - 1), axis),
            np.take(depth, range(1, depth.shape[axis]), axis),
        )
        inside = (slice(None), slice(-1)) if axis == 1 else (slice(-1), slice(None))
        ratio[inside] = second / first
        edges += [ratio > threshold, ratio < 1 / threshold]
    return edges


def thicken(edges: Mask, radius: int) -> Mask:
    """Return the pixels within a radius of an edge."""
    if radius == 0:
        return edges
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.dilate(edges.astype(np.uint8), kernel) > 0)


def fill_holes(depth: Map) -> Map:
    """Fill unknown depth (0) with the farther of the nearest known depths in its row: holes are in the shadow of edges.

    Examples:
        >>> fill_holes(np.array([[1.0, 0, 0, 4]])).tolist()
        [[1.0, 4.0, 4.0, 4.0]]
    """
    known = depth > 0
    columns = np.arange(depth.shape[1])[None]
    before = np.maximum.accumulate(np.where(known, columns, -1), 1)
    after = np.minimum.accumulate(np.where(known, columns, depth.shape[1])[:, ::-1], 1)[:, ::-1]
    rows = np.arange(len(depth))[:, None]
    left = np.where(before >= 0, depth[rows, before.clip(0)], 0)
    right = np.where(after < depth.shape[1], depth[rows, after.clip(max=depth.shape[1] - 1)], 0)
    return np.where(known, depth, np.maximum(left, right))


def boundary_f1(predicted: Map, true: Map, radius: int = 0) -> float:
    """Return the boundary F1 of (H, W) depth, in any unit; the truth's unknown pixels are 0. NaN without true edges.

    Examples:
        >>> true = np.ones((8, 8))
        >>> true[:, 4:] = 2
        >>> boundary_f1(3 * true, true)
        1.0
        >>> boundary_f1(np.ones((8, 8)), true)
        0.0
    """
    filled = fill_holes(true)
    known = filled > 0
    filled = np.where(known, filled, filled[known].mean() if known.any() else 1.0)
    scores = []
    for threshold in THRESHOLDS:
        precision, recall, directions = 0.0, 0.0, 0
        for own, truth in zip(find_edges(predicted, threshold), find_edges(filled, threshold), strict=True):
            if not truth.any():
                continue
            directions += 1
            precision += (own & thicken(truth, radius)).sum() / max(own.sum(), 1)
            recall += (truth & thicken(own, radius)).sum() / truth.sum()
        total = precision + recall
        scores.append(np.nan if directions == 0 else 0.0 if total == 0 else 2 * precision * recall / total / directions)
    counted = np.isfinite(scores)
    return float(np.average(np.array(scores)[counted], weights=THRESHOLDS[counted])) if counted.any() else float("nan")
