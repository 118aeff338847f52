"""Judge the path and the camera of a map by its measured error, and by whether its images can show one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stadia.core.verdict import Verdict, find_worst
from stadia.judge.error import MeasuredError
from stadia.judge.limits import MAP_CAMERA_LIMITS, MAP_LIMITS
from stadia.judge.purposes import PURPOSES, PurposeVerdict, grade_purposes, judge_purpose

PATH, CAMERA = "path", "camera"
"""The two parts of a map that are judged."""

PATH_PURPOSES = ("mesh", "measuring", "navigation")
"""Purposes that grade the path. Splats need consistent pixels only, which a wrong path along a line has too."""

FOCAL_DEVIATION = 0.005
"""Standard deviation of a measured focal length, as its share, from what the model of the lens leaves out."""


@dataclass(frozen=True, slots=True)
class MapEvidence:
    """Measurements from the images that speak for or against a map. Shares are between 0 and 1.

    error: error of poses and camera by matches that are held out.
    unexplained: share of the held-out matches that no poses explain, also after an adjustment; NaN without such
        matches.
    held_out_px: median error of held-out matches, pixels of images of 640; NaN if there are none.
    placed: share of the frames that have a pose.
    covered: share of the frames that have a pose in this or another part of the video.
    standing: share of the matches of distant keyframes that do not move.
    planar: share of the matches of distant keyframes that one plane, or a pure rotation, explains.
    zoomed: share of the matches of distant keyframes that a change of focal length alone explains.
    open_focal: standard deviation of the focal length as its share (1 if it is assumed), if `planar` is above
        its limit and the images do not expand, as towards the plane; else 0.
    view_turn_deg: largest rotation between two keyframes, degrees.
    has_camera: whether the user gave the camera.
    road_drift: change of the camera's height over the road along the trajectory, as a factor; 1 without a road.
    is_camera_determined: whether the images determine the camera well enough to report it, if the user did not give it.
    """

    error: MeasuredError
    unexplained: float
    held_out_px: float
    placed: float
    covered: float
    standing: float
    planar: float
    zoomed: float
    open_focal: float
    view_turn_deg: float
    has_camera: bool
    road_drift: float = 1.0
    is_camera_determined: bool = True

    @property
    def focal_error(self) -> float:
        """Return the share by which the focal length is surely off: the error less two deviations, at least 0."""
        focal = self.error.focal_share
        return 0.0 if focal is None else max(abs(focal.value) - 2 * focal.deviation, 0.0)

    @property
    def is_focal_confirmed(self) -> bool:
        """Return whether held-out matches show the map's focal length, within the limit of `focal_error`."""
        focal, limit = self.error.focal_share, MAP_CAMERA_LIMITS["focal_error"]
        if focal is None:
            return False
        farthest = abs(focal.value) + 2 * math.hypot(focal.deviation, FOCAL_DEVIATION)
        return limit.judge(farthest) is Verdict.USABLE


@dataclass(frozen=True, slots=True)
class MapReason:
    """What keeps the path or the camera of a map from being usable.

    field: name of the field of `MapEvidence`; "purposes" if the path is good for none of PATH_PURPOSES; "path" if an
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
        path is not unusable, and held-out matches show no other focal length; else doubtful.
    purposes: what the path is good for.
    reasons: what keeps them from being usable, the most serious first; empty if both are.
    evidence: all measurements.
    """

    path: Verdict
    camera: Verdict
    purposes: tuple[PurposeVerdict, ...]
    reasons: tuple[MapReason, ...]
    evidence: MapEvidence

    @property
    def grade(self) -> Verdict:
        """Return the grade of the whole map, which equals the grade of its path."""
        return self.path

    def list_reasons(self, of: str) -> list[MapReason]:
        """Return the reasons for the grade of the path (`of` is PATH) or of the camera (CAMERA)."""
        return [reason for reason in self.reasons if reason.of == of]

    def list_purposes(self, holds: bool | None) -> list[str]:
        """Return the names of the purposes that the path is good for, not good for (False), or that are open (None)."""
        return [purpose.purpose.key for purpose in self.purposes if purpose.holds is holds]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for map.json."""
        evidence = self.evidence
        names = [name for name in MapEvidence.__dataclass_fields__ if name != "error"]
        values = {name: getattr(evidence, name) for name in names}
        return {
            "grade": self.grade,
            "path": self.path,
            "camera": self.camera,
            "good_for": {purpose.purpose.key: purpose.holds for purpose in self.purposes},
            "error": {name: _drop_nan(value) for name, value in evidence.error.to_json().items()},
            "not_measurable": evidence.error.reason or None,
            "reasons": [
                {"field": reason.field, "value": _drop_nan(reason.value), "limit": reason.limit, "of": reason.of}
                for reason in self.reasons
            ],
            "evidence": {name: _drop_nan(value) for name, value in values.items()},
        }


def _drop_nan(value: Any) -> Any:
    """Return None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


def judge_map(evidence: MapEvidence) -> MapVerdict:
    """Compare the measured error of a map with the limits of purposes, and check whether its images can show an error.

    The path is usable if it is good for at least one of PATH_PURPOSES. Else it is doubtful if the images leave all of
    them open, and unusable if it fails one, if held-out matches contradict every path, or if the images show none.
    """
    purposes = tuple(judge_purpose(purpose, evidence.error) for purpose in PURPOSES.values())
    faults = [*_list_faults(evidence), *_judge_error(evidence, purposes)]
    is_wrong = any(fault.grade is Verdict.UNUSABLE for fault in faults)
    of_camera = list(_list_camera_faults(evidence, is_path_wrong=is_wrong))
    ordered = sorted([*of_camera, *faults], key=lambda reason: -reason.grade.rank)
    path, camera = (find_worst(reason.grade for reason in ordered if reason.of == of) for of in (PATH, CAMERA))
    return MapVerdict(path, camera, purposes, tuple(ordered), evidence)


def _list_faults(evidence: MapEvidence) -> Iterator[MapReason]:
    """Yield the measurements that are beyond their limit, so that the images show no path."""
    for limit in MAP_LIMITS.values():
        value = limit.bounds.measure(getattr(evidence, limit.field))
        verdict = limit.judge(value)
        if verdict is Verdict.USABLE:
            continue
        bound = limit.bounds.values[verdict]
        if limit.field == "zoomed" and evidence.has_camera:  # a camera that rises over flat ground seems to zoom
            verdict = Verdict.DOUBTFUL
        yield MapReason(limit.field, value, bound, verdict)


def _judge_error(evidence: MapEvidence, purposes: tuple[PurposeVerdict, ...]) -> Iterator[MapReason]:
    """Yield what the measured error speaks against."""
    of_path = [purpose for purpose in purposes if purpose.purpose.name in PATH_PURPOSES]
    grade = grade_purposes(of_path, are_asked=False)
    if math.isnan(evidence.held_out_px):
        yield MapReason("held_out_px", 0.0, 0.0, Verdict.DOUBTFUL)
    elif not evidence.error.is_measured:  # no poses explain its matches
        yield MapReason("error", 0.0, 0.0, Verdict.UNUSABLE)
    elif grade in (Verdict.UNUSABLE, Verdict.NOT_JUDGED):
        is_open = grade is Verdict.NOT_JUDGED
        yield MapReason("purposes", 0.0, 1.0, Verdict.DOUBTFUL if is_open else Verdict.UNUSABLE)


def _list_camera_faults(evidence: MapEvidence, *, is_path_wrong: bool) -> Iterator[MapReason]:
    """Yield what speaks against the camera of a map; of a given one, only another focal length."""
    planar, view_turn, focal = (MAP_CAMERA_LIMITS[name] for name in ("planar", "view_turn_deg", "focal_error"))
    if evidence.error.focal_share is not None and focal.judge(evidence.focal_error) is not Verdict.USABLE:
        share = evidence.error.focal_share.value
        yield MapReason("focal_error", share, focal.doubtful, Verdict.DOUBTFUL, CAMERA)
    if evidence.has_camera:
        return
    is_flat = planar.judge(evidence.planar) is not Verdict.USABLE
    if is_flat and view_turn.judge(evidence.view_turn_deg) is not Verdict.USABLE:
        yield MapReason("planar", evidence.planar, planar.doubtful, Verdict.DOUBTFUL, CAMERA)
    if not evidence.is_camera_determined:
        yield MapReason("is_camera_determined", 0.0, 1.0, Verdict.DOUBTFUL, CAMERA)
    elif is_path_wrong:
        yield MapReason("path", 0.0, 1.0, Verdict.DOUBTFUL, CAMERA)
