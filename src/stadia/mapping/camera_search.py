"""Find an unknown camera: map from several fields of view, adjust, and keep the start of least cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stadia.mapping.features import import_pycolmap
from stadia.mapping.lens_intervals import LensIntervals, measure_lens
from stadia.mapping.reconstruction import (
    START_FOVS_DEG,
    adjust,
    change_model,
    focal_px_of,
    map_frames,
    measure_cost,
    mirror_if_better,
)
from stadia.mapping.sparse_map import LensCamera, from_reconstruction

SEARCH_FRAMES = 30
"""Key frames that a start is tried with."""

MIN_FOV_DEG, MAX_FOV_DEG = 20.0, 140.0
ASSUMED_FOV_DEG = 60.0
"""Field of view of a camera that the motion does not determine: between those of dashcams and of telephones' videos."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundCamera:
    """A camera of the small frames with its deviations.

    registered: share of the tried key frames that were placed.  cost: of `measure_cost`.
    """

    camera: LensCamera
    intervals: LensIntervals
    registered: float
    cost: float


def find_camera(database: Path, frames: Sequence[int], height: int, width: int, *, threads: int) -> FoundCamera | None:
    """Return the camera from SEARCH_FRAMES key frames; None where no start places three of them.

    frames: indices of all key frames; those in the middle are tried.
    """
    start = max(0, (len(frames) - SEARCH_FRAMES) // 2)
    names = [f"{index:08d}" for index in frames[start : start + SEARCH_FRAMES]]
    best: FoundCamera | None = None
    for fov_deg in START_FOVS_DEG:
        found = _try_start(database, names, focal_px_of(fov_deg, width), height, width, threads)
        if found is not None and (best is None or _rank(found) > _rank(best)):
            best = found
    return best


def _rank(found: FoundCamera) -> tuple[float, float]:
    """Return what makes a start better: more placed frames, in tenths, then a smaller cost."""
    return round(found.registered, 1), -found.cost


def _try_start(
    database: Path, names: Sequence[str], focal_px: float, height: int, width: int, threads: int
) -> FoundCamera | None:
    center = (width - 1) / 2, (height - 1) / 2
    start = LensCamera(focal_px, center, (0, 0, 0, 0), height, width)
    model = map_frames(database, names, start.to_pycolmap(import_pycolmap()), refine=False, threads=threads)
    if model is None or model.num_reg_images() < 3:
        return None
    change_model(model, "RADIAL")
    model = mirror_if_better(model, refine=True, threads=threads)
    adjust(model, refine_focal=True, refine_lens=True, threads=threads)
    sparse = from_reconstruction(model, {})
    lens = sparse.camera
    if not focal_px_of(MAX_FOV_DEG, width) < lens.focal_px < focal_px_of(MIN_FOV_DEG, width):
        return None
    intervals = measure_lens(sparse)
    return FoundCamera(lens, intervals, len(sparse.frames) / len(names), measure_cost(model))
