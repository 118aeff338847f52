"""Estimate the camera height above the road from objects of known height and a horizon, without a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import Camera
from stadia.data.video.video_map import MapRoad, find_usable_map
from stadia.evaluation.plots.height_charts import draw_heights_over_frames
from stadia.evaluation.plots.image_sheets import (
    BAD,
    GOOD,
    HORIZON,
    PLANE,
    draw_box_verdicts,
    draw_horizon,
    draw_image_sheet,
    draw_plane,
)
from stadia.geometry.ground.camera_height import (
    BoxedObjects,
    HeightSurvey,
    ObjectStatus,
    pitch_roll_deg,
    survey_camera_height,
)
from stadia.geometry.ground.drive_heights import DRIVE_PARTS, MIN_PART_FRAMES, MountSplit, find_mount_split, track_boxes
from stadia.geometry.ground.horizon import normal_from_horizon
from stadia.io.atomic_files import write_json
from stadia.io.image_io import write_image
from stadia.io.input_files import expand_home
from stadia.scale.camera_height.config import GIVE_HORIZON, CameraHeightConfig, CameraHeightRequest, check_sources
from stadia.scale.camera_height.depth_heights import PRIORS_NOTE, run_depth_height
from stadia.scale.camera_height.road_horizon import RoadHorizons, choose_horizons
from stadia.scale.camera_height.road_objects import (
    RoadFrame,
    check_classes,
    class_notes,
    collect_boxes,
    read_road_frames,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULT = "camera_height.json"
IMAGE = "objects.png"
OVER_FRAMES = "heights.png"
_SHEET_FRAMES = 8
_MAX_TILT_DEG = 25.0  # largest tilt of a horizon by objects that a road can have
_WIDE_RATIO = 1.35  # ratio of the interval's ends above which a note is printed
_FEW_OBJECTS = 20  # below, for a note
_MIN_AGREEING_SHARE = 0.25  # share of the objects with a height that must agree
_MIN_AGREEING = 3  # unless they are the majority
_MAX_NAMED = 6  # recordings in a note
_CODES = {
    ObjectStatus.NO_HEIGHT: "N",
    ObjectStatus.BORDER: "B",
    ObjectStatus.SMALL: "S",
    ObjectStatus.HIDDEN: "H",
    ObjectStatus.ABOVE: "A",
}


@dataclass(frozen=True)
class EstimatedHeight:
    """The estimated camera height over the road.

    frames: the frames that have a horizon.
    found: the estimate, and a verdict on each of the N objects.
    objects: the N objects with boxes in the pixels of the first frame's camera.
    place: N indices, of each object in the object list of its frame.
    config: the configuration.
    horizon_by: how the horizon was found, in words.
    """

    frames: Sequence[RoadFrame]
    found: HeightSurvey
    objects: BoxedObjects
    place: Sequence[int]
    config: CameraHeightConfig
    horizon_by: str

    @property
    def is_inlier(self) -> list[bool]:
        """Return, for each object, whether the estimate uses it."""
        return [verdict is ObjectStatus.INLIER for verdict in self.found.verdict]

    def count_rejections(self) -> dict[ObjectStatus, int]:
        """Return the number of objects that the estimate does not use, by the reason."""
        counts = {reason: self.found.verdict.count(reason) for reason in ObjectStatus}
        return {reason: count for reason, count in counts.items() if count and reason is not ObjectStatus.INLIER}

    def median_tilt_deg(self) -> tuple[float, float]:
        """Return pitch and roll of the camera against the road, degrees: medians over the frames."""
        camera = self.frames[0].camera
        tilts = [pitch_roll_deg(normal_from_horizon(line, camera)) for line in self.found.horizons]
        pitch, roll = np.quantile(tilts, 0.5, axis=0, method="lower").tolist()
        return pitch, roll


def estimate_camera_height(
    frames: Sequence[RoadFrame],
    config: CameraHeightConfig,
    *,
    horizons: NDArray[np.float64] | None = None,
    road: MapRoad | None = None,
    track: TrackProgress = no_progress,
) -> EstimatedHeight:
    """Estimate the camera height over the road from all objects of the frames.

    frames: in order of time; boxes are converted to the first frame's camera.
    config: height priors, way to find the horizon, and limits.
    horizons: (F, 3) horizon lines in each frame's pixels, if known; None finds them.
    road: the road of the map next to the video, or None.
    track: shows progress.

    Raises DataError if no frame has a horizon, GeometryError if the objects do not agree on a height.
    """
    horizon = RoadHorizons(horizons, config.horizon_deg, "given") if horizons is not None else None
    horizon = horizon or choose_horizons(frames, config, track, road)
    lines = None
    if horizon is not None:
        known = np.isfinite(horizon.lines.sum(-1))
        frames = [frame for frame, is_known in zip(frames, known, strict=True) if is_known]
        lines = horizon.lines[known]
    check_classes(frames, config)
    first = frames[0]
    if lines is not None:
        converted = [_convert_line(line, frame.K, first.K) for line, frame in zip(lines, frames, strict=True)]
        lines = np.stack(converted)
    objects, place = collect_boxes(frames, config)
    found = survey_camera_height(
        objects,
        float(first.K[1, 1]),
        len(frames),
        horizons=lines,
        is_single_mount=all(frame.drive for frame in frames),
        horizon_deg=_find_deviation(config, horizon),
        tolerance=config.tolerance,
        min_px=config.min_px,
        sample=config.sample,
    )
    estimated = EstimatedHeight(frames, found, objects, place, config, horizon.by if horizon else "objects")
    _check_agreement(estimated)
    _check_tilt(found, first.camera)
    return estimated


def _find_deviation(config: CameraHeightConfig, horizon: RoadHorizons | None) -> float:
    """Return the standard deviation of the horizon in degrees; a given one and a map's keep their own."""
    if horizon is not None and horizon.by in ("given", "the map"):
        return horizon.deviation_deg
    return max(config.horizon_deg, horizon.deviation_deg if horizon else 0.0)


def _check_agreement(estimated: EstimatedHeight) -> None:
    accepted, odd = (
        [row for row, verdict in enumerate(estimated.found.verdict) if verdict is kind]
        for kind in (ObjectStatus.INLIER, ObjectStatus.ODD)
    )
    is_minority = len(accepted) < _MIN_AGREEING and len(odd) >= len(accepted)
    if not is_minority and len(accepted) >= _MIN_AGREEING_SHARE * len(accepted + odd):
        return
    examples = []
    for row in (*accepted[:1], *odd[:2]):
        frame = estimated.frames[int(estimated.objects.frame[row])]
        height_m = float(estimated.found.implied_height_m[row])
        examples.append(f"a {frame.objects[estimated.place[row]].class_name} in {frame.name} gives {height_m:.2f} m")
    raise GeometryError(
        "camera height",
        found=f"{len(accepted)} of {len(accepted + odd)} objects agree ({', '.join(examples)})",
        expected=f"at least {_MIN_AGREEING_SHARE:.0%}, and more than half if fewer than {_MIN_AGREEING} agree",
        fix=f"use more frames, or all classes: objects=[]; or {GIVE_HORIZON}",
    )


def _check_tilt(found: HeightSurvey, camera: Camera) -> None:
    pitch, roll = pitch_roll_deg(normal_from_horizon(found.horizons[0], camera))
    if max(abs(pitch), abs(roll)) > _MAX_TILT_DEG:
        raise GeometryError(
            "horizon of the objects",
            found=f"a camera that points up by {pitch:.0f} degrees and rolls by {roll:.0f}",
            expected=f"less than {_MAX_TILT_DEG:g}",
            fix=GIVE_HORIZON,
        )


def _convert_line(line: NDArray[np.float64], K: NDArray[np.float64], K_to: NDArray[np.float64]) -> NDArray[np.float64]:
    moved = np.linalg.inv(K_to).T @ K.T @ line
    return moved / np.linalg.norm(moved[:2])


def run_camera_height(request: CameraHeightRequest, track: TrackProgress = no_progress) -> list[str]:
    """Estimate the camera height, write the files to `request.out`, and return lines of text about the result.

    Raises DataError, ConfigError or GeometryError if it cannot be estimated.
    """
    check_sources(request)
    if request.checkpoint is not None or request.depth is not None:
        return run_depth_height(request, track)
    frames = read_road_frames(request, track)
    mapped = find_usable_map(expand_home(request.source))
    road = None if mapped is None else mapped.road
    estimated = estimate_camera_height(frames, request.config, road=road, track=track)
    lines = summary_lines(estimated)
    if road is not None and estimated.horizon_by != "the map":
        lines += compare_with_map(estimated, road)
    if (apart := detect_moved_camera(estimated)) is not None:
        lines.append(moved_camera_note(apart))
    if left_out := len(frames) - len(estimated.frames):
        lines.append(f"note: left out {left_out} frames without a horizon by {estimated.horizon_by}")
    if request.out is not None:
        write_json(request.out / RESULT, estimate_to_json(estimated))
        for name, image in ((IMAGE, draw_objects_sheet(estimated)), (OVER_FRAMES, draw_frame_heights(estimated))):
            write_image(request.out / name, image[..., ::-1])
        lines.append(f"{request.out}: {RESULT}, {IMAGE}, {OVER_FRAMES}")
    return lines


MAX_SIGMA = 3.0
"""Difference of two horizons, in standard deviations of both, above which a note is given."""


def compare_with_map(estimated: EstimatedHeight, road: MapRoad) -> list[str]:
    """Return a note if the estimated horizon contradicts the direction of travel in the map; otherwise an
    empty list.
    """
    pitch, _ = estimated.median_tilt_deg()
    difference, allowed = (
        abs(pitch - road.pitch_deg),
        math.hypot(road.pitch_deviation_deg, estimated.config.horizon_deg),
    )
    if difference <= MAX_SIGMA * allowed:
        return []
    fix = f"Fix: horizon=given pitch_deg={road.pitch_deg:.2f}"
    return [f"note: the horizon by {estimated.horizon_by} is {difference:.1f} degrees off the map's. {fix}"]


def summary_lines(estimated: EstimatedHeight) -> list[str]:
    """Return lines of text about the estimate; warnings start with "note: "."""
    found, config = estimated.found, estimated.config
    accepted = found.verdict.count(ObjectStatus.INLIER)
    pitch, roll = estimated.median_tilt_deg()
    way = "up" if pitch >= 0 else "down"
    lines = [
        f"camera height: {found.camera_height_m:.2f} m (95 %: {found.low_m:.2f} to {found.high_m:.2f})",
        f"  {accepted} of {len(found.verdict)} objects in {len(estimated.frames)} frames",
    ]
    if reasons := [f"{count} {reason}" for reason, count in estimated.count_rejections().items()]:
        lines.append(f"  rejected: {', '.join(reasons)}")
    lines.append(f"  horizon by {estimated.horizon_by}: camera {abs(pitch):.1f} degrees {way}, roll {roll:.1f}")
    classes = {thing.class_name for frame in estimated.frames for thing in frame.objects}
    for name, prior in ((name, prior) for name, prior in config.height_priors.items() if name in classes):
        lines.append(f"  prior: {name} {prior.mean_m:g} m, spread {prior.spread_m:g} m ({prior.source})")
    lines += [*class_notes(estimated.frames, config), PRIORS_NOTE]
    odd = found.verdict.count(ObjectStatus.ODD)
    disagree = odd > 0.4 * (accepted + odd)
    if disagree:
        lines.append(
            f"note: {odd} of {accepted + odd} objects disagree. Check {IMAGE}: horizon, prior or a moved camera"
        )
    if found.high_m > _WIDE_RATIO * found.low_m:
        fix = "Resolve the disagreement" if disagree else "Use more cars"
        lines.append(f"note: the interval {found.low_m:.2f} to {found.high_m:.2f} m is wide. {fix}")
    if accepted < _FEW_OBJECTS:
        lines.append(f"note: {accepted} objects are few. Use more frames")
    return lines


def estimate_to_json(estimated: EstimatedHeight) -> dict[str, Any]:
    """Return the result with each object and whether it was used as JSON; lengths in metres, boxes in pixels."""
    found, config = estimated.found, estimated.config
    pitch, roll = estimated.median_tilt_deg()
    rows = zip(
        estimated.objects.frame.tolist(), estimated.place, found.implied_height_m.tolist(), found.verdict, strict=True
    )
    return {
        "format": "stadia-camera-height",
        "camera_height_m": found.camera_height_m,
        "interval_95_m": [found.low_m, found.high_m],
        "frames": len(estimated.frames),
        "objects": len(found.verdict),
        "inliers": found.verdict.count(ObjectStatus.INLIER),
        "rejected": {str(reason): count for reason, count in estimated.count_rejections().items()},
        "horizon": {"by": estimated.horizon_by, "pitch_deg": pitch, "roll_deg": roll},
        "priors": {name: prior.model_dump(mode="json") for name, prior in config.height_priors.items()},
        "each": [
            {
                "frame": estimated.frames[number].name,
                "class": estimated.frames[number].objects[at].class_name,
                "number": estimated.frames[number].objects[at].number,
                "box_px": list(estimated.frames[number].objects[at].box_px),
                "camera_height_m": implied if math.isfinite(implied) and implied > 0 else None,
                "verdict": str(verdict),
            }
            for number, at, implied, verdict in rows
        ],
    }


def draw_objects_sheet(estimated: EstimatedHeight) -> NDArray[np.uint8]:
    """Draw a sheet (H, W, 3) RGB of frames, evenly spaced, with horizon, road plane, and whether each object
    was used.
    """
    count = len(estimated.frames)
    accepted = estimated.objects.frame[np.array(estimated.is_inlier, bool)]
    accepted_of_frame = np.bincount(accepted, minlength=count)
    parts = np.array_split(np.arange(count), min(_SHEET_FRAMES, count))
    numbers = [int(part[accepted_of_frame[part].argmax()]) for part in parts]
    numbers_by_name = {estimated.frames[number].name: number for number in numbers}
    reasons = [(f"{_CODES[reason]}: {reason}", BAD) for reason in estimated.count_rejections() if reason in _CODES]
    entries = [("camera height (m) by an accepted object", GOOD), ("by a rejected object", BAD)]
    return draw_image_sheet(
        {name: estimated.frames[number].image() for name, number in numbers_by_name.items()},
        [*entries, *reasons, ("horizon", HORIZON), ("the road, 5 to 40 m ahead", PLANE)],
        columns=2,
        draw_over=lambda axes, name: _draw_over_frame(axes, estimated, numbers_by_name[name]),
    )


def _draw_over_frame(axes: Axes, estimated: EstimatedHeight, number: int) -> None:
    frame, survey = estimated.frames[number], estimated.found
    line = _convert_line(survey.horizons[number], estimated.frames[0].K, frame.K)
    plane = [*normal_from_horizon(line, frame.camera).tolist(), survey.camera_height_m]
    rows = np.flatnonzero(estimated.objects.frame == number).tolist()
    words = [_CODES.get(survey.verdict[row], f"{survey.implied_height_m[row]:.2f}") for row in rows]
    boxes = [frame.objects[estimated.place[row]].box_px for row in rows]
    draw_plane(axes, frame.K, plane)
    draw_horizon(axes, line)
    draw_box_verdicts(axes, boxes, [estimated.is_inlier[row] for row in rows], words)


def draw_frame_heights(estimated: EstimatedHeight) -> NDArray[np.uint8]:
    """Draw a chart (H, W, 3) RGB: the camera height by each object over its frame, and the 95 % interval of the
    estimate.
    """
    found = estimated.found
    positions, starts = _chart_positions(estimated.frames)
    return draw_heights_over_frames(
        positions[estimated.objects.frame],
        found.implied_height_m,
        estimated.is_inlier,
        found.camera_height_m,
        found.low_m,
        found.high_m,
        starts=starts,
    )


def _chart_positions(frames: Sequence[RoadFrame]) -> tuple[NDArray[np.int64], dict[str, float]]:
    """Return the chart position of each frame (F,) and of the start of each drive, by frame numbers."""
    places, starts, offset = list[int](), dict[str, float](), 0
    for drive, group in groupby(enumerate(frames), lambda row: row[1].drive):
        stems = [(number, Path(frame.name).name) for number, frame in group]
        own = [int(stem) if drive and stem.isdigit() else number - stems[0][0] for number, stem in stems]
        offset = offset - own[0] if places else 0
        starts[drive] = float(own[0] + offset)
        places += [number + offset for number in own]
        offset = max(places) + 2
    return np.array(places), starts


# -- a moved camera


def detect_moved_camera(estimated: EstimatedHeight) -> MountSplit | None:
    """Find whether the camera was moved to another height during the recording.

    Each object counts once, rejected ones too: if the camera was moved, half of the objects are rejected.

    Returns the two heights and where each holds; None if one height explains all objects.
    """
    places, found = np.array(_drive_parts(estimated.frames), dtype=np.str_), estimated.found
    has_height = np.array([status in (ObjectStatus.INLIER, ObjectStatus.ODD) for status in found.verdict], bool)
    if not has_height.any():
        return None
    used = estimated.objects.select(has_height)
    of_object = np.stack((np.unique(places, return_inverse=True)[1][used.frame], track_boxes(used.frame, used.box_px)))
    _, first, number = np.unique(of_object, axis=1, return_index=True, return_inverse=True)
    logs = np.log(found.implied_height_m[has_height])
    heights = np.array([np.median(logs[number.ravel() == row]) for row in range(len(first))])
    return find_mount_split(places[used.frame][first], heights)


def _drive_parts(frames: Sequence[RoadFrame]) -> list[str]:
    places = []
    for drive, group in groupby(frames, lambda frame: frame.drive):
        stems = [Path(frame.name).name for frame in group]
        length = max(math.ceil(len(stems) / DRIVE_PARTS), MIN_PART_FRAMES)
        for start in range(0, len(stems), length):
            part = stems[start : start + length]
            places += [drive if len(part) == len(stems) else f"{drive}, frames {part[0]} to {part[-1]}"] * len(part)
    return places


def moved_camera_note(apart: MountSplit) -> str:
    """Return a note that the camera was moved, with both heights and where each holds."""

    def join_names(names: Sequence[str]) -> str:
        shown = ", ".join(f"'{name}'" for name in sorted(names)[:_MAX_NAMED])
        return shown + f" and {len(names) - _MAX_NAMED} more" * (len(names) > _MAX_NAMED)

    heights = f"{apart.low_m:.2f} m in {join_names(apart.low)}, {apart.high_m:.2f} m in {join_names(apart.high)}"
    return f"note: two heights: {heights}. If the camera was moved, set data.recordings or cut the video there"
