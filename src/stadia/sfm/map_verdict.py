"""Judge a map by what its own matches show: may anyone rely on it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from stadia.sfm.map_evidence import (
    MAX_ERROR,
    count_reversing,
    find_contradiction,
    find_worst_place,
    measure_agreement,
    measure_plane,
    measure_speed_jump,
    measure_standing,
    measure_turns,
    measure_unexplained,
    measure_zoom,
)
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.road_sweep import find_travel_direction
from stadia.sfm.sparse_map import Array, SparseMap


class MapGrade(StrEnum):
    """usable: nothing found.  doubtful: part of the frames or one sign is missing.  unusable: nothing uses it."""

    USABLE = "usable"
    DOUBTFUL = "doubtful"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class MapEvidence:
    """What the images show about a map.

    placed: share of the frames with a pose.
    held_out_px: median error of held-out matches, of the small frames.  held_out_within: share within MAX_ERROR.
    contradicted: largest share of matches that contradict, across one place of the path or around a group of frames.
    contradicted_frame: the key frame before that place.
    turn_deg: upper quartile of the rotations of neighbors against those by their matches.
    unexplained: share of matches of distant key frames that fit their motion but not the path's, where it is worst.
    reversing: share of the steps of a camera that drives forward which reverse; 0 for other cameras.
    speed_jump: largest factor between the speeds before and after a key frame.
    standing: share of matches of distant key frames that do not move.
    planar: share of them that one plane explains.
    zoomed: share of them that a change of focal length alone explains.
    has_camera: whether the camera was given.
    road_drift: factor by which the camera's height over the road changes along the path.
    """

    placed: float
    held_out_px: float
    held_out_within: float
    contradicted: float
    contradicted_frame: int
    turn_deg: float
    reversing: float
    speed_jump: float
    standing: float
    planar: float
    zoomed: float
    has_camera: bool
    road_drift: float = 1.0
    unexplained: float = 0.0


@dataclass(frozen=True, slots=True)
class MapReason:
    """A field of the evidence beyond its limit, and the resulting grade."""

    field: str
    value: float
    limit: float
    grade: MapGrade


@dataclass(frozen=True, slots=True)
class MapVerdict:
    """The grade of a map with its reasons and the evidence."""

    grade: MapGrade
    reasons: tuple[MapReason, ...]
    evidence: MapEvidence


MIN_PLACED, MIN_PLACED_AT_ALL = 0.5, 0.1
MIN_HELD_OUT, MIN_HELD_OUT_AT_ALL = 0.8, 0.5
MAX_CONTRADICTED = 0.4
"""Wrong joins of `walk` have .85 to 1; right maps of it and of other videos up to .2."""

MAX_TURN_ERROR_DEG = 3.0
"""Right maps of `walk` have up to 1.5; a drive whose path points 39 degrees past its view has 3.7."""

MAX_UNEXPLAINED = 0.5
"""Right maps have up to .1, with a focal length 1 % off .46; drives that traffic pulls 20 to 50 degrees aside .62."""

MAX_REVERSING = 0.1
MAX_SPEED_JUMP = 12.0
MAX_STANDING = 0.5
MAX_ZOOMED = 0.9
MAX_PLANAR = 0.95
"""If one plane explains the images, it does not determine an unknown camera."""

MAX_ROAD_DRIFT = 1.15
"""KITTI 06 has 1.01; a lens that zooms by 1.5 on a straight drive has 1.3, and fits its matches by .4 px."""


def judge_map(evidence: MapEvidence) -> MapVerdict:
    """Return the verdict on a map. The worst reason decides."""
    found = evidence
    unusable, doubtful = MapGrade.UNUSABLE, MapGrade.DOUBTFUL
    planar = 0.0 if found.has_camera else found.planar
    drift = max(found.road_drift, 1 / found.road_drift)
    zoomed = doubtful if found.has_camera else unusable  # a camera that rises over flat ground zooms in appearance
    checks = (
        (found.standing > MAX_STANDING, MapReason("standing", found.standing, MAX_STANDING, unusable)),
        (
            found.contradicted > MAX_CONTRADICTED,
            MapReason("contradicted", found.contradicted, MAX_CONTRADICTED, unusable),
        ),
        (
            found.held_out_within < MIN_HELD_OUT_AT_ALL,
            MapReason("held_out_within", found.held_out_within, MIN_HELD_OUT_AT_ALL, unusable),
        ),
        (found.turn_deg > MAX_TURN_ERROR_DEG, MapReason("turn_deg", found.turn_deg, MAX_TURN_ERROR_DEG, unusable)),
        (found.unexplained > MAX_UNEXPLAINED, MapReason("unexplained", found.unexplained, MAX_UNEXPLAINED, unusable)),
        (found.zoomed > MAX_ZOOMED, MapReason("zoomed", found.zoomed, MAX_ZOOMED, zoomed)),
        (math.isnan(found.held_out_px), MapReason("held_out_px", 0.0, 0.0, doubtful)),
        (found.reversing > MAX_REVERSING, MapReason("reversing", found.reversing, MAX_REVERSING, unusable)),
        (found.placed < MIN_PLACED_AT_ALL, MapReason("placed", found.placed, MIN_PLACED_AT_ALL, unusable)),
        (
            found.held_out_within < MIN_HELD_OUT,
            MapReason("held_out_within", found.held_out_within, MIN_HELD_OUT, doubtful),
        ),
        (found.speed_jump > MAX_SPEED_JUMP, MapReason("speed_jump", found.speed_jump, MAX_SPEED_JUMP, doubtful)),
        (drift > MAX_ROAD_DRIFT, MapReason("road_drift", drift, MAX_ROAD_DRIFT, doubtful)),
        (planar > MAX_PLANAR, MapReason("planar", planar, MAX_PLANAR, doubtful)),
        (found.placed < MIN_PLACED, MapReason("placed", found.placed, MIN_PLACED, doubtful)),
    )
    reasons = {reason.field: reason for failed, reason in reversed(checks) if failed}
    grades = [reason.grade for reason in reasons.values()]
    grade = next((grade for grade in (unusable, doubtful) if grade in grades), MapGrade.USABLE)
    return MapVerdict(grade, tuple(sorted(reasons.values(), key=lambda reason: reason.grade != unusable)), evidence)


def measure_evidence(
    sparse: SparseMap, pairs: Sequence[FramePair], T_world_camera: Array, *, has_camera: bool, road_drift: float = 1.0
) -> MapEvidence:
    """Return the evidence on a map by the matches of its key frames.

    T_world_camera: (N, 4, 4) of all frames of the video, NaN for lost ones.
    """
    agreement = measure_agreement(sparse, pairs)
    contradicted, worst = find_contradiction(agreement, MAX_CONTRADICTED)
    held = agreement.held
    turns = measure_turns(sparse, pairs)
    placed = np.isfinite(T_world_camera).all((1, 2))
    reversing, steps = count_reversing(T_world_camera[placed, :3, 3])
    drives = find_travel_direction(T_world_camera) is not None
    limit = MAX_ERROR * max(sparse.camera.height, sparse.camera.width)
    return MapEvidence(
        placed=float(placed.mean()),
        held_out_px=float(np.median(held)) if len(held) else float("nan"),
        held_out_within=float((held < limit).mean()) if len(held) else 1.0,
        contradicted=contradicted,
        contradicted_frame=int(sparse.frames[worst]),
        turn_deg=float(np.quantile(turns, 0.75)) if len(turns) else 0.0,
        reversing=reversing / max(steps, 1) if drives else 0.0,
        speed_jump=measure_speed_jump(sparse),
        standing=measure_standing(pairs, sparse.camera.width),
        planar=measure_plane(pairs),
        zoomed=measure_zoom(pairs),
        has_camera=has_camera,
        road_drift=road_drift,
        unexplained=find_worst_place(measure_unexplained(sparse, pairs)),
    )
