"""Measure whether a camera moved on its vehicle between two recordings: change of yaw, pitch, roll and height.

Each recording alone gives the orientation of the camera relative to the vehicle, so that the two need not show the same
place. The direction of travel on straight road gives yaw and pitch, the plane of the road gives roll and height.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import Recording
from stadia.data.frame_preparation import Frame
from stadia.geometry.cameras import resize_K
from stadia.geometry.poses import hat
from stadia.scale.camera_height.road_horizon import track_corners
from stadia.sfm.road_sweep import HEIGHTS, StraightFrame, sweep_road

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

MAX_STRETCHES = 32  # largest number of stretches of a recording
MAX_WIDTH = 832
MAX_STEPS = 24  # images of a stretch
MAX_FLOW, MIN_FLOW = 0.03, 0.01  # median motion of corners over image width: at which a stretch ends, and has no result
MIN_CORNERS = 40
MIN_INLIER_SHARE = 0.5
CORNER_DISTANCE = 0.008  # distance between corners over the image's width
MAX_TURN_DEG = 2.0  # rotation between the images of a stretch
MIN_ALONG = 0.85  # cosine between travel and optical axis
ROBUST_PX = 0.3  # residual above which a corner counts less
NEAR, FAR, SIDE = (
    2.0,
    10.0,
    1.5,
)  # road that is used, in heights of the camera: ahead from NEAR to FAR, and to each side
MIN_ROAD_POINTS, MAX_ROAD_POINTS = 300, 20_000
MIN_CORRELATION = 0.4  # correlation of the road's pixels at its height
MAX_HEIGHT_STEP = 0.12  # difference between the log heights of the sweep and of the alignment
MIN_UPRIGHT = 0.98  # cosine between the normal of the road and the direction across the travel
BLUR_PX, ALIGN_STEPS = 1.0, 12
MAX_UNEXPLAINED = 0.7  # residual of brightness after the warp, as a share of the deviation of the road's brightness
SOFT_CURVATURE = 0.004
"""Turn of the camera in radians, per height of the camera that it travels, at which a stretch has half its weight."""

MAX_DEVIATIONS = 3.5  # robust deviations from the median, beyond which a stretch is left out
BLOCKS = 8  # neighboring stretches that the bootstrap draws together, since a vehicle sways slowly
MIN_STRETCHES = 6
BOOTSTRAPS = 200
SWAY_DEG, SWAY_HEIGHT = (0.28, 0.2, 0.27), 0.04
"""Standard deviation of yaw, pitch, roll, and of the height as a share, by the sway of a vehicle over SWAY_S.

It is measured on short rendered drives (benchmarks/mount_change.py --seed 0), because a bootstrap misses slow sway.
"""

SWAY_S = 4.0  # A vehicle sways independently after this time.
LEVEL_DEG, LEVEL_HEIGHT = 0.05, 0.01  # deviation that no longer recording lowers
SIGNIFICANCE = 0.01  # probability of the measured change, or of a larger one, for a camera that did not move


@dataclass(frozen=True, eq=False)
class MountView:
    """A frame of a recording of a mounted camera.

    image: (H, W, 3) uint8 RGB, or (H, W) gray.
    K: (3, 3), pixels.
    position_m: (3,) of the camera in a fixed frame, metres; None if unknown.
    """

    image: Callable[[], Image]
    K: Array
    position_m: Array | None = None


@dataclass(frozen=True, eq=False)
class Stretch:
    """What two images of a straight stretch of road show about the mount.

    travel: (3,) unit direction of travel, in the camera's axes.
    up: (3,) unit normal of the road towards the camera; NaN if the road was not found.
    height: height of the camera over the road, in units of the distance between the two images; NaN if unknown.
    height_m: the same in metres; NaN if unknown.
    turn: angle of the camera's rotation between the images, radians.
    """

    travel: Array
    up: Array
    height: float
    height_m: float
    turn: float

    @property
    def weight(self) -> float:
        """Return the weight: lower on curved road, because a camera ahead of the rear axle moves sideways there."""
        curvature = self.turn * (self.height if math.isfinite(self.height) else 1.0)
        return 1 / (1 + (curvature / SOFT_CURVATURE) ** 2)


# -- one stretch


def measure_stretch(views: Sequence[MountView]) -> Stretch | None:
    """Measure travel and road between the first view and the first one after enough motion of the scene; None if that
    fails.
    """
    first = views[0]
    images = [_to_gray(view) for view in views]
    width = images[0].shape[1]
    before, after, last = track_corners(images, MAX_FLOW * width, distance_px=max(3.0, CORNER_DISTANCE * width))
    if len(before) < MIN_CORNERS or np.median(np.linalg.norm(after - before, axis=1)) < MIN_FLOW * width:
        return None
    tracked = before.astype(np.float64), after.astype(np.float64)
    motion = find_motion(*tracked, first.K)
    if motion is None or not _is_straight(*motion):
        return None
    R, t = motion
    travel = _find_travel(R, t)
    turn = float(Rotation.from_matrix(R).magnitude())
    plane = find_road(images[0], images[last], first.K, R, t)
    if plane is None:
        return Stretch(travel, np.full(3, np.nan), math.nan, math.nan, turn)
    height = float(1 / np.linalg.norm(plane))
    normal = -plane * height
    start, end = first.position_m, views[last].position_m
    step_m = math.nan if start is None or end is None else float(np.linalg.norm(end - start))
    return Stretch(travel, _normalize(normal + R @ normal), height, height * step_m, turn)


def _to_gray(view: MountView) -> Image:
    image = view.image()
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _normalize(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


def _find_travel(R: Array, t: Array) -> Array:
    """Return the unit direction of travel, the mean of it in the axes of the first and of the second camera."""
    return _normalize(-R.T @ t - t)


def _is_straight(R: Array, t: Array) -> bool:
    turn = math.degrees(Rotation.from_matrix(R).magnitude())
    return bool(turn < MAX_TURN_DEG and _find_travel(R, t)[2] > MIN_ALONG)


def find_motion(before: Array, after: Array, K: Array) -> tuple[Array, Array] | None:
    """Return R (3, 3) and the unit t (3,) of X_after = R X_before + t, from pixels (N, 2); None if few points agree.

    Source: the essential matrix by RANSAC, Nister, PAMI 26, 2004.
    """
    E, agree = cv2.findEssentialMat(before, after, K, method=cv2.RANSAC, prob=0.999, threshold=0.7)
    if E is None or E.shape != (3, 3) or agree.mean() < MIN_INLIER_SHARE:
        return None
    _, R, t, mask = cv2.recoverPose(E, before, after, K, mask=agree)
    if (mask > 0).sum() < MIN_CORNERS:
        return None
    return refine_motion(before, after, K, np.asarray(R, np.float64), np.asarray(t, np.float64)[:, 0])


def refine_motion(before: Array, after: Array, K: Array, R: Array, t: Array) -> tuple[Array, Array]:
    """Return the motion, from a start, with the least robust sum of Sampson's distances of pixels (N, 2)."""
    first, second = (_make_rays(points, K) for points in (before, after))
    across = np.linalg.svd(t[None])[2][1:]  # (2, 3) directions perpendicular to t
    focal = float(K[0, 0])

    def change(step: Array) -> tuple[Array, Array]:
        return Rotation.from_rotvec(step[:3]).as_matrix() @ R, _normalize(t + step[3:] @ across)

    def residuals(step: Array) -> Array:
        R_new, t_new = change(step)
        E_new = hat(t_new) @ R_new
        lines, back = first @ E_new.T, second @ E_new
        size = np.sqrt((lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
        return focal * (second * lines).sum(1) / np.maximum(size, 1e-12)

    return change(least_squares(residuals, np.zeros(5), loss="cauchy", f_scale=ROBUST_PX).x)


def _make_rays(pixels: Array, K: Array) -> Array:
    return np.column_stack((pixels, np.ones(len(pixels)))) @ np.linalg.inv(K).T


def find_road(first: Image, second: Image, K: Array, R: Array, t: Array) -> Array | None:
    """Return the plane m (3,) of the road with m . X = 1 for its points X, in the unit of t; None without a road.

    The height of the road is found by a plane sweep. Then the plane is fitted to all pixels of the road directly, by
    the brightness of the second image that it warps to the first.

    first, second: gray images (H, W).
    K: (3, 3), pixels.
    R, t: motion from the first camera to the second.
    """
    travel = _find_travel(R, t)
    down = _normalize(np.array([0.0, 1, 0]) - travel * travel[1])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    shown = np.full(first.shape, 255, np.uint8)
    pair = (StraightFrame(first, shown), StraightFrame(second, shown), T)
    (curve,), _ = sweep_road([pair], K, -down)
    if not np.isfinite(curve).any():
        return None
    best = int(np.nanargmax(curve))
    if not 0 < best < len(curve) - 1 or curve[best] < MIN_CORRELATION:
        return None
    start = down / HEIGHTS[best]
    at = _choose_road_points(first.shape[0], first.shape[1], K, down, travel)
    plane = align_road(first, second, K, R, t, start, at)
    if plane is None or _normalize(plane) @ down < MIN_UPRIGHT:
        return None
    is_near = abs(math.log(np.linalg.norm(plane) / np.linalg.norm(start))) < MAX_HEIGHT_STEP
    return plane if is_near else None


def align_road(
    first: Image, second: Image, K: Array, R: Array, t: Array, plane: Array, at: NDArray[np.float32]
) -> Array | None:
    """Fit the plane m (3,) with m . X = 1 directly to the brightness of its pixels; None if the images disagree.

    The plane is parallel to the direction of travel: its height and its roll are fitted. A point of a plane moves by
    X_second = (R + t m^T) X_first. The least robust sum of squared photometric errors, up to one gain and
    offset, is found by Gauss-Newton steps.

    plane: the start.
    at: pixels (N, 2) of the road in the first image.
    """
    images = [cv2.GaussianBlur(image.astype(np.float32), (0, 0), BLUR_PX) for image in (first, second)]
    shown = images[0][at[:, 1].astype(int), at[:, 0].astype(int)].astype(np.float64)
    slopes = [cv2.Sobel(images[1], cv2.CV_32F, dx, 1 - dx, ksize=3, scale=0.125) for dx in (1, 0)]
    x = _make_rays(at.astype(np.float64), K)
    height, width = first.shape
    across = np.stack((plane, np.cross(plane, _find_travel(R, t))))  # (2, 3) directions in which the plane changes
    error, seen = shown, np.zeros(len(x), np.bool_)
    for _ in range(ALIGN_STEPS):
        moved = x @ R.T + t * (x @ plane)[:, None]
        z = moved[:, 2]
        u = moved[:, :2] / z[:, None]
        pixels = (u @ K[:2, :2].T + K[:2, 2]).astype(np.float32)
        seen = (z > 0) & (pixels > 1).all(1) & (pixels[:, 0] < width - 2) & (pixels[:, 1] < height - 2)
        if seen.sum() < MIN_ROAD_POINTS:
            return None
        there, gx, gy = (
            cv2.remap(image, pixels[seen, None], None, cv2.INTER_LINEAR)[:, 0].astype(np.float64)
            for image in (images[1], *slopes)
        )
        toward = t[:2] - u[seen] * t[2]
        change = (gx * K[0, 0] * toward[:, 0] + gy * K[1, 1] * toward[:, 1]) / z[seen]
        rows = np.column_stack((change[:, None] * (x[seen] @ across.T), there, np.ones(len(there))))
        gain, offset = np.polyfit(there, shown[seen], 1)
        error = shown[seen] - gain * there - offset
        rows[:, :2] *= gain
        weight = np.sqrt(1 / np.maximum(1, np.abs(error) / max(2.0 * float(np.median(np.abs(error))), 0.5)))
        step = np.linalg.lstsq(rows * weight[:, None], error * weight, rcond=None)[0]
        plane = plane + step[:2] @ across
    spread = float(np.std(shown[seen]))
    return plane if np.isfinite(plane).all() and np.std(error) < MAX_UNEXPLAINED * spread else None


def _choose_road_points(height: int, width: int, K: Array, down: Array, travel: Array) -> NDArray[np.float32]:
    """Return the pixels (N, 2) of the image that a road would cover, at most MAX_ROAD_POINTS of them."""
    y, x = np.mgrid[:height, :width]
    pixels = np.column_stack((x.ravel(), y.ravel())).astype(np.float32)
    rays = _make_rays(pixels.astype(np.float64), K)
    scale = 1 / np.maximum(rays @ down, 1e-9)  # factor to the plane of height 1
    ahead, aside = scale * (rays @ travel), scale * (rays @ np.cross(down, travel))
    chosen = pixels[(ahead > NEAR) & (ahead < FAR) & (np.abs(aside) < SIDE)]
    return chosen[:: max(1, len(chosen) // MAX_ROAD_POINTS)]


# -- one recording, and two


def choose_starts(count: int) -> list[int]:
    """Return the first frames of up to MAX_STRETCHES stretches, spread over a recording of `count` frames."""
    starts = np.linspace(0, max(0, count - 2), MAX_STRETCHES).round().astype(int)
    return list(dict.fromkeys(starts.tolist()))


def measure_stretches(views: Sequence[MountView], track: TrackProgress = no_progress) -> list[Stretch]:
    """Measure the stretches of a recording, in order. Those that bend, stand or show no motion are left out.

    views: all frames of the recording.
    track: shows the progress.
    """
    starts = choose_starts(len(views))
    cv2.setRNGSeed(0)
    found = (measure_stretch(views[start : start + MAX_STEPS + 1]) for start in track(starts, len(starts), "mount"))
    return [stretch for stretch in found if stretch is not None]


class DriveInput(Protocol):
    """The frames of a drive.

    name: name in messages.
    frames: the frames in order.
    count: number of frames; None if unknown.
    names: names of the frames, if they are known before they are read.
    recording, indices: the recording and the index of each frame; None for a video that is read once.
    """

    @property
    def name(self) -> str: ...

    @property
    def frames(self) -> Iterable[Frame]: ...

    @property
    def count(self) -> int | None: ...

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def recording(self) -> Recording | None: ...

    @property
    def indices(self) -> Sequence[int]: ...


def measure_input(given: DriveInput, track: TrackProgress = no_progress) -> list[Stretch]:
    """Measure the stretches of a video, a folder of frames, or a recording of a dataset.

    Only the frames of stretches are kept, in gray and at most MAX_WIDTH wide.

    Raises DataError for a single image, or a video whose number of frames is unknown.
    """
    count = len(given.names) or given.count or 0
    if count < MIN_STRETCHES:
        found, expected = f"{count} frames", "a video or the frames of a drive"
        raise DataError(given.name, found=found, expected=expected, fix="pass the recording of a drive")
    wanted = {frame for start in choose_starts(count) for frame in range(start, start + MAX_STEPS + 1)}
    views = list[MountView]()
    for number, frame in enumerate(track(given.frames, count, f"reading {given.name}")):
        small, K = np.zeros((0, 0), np.uint8), frame.K
        if number in wanted:
            small, K = _shrink(frame.image, frame.K)
        position_m = None
        if given.recording is not None and given.recording.has_metric_poses:
            T_world_camera = given.recording.T_world_camera(given.indices[number])
            position_m = None if T_world_camera is None else T_world_camera[:3, 3]
        views.append(MountView(lambda small=small: small, K, position_m))  # type: ignore[misc]
    return measure_stretches(views[:count], track)


def _shrink(image: Image, K: Array) -> tuple[Image, Array]:
    """Return the gray image, at most MAX_WIDTH wide, and its intrinsics."""
    gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    height, width = gray.shape
    if width <= MAX_WIDTH:
        return gray, K
    new_height = round(height * MAX_WIDTH / width)
    small = cv2.resize(gray, (MAX_WIDTH, new_height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), resize_K(K, (height, width), new_height, MAX_WIDTH)


@dataclass(frozen=True, eq=False)
class MountPose:
    """The mean orientation of a camera on its vehicle.

    R_camera_vehicle: (3, 3) rotation from the vehicle's axes (x right, y down, z along its travel) to the camera's.
    height_m: height over the road in metres; NaN if unknown.
    """

    R_camera_vehicle: Array
    height_m: float


def average_stretches(stretches: Sequence[Stretch]) -> MountPose:
    """Average stretches robustly. Roll is 0 without a road."""
    weights = np.array([stretch.weight for stretch in stretches])
    forward = _average(np.array([stretch.travel for stretch in stretches]), weights)
    up = np.array([stretch.up for stretch in stretches])
    has_road = np.isfinite(up).all(1)
    down = -_average(up[has_road], weights[has_road]) if has_road.any() else np.array([0.0, 1, 0])
    down = _normalize(down - forward * (down @ forward))
    heights = np.array([stretch.height_m for stretch in stretches])
    known = np.isfinite(heights)
    height_m = float(np.exp(np.median(np.log(heights[known])))) if known.any() else math.nan
    return MountPose(np.column_stack((np.cross(down, forward), down, forward)), height_m)


def _average(vectors: Array, weights: Array) -> Array:
    """Return the weighted mean of unit vectors (N, 3), without those far from the median."""
    middle = _normalize(np.median(vectors, axis=0))
    angles = np.arccos(np.clip(vectors @ middle, -1, 1))
    near = angles <= MAX_DEVIATIONS * max(1.4826 * float(np.median(angles)), 1e-6)
    return _normalize((vectors * weights[:, None])[near].sum(0))


@dataclass(frozen=True)
class MountChange:
    """How a camera moved on its vehicle, from a first recording to a second.

    yaw_deg: positive to the right.
    pitch_deg: positive upwards.
    roll_deg: positive with the right side down. NaN if the road was found in fewer than MIN_STRETCHES stretches.
    height_cm: positive upwards; NaN without the road, or without positions in metres.
    deviations: standard deviation of each of these four, by name.
    p_value: probability of such a change of the angles, or a larger one, if the camera did not move.
    stretches: numbers of stretches that were measured in the two recordings.
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    height_cm: float
    deviations: dict[str, float]
    p_value: float
    stretches: tuple[int, int]

    @property
    def has_moved(self) -> bool:
        """Return whether the angles changed significantly."""
        return self.p_value < SIGNIFICANCE

    def to_json(self) -> dict[str, Any]:
        """Return the change as JSON values; unknown ones are None."""
        names = ("yaw_deg", "pitch_deg", "roll_deg", "height_cm")
        values = {name: getattr(self, name) for name in names}
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        deviations = {f"{name}_deviation": self.deviations[name] for name in names if known[name] is not None}
        counts = {"stretches": list(self.stretches)}
        return {"has_moved": self.has_moved, **known, **deviations, "p_value": self.p_value, **counts}


def compare_mounts(
    first: Sequence[Stretch],
    second: Sequence[Stretch],
    *,
    durations_s: tuple[float, float],
    names: tuple[str, str] = ("first recording", "second recording"),
) -> MountChange:
    """Compare how a camera was mounted in two recordings.

    The standard deviations combine a bootstrap over straight stretches of the drives with the swaying of the vehicle.

    durations_s: durations of the recordings, seconds.
    names: names of the recordings in error messages.

    Raises DataError for fewer than MIN_STRETCHES stretches.
    """
    for name, stretches in zip(names, (first, second), strict=True):
        if len(stretches) < MIN_STRETCHES:
            expected = f"at least {MIN_STRETCHES} stretches of forward driving"
            fix = "pass a longer recording of a drive, and its camera: data.camera.K_file=K.txt"
            raise DataError(name, found=f"{len(stretches)} stretches of travel", expected=expected, fix=fix)
    generator = np.random.default_rng(0)
    roads = [sum(math.isfinite(one.height) for one in stretches) for stretches in (first, second)]
    has_road = min(roads) >= MIN_STRETCHES
    pose = average_stretches(first)
    height_m = pose.height_m
    found = _subtract(pose, average_stretches(second))
    drawn = np.array(
        [
            _subtract(*(average_stretches(_draw_blocks(some, generator)) for some in (first, second)))
            for _ in range(BOOTSTRAPS)
        ]
    )
    shares = [SWAY_S / max(duration_s, SWAY_S) for duration_s in durations_s]
    sway = np.sqrt(sum(shares)) * np.array([*SWAY_DEG, 100 * SWAY_HEIGHT * height_m])
    floors = np.hypot(sway, [LEVEL_DEG] * 3 + [100 * LEVEL_HEIGHT * height_m])
    drawn = np.where(np.isfinite(drawn), drawn, found)  # A draw without a height gets the estimate.
    deviations = np.hypot(1.4826 * np.median(np.abs(drawn - np.median(drawn, 0)), 0), floors)
    angles = 3 if has_road else 2
    distance = float(((found[:angles] / deviations[:angles]) ** 2).sum())
    yaw_deg, pitch_deg, roll_deg, height_cm = found.tolist()
    by_name = dict(zip(("yaw_deg", "pitch_deg", "roll_deg", "height_cm"), deviations.tolist(), strict=True))
    return MountChange(
        yaw_deg,
        pitch_deg,
        roll_deg if has_road else math.nan,
        height_cm if has_road else math.nan,
        deviations=by_name,
        p_value=float(chi2.sf(distance, angles)),
        stretches=(len(first), len(second)),
    )


def _draw_blocks(stretches: Sequence[Stretch], generator: np.random.Generator) -> list[Stretch]:
    blocks = np.array_split(np.arange(len(stretches)), min(BLOCKS, len(stretches)))
    chosen = generator.integers(len(blocks), size=len(blocks))
    return [stretches[row] for block in chosen for row in blocks[block]]


def _subtract(first: MountPose, second: MountPose) -> Array:
    """Return the yaw, pitch, roll in degrees, and height in cm of the second mount relative to the first."""
    R_first_second = first.R_camera_vehicle @ second.R_camera_vehicle.T
    yaw, pitch, roll = Rotation.from_matrix(R_first_second).as_euler("YXZ", degrees=True)
    return np.array([yaw, pitch, roll, 100 * (second.height_m - first.height_m)])
