"""Find a camera that turns on the spot: rotations with one focal length explain all matches (Hartley, ECCV 1994)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from stadia.geometry.numpy_camera import focal_px_from_fov
from stadia.mapping.features import import_pycolmap
from stadia.mapping.sparse_map import Array

MAX_PAIRS = 24
"""Pairs that are tried, those of the largest motion: parallax grows with it."""

MIN_MOTION = 0.05
"""Least median motion of a pair's matches, as a share of the width: below, parallax hides in the noise."""

MIN_MATCHES, MIN_PAIRS = 30, 3
MAX_RESIDUAL_PX = 0.7
"""Largest distance within which rotations explain EXPLAINED of the matches of a camera that turns on the spot."""

EXPLAINED = 0.8
_FOVS_DEG = np.geomspace(22.0, 135.0, 12)
_KABSCH_ROUNDS, _KEPT = 3, 0.7


def find_rotation_focal(pairs: Sequence[tuple[Array, Array]], height: int, width: int) -> float | None:
    """Return the focal length, pixels, of a camera that only turns; None where the matches have parallax.

    A camera that moves along a wall shifts its image as a very long lens that turns would: a focal length at the end of
    the range is none.

    Args:
        pairs: pixels of the matches of two images, (N, 2) each.
        height: of the images.
        width: of the images.
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
    """Return the pairs of the largest median motion."""
    rated = [
        (float(np.median(np.linalg.norm(second - first, axis=1))), place)
        for place, (first, second) in enumerate(pairs)
        if len(first) >= MIN_MATCHES
    ]
    wide = sorted((motion, place) for motion, place in rated if motion > MIN_MOTION * width)
    return [pairs[place] for _, place in wide[-MAX_PAIRS:]]


def _measure_rotation_px(first: Array, second: Array, focal_px: float) -> Array:
    """Return (N,), the distance of pixels (N, 2) about the center from where the best rotation puts them."""
    rays, targets = (np.column_stack((xy / focal_px, np.ones(len(xy)))) for xy in (first, second))
    rays, targets = (ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in (rays, targets))
    kept = np.ones(len(rays), bool)
    for _ in range(_KABSCH_ROUNDS):
        U, _, Vt = np.linalg.svd(targets[kept].T @ rays[kept])
        turned = rays @ (U @ np.diag((1, 1, np.linalg.det(U @ Vt))) @ Vt).T
        residual_px = np.linalg.norm(focal_px * turned[:, :2] / np.maximum(turned[:, 2:], 1e-3) - second, axis=1)
        kept = residual_px <= np.quantile(residual_px, _KEPT)
    return residual_px


def read_matches(database: Path) -> list[tuple[Array, Array]]:
    """Return pixels (N, 2) of the verified matches of each pair of images of COLMAP's database."""
    pycolmap = import_pycolmap()
    with pycolmap.Database.open(str(database)) as store:
        xy = {
            image.image_id: np.asarray(store.read_keypoints(image.image_id), float)[:, :2] - 0.5
            for image in store.read_all_images()
        }
        ids, geometries = store.read_two_view_geometries()
        pairs = [
            (pycolmap.pair_id_to_image_pair(pair_id), np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2))
            for pair_id, geometry in zip(ids, geometries, strict=True)
        ]
    return [(xy[first][matches[:, 0]], xy[second][matches[:, 1]]) for (first, second), matches in pairs]
