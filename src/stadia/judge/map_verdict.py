"""Judge the path and the camera of a map by what was measured on its matches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from stadia.core.verdict import Verdict, find_worst
from stadia.judge.limits import MAP_CAMERA_LIMITS, MAP_LIMITS

PATH, CAMERA = "path", "camera"
"""The two parts of a map that are judged."""


@dataclass(frozen=True, slots=True)
class MapEvidence:
    """Measurements from the images that speak for or against a map. Shares are between 0 and 1.

    placed: share of the frames that have a pose.
    held_out_px: median error in pixels (of the small frames) of matches that were held out of the mapping; NaN if there
        are none.
    held_out_within: share of these matches whose error is below `map_evidence.MAX_ERROR`.
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
        its limit and the images do not expand, as towards the plane; else 0.
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
    grade: Verdict
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

    path: Verdict
    camera: Verdict
    reasons: tuple[MapReason, ...]
    evidence: MapEvidence

    @property
    def grade(self) -> Verdict:
        """Return the grade of the whole map, which equals the grade of its path."""
        return self.path

    def list_reasons(self, of: str) -> list[MapReason]:
        """Return the reasons for the grade of the path (`of` is PATH) or of the camera (CAMERA)."""
        return [reason for reason in self.reasons if reason.of == of]


NEAR_SHARE = 0.6
"""Share of its limit from which a sign counts as near it."""

MAX_NEAR = 2
"""Most signs near their limit of a usable map.

Right maps of strangers' videos have none or one, and one of them two. A rendered walk whose first frames are misplaced
set this limit: it has five, none of them beyond its own.
"""

OF_ORDER = frozenset({"reversing", "speed_jump", "kink_deg"})
"""Measurements of the steps of a path, which photos without order do not show."""


def judge_map(evidence: MapEvidence) -> MapVerdict:
    """Compare the measurements on a map with their limits; the worst reason decides the verdict of path and camera."""
    faults = list(_list_faults(evidence))
    if not faults and (near := len(list_near_signs(evidence))) > MAX_NEAR:
        faults.append(MapReason("near", float(near), float(MAX_NEAR), Verdict.DOUBTFUL))
    is_wrong = any(fault.grade is Verdict.UNUSABLE for fault in faults)
    if math.isnan(evidence.held_out_px):
        faults.insert(0, MapReason("held_out_px", 0.0, 0.0, Verdict.DOUBTFUL))
    of_camera = [] if evidence.has_camera else list(_list_camera_faults(evidence, is_path_wrong=is_wrong))
    ordered = sorted([*of_camera, *faults], key=lambda reason: -reason.grade.rank)
    path, camera = (find_worst(reason.grade for reason in ordered if reason.of == of) for of in (PATH, CAMERA))
    return MapVerdict(path, camera, tuple(ordered), evidence)


def _list_faults(evidence: MapEvidence) -> Iterator[MapReason]:
    """Yield the measurements on the path that are beyond their limit."""
    for limit in MAP_LIMITS.values():
        value = limit.bounds.measure(getattr(evidence, limit.field))
        verdict = limit.judge(value)
        if verdict is Verdict.USABLE or (limit.field in OF_ORDER and not evidence.is_ordered):
            continue
        bound = limit.bounds.values[verdict]
        if limit.field == "zoomed" and evidence.has_camera:  # a camera that rises over flat ground seems to zoom
            verdict = Verdict.DOUBTFUL
        yield MapReason(limit.field, value, bound, verdict)


def _list_camera_faults(evidence: MapEvidence, *, is_path_wrong: bool) -> Iterator[MapReason]:
    """Yield what speaks against the camera of a map, if the user did not give it."""
    planar, view_turn = MAP_CAMERA_LIMITS["planar"], MAP_CAMERA_LIMITS["view_turn_deg"]
    is_flat = planar.judge(evidence.planar) is not Verdict.USABLE
    if is_flat and view_turn.judge(evidence.view_turn_deg) is not Verdict.USABLE:
        yield MapReason("planar", evidence.planar, planar.doubtful, Verdict.DOUBTFUL, CAMERA)
    if not evidence.is_camera_determined:
        yield MapReason("is_camera_determined", 0.0, 1.0, Verdict.DOUBTFUL, CAMERA)
    elif is_path_wrong:
        yield MapReason("path", 0.0, 1.0, Verdict.DOUBTFUL, CAMERA)


def list_near_signs(found: MapEvidence) -> list[str]:
    """List the signs of a few wrong poses that are near their limit or beyond it, by their fields.

    found: the measurements on a map.
    """
    fields = ("turn_deg", "unexplained", "aside", "contradicted")
    signs = {field: getattr(found, field) / MAP_LIMITS[field].unusable for field in fields}
    signs["speed_jump"] = math.log(max(found.speed_jump, 1)) / math.log(MAP_LIMITS["speed_jump"].doubtful)
    signs["speed_jump"] *= found.is_ordered
    signs["held_out_within"] = (1 - found.held_out_within) / (1 - MAP_LIMITS["held_out_within"].doubtful)
    return [field for field, share in signs.items() if share > NEAR_SHARE]
