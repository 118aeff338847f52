"""Estimate the camera height above the road without a network, from objects of known height and a horizon."""

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

from stadia.core.errors import DataError, GeometryError
from stadia.core.files import replacing, write_json
from stadia.core.types import Camera
from stadia.data.height_priors import prior_of
from stadia.evaluation.legend import with_legend, write
from stadia.evaluation.road_drawings import (
    BAD,
    GOOD,
    HORIZON,
    PLANE,
    draw_horizon,
    draw_plane,
    draw_verdicts,
    heights_over_frames,
    sheet,
)
from stadia.evaluation.watch import Watch, unwatched
from stadia.geometry.height_survey import BoxedObjects, HeightSurvey, Verdict, level_horizon, survey, tilt_deg
from stadia.geometry.horizon import normal_of
from stadia.recipes.asked_classes import check_classes, notes_of_frames
from stadia.recipes.camera_height_config import CameraHeightAsked, CameraHeightConfig
from stadia.recipes.moved_camera import moved_camera, said_of_moved
from stadia.recipes.road_horizon import RoadHorizons, road_horizons
from stadia.recipes.seen_objects import SeenFrame, seen_frames

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
_CODES = {Verdict.NO_HEIGHT: "N", Verdict.BORDER: "B", Verdict.SMALL: "S", Verdict.HIDDEN: "H", Verdict.ABOVE: "A"}


@dataclass(frozen=True)
class EstimatedHeight:
    """Result of the estimate.

    frames: those with a horizon.
    found: the survey over all objects.
    objects: N boxes in the pixels of the first frame's camera.
    place: N indices of each object in its frame's list.
    horizon_by: method that found the horizon.
    """

    frames: Sequence[SeenFrame]
    found: HeightSurvey
    objects: BoxedObjects
    place: Sequence[int]
    config: CameraHeightConfig
    horizon_by: str


def estimate_camera_height(
    frames: Sequence[SeenFrame], config: CameraHeightConfig, *, horizons: Tensor | None = None, watch: Watch = unwatched
) -> EstimatedHeight:
    """Estimate the camera height from all objects of the frames.

    Args:
        frames: in time order; all boxes are converted to the first frame's camera.
        config: priors, horizon and limits.
        horizons: (F, 3) in each frame's pixels, if known.
        watch: shows progress while images are read.

    Raises DataError if no frame has an edge horizon, GeometryError as `geometry.height_survey.survey`.
    """
    seen = (
        _choose_horizons(frames, config, watch)
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
    found = survey(
        objects,
        float(first.K[1, 1]),
        len(frames),
        horizons=lines,
        one_mount=all(frame.drive for frame in frames),
        horizon_deg=max(config.horizon_deg, seen.deviation_deg if seen else 0.0),
        tolerance=config.tolerance,
        least_px=config.least_px,
    )
    estimated = EstimatedHeight(frames, found, objects, place, config, seen.by if seen else "objects")
    _check_agreement(estimated)
    _check_tilt(found, _camera(first))
    return estimated


def _check_agreement(estimated: EstimatedHeight) -> None:
    """Raise GeometryError if so few objects agree that their median is arbitrary."""
    verdict, implied_m = estimated.found.verdict, estimated.found.implied_m.tolist()
    accepted, odd = (
        [row for row, one in enumerate(verdict) if one is kind] for kind in (Verdict.BELIEVED, Verdict.ODD)
    )
    if len(accepted) < _MIN_AGREEING_SHARE * len(accepted + odd) or (
        len(accepted) < _MIN_AGREEING and len(odd) >= len(accepted)
    ):
        shown = [(estimated.frames[int(estimated.objects.frame[row])], row) for row in (*accepted[:1], *odd[:2])]
        examples = [
            f"a {frame.objects[estimated.place[row]].class_name} in {frame.name} gives {implied_m[row]:.2f} m"
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
    pitch, roll = tilt_deg(normal_of(found.horizons[0], camera))
    if max(abs(pitch), abs(roll)) > _MAX_TILT_DEG:
        raise GeometryError(
            "horizon of the objects",
            found=f"a camera that points up by {pitch:.0f} degrees, roll {roll:.0f}",
            expected=f"less than {_MAX_TILT_DEG:g}: too few objects agree, or all are equally far",
            fix="take horizon=auto, or give it: horizon=given pitch_deg=...",
        )


def _collect_boxes(frames: Sequence[SeenFrame], config: CameraHeightConfig) -> tuple[BoxedObjects, list[int]]:
    of_frame, place, boxes, heights, flags = (
        list[int](),
        list[int](),
        list[Tensor](),
        list[tuple[float, float]](),
        list[tuple[bool, bool]](),
    )
    for number, frame in enumerate(frames):
        for at, one in enumerate(frame.objects):
            prior = prior_of(one.class_name, config.height_priors)
            if prior is None and one.class_name not in config.classes:
                continue
            of_frame.append(number)
            place.append(at)
            boxes.append(box_to(torch.tensor(one.box_px, dtype=torch.float64), frame.K, frames[0].K))
            heights.append((prior.mean_m, prior.spread_m) if prior else (math.nan, math.nan))
            flags.append((one.hidden, one.cut))
    box_px = torch.stack(boxes) if boxes else torch.zeros(0, 4, dtype=torch.float64)
    height_m, spread_m = torch.tensor(heights, dtype=torch.float64).reshape(-1, 2).unbind(-1)
    hidden, cut = torch.tensor(flags, dtype=torch.bool).reshape(-1, 2).unbind(-1)
    return BoxedObjects(torch.tensor(of_frame, dtype=torch.int64), box_px, height_m, spread_m, hidden, cut), place


def box_to(box: Tensor, K: NDArray[np.float64], K_to: NDArray[np.float64]) -> Tensor:
    """Convert a box (4,) to the pixels of a camera with the same orientation."""
    scale = torch.tensor([K_to[0, 0] / K[0, 0], K_to[1, 1] / K[1, 1]] * 2)
    return (box - torch.tensor([K[0, 2], K[1, 2]] * 2)) * scale + torch.tensor([K_to[0, 2], K_to[1, 2]] * 2)


def _convert_line(line: Tensor, K: NDArray[np.float64], K_to: NDArray[np.float64]) -> Tensor:
    moved = torch.from_numpy(np.linalg.inv(K_to).T @ K.T) @ line.double()
    return moved / moved[:2].norm()


def _choose_horizons(frames: Sequence[SeenFrame], config: CameraHeightConfig, watch: Watch) -> RoadHorizons | None:
    """Return horizons in each frame's pixels; None: fitted to the objects."""
    if config.horizon == "objects":
        return None
    if config.horizon == "given":
        lines = torch.stack(
            [level_horizon(_camera(f), pitch_deg=config.pitch_deg, roll_deg=config.roll_deg) for f in frames]
        )
        return RoadHorizons(lines, config.horizon_deg, "given")
    edges, travel = config.horizon in ("auto", "edges"), config.horizon in ("auto", "travel")
    found = road_horizons(frames, edges=edges, travel=travel, roll_deg=config.roll_deg, watch=watch)
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


def _camera(frame: SeenFrame) -> Camera:
    return Camera(torch.from_numpy(frame.K), frame.height, frame.width)


def camera_height_asked(request: CameraHeightAsked, watch: Watch = unwatched) -> Iterator[str]:
    """Estimate, write the files to `request.out`, and yield lines. Raises DataError, ConfigError, GeometryError."""
    frames = seen_frames(request, watch)
    estimated = estimate_camera_height(frames, request.config, watch=watch)
    yield from said(estimated)
    if (apart := moved_camera(estimated.frames, estimated.objects, estimated.found)) is not None:
        yield said_of_moved(apart)
    if len(estimated.frames) < len(frames):
        yield (
            f"note: {len(frames) - len(estimated.frames)} frames without a horizon by {estimated.horizon_by} were"
            " left out"
        )
    if request.out is not None:
        write_json(request.out / RESULT, as_json(estimated))
        for name, picture in ((IMAGE, drawn(estimated)), (OVER_FRAMES, drawn_over_frames(estimated))):
            _write_image(request.out / name, picture)
        yield f"{request.out}: {RESULT}, {IMAGE}, {OVER_FRAMES}"


def said(estimated: EstimatedHeight) -> Iterator[str]:
    """Yield lines for people; warnings start with "note: "."""
    found, config = estimated.found, estimated.config
    accepted = found.verdict.count(Verdict.BELIEVED)
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
    yield from notes_of_frames(estimated.frames, config)
    yield "note: priors that are 5 % off make the height 5 % off, which the interval does not include"
    odd, judged = found.verdict.count(Verdict.ODD), accepted + found.verdict.count(Verdict.ODD)
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


def as_json(estimated: EstimatedHeight) -> dict[str, Any]:
    """Return the result with each object and its verdict; lengths in metres, boxes in the pixels of their frame."""
    found, config = estimated.found, estimated.config
    pitch, roll = _median_tilt_deg(estimated)
    rows = zip(estimated.objects.frame.tolist(), estimated.place, found.implied_m.tolist(), found.verdict, strict=True)
    return {
        "camera_height_m": found.camera_height_m,
        "interval_95_m": [found.low_m, found.high_m],
        "frames": len(estimated.frames),
        "objects": len(found.verdict),
        "believed": found.verdict.count(Verdict.BELIEVED),
        "not_believed": {str(reason): count for reason, count in _count_rejections(found).items()},
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


def _count_rejections(found: HeightSurvey) -> dict[Verdict, int]:
    counts = {reason: found.verdict.count(reason) for reason in Verdict if reason is not Verdict.BELIEVED}
    return {reason: count for reason, count in counts.items() if count}


def _median_tilt_deg(estimated: EstimatedHeight) -> tuple[float, float]:
    """Return pitch and roll in degrees, medians over frames."""
    camera = _camera(estimated.frames[0])
    tilts = torch.tensor([tilt_deg(normal_of(line, camera)) for line in estimated.found.horizons], dtype=torch.float64)
    pitch, roll = tilts.median(0).values.tolist()
    return pitch, roll


def drawn(estimated: EstimatedHeight) -> NDArray[np.uint8]:
    """Draw frames (H, W, 3) RGB, evenly spaced, with horizon, road plane and verdicts.

    Of each part of the frames the one with most accepted objects is drawn.
    """
    number, accepted = estimated.objects.frame, torch.tensor([v is Verdict.BELIEVED for v in estimated.found.verdict])
    counts = (
        torch.bincount(number[accepted], minlength=len(estimated.frames))
        if len(number)
        else torch.zeros(len(estimated.frames))
    )
    stretches = np.array_split(np.arange(len(estimated.frames)), min(_SHEET_FRAMES, len(estimated.frames)))
    shown = sheet(
        [_draw_frame(estimated, int(part[int(counts[part].argmax())])) for part in stretches],
        columns=2,
        width=_DRAWN_WIDTH,
    )
    reasons = [
        (f"{_CODES[reason]}: {reason}", BAD) for reason in _count_rejections(estimated.found) if reason in _CODES
    ]
    entries = [("camera height (m) of an accepted object", GOOD), ("of one that disagrees", BAD)]
    return with_legend(shown, [*entries, *reasons, ("horizon", HORIZON), ("the road, 5 to 40 m ahead", PLANE)])


def _draw_frame(estimated: EstimatedHeight, number: int) -> NDArray[np.uint8]:
    frame, found = estimated.frames[number], estimated.found
    line = _convert_line(found.horizons[number], estimated.frames[0].K, frame.K)
    plane = [*normal_of(line, _camera(frame)).tolist(), found.camera_height_m]
    rows = (estimated.objects.frame == number).nonzero()[:, 0].tolist()
    words = [_verdict_text(found.verdict[row], float(found.implied_m[row])) for row in rows]
    boxes = [frame.objects[estimated.place[row]].box_px for row in rows]
    scale = _DRAWN_WIDTH / frame.width
    size = _DRAWN_WIDTH, round(frame.height * scale)
    picture = draw_horizon(draw_plane(frame.image(), frame.K, plane), line.numpy())
    picture = np.asarray(
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
    )
    accepted = [found.verdict[row] is Verdict.BELIEVED for row in rows]
    picture = draw_verdicts(picture, np.array(boxes).reshape(-1, 4) * scale, accepted, words)
    write(picture, frame.name, (6, picture.shape[0] - 8), _INK, 0.5)
    return picture


def _verdict_text(verdict: Verdict, implied_m: float) -> str:
    return _CODES.get(verdict, f"{implied_m:.2f}")


def drawn_over_frames(estimated: EstimatedHeight, *, true_m: float | None = None) -> NDArray[np.uint8]:
    """Draw a chart (H, W, 3) RGB: the height from each object at its frame, and the band of the estimate."""
    found = estimated.found
    accepted = [verdict is Verdict.BELIEVED for verdict in found.verdict]
    interval = found.camera_height_m, found.low_m, found.high_m
    places, starts = _places(estimated.frames)
    at = places[estimated.objects.frame.numpy()]
    return heights_over_frames(at, found.implied_m.numpy(), accepted, *interval, starts=starts, true_m=true_m)


def _places(frames: Sequence[SeenFrame]) -> tuple[NDArray[np.int64], dict[str, float]]:
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


def _write_image(path: Path, picture: NDArray[np.uint8]) -> None:
    with replacing(path) as temporary:
        cv2.imwrite(str(temporary), np.ascontiguousarray(picture[..., ::-1]))
