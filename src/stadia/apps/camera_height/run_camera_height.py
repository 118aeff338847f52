"""Estimate the camera height above the road from objects of known height and a horizon, without a network.

Also detects a camera that was moved, and writes and draws the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.apps.camera_height.config import CameraHeightConfig, CameraHeightRequest
from stadia.apps.camera_height.road_horizon import RoadHorizons, find_road_horizons
from stadia.apps.camera_height.road_objects import RoadFrame, check_classes, class_notes, read_road_frames
from stadia.core.errors import DataError, GeometryError
from stadia.core.files import atomic_write, write_json
from stadia.core.types import Camera, TrackProgress, no_progress
from stadia.datasets.masks.height_priors import find_prior
from stadia.evaluation.plots.charts import draw_heights_over_frames
from stadia.evaluation.plots.image_overlays import (
    BAD,
    GOOD,
    HORIZON,
    PLANE,
    add_legend,
    compose_image_rows,
    draw_box_verdicts,
    draw_horizon,
    draw_plane,
    draw_text,
)
from stadia.geometry.ground.camera_height import (
    BoxedObjects,
    HeightSurvey,
    ObjectStatus,
    horizon_from_angles,
    pitch_roll_deg,
    survey_camera_height,
)
from stadia.geometry.ground.drive_heights import (
    DRIVE_PARTS,
    MIN_PART_FRAMES,
    MountSplit,
    find_mount_split,
    track_boxes,
    transform_box,
)
from stadia.geometry.ground.horizon import normal_from_horizon

RESULT = "camera_height.json"
IMAGE = "objects.png"
OVER_FRAMES = "heights.png"
_SHEET_FRAMES = 8
_DRAWN_WIDTH = 800
_MAX_TILT_DEG = 25.0  # of a horizon of objects that a road can have
_WIDE_RATIO = 1.35  # between the ends of the interval, for a note
_FEW_OBJECTS = 20  # below, for a note
_MIN_AGREEING_SHARE = 0.25  # of objects with a height
_MIN_AGREEING = 3  # unless they are the majority
_INK = (20, 20, 20)
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
    """Result of the estimate.

    frames: those with a horizon.
    found: the survey over all objects.
    objects: N boxes in the pixels of the first frame's camera.
    place: N indices of each object in its frame's list.
    horizon_by: method that found the horizon.
    """

    frames: Sequence[RoadFrame]
    found: HeightSurvey
    objects: BoxedObjects
    place: Sequence[int]
    config: CameraHeightConfig
    horizon_by: str


def estimate_camera_height(
    frames: Sequence[RoadFrame],
    config: CameraHeightConfig,
    *,
    horizons: Tensor | None = None,
    track: TrackProgress = no_progress,
) -> EstimatedHeight:
    """Estimate the camera height from all objects of the frames.

    Args:
        frames: in time order; all boxes are converted to the first frame's camera.
        config: priors, horizon and limits.
        horizons: (F, 3) in each frame's pixels, if known.
        track: shows progress while images are read.

    Raises DataError if no frame has an edge horizon, GeometryError as `survey_camera_height`.
    """
    seen = (
        _choose_horizons(frames, config, track)
        if horizons is None
        else RoadHorizons(horizons, config.horizon_deg, "given")
    )
    own = None if seen is None else seen.lines
    if own is not None and bool(own.isnan().any()):
        frames = [frame for frame, known in zip(frames, own.isfinite().all(-1).tolist(), strict=True) if known]
        own = own[own.isfinite().all(-1)]
    check_classes(frames, config)
    first = frames[0]
    lines = (
        None
        if own is None
        else torch.stack([_convert_line(line, f.K, first.K) for line, f in zip(own, frames, strict=True)])
    )
    objects, place = _collect_boxes(frames, config)
    found = survey_camera_height(
        objects,
        float(first.K[1, 1]),
        len(frames),
        horizons=lines,
        is_single_mount=all(frame.drive for frame in frames),
        horizon_deg=max(config.horizon_deg, seen.deviation_deg if seen else 0.0),
        tolerance=config.tolerance,
        min_px=config.min_px,
    )
    estimated = EstimatedHeight(frames, found, objects, place, config, seen.by if seen else "objects")
    _check_agreement(estimated)
    _check_tilt(found, _camera(first))
    return estimated


def _check_agreement(estimated: EstimatedHeight) -> None:
    """Raise GeometryError if so few objects agree that their median is arbitrary."""
    verdict, implied_height_m = estimated.found.verdict, estimated.found.implied_height_m.tolist()
    accepted, odd = (
        [row for row, one in enumerate(verdict) if one is kind] for kind in (ObjectStatus.INLIER, ObjectStatus.ODD)
    )
    if len(accepted) < _MIN_AGREEING_SHARE * len(accepted + odd) or (
        len(accepted) < _MIN_AGREEING and len(odd) >= len(accepted)
    ):
        shown = [(estimated.frames[int(estimated.objects.frame[row])], row) for row in (*accepted[:1], *odd[:2])]
        examples = [
            f"a {frame.objects[estimated.place[row]].class_name} in {frame.name} gives {implied_height_m[row]:.2f} m"
            for frame, row in shown
        ]
        raise GeometryError(
            "camera height",
            found=f"{len(accepted)} of {len(accepted + odd)} objects that agree ({', '.join(examples)})",
            expected=f"{_MIN_AGREEING_SHARE:.0%} or more, and of a few the most",
            fix=(
                "take more frames, or all classes that have a prior (objects=[]); give the horizon (horizon=given"
                " pitch_deg=...)"
            ),
        )


def _check_tilt(found: HeightSurvey, camera: Camera) -> None:
    """Raise GeometryError for an implausible tilt of the horizon."""
    pitch, roll = pitch_roll_deg(normal_from_horizon(found.horizons[0], camera))
    if max(abs(pitch), abs(roll)) > _MAX_TILT_DEG:
        raise GeometryError(
            "horizon of the objects",
            found=f"a camera that points up by {pitch:.0f} degrees, roll {roll:.0f}",
            expected=f"less than {_MAX_TILT_DEG:g}: too few objects agree, or all are equally far",
            fix="take horizon=auto, or give it: horizon=given pitch_deg=...",
        )


def _collect_boxes(frames: Sequence[RoadFrame], config: CameraHeightConfig) -> tuple[BoxedObjects, list[int]]:
    of_frame, place, boxes, heights, flags = (
        list[int](),
        list[int](),
        list[Tensor](),
        list[tuple[float, float]](),
        list[tuple[bool, bool]](),
    )
    for number, frame in enumerate(frames):
        for at, one in enumerate(frame.objects):
            prior = find_prior(one.class_name, config.height_priors)
            if prior is None and one.class_name not in config.classes:
                continue
            of_frame.append(number)
            place.append(at)
            boxes.append(transform_box(torch.tensor(one.box_px, dtype=torch.float64), frame.K, frames[0].K))
            heights.append((prior.mean_m, prior.spread_m) if prior else (math.nan, math.nan))
            flags.append((one.hidden, one.cut))
    box_px = torch.stack(boxes) if boxes else torch.zeros(0, 4, dtype=torch.float64)
    height_m, spread_m = torch.tensor(heights, dtype=torch.float64).reshape(-1, 2).unbind(-1)
    hidden, cut = torch.tensor(flags, dtype=torch.bool).reshape(-1, 2).unbind(-1)
    return BoxedObjects(torch.tensor(of_frame, dtype=torch.int64), box_px, height_m, spread_m, hidden, cut), place


def _convert_line(line: Tensor, K: NDArray[np.float64], K_to: NDArray[np.float64]) -> Tensor:
    moved = torch.from_numpy(np.linalg.inv(K_to).T @ K.T) @ line.double()
    return moved / moved[:2].norm()


def _choose_horizons(
    frames: Sequence[RoadFrame], config: CameraHeightConfig, track: TrackProgress
) -> RoadHorizons | None:
    """Return horizons in each frame's pixels; None: fitted to the objects."""
    if config.horizon == "objects":
        return None
    if config.horizon == "given":
        lines = torch.stack(
            [horizon_from_angles(_camera(f), pitch_deg=config.pitch_deg, roll_deg=config.roll_deg) for f in frames]
        )
        return RoadHorizons(lines, config.horizon_deg, "given")
    edges, travel = config.horizon in ("auto", "edges"), config.horizon in ("auto", "travel")
    found = find_road_horizons(frames, edges=edges, travel=travel, roll_deg=config.roll_deg, track=track)
    if bool(found.lines.isfinite().all(-1).any()):
        return found
    if config.horizon == "auto":
        return None
    raise DataError(
        f"horizon={config.horizon}",
        found=f"none in any of {len(frames)} frames",
        expected=(
            "kerbs, markings or walls along the road"
            if edges
            else "a drive whose images follow each other, straight and not too slow"
        ),
        fix="take horizon=auto or objects, or give it: horizon=given pitch_deg=...",
    )


def _camera(frame: RoadFrame) -> Camera:
    return Camera(torch.from_numpy(frame.K), frame.height, frame.width)


def run_camera_height(request: CameraHeightRequest, track: TrackProgress = no_progress) -> Iterator[str]:
    """Estimate, write the files to `request.out`, and yield lines. Raises DataError, ConfigError, GeometryError."""
    frames = read_road_frames(request, track)
    estimated = estimate_camera_height(frames, request.config, track=track)
    yield from summary_lines(estimated)
    if (apart := detect_moved_camera(estimated.frames, estimated.objects, estimated.found)) is not None:
        yield moved_camera_note(apart)
    if len(estimated.frames) < len(frames):
        yield (
            f"note: {len(frames) - len(estimated.frames)} frames without a horizon by {estimated.horizon_by} were"
            " left out"
        )
    if request.out is not None:
        write_json(request.out / RESULT, estimate_to_json(estimated))
        for name, image in ((IMAGE, draw_objects_sheet(estimated)), (OVER_FRAMES, draw_frame_heights(estimated))):
            _write_image(request.out / name, image)
        yield f"{request.out}: {RESULT}, {IMAGE}, {OVER_FRAMES}"


def summary_lines(estimated: EstimatedHeight) -> Iterator[str]:
    """Yield lines for people; warnings start with "note: "."""
    found, config = estimated.found, estimated.config
    accepted = found.verdict.count(ObjectStatus.INLIER)
    yield f"camera height: {found.camera_height_m:.2f} m (95 %: {found.low_m:.2f} to {found.high_m:.2f})"
    yield f"  from {accepted} of {len(found.verdict)} objects in {len(estimated.frames)} frames"
    if reasons := [f"{count} {reason}" for reason, count in _count_rejections(found).items()]:
        yield f"  rejected: {', '.join(reasons)}"
    pitch, roll = _median_tilt_deg(estimated)
    way = "up" if pitch >= 0 else "down"
    yield f"  horizon by {estimated.horizon_by}: the camera points {way} {abs(pitch):.1f} degrees, roll {roll:.1f}"
    classes = {one.class_name for frame in estimated.frames for one in frame.objects}
    used = {name: prior for name, prior in config.height_priors.items() if name in classes}
    for name, prior in used.items():
        yield f"  rests on: {name} {prior.mean_m:g} m, spread {prior.spread_m:g} m ({prior.source})"
    yield from class_notes(estimated.frames, config)
    yield "note: priors that are 5 % off make the height 5 % off, which the interval does not include"
    odd, judged = found.verdict.count(ObjectStatus.ODD), accepted + found.verdict.count(ObjectStatus.ODD)
    if odd > 0.4 * judged:
        yield (
            f"note: {odd} of {judged} objects disagree: the horizon or a prior is wrong, or the camera was moved; "
            f"check {IMAGE}"
        )
    if found.high_m > _WIDE_RATIO * found.low_m:
        fix = "resolve the disagreement" if odd > 0.4 * judged else "take more cars"
        yield (
            f"note: the interval is wide: one of {found.low_m:.2f} to {found.high_m:.2f} m is all that is known; {fix}"
        )
    if accepted < _FEW_OBJECTS:
        yield f"note: {accepted} objects are few; take more frames"


def estimate_to_json(estimated: EstimatedHeight) -> dict[str, Any]:
    """Return the result with each object and its verdict; lengths in metres, boxes in the pixels of their frame."""
    found, config = estimated.found, estimated.config
    pitch, roll = _median_tilt_deg(estimated)
    rows = zip(
        estimated.objects.frame.tolist(), estimated.place, found.implied_height_m.tolist(), found.verdict, strict=True
    )
    return {
        "camera_height_m": found.camera_height_m,
        "interval_95_m": [found.low_m, found.high_m],
        "frames": len(estimated.frames),
        "objects": len(found.verdict),
        "inliers": found.verdict.count(ObjectStatus.INLIER),
        "rejected": {str(reason): count for reason, count in _count_rejections(found).items()},
        "horizon": {"by": estimated.horizon_by, "pitch_deg": pitch, "roll_deg": roll},
        "priors": {name: prior.model_dump(mode="json") for name, prior in config.height_priors.items()},
        "each": [
            {
                "frame": estimated.frames[number].name,
                "class": estimated.frames[number].objects[at].class_name,
                "box_px": list(estimated.frames[number].objects[at].box_px),
                "camera_height_m": implied if math.isfinite(implied) and implied > 0 else None,
                "verdict": str(verdict),
            }
            for number, at, implied, verdict in rows
        ],
    }


def _count_rejections(found: HeightSurvey) -> dict[ObjectStatus, int]:
    counts = {reason: found.verdict.count(reason) for reason in ObjectStatus if reason is not ObjectStatus.INLIER}
    return {reason: count for reason, count in counts.items() if count}


def _median_tilt_deg(estimated: EstimatedHeight) -> tuple[float, float]:
    """Return pitch and roll in degrees, medians over frames."""
    camera = _camera(estimated.frames[0])
    tilts = torch.tensor(
        [pitch_roll_deg(normal_from_horizon(line, camera)) for line in estimated.found.horizons], dtype=torch.float64
    )
    pitch, roll = tilts.median(0).values.tolist()
    return pitch, roll


def draw_objects_sheet(estimated: EstimatedHeight) -> NDArray[np.uint8]:
    """Draw frames (H, W, 3) RGB, evenly spaced, with horizon, road plane and verdicts.

    Of each part of the frames the one with most accepted objects is drawn.
    """
    number, accepted = (
        estimated.objects.frame,
        torch.tensor([v is ObjectStatus.INLIER for v in estimated.found.verdict]),
    )
    counts = (
        torch.bincount(number[accepted], minlength=len(estimated.frames))
        if len(number)
        else torch.zeros(len(estimated.frames))
    )
    stretches = np.array_split(np.arange(len(estimated.frames)), min(_SHEET_FRAMES, len(estimated.frames)))
    shown = compose_image_rows(
        [_draw_frame(estimated, int(part[int(counts[part].argmax())])) for part in stretches],
        columns=2,
        width=_DRAWN_WIDTH,
    )
    reasons = [
        (f"{_CODES[reason]}: {reason}", BAD) for reason in _count_rejections(estimated.found) if reason in _CODES
    ]
    entries = [("camera height (m) of an accepted object", GOOD), ("of one that disagrees", BAD)]
    return add_legend(shown, [*entries, *reasons, ("horizon", HORIZON), ("the road, 5 to 40 m ahead", PLANE)])


def _draw_frame(estimated: EstimatedHeight, number: int) -> NDArray[np.uint8]:
    frame, found = estimated.frames[number], estimated.found
    line = _convert_line(found.horizons[number], estimated.frames[0].K, frame.K)
    plane = [*normal_from_horizon(line, _camera(frame)).tolist(), found.camera_height_m]
    rows = (estimated.objects.frame == number).nonzero()[:, 0].tolist()
    words = [_verdict_text(found.verdict[row], float(found.implied_height_m[row])) for row in rows]
    boxes = [frame.objects[estimated.place[row]].box_px for row in rows]
    scale = _DRAWN_WIDTH / frame.width
    size = _DRAWN_WIDTH, round(frame.height * scale)
    image = draw_horizon(draw_plane(frame.image(), frame.K, plane), line.numpy())
    image = np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
    )
    accepted = [found.verdict[row] is ObjectStatus.INLIER for row in rows]
    image = draw_box_verdicts(image, np.array(boxes).reshape(-1, 4) * scale, accepted, words)
    draw_text(image, frame.name, (6, image.shape[0] - 8), _INK, 0.5)
    return image


def _verdict_text(verdict: ObjectStatus, implied_height_m: float) -> str:
    return _CODES.get(verdict, f"{implied_height_m:.2f}")


def draw_frame_heights(estimated: EstimatedHeight, *, true_m: float | None = None) -> NDArray[np.uint8]:
    """Draw a chart (H, W, 3) RGB: the height from each object at its frame, and the band of the estimate."""
    found = estimated.found
    accepted = [verdict is ObjectStatus.INLIER for verdict in found.verdict]
    interval = found.camera_height_m, found.low_m, found.high_m
    places, starts = _places(estimated.frames)
    at = places[estimated.objects.frame.numpy()]
    return draw_heights_over_frames(
        at, found.implied_height_m.numpy(), accepted, *interval, starts=starts, true_m=true_m
    )


def _places(frames: Sequence[RoadFrame]) -> tuple[NDArray[np.int64], dict[str, float]]:
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


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    with atomic_write(path) as temporary:
        cv2.imwrite(str(temporary), np.ascontiguousarray(image[..., ::-1]))


# -- a moved camera


def detect_moved_camera(frames: Sequence[RoadFrame], objects: BoxedObjects, found: HeightSurvey) -> MountSplit | None:
    """Return the two heights of a moved camera, and their places; None if one height explains all objects.

    Rejected objects count too, each once however often it occurs: if the camera was moved, half of them are rejected.
    """
    places = np.array(_drive_parts(frames), dtype=np.str_)
    has_height = torch.tensor(
        [one in (ObjectStatus.INLIER, ObjectStatus.ODD) for one in found.verdict], dtype=torch.bool
    )
    used = objects.of(has_height)
    if len(used) == 0:
        return None
    of_object = np.stack(
        (np.unique(places, return_inverse=True)[1][used.frame.numpy()], track_boxes(used.frame, used.box_px).numpy())
    )
    _, first, number = np.unique(of_object, axis=1, return_index=True, return_inverse=True)
    logs = found.implied_height_m[has_height].log().numpy()
    each = np.array([np.median(logs[number.ravel() == one]) for one in range(len(first))])
    return find_mount_split(places[used.frame.numpy()][first], each)


def _drive_parts(frames: Sequence[RoadFrame]) -> list[str]:
    """Return for each frame its drive, or the part of the drive."""
    places = []
    for drive, group in groupby(frames, lambda frame: frame.drive):
        stems = [Path(frame.name).name for frame in group]
        length = max(math.ceil(len(stems) / DRIVE_PARTS), MIN_PART_FRAMES)
        for start in range(0, len(stems), length):
            part = stems[start : start + length]
            places += [drive if len(part) == len(stems) else f"{drive}, frames {part[0]} to {part[-1]}"] * len(part)
    return places


def moved_camera_note(apart: MountSplit) -> str:
    """Return a note for people."""
    low, high = _join_names(apart.low), _join_names(apart.high)
    return (
        f"note: no one height: about {apart.low_m:.2f} m in {low}, {apart.high_m:.2f} m in {high}. "
        "If the camera was moved, select the recordings of each mount alone (data.recordings), or cut the video there"
    )


def _join_names(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in sorted(names)[:_MAX_NAMED])
    return shown + f" and {len(names) - _MAX_NAMED} more" * (len(names) > _MAX_NAMED)
