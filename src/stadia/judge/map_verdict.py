"""Judge the path and the camera of a map by what was measured on its matches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

PATH, CAMERA = "path", "camera"
"""The two parts of a map that are graded."""


class MapGrade(StrEnum):
    """How far the path or the camera of a map can be relied on.

    usable: no sign of a fault.
    doubtful: few frames have a pose, one sign speaks against the path, or the images do not determine the camera.
    unusable: the path is wrong, or nothing supports it; no command of stadia uses the map.
    """

    USABLE = "usable"
    DOUBTFUL = "doubtful"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class MapEvidence:
    """Measurements from the images that speak for or against a map. Shares are between 0 and 1.

    placed: share of the frames that have a pose.
    held_out_px: median error in pixels (of the small frames) of matches that were held out of the mapping; NaN if there
        are none.
    held_out_within: share of these matches whose error is below MAX_ERROR (.005 of the longer image side).
    contradicted: largest share of matches that contradict the map, across one place of the trajectory or around a group
        of keyframes.
    contradicted_frame: index of the keyframe before that place or group.
    turn_deg: upper quartile of the angles, degrees, between the rotation of keyframes in the map and that
        from their matches alone.
    reversing: share of the steps that go back against the step before, if the camera otherwise drives forward; else 0.
    speed_jump: largest factor between the camera's speed before and after a keyframe.
    standing: share of the matches of distant keyframes that do not move.
    planar: share of the matches of distant keyframes that one plane, or a pure rotation, explains.
    covered: share of the frames that have a pose in this or another part of the video.
    open_focal: standard deviation of the focal length as its share (1 if it is assumed), if `planar` is above
        MAX_PLANAR and the images do not expand, as towards the plane; else 0.
    zoomed: share of the matches of distant keyframes that a change of focal length alone explains.
    has_camera: whether the user gave the camera.
    road_drift: change of the camera's height over the road along the trajectory, as a factor; 1 without a road.
    unexplained: share of the matches of distant keyframes that fit an essential matrix of their own but not the map's
        poses, at the worst place.
    is_camera_determined: whether the images determine the camera well enough to report it, if the user did not give it.
    is_ordered: whether the images are in the order of the path, as in a video; else its steps do not count.
    view_turn_deg: largest rotation between two keyframes, degrees.
    aside: share of the pairs of expanding images that show another direction of motion than the path.
    kink_deg: largest angle, degrees, of a step of a drive against the usual direction of travel; 0 if it is not a
        drive.
    kink_frame: index of the frame at the start of this step.
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
    is_camera_determined: bool = True
    is_ordered: bool = True
    covered: float = 1.0
    open_focal: float = 0.0
    view_turn_deg: float = 0.0
    aside: float = 0.0
    kink_deg: float = 0.0
    kink_frame: int = 0


@dataclass(frozen=True, slots=True)
class MapReason:
    """One measurement of `MapEvidence` that is beyond its limit.

    field: name of the field of `MapEvidence`; "near" for several signs that are near their limits; "path" if an
        unusable path speaks against the camera.
    value: the measurement.
    limit: its limit.
    grade: the grade that the path or the camera gets at best with this fault.
    of: "path" or "camera", whichever the measurement speaks against.
    """

    field: str
    value: float
    limit: float
    grade: MapGrade
    of: str = PATH


@dataclass(frozen=True, slots=True)
class MapVerdict:
    """The grades of a map's path and of its camera, why they got them, and all measurements.

    A path can be right although the images leave the camera open: in a straight drive or over flat ground.

    path: grade of poses and points.
    camera: grade of focal length and distortion: usable if the user gave them, or the images determine them and the
        path is not unusable; else doubtful.
    reasons: the measurements beyond their limit, the most serious first; empty if both grades are usable.
    evidence: all measurements.
    """

    path: MapGrade
    camera: MapGrade
    reasons: tuple[MapReason, ...]
    evidence: MapEvidence

    @property
    def grade(self) -> MapGrade:
        """Return the grade of the whole map, which equals the grade of its path."""
        return self.path

    def list_reasons(self, of: str) -> list[MapReason]:
        """Return the reasons for the grade of the path (`of` is PATH) or of the camera (CAMERA)."""
        return [reason for reason in self.reasons if reason.of == of]


MIN_PLACED, MIN_PLACED_AT_ALL = 0.5, 0.1

MIN_COVERED = 0.2
"""Smallest share `MapEvidence.covered` of a doubtful map.

A standing camera, a pan and a camera that follows a car have .11 to .195, where things move; a right part of a drive
has .23.
"""

MIN_HELD_OUT, MIN_HELD_OUT_AT_ALL = 0.8, 0.5
MAX_CONTRADICTED = 0.4
"""Largest share of contradicting matches (`MapEvidence.contradicted`) of a usable map.

Wrong joins in the test video `walk` have .85 to 1; right maps of it and of other videos up to .2.
"""

MAX_TURN_ERROR_DEG = 3.0
"""Largest rotation error (`MapEvidence.turn_deg`) of a usable map, degrees.

Right maps of the test video `walk` have up to 1.5; a drive whose trajectory points 39 degrees past its view has 3.7.
"""

MAX_UNEXPLAINED = 0.5
"""Largest share `MapEvidence.unexplained` of a usable map.

Right maps have up to .1, and .46 with a focal length 1 % off; drives whose trajectory traffic pulls 20 to 50 degrees
aside have .62.
"""

MAX_ASIDE = 0.25
"""Largest share `MapEvidence.aside` of a usable map.

Right parts of drives have 0 to .08; a part of a drive that slides sideways has .37, a cartoon .52.
"""

MAX_KINK_DEG = 45.0
"""Largest angle `MapEvidence.kink_deg` of a usable map, degrees."""

MAX_REVERSING = 0.1
MAX_SPEED_JUMP = 12.0
MAX_STANDING = 0.5
MAX_ZOOMED = 0.9
MAX_PLANAR, MIN_PLANE_TURN_DEG = 0.95, 30.0
"""Largest share of matches on one plane with which an unknown camera counts as determined, unless the view turns by
MIN_PLANE_TURN_DEG: a plane seen from several sides shows the camera (Triggs, ECCV 1998).
"""

MAX_OPEN_FOCAL = 0.25
"""Largest share `MapEvidence.open_focal` of a usable map.

A camera that pans over one plane fits its matches as well as one that moves beside it. Four pans have .6, .7 and, with
an assumed focal length, 1; orbits over a table or a mat, whose maps are right, up to .025.
"""

MAX_ROAD_DRIFT = 1.15
"""Largest change of the height over the road along the trajectory of a usable map, as a factor.

KITTI 06 has 1.01; a lens that zooms by 1.5 on a straight drive has 1.3, and fits its matches by .4 px.
"""


NEAR_SHARE, MAX_NEAR = 0.6, 2
"""Share of its limit from which a sign counts as near it, and most such signs of a usable map.

Right maps of strangers' videos have none or one, and one of them two. A rendered walk whose first frames are misplaced
set this limit: it has five, none of them beyond its own.
"""

OF_ORDER = frozenset({"reversing", "speed_jump", "kink_deg"})
"""Measurements of the steps of a path, which photos without order do not show."""


def judge_map(evidence: MapEvidence) -> MapVerdict:
    """Compare the measurements on a map with their limits; the worst reason decides on the grade of path and camera."""
    reasons = {(reason.of, reason.field): reason for reason in reversed(list(_list_faults(evidence)))}
    ordered = sorted(reasons.values(), key=lambda reason: reason.grade != MapGrade.UNUSABLE)

    def find_grade(of: str) -> MapGrade:
        grades = [reason.grade for reason in ordered if reason.of == of]
        return grades[0] if grades else MapGrade.USABLE

    return MapVerdict(find_grade(PATH), find_grade(CAMERA), tuple(ordered), evidence)


def _list_faults(found: MapEvidence) -> Iterator[MapReason]:
    """Yield the measurements beyond their limit; of two limits of one measurement, the more serious one first."""
    unusable, doubtful = MapGrade.UNUSABLE, MapGrade.DOUBTFUL
    drift = max(found.road_drift, 1 / found.road_drift)
    zoomed = doubtful if found.has_camera else unusable  # a camera that rises over flat ground zooms in appearance
    too_large = (
        ("standing", found.standing, MAX_STANDING, unusable),
        ("contradicted", found.contradicted, MAX_CONTRADICTED, unusable),
        ("turn_deg", found.turn_deg, MAX_TURN_ERROR_DEG, unusable),
        ("unexplained", found.unexplained, MAX_UNEXPLAINED, unusable),
        ("aside", found.aside, MAX_ASIDE, unusable),
        ("zoomed", found.zoomed, MAX_ZOOMED, zoomed),
        ("open_focal", found.open_focal, MAX_OPEN_FOCAL, unusable),
        ("reversing", found.reversing, MAX_REVERSING, unusable),
        ("speed_jump", found.speed_jump, MAX_SPEED_JUMP, doubtful),
        ("kink_deg", found.kink_deg, MAX_KINK_DEG, doubtful),
        ("road_drift", drift, MAX_ROAD_DRIFT, doubtful),
    )
    too_small = (
        ("held_out_within", found.held_out_within, MIN_HELD_OUT_AT_ALL, unusable),
        ("placed", found.placed, MIN_PLACED_AT_ALL, unusable),
        ("covered", found.covered, MIN_COVERED, unusable),
        ("held_out_within", found.held_out_within, MIN_HELD_OUT, doubtful),
        ("placed", found.placed, MIN_PLACED, doubtful),
    )
    faults = [MapReason(*fault) for fault in too_large if fault[1] > fault[2]]
    faults = [fault for fault in faults if found.is_ordered or fault.field not in OF_ORDER]
    faults += [MapReason(*fault) for fault in too_small if fault[1] < fault[2]]
    yield from faults
    if not faults and (near := len(list_near_signs(found))) > MAX_NEAR:
        yield MapReason("near", float(near), float(MAX_NEAR), doubtful)
    if math.isnan(found.held_out_px):
        yield MapReason("held_out_px", 0.0, 0.0, doubtful)
    if found.has_camera:
        return
    if not found.is_camera_determined:
        yield MapReason("is_camera_determined", 0.0, 1.0, doubtful, CAMERA)
    elif any(fault.grade == unusable for fault in faults):
        yield MapReason("path", 0.0, 1.0, doubtful, CAMERA)
    if found.planar > MAX_PLANAR and found.view_turn_deg < MIN_PLANE_TURN_DEG:
        yield MapReason("planar", found.planar, MAX_PLANAR, doubtful, CAMERA)


def list_near_signs(found: MapEvidence) -> list[str]:
    """List the signs of a few wrong poses that are near their limit or beyond it, by their fields.

    found: the measurements on a map.
    """
    signs = {
        "turn_deg": found.turn_deg / MAX_TURN_ERROR_DEG,
        "unexplained": found.unexplained / MAX_UNEXPLAINED,
        "aside": found.aside / MAX_ASIDE,
        "contradicted": found.contradicted / MAX_CONTRADICTED,
        "speed_jump": math.log(max(found.speed_jump, 1)) / math.log(MAX_SPEED_JUMP) * found.is_ordered,
        "held_out_within": (1 - found.held_out_within) / (1 - MIN_HELD_OUT),
    }
    return [field for field, share in signs.items() if share > NEAR_SHARE]
