"""Estimate the focal length of a camera that only turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from stadia.geometry.cameras import focal_px_from_fov
from stadia.sfm.sparse_map import Array

MAX_PAIRS = 24
"""Number of image pairs that are tested for a pure rotation: those with the largest motion, since parallax grows with
it.
"""

MIN_MOTION = 0.05
"""Smallest median motion of the matches of a tested image pair, as a share of the image width; below it, noise hides
parallax.
"""

MIN_MATCHES = 30
"""Fewest matches of a tested image pair: fewer do not fix a rotation against outliers."""

MIN_PAIRS = 3
"""Fewest tested image pairs from which a focal length is estimated."""

MAX_RESIDUAL_PX = 0.7
"""A pure rotation explains the matches if its residual is at most this, pixels, for the share EXPLAINED of them."""

EXPLAINED = 0.8
"""Smallest share of the matches that a pure rotation explains."""

_FOVS_DEG = np.geomspace(22.0, 135.0, 12)
"""Fields of view, degrees, from which the best focal length is refined."""

_KABSCH_ROUNDS = 3
"""Fits of a rotation, each to the matches that the fit before explains best."""

_KEPT = 0.7
"""Share of the matches that the next fit of a rotation uses."""


def find_rotation_focal(pairs: Sequence[tuple[Array, Array]], height: int, width: int) -> float | None:
    """Find the focal length of a camera that only rotates, by fitting a rotation to the matches of each image pair.

    A camera that moves sideways along a wall resembles a rotating camera with a very long lens. So None is returned if
    the best focal length is at an end of the tested range of fields of view.

    pairs: for each image pair, the matched pixels in the first and in the second image, (N, 2) each.
    height, width: size of the images, pixels.

    Returns the focal length in pixels; None if rotations do not explain the matches (there is parallax) or too few
    pairs move.
    """
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    centered = [(first - center, second - center) for first, second in _choose_pairs(pairs, width)]
    if len(centered) < MIN_PAIRS:
        return None

    def measure(log_focal: float) -> float:
        residuals = [_measure_rotation_px(first, second, float(np.exp(log_focal))) for first, second in centered]
        return float(np.quantile(np.concatenate(residuals), EXPLAINED))

    grid = np.log([focal_px_from_fov(fov_deg, width) for fov_deg in _FOVS_DEG])
    best = int(np.argmin([measure(value) for value in grid]))
    if best in (0, len(grid) - 1):
        return None
    found = minimize_scalar(measure, bounds=(grid[best + 1], grid[best - 1]), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x)) if found.fun < MAX_RESIDUAL_PX else None


def _choose_pairs(pairs: Sequence[tuple[Array, Array]], width: int) -> list[tuple[Array, Array]]:
    rated = [
        (float(np.median(np.linalg.norm(second - first, axis=1))), place)
        for place, (first, second) in enumerate(pairs)
        if len(first) >= MIN_MATCHES
    ]
    wide = sorted((motion, place) for motion, place in rated if motion > MIN_MOTION * width)
    return [pairs[place] for _, place in wide[-MAX_PAIRS:]]


def _measure_rotation_px(first: Array, second: Array, focal_px: float) -> Array:
    """Return the residuals (N,) of pixels (N, 2) about the center after the best rotation."""
    rays, targets = (np.column_stack((xy / focal_px, np.ones(len(xy)))) for xy in (first, second))
    rays, targets = (ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in (rays, targets))
    kept = np.ones(len(rays), bool)
    for _ in range(_KABSCH_ROUNDS):
        U, _, Vt = np.linalg.svd(targets[kept].T @ rays[kept])
        turned = rays @ (U @ np.diag((1, 1, np.linalg.det(U @ Vt))) @ Vt).T
        residual_px = np.linalg.norm(focal_px * turned[:, :2] / np.maximum(turned[:, 2:], 1e-3) - second, axis=1)
        kept = residual_px <= np.quantile(residual_px, _KEPT)
    return residual_px
