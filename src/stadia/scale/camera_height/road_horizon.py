"""Find the horizon of the road in each image, from straight edges and from the direction of travel.

Both give one point of the horizon, hence its row but not the camera's roll: edges along the road meet in its vanishing
point, and a car moves along its road.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import Camera
from stadia.data.video.video_map import MapRoad
from stadia.geometry.ground.camera_height import horizon_from_angles
from stadia.geometry.ground.horizon import find_vanishing_point
from stadia.scale.camera_height.config import GIVE_HORIZON, CameraHeightConfig
from stadia.scale.camera_height.road_objects import RoadFrame

Image = NDArray[np.uint8]
_REACH_DEG = 6.0  # search radius of the vanishing point around the principal point
_MIN_EDGE_SHARE = 0.25  # least share of the edges that meet in the vanishing point
_MIN_EDGES = 8
_MIN_EDGE_LENGTH = 0.025  # share of the image's width
_EDGE_DEG = 0.4  # deviation of one image's edges
_MOUNT_DEG = 0.25  # deviation of the road ahead from the road under the car; more images do not reduce it
_LEVEL_DEG = 1.2  # deviation of an image without an estimate
_PITCH_DEG = 0.3  # deviation of an image from its drive: a car pitches
_MAX_PITCH_DEG = 1.0  # deviation above which an image's edges are ignored
_MAX_CORNERS = 600
_MIN_CORNERS = 40
_DRIVE_PARTS = 20
_MAX_PART_STEPS = 8  # images of a part
_FLOW_SHARE = 0.008  # median motion of corners over image width at which a part ends
_MIN_FLOW_SHARE = 0.004  # below, a part has no estimate
_GIVEN_DEG = 0.05  # deviation of a given horizon
_STRAIGHT = 0.1  # tangent of the angle between travel and axis


@dataclass(frozen=True)
class RoadHorizons:
    """Horizon lines of F frames.

    lines: (F, 3), lines a x + b y + c = 0 in the pixels of each image; NaN if unknown.
    deviation_deg: standard deviation that all lines have, degrees.
    by: how they were found, in words.
    """

    lines: NDArray[np.float64]
    deviation_deg: float
    by: str


def choose_horizons(
    frames: Sequence[RoadFrame], config: CameraHeightConfig, track: TrackProgress, road: MapRoad | None = None
) -> RoadHorizons | None:
    """Find the horizon of each frame in the way that `config.horizon` requests.

    frames: the frames.
    config: the configuration.
    track: shows progress.
    road: the road of the map next to the video, which gives the horizon if `config.horizon` is "auto"; or None.

    Returns None if the horizon is to be fitted to the objects.

    Raises DataError if a requested way finds no horizon.
    """
    if config.horizon == "objects":
        return None
    if config.horizon == "given":
        angles = {"pitch_deg": config.pitch_deg, "roll_deg": config.roll_deg}
        lines = np.stack([horizon_from_angles(frame.camera, **angles) for frame in frames])
        is_set = "horizon_deg" in config.model_fields_set
        return RoadHorizons(lines, config.horizon_deg if is_set else _GIVEN_DEG, "given")
    if road is not None and config.horizon == "auto":
        rows = [road.horizon_row(frame.K) for frame in frames]
        lines = np.stack(
            [
                _horizon_through_point(frame.K[0, 2], row, config.roll_deg)
                for frame, row in zip(frames, rows, strict=True)
            ]
        )
        return RoadHorizons(lines, road.pitch_deviation_deg, "the map")
    edges, travel = config.horizon in ("auto", "edges"), config.horizon in ("auto", "travel")
    found = find_road_horizons(frames, edges=edges, travel=travel, roll_deg=config.roll_deg, track=track)
    if np.isfinite(found.lines).all(-1).any():
        return found
    if config.horizon == "auto":
        return None
    drive = "consecutive images of a straight drive, not too slow"
    raise DataError(
        f"horizon={config.horizon}",
        found=f"no horizon in {len(frames)} frames",
        expected="kerbs, markings or walls along the road" if edges else drive,
        fix=GIVE_HORIZON,
    )


def find_road_horizons(
    frames: Sequence[RoadFrame],
    *,
    edges: bool = True,
    travel: bool = True,
    roll_deg: float = 0.0,
    track: TrackProgress = no_progress,
) -> RoadHorizons:
    """Find the horizon of each image from straight edges and from the direction of travel.

    The frames of a drive share one horizon, the weighted mean of edges and travel; an image's own edges shift it.
    Images that belong to no drive use their edges alone.

    frames: the frames.
    edges, travel: whether to use each of the two.
    roll_deg: roll of the camera, degrees.
    track: shows progress.
    """
    lines, deviations, words = [], [], set[str]()
    for _, group in groupby(enumerate(frames), lambda row: row[1].drive or str(row[0])):
        drive = [frame for _, frame in group]
        rows, deviation_deg, by = _horizon_rows(drive, edges, travel, roll_deg, track)
        lines += [_horizon_through_point(frame.K[0, 2], row, roll_deg) for frame, row in zip(drive, rows, strict=True)]
        deviations += [deviation_deg] * len(drive)
        words |= by
    known = np.isfinite(lines).all(-1)
    deviation = float(np.median(np.array(deviations)[known])) if known.any() else _LEVEL_DEG
    return RoadHorizons(np.stack(lines), deviation, " and ".join(sorted(words)) or "nothing")


def _horizon_rows(
    drive: Sequence[RoadFrame], edges: bool, travel: bool, roll_deg: float, track: TrackProgress
) -> tuple[list[float], float, set[str]]:
    focal = np.array([frame.K[1, 1] for frame in drive])
    middle = np.array([frame.K[1, 2] for frame in drive])

    def degrees(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.degrees(np.arctan2(rows - middle, focal))

    own = np.full(len(drive), np.nan)
    if edges:
        tracked = track(drive, len(drive), "edges")
        lines = [find_edge_horizon(frame.image(), frame.camera, roll_deg=roll_deg) for frame in tracked]
        own = degrees(np.array([_row_at_center(line, frame) for line, frame in zip(lines, drive, strict=True)]))
    estimates, by = [], set[str]()
    if np.isfinite(own).any():
        estimates.append(_robust_median(own, _EDGE_DEG))
        by.add("edges")
    if travel and len(drive) > 1:
        went = measure_travel_pitches_deg(drive, track)
        if np.isfinite(went).sum() >= 3:
            estimates.append(_robust_median(went, _EDGE_DEG))
            by.add("travel")
    if not estimates:
        return [math.nan] * len(drive), _LEVEL_DEG, by
    weight = np.array([1 / deviation**2 for _, deviation in estimates])
    mount = float((weight * [pitch for pitch, _ in estimates]).sum() / weight.sum())
    gain = _PITCH_DEG**2 / (_PITCH_DEG**2 + _EDGE_DEG**2) if len(drive) > 1 else 1.0
    apart = np.where(np.abs(own - mount) < _MAX_PITCH_DEG, own - mount, 0.0)
    return list(middle + focal * np.tan(np.radians(mount + gain * apart))), float(weight.sum()) ** -0.5, by


def _robust_median(degrees: NDArray[np.float64], least_deg: float) -> tuple[float, float]:
    known = degrees[np.isfinite(degrees)]
    middle = float(np.median(known))
    spread = max(least_deg, 1.4826 * float(np.median(np.abs(known - middle))))
    return middle, math.hypot(spread / math.sqrt(max(1.0, len(known) / 4)), _MOUNT_DEG)


def _row_at_center(line: NDArray[np.float64], frame: RoadFrame) -> float:
    return float(-(line[0] * frame.K[0, 2] + line[2]) / line[1])


def _horizon_through_point(x: float, y: float, roll_deg: float) -> NDArray[np.float64]:
    """Return the horizon (3,) through a point. At a given roll one point determines it."""
    roll = math.radians(roll_deg)
    a, b = -math.sin(roll), -math.cos(roll)
    return np.array([a, b, -(a * x + b * y)])


def find_edge_horizon(image: Image, camera: Camera, *, roll_deg: float = 0.0) -> NDArray[np.float64]:
    """Find the horizon line (3,) of an image from the vanishing point of its straight edges; NaN with too few edges.

    Edges: LSD (Grompone von Gioi et al., IPOL 2, 2012). One vanishing point does not give the roll.

    image: (H, W, 3) RGB.
    camera: its camera.
    roll_deg: roll of the camera, degrees.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    segments = cv2.createLineSegmentDetector().detect(gray)[0]
    nothing = np.full(3, np.nan)
    if segments is None:
        return nothing
    edges = segments.reshape(-1, 4).astype(np.float64)
    edges = edges[np.linalg.norm(edges[:, 2:] - edges[:, :2], axis=-1) > _MIN_EDGE_LENGTH * camera.width]
    reach_px = float(camera.fy) * math.tan(math.radians(_REACH_DEG))
    found = find_vanishing_point(edges, camera.K[:2, 2], reach_px, generator=np.random.default_rng(0))
    if found is None or found[1] < _MIN_EDGE_SHARE or len(edges) < _MIN_EDGES:
        return nothing
    return _horizon_through_point(float(found[0][0]), float(found[0][1]), roll_deg)


def measure_travel_pitches_deg(drive: Sequence[RoadFrame], track: TrackProgress = no_progress) -> NDArray[np.float64]:
    """Measure the angle between the direction of travel and the optical axis in up to 20 parts of a drive, degrees.

    Positive if the travel is below the axis. The direction is the translation of the essential matrix (Nister, PAMI 26,
    2004) of corners tracked forward and backward (Lucas and Kanade, IJCAI 1981). NaN for a camera that stands, turns,
    or does not point along the travel.
    """
    starts = np.unique(np.linspace(0, max(0, len(drive) - 2), _DRIVE_PARTS).round().astype(int))
    cv2.setRNGSeed(0)
    parts = (drive[start : start + _MAX_PART_STEPS + 1] for start in track(starts, len(starts), "travel"))
    return np.array([_measure_travel_deg(part) for part in parts])


def _measure_travel_deg(stretch: Sequence[RoadFrame]) -> float:
    first = stretch[0]
    images = (cv2.cvtColor(frame.image(), cv2.COLOR_RGB2GRAY) for frame in stretch)
    before, after, _ = track_corners(images, _FLOW_SHARE * first.width)
    if len(before) < _MIN_CORNERS or np.median(np.linalg.norm(after - before, axis=1)) < _MIN_FLOW_SHARE * first.width:
        return math.nan
    E, agree = cv2.findEssentialMat(before, after, first.K, method=cv2.RANSAC, prob=0.999, threshold=0.7)
    if E is None or E.shape != (3, 3) or agree.mean() < 0.5:
        return math.nan
    _, R, t, _ = cv2.recoverPose(E, before, after, first.K, mask=agree)
    x, y, z = (-R.T @ t)[:, 0]
    straight = z > 0 and abs(x) < _STRAIGHT * z and abs(y) < _STRAIGHT * z
    return math.degrees(math.atan2(y, z)) if straight else math.nan


def track_corners(
    images: Iterable[Image], flow_px: float, distance_px: float = 8.0
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Track corners until their median motion exceeds `flow_px`, at most to the last image.

    Corners that cannot be tracked back from an image to the one before are left out.

    images: gray images (H, W).
    distance_px: least distance of two corners.

    Returns the corners (N, 2) in the first image and in the last one that was used, and the number of that image.
    """
    rest = iter(images)
    shown = next(rest)
    nothing = np.zeros((0, 2), np.float32)
    start = cv2.goodFeaturesToTrack(shown, _MAX_CORNERS, 0.005, distance_px)
    if start is None:
        return nothing, nothing, 0
    at, number = start, 0
    for following in rest:
        number += 1
        moved, there, _ = cv2.calcOpticalFlowPyrLK(shown, following, at, None, winSize=(15, 15), maxLevel=3)
        back, again, _ = cv2.calcOpticalFlowPyrLK(following, shown, moved, None, winSize=(15, 15), maxLevel=3)
        kept = (there[:, 0] > 0) & (again[:, 0] > 0) & (np.linalg.norm((back - at)[:, 0], axis=1) < 0.7)
        start, at, shown = start[kept], moved[kept], following
        if not len(at) or np.median(np.linalg.norm((at - start)[:, 0], axis=1)) > flow_px:
            break
    return start[:, 0], at[:, 0], number
