"""Compare the 2D points of a COLMAP model with where its own cameras see its 3D points."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.io.records.reconstruction import Reconstruction
from stadia.sfm.sparse_map import import_pycolmap

Array = NDArray[np.float64]

MAX_READ = 20_000
"""Most 2D points that are compared."""

MIN_READ = 50
"""Fewest 2D points that show where they belong."""

MAX_RESIDUAL = 0.02
"""Largest median distance of 2D points from the projection of their 3D points, as a share of the longer side."""

MIN_FITTED = 0.1
"""Largest median distance after a scale and a shift, over that before, with which these explain it."""


def add_model_note(reconstruction: Reconstruction) -> Reconstruction:
    """Return a result as read, with a note if its 2D points do not belong to its cameras.

    reconstruction: cameras and poses as read.
    """
    note = note_model_points(reconstruction)
    return replace(reconstruction, notes=(*reconstruction.notes, note)) if note else reconstruction


def note_model_points(reconstruction: Reconstruction) -> str | None:
    """Return a sentence if the 2D points of a COLMAP model are not where its cameras see their 3D points.

    A converter that scales the cameras to the original images, and leaves the 2D points in the images that a network
    saw, writes such models. Their poses and cameras may be right.

    reconstruction: cameras and poses as read; only a COLMAP model has 2D points.
    """
    if reconstruction.format != "colmap":
        return None
    with suppress(StadiaError, RuntimeError, ValueError):
        points, projected = _project_points(import_pycolmap().Reconstruction(str(reconstruction.path)))
        if len(points) < MIN_READ:
            return None
        off_px = float(np.median(np.linalg.norm(points - projected, axis=1)))
        if off_px <= MAX_RESIDUAL * float(reconstruction.sizes.max()):
            return None
        off = f"2D points of the model are {off_px:.0f} px (median) from where its cameras see their 3D points"
        note = f"{off}; poses and cameras are judged without them"
        scale, shift = _fit_scale_and_shift(projected, points)
        fitted_px = float(np.median(np.linalg.norm(scale * projected + shift - points, axis=1)))
        if fitted_px > MIN_FITTED * off_px:
            return note
        what = (
            f"they belong to images that are scaled by {scale:.4g} and shifted by ({shift[0]:.0f}, {shift[1]:.0f}) px"
        )
        return (
            f"{note}. {what}, and then are {fitted_px:.1f} px off. Fix: undo both in the 2D points, or leave them out"
        )
    return None


def _project_points(model: Any) -> tuple[Array, Array]:
    """Return 2D points (N, 2) and the projections (N, 2) of their 3D points, of images spread over the model."""
    found, projected = list[Array](), list[Array]()
    images = [image for image in model.images.values() if image.has_pose]
    for image in images[:: max(1, len(images) // 50)]:
        for point in image.points2D:
            if len(found) == MAX_READ:
                break
            if point.has_point3D():
                at = image.project_point(model.points3D[point.point3D_id].xyz)
                if at is not None and np.isfinite(at).all():
                    found.append(np.asarray(point.xy, np.float64))
                    projected.append(np.asarray(at, np.float64))
    return np.array(found).reshape(-1, 2), np.array(projected).reshape(-1, 2)


def _fit_scale_and_shift(projected: Array, points: Array) -> tuple[float, Array]:
    """Return the scale and the shift (2,) from projections (N, 2) to 2D points (N, 2), by medians of both."""
    middles = [np.median(one, axis=0) for one in (projected, points)]
    spreads = [float(np.median(np.abs(one - middle))) for one, middle in zip((projected, points), middles, strict=True)]
    scale = spreads[1] / max(spreads[0], 1e-9)
    return scale, np.asarray(middles[1] - scale * middles[0])
