"""Find an unknown camera: map from several fields of view, adjust, and keep the start of least cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stadia.geometry.numpy_camera import focal_px_from_fov
from stadia.mapping.features import import_pycolmap
from stadia.mapping.lens_intervals import LensIntervals, measure_lens
from stadia.mapping.reconstruction import (
    START_FOVS_DEG,
    adjust,
    change_model,
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

START_ANGLES_DEG = (2.0, 6.0, 16.0)
"""Least angles of triangulation of the first pair, tried in this order: a wrong pair bends the whole path, and the cost
shows it (.16 and .47 on rendered roads).
"""

GIVEN_FACTOR = 0.8  # of a given focal length in a second start, which finds another first pair
GOOD_REGISTERED, GOOD_COST = 0.8, 0.2
FAIR_COST = 0.3  # of real images with the right first pair; one more angle is tried then

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

    @property
    def is_good(self) -> bool:
        """Return whether nearly all images are placed, and explained so well that no other start is needed."""
        return self.registered >= GOOD_REGISTERED and self.cost < GOOD_COST


def find_camera(
    database: Path, frames: Sequence[int], height: int, width: int, *, given: LensCamera | None, threads: int
) -> FoundCamera | None:
    """Return camera and model of SEARCH_FRAMES key frames; None where no start places three of them.

    frames: indices of the key frames; those in the middle are tried.
    given: the camera, if it is known: then only the structure is searched, since the first pair may be wrong.
    """
    first = max(0, (len(frames) - SEARCH_FRAMES) // 2)
    names = [f"{index:08d}" for index in frames[first : first + SEARCH_FRAMES]]
    cameras = [LensCamera.from_fov(deg, height, width) for deg in START_FOVS_DEG]
    if given is not None:
        cameras = [given, replace(given, focal_px=GIVEN_FACTOR * given.focal_px)]
    starts = list[FoundCamera]()
    if given is not None:  # with all key frames the first pair is mostly right
        every = [f"{index:08d}" for index in frames]
        starts += filter(None, [_try_start(database, every, given, given, START_ANGLES_DEG[0], threads)])
        if starts and starts[0].is_good:
            return starts[0]
    is_fair = given is not None and bool(starts) and starts[0].cost < FAIR_COST
    for angle_deg in START_ANGLES_DEG[1:2] if is_fair else START_ANGLES_DEG:
        for camera in cameras:
            found = _try_start(database, names, camera, given, angle_deg, threads)
            starts += [] if found is None else [found]
            if given is not None and starts and max(starts, key=_rank).is_good:
                break
        if starts and max(starts, key=_rank).is_good:
            break
    if not starts:
        return None
    best = max(starts, key=_rank)
    rivals = [start for start in starts if start is not best and start.cost < MAX_RIVAL_COST * best.cost]
    agree = [abs(start.camera.focal_px / best.camera.focal_px - 1) < MAX_START_DIFFERENCE for start in rivals]
    return replace(best, starts_agree=len(rivals) > 0 and all(agree))


def _rank(found: FoundCamera) -> tuple[float, float]:
    """Return what makes a start better: more placed frames, in fifths, then a smaller cost."""
    return round(5 * found.registered) / 5, -found.cost


def _try_start(
    database: Path, names: Sequence[str], start: LensCamera, given: LensCamera | None, angle_deg: float, threads: int
) -> FoundCamera | None:
    """Map the images from a camera, and adjust: with the given camera, or with a free one."""
    pycolmap = import_pycolmap()
    camera = start.to_pycolmap(pycolmap)
    model = map_frames(database, names, camera, refine=False, threads=threads, init_angle_deg=angle_deg)
    if model is None or model.num_reg_images() < 3:
        return None
    if given is not None:
        next(iter(model.cameras.values())).params = given.to_pycolmap(pycolmap).params
    model = mirror_if_better(model, threads=threads)
    if given is None:
        change_model(model, "RADIAL")
    adjust(model, refine_focal=given is None, refine_lens=given is None, threads=threads)
    sparse = from_reconstruction(model, {})
    lens = sparse.camera
    shortest_px, longest_px = (focal_px_from_fov(deg, start.width) for deg in (MAX_FOV_DEG, MIN_FOV_DEG))
    if given is None and not shortest_px < lens.focal_px < longest_px:
        return None
    intervals = measure_lens(sparse)
    return FoundCamera(lens, intervals, len(sparse.frames) / len(names), measure_cost(model), model)
