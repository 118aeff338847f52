"""Measure the camera of a drive by its lane markings: `stadia camera VIDEO --from lanes`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.apps.camera_file import CameraRequest, write_camera_file
from stadia.core.errors import GeometryError, StadiaError
from stadia.datasets.config import CameraConfig
from stadia.datasets.open_dataset import check_path_exists
from stadia.datasets.video.static_parts import sample_frames
from stadia.datasets.video.video_camera import find_static_mask, read_image_size, read_user_camera
from stadia.files.output_files import check_replaceable, write_marked_png
from stadia.files.paths import expand_home
from stadia.geometry.ground.lane_lines import LaneMeasurement, measure_lanes
from stadia.geometry.numpy_camera import Intrinsics
from stadia.predict.inputs import InputCamera, choose_input_camera
from stadia.predict.scale.grammar import LANE_M, find_lane_deviation

SAMPLES = 40
"""Frames that are searched for lane markings."""

MAX_FOCAL_ERROR = 0.08
"""A focal length is claimed if its 95 % interval is within this ratio."""

PERIOD_DEVIATION = 0.01
"""Relative error of a given period of dashes."""


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
    focal_px: the focal length with its relative deviation; None without a given period, or without dashes.
    refused: why the focal length is not claimed; empty if it is.
    """

    lanes: LaneMeasurement
    height_m: float
    height_deviation: float
    focal_px: float | None
    focal_deviation: float
    refused: str

    @property
    def claimed_px(self) -> float | None:
        """Return the focal length if it is claimed."""
        return None if self.refused else self.focal_px


def judge_lanes(lanes: LaneMeasurement, *, lane_m: float | None = None, period_m: float | None = None) -> LaneCamera:
    """Return camera height and focal length with deviations; the focal length is claimed only within an interval.

    Examples:
        >>> lanes = LaneMeasurement(np.array([480.0, 300.0]), 1.0, 3.0, 0.01, 0.01, 0.02, 30, 40, {})
        >>> seen = judge_lanes(lanes, lane_m=3.66, period_m=12.2)
        >>> round(seen.height_m, 3), round(seen.claimed_px)
        (1.22, 1000)
        >>> judge_lanes(lanes, period_m=12.2).claimed_px is None
        True
    """
    width_m = LANE_M if lane_m is None else lane_m
    width_deviation = find_lane_deviation(lane_m, is_dashed=lanes.period is not None)
    focal_px = None if period_m is None else lanes.find_focal_px(width_m, period_m)
    parts = width_deviation, lanes.width_deviation, lanes.period_deviation, PERIOD_DEVIATION
    deviation = float(np.linalg.norm(parts))
    refused = ""
    if lanes.period is None:
        refused = "no regular dashes were seen. Use a part of the video with a dashed line"
    elif focal_px is None:
        refused = "the period of dashes differs from country to country. Measure it or look it up: --dash-period METRES"
    elif lane_m is None:
        refused = "the width of lanes differs from road to road. Measure it or look it up: --lane-width METRES"
    elif 1.96 * deviation > MAX_FOCAL_ERROR:
        missing = "Use a part with more dashes, on both sides: they show how the camera rolls"
        refused = f"its 95 % interval would be +- {1.96 * deviation:.0%}. {missing}"
    return LaneCamera(
        lanes=lanes,
        height_m=lanes.find_height_m(width_m),
        height_deviation=math.hypot(width_deviation, lanes.width_deviation),
        focal_px=focal_px,
        focal_deviation=deviation,
        refused=refused,
    )


def list_dashes(lanes: LaneMeasurement, lane_m: float | None = None) -> list[tuple[Dashes, float]]:
    """Return the standard dashes with the focal length in pixels that each one means; empty without dashes."""
    found = [(dashes, lanes.find_focal_px(lane_m or dashes.lane_m, dashes.period_m)) for dashes in STANDARD_DASHES]
    return [(dashes, focal_px) for dashes, focal_px in found if focal_px is not None]


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
    found = judge_lanes(lanes, lane_m=request.lane_m, period_m=request.period_m)
    write_marked_png(picture, draw_lanes(images, lanes)[..., ::-1], "stadia-lanes")
    lines = describe_lanes(found, request, given, camera.intrinsics)
    if found.claimed_px is not None and given.is_assumed:
        lines += write_camera_file(CameraRequest(source=source, focal_px=found.claimed_px, force=request.force))
    return [*lines, f"picture: {picture}"]


def describe_lanes(found: LaneCamera, request: LaneRequest, given: InputCamera, camera: Intrinsics) -> list[str]:
    """Return the measurement for people, next to the camera that is known without lanes."""
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
    K = camera.select_K(0)
    known_px = None if given.is_assumed else float(K[0, 0])
    focal_px = found.claimed_px or known_px
    if focal_px is not None:
        pitch_deg = math.degrees(math.atan((K[1, 2] - row) / focal_px))
        lines.append(
            f"pitch: {pitch_deg:.1f} degrees down" if pitch_deg >= 0 else f"pitch: {-pitch_deg:.1f} degrees up"
        )
    if known_px is not None:
        lines.append(f"focal length: {known_px:.0f} px by {given.origin}, without lanes")
    if found.claimed_px is None:
        lines.append(f"focal length: not claimed, because {found.refused}")
        if lanes.period is not None and request.period_m is None:
            listed = (f"{dashes.period_m:g} m ({dashes.where}): {focal_px:.0f} px"
                      for dashes, focal_px in list_dashes(lanes, request.lane_m))  # fmt: skip
            lines += [f"  dashes every {text}" for text in listed]
        return lines
    low, high = (found.claimed_px * (1 + sign * 1.96 * found.focal_deviation) for sign in (-1, 1))
    angle = math.degrees(2 * math.atan(camera.width / 2 / found.claimed_px))
    lines.append(f"focal length: {found.claimed_px:.0f} px (95 %: {low:.0f} to {high:.0f}), {angle:.1f} degrees,"
                 " by lanes")  # fmt: skip
    if known_px is not None:
        lines.append(f"note: not saved, because {given.origin} states a camera. To replace it: --focal-px PIXELS")
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
