"""Find an unknown camera: map from several fields of view, adjust, and keep the start of least cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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

MAX_RIVAL_COST = 1.6
MAX_START_DIFFERENCE = 0.04
"""A focal length is claimed where starts with a cost up to MAX_RIVAL_COST times the best lead to it, and there is one:
the cost has minima that are none of the camera.
"""

MIN_FOV_DEG, MAX_FOV_DEG = 20.0, 140.0
ASSUMED_FOV_DEG = 60.0
"""Field of view of a camera that the motion does not determine: between those of dashcams and of telephones' videos."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundCamera:
    """A camera of the small frames with its deviations.

    registered: share of the tried key frames that were placed.  cost: of `measure_cost`.
    model: the pycolmap.Reconstruction of the tried key frames, from which the others are mapped.
    starts_agree: whether other starts that explain the images as well lead to this focal length.
    """

    camera: LensCamera
    intervals: LensIntervals
    registered: float
    cost: float
    model: Any
    starts_agree: bool = True


def find_camera(database: Path, frames: Sequence[int], height: int, width: int, *, threads: int) -> FoundCamera | None:
    """Return the camera from SEARCH_FRAMES key frames; None where no start places three of them.

    frames: indices of the key frames; those in the middle are tried.
    """
    start = max(0, (len(frames) - SEARCH_FRAMES) // 2)
    names = [f"{index:08d}" for index in frames[start : start + SEARCH_FRAMES]]
    tried = [_try_start(database, names, focal_px_of(deg, width), height, width, threads) for deg in START_FOVS_DEG]
    starts = sorted((found for found in tried if found is not None), key=_rank)
    if not starts:
        return None
    best = starts[-1]
    rivals = [start for start in starts[:-1] if start.cost < MAX_RIVAL_COST * best.cost]
    agree = [abs(start.camera.focal_px / best.camera.focal_px - 1) < MAX_START_DIFFERENCE for start in rivals]
    return replace(best, starts_agree=len(rivals) > 0 and all(agree))


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
    model = mirror_if_better(model, threads=threads)
    change_model(model, "RADIAL")
    adjust(model, refine_focal=True, refine_lens=True, threads=threads)
    sparse = from_reconstruction(model, {})
    lens = sparse.camera
    if not focal_px_of(MAX_FOV_DEG, width) < lens.focal_px < focal_px_of(MIN_FOV_DEG, width):
        return None
    intervals = measure_lens(sparse)
    return FoundCamera(lens, intervals, len(sparse.frames) / len(names), measure_cost(model), model)
