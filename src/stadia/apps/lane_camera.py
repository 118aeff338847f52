"""Measure the camera of a drive by its lane markings: `stadia camera VIDEO --from lanes`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.apps.camera_file import CameraRequest, write_camera_file
from stadia.core.errors import GeometryError, StadiaError
from stadia.datasets.config import CameraConfig
from stadia.datasets.open_dataset import check_path_exists
from stadia.datasets.video.static_parts import find_static_content, sample_frames
from stadia.datasets.video.video_camera import find_static_mask, read_image_size, read_user_camera
from stadia.datasets.video.video_map import find_usable_map
from stadia.files.output_files import check_replaceable, write_marked_png
from stadia.files.paths import expand_home
from stadia.geometry.ground.lane_lines import LaneMeasurement, measure_lanes
from stadia.geometry.scale_fit import ScaleFit, fuse_scales
from stadia.predict.input_camera import choose_input_camera
from stadia.predict.scale.grammar import GIVEN_LANE_DEVIATION, LANE_DEVIATION, LANE_M

SAMPLES = 40
"""Frames that are searched for lane markings."""

MAX_FOCAL_ERROR = 0.08
"""A focal length is claimed if its 95 % interval is within this ratio."""

PERIOD_DEVIATION = 0.01
"""Relative error of a given period of dashes."""

FILE_DEVIATION, LENS_DEVIATION = 0.01, 0.03
"""Relative errors of a focal length from a calibration, and from the metadata or a map."""

EDGE_DEVIATION = 0.15
"""Two solid lines may be the edges of a road without a middle line; then the lane's width says little."""


@dataclass(frozen=True)
class Dashes:
    """Standard dashes of a country. period_m: from dash to dash.  lane_m: width of the lanes that have them."""

    where: str
    period_m: float
    lane_m: float


STANDARD_DASHES = (
    Dashes("cities of China", 6.0, 3.5),
    Dashes("Britain and India", 9.0, 3.65),
    Dashes("roads of Germany", 12.0, 3.5),
    Dashes("the USA", 12.2, 3.66),
    Dashes("motorways of France", 13.0, 3.5),
    Dashes("motorways of California", 14.63, 3.66),
    Dashes("motorways of China", 15.0, 3.75),
    Dashes("motorways of Germany", 18.0, 3.75),
    Dashes("motorways of Japan", 20.0, 3.5),
)
"""Sources: MUTCD 3A.06, Caltrans A20A, RMS-1, GB 5768.3, TSM chapter 5, IISR 7, IRC 35."""


@dataclass(frozen=True)
class LaneRequest:
    """lane_m, period_m: width of the lane and period of its dashes in metres; None if unknown."""

    source: Path
    lane_m: float | None = None
    period_m: float | None = None
    force: bool = False


@dataclass(frozen=True)
class LaneCamera:
    """The camera by lane markings.

    lanes: the measurement.
    height_m: the camera's height over the road, with its relative deviation.
    focal: the focal length in pixels by lanes with its deviation, or None.
    known: the focal length by other evidence, and its origin, or None.
    dashes: the one standard that agrees with the known focal length, or None.
    fused_px: both together if the focal length is claimed; None if not, and why.
    """

    lanes: LaneMeasurement
    height_m: float
    height_deviation: float
    focal: ScaleFit | None
    known: tuple[str, ScaleFit] | None
    dashes: Dashes | None
    claimed: ScaleFit | None
    refused: str


def judge_lanes(
    lanes: LaneMeasurement,
    *,
    lane_m: float | None = None,
    period_m: float | None = None,
    known: tuple[str, ScaleFit] | None = None,
) -> LaneCamera:
    """Return camera height and focal length with deviations; the focal length is claimed only within an interval.

    known: a focal length in pixels by other evidence, and its origin.

    Examples:
        >>> lanes = LaneMeasurement(np.array([480.0, 300.0]), 1.0, 3.0, 0.01, 0.01, 0.02, 30, 40, {})
        >>> seen = judge_lanes(lanes, lane_m=3.66, period_m=12.2)
        >>> round(seen.height_m, 3), round(seen.claimed.factor)
        (1.22, 1000)
        >>> judge_lanes(lanes, lane_m=3.66).claimed is None
        True
    """
    width_m = LANE_M if lane_m is None else lane_m
    width_deviation = LANE_DEVIATION if lane_m is None else GIVEN_LANE_DEVIATION
    if lane_m is None and lanes.period is None:
        width_deviation = EDGE_DEVIATION
    height_deviation = math.hypot(width_deviation, lanes.width_deviation)
    dashes = _find_dashes(lanes, lane_m, known) if period_m is None else None
    if dashes is not None:
        width_m = dashes.lane_m if lane_m is None else lane_m
    given_m, focal = period_m or (dashes.period_m if dashes else None), None
    if given_m is not None and (focal_px := lanes.find_focal_px(width_m, given_m)) is not None:
        shared = GIVEN_LANE_DEVIATION if dashes is not None else width_deviation
        parts = shared, lanes.width_deviation, lanes.period_deviation, PERIOD_DEVIATION
        deviation = float(np.linalg.norm(parts))
        focal = ScaleFit(focal_px, deviation, deviation, 1.0, lanes.frames, lanes.frames)
    claimed, refused = None, ""
    if lanes.period is None:
        refused = "no regular dashes were seen. Use a part of the video with a dashed line"
    elif focal is None:
        refused = "the period of dashes differs from country to country. Measure it or look it up: --dash-period METRES"
    elif 1.96 * focal.deviation > MAX_FOCAL_ERROR:
        missing = "Give the lane's width: --lane-width METRES" if lane_m is None else "Use more frames with dashes"
        refused = f"its 95 % interval would be +- {1.96 * focal.deviation:.0%}. {missing}"
    elif known is not None:
        fused = fuse_scales({"lanes": focal, known[0]: known[1]})
        if fused.contradictions:
            refused = f"lanes give {focal.factor:.0f} px, and {known[0]} {known[1].factor:.0f} px. Check --dash-period"
        else:
            claimed = replace(focal, factor=fused.factor, deviation=fused.deviation)
    else:
        claimed = focal
    return LaneCamera(
        lanes=lanes,
        height_m=lanes.find_height_m(width_m),
        height_deviation=height_deviation,
        focal=focal,
        known=known,
        dashes=dashes,
        claimed=claimed,
        refused=refused,
    )


def list_dashes(lanes: LaneMeasurement, lane_m: float | None = None) -> list[tuple[Dashes, float]]:
    """Return the standard dashes with the focal length in pixels that each one means; empty without dashes."""
    found = [(dashes, lanes.find_focal_px(lane_m or dashes.lane_m, dashes.period_m)) for dashes in STANDARD_DASHES]
    return [(dashes, focal_px) for dashes, focal_px in found if focal_px is not None]


def _find_dashes(lanes: LaneMeasurement, lane_m: float | None, known: tuple[str, ScaleFit] | None) -> Dashes | None:
    if known is None:
        return None
    deviation = math.hypot(known[1].deviation, lanes.period_deviation, lanes.width_deviation, GIVEN_LANE_DEVIATION)
    fits = [dashes for dashes, focal_px in list_dashes(lanes, lane_m)
            if abs(math.log(focal_px / known[1].factor)) < 2 * deviation]  # fmt: skip
    return fits[0] if len(fits) == 1 else None


def measure_lane_camera(request: LaneRequest) -> list[str]:
    """Measure the camera of a drive, draw the lines that it took, and return lines for people.

    A claimed focal length is written to the camera's file if nothing else states it.
    Raises DataError without lanes.
    """
    source = expand_home(request.source)
    check_path_exists(source)
    picture = check_replaceable(
        source.with_name(f"{source.name}.lanes.png"), "picture of lanes", inputs=[source], force=request.force
    )
    given = choose_input_camera(CameraConfig(), source)
    camera = read_user_camera(given.config, source, *read_image_size(source))
    images = [camera.correct(image) for image in sample_frames(source, SAMPLES)]
    try:
        lanes = measure_lanes(images, find_static_mask(camera, source))
    except GeometryError as error:
        fix = "give the camera another way: docs/how-to/unknown-camera.md"
        raise StadiaError(source, found=error.found, expected=error.expected, fix=fix) from error
    known = None
    if not given.is_assumed:
        deviation = FILE_DEVIATION if given.origin.endswith((".json", ".txt")) else LENS_DEVIATION
        known = given.origin, ScaleFit(float(camera.intrinsics.select_K(0)[0, 0]), deviation, 0.0, 1.0, 1, 1)
    else:
        known = _find_map_evidence(source, camera.intrinsics.width)
    found = judge_lanes(lanes, lane_m=request.lane_m, period_m=request.period_m, known=known)
    write_marked_png(picture, draw_lanes(images, lanes)[..., ::-1], "stadia-lanes")
    center_y = float(camera.intrinsics.select_K(0)[1, 2])
    lines = describe_lanes(found, request, center_y, camera.intrinsics.width)
    if found.claimed is not None and given.is_assumed and find_static_content(source).crop is None:
        lines += write_camera_file(CameraRequest(source=source, focal_px=found.claimed.factor, force=request.force))
    return [*lines, f"picture: {picture}"]


def _find_map_evidence(source: Path, width: int) -> tuple[str, ScaleFit] | None:
    mapped = find_usable_map(source)
    if mapped is None or "focal_px" not in mapped.camera.intervals_95 or mapped.camera.origin == "assumed":
        return None
    low, high = mapped.camera.intervals_95["focal_px"]
    deviation = math.log(high / max(low, 1.0)) / 3.92
    factor = mapped.camera.focal_px * width / mapped.camera.width
    return f"{mapped.folder.name} ({mapped.camera.origin})", ScaleFit(factor, deviation, 0.0, 1.0, 1, 1)


def describe_lanes(found: LaneCamera, request: LaneRequest, center_y: float, width: int) -> list[str]:
    """Return the measurement for people."""
    lanes = found.lanes
    lane = f"a lane of {found.height_m * lanes.width:.2f} m"
    row, error = lanes.point[1], 1.96 * found.height_deviation
    low_m, high_m = found.height_m * (1 - error), found.height_m * (1 + error)
    lines = [f"lanes: {lanes.frames} of {lanes.seen} frames agree",
             f"camera height: {found.height_m:.2f} m (95 %: {low_m:.2f} to {high_m:.2f}), for {lane}"]  # fmt: skip
    if request.lane_m is None:
        lines.append("note: lanes are 2.75 to 3.75 m wide. Give yours: --lane-width METRES")
    if lanes.period is None:
        lines.append("note: both lines are solid. They may be the edges of the road, not of a lane")
    lines.append(f"horizon: row {row:.1f} +- {lanes.point_deviation:.1f}")
    focal = found.claimed or (None if found.known is None else found.known[1])
    if focal is not None:
        pitch_deg = math.degrees(math.atan((center_y - row) / focal.factor))
        lines.append(
            f"pitch: {pitch_deg:.1f} degrees down" if pitch_deg >= 0 else f"pitch: {-pitch_deg:.1f} degrees up"
        )
    if found.claimed is None:
        lines.append(f"focal length: not claimed, because {found.refused}")
        if lanes.period is not None and request.period_m is None:
            listed = (f"{dashes.period_m:g} m ({dashes.where}): {focal_px:.0f} px"
                      for dashes, focal_px in list_dashes(lanes, request.lane_m))  # fmt: skip
            lines += [f"  dashes every {text}" for text in listed]
        return lines
    low, high = (found.claimed.factor * (1 + sign * 1.96 * found.claimed.deviation) for sign in (-1, 1))
    angle = math.degrees(2 * math.atan(width / 2 / found.claimed.factor))
    sources = "lanes" if found.known is None else f"lanes and {found.known[0]}"
    lines.append(f"focal length: {found.claimed.factor:.0f} px (95 %: {low:.0f} to {high:.0f}), {angle:.1f} degrees,"
                 f" by {sources}")  # fmt: skip
    if found.dashes is not None:
        lines.append(f"dashes: every {found.dashes.period_m:g} m, as in {found.dashes.where}")
    return lines


def draw_lanes(images: Sequence[NDArray[np.uint8]], lanes: LaneMeasurement) -> NDArray[np.uint8]:
    """Return four frames with the two lines of their lane, RGB."""
    chosen = [*lanes.lanes.items()]
    tiles = []
    for index, lane in (chosen[number] for number in np.linspace(0, len(chosen) - 1, 4).astype(int).tolist()):
        image = images[index].copy()
        height, width = image.shape[:2]
        x, y = lane.point
        for side in lane.sides:
            far, near = ((round(x + side * below), round(y + below)) for below in (0.025 * width, height - y))
            cv2.line(image, far, near, (255, 0, 0), max(width // 400, 1), cv2.LINE_AA)
        cv2.line(image, (0, round(y)), (width - 1, round(y)), (0, 255, 255), 1)
        tiles.append(image)
    rows = [np.concatenate(tiles[:2], axis=1), np.concatenate(tiles[2:], axis=1)]
    return np.asarray(np.concatenate(rows, axis=0), np.uint8)
