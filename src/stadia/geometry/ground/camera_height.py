"""Estimate the camera height from objects of known height.

`survey_camera_height` uses the objects' bounding boxes. `estimate_camera_heights` uses predicted depth; the recipe
`metric` calls it (FUMET, arXiv 2312.04530).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Generic

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.core.types import Array, Camera
from stadia.geometry.ground.drive_heights import track_boxes
from stadia.geometry.ground.horizon import (
    compute_horizon_ratios,
    distance_above_horizon,
    fit_object_horizon,
    horizon_from_normal,
    implied_camera_height,
    log_height_ratio,
)
from stadia.geometry.ground.object_scale import focal_of_objects, measure_box_heights
from stadia.geometry.ground.road_plane import RoadPixelHeights, measure_silhouettes
from stadia.geometry.segments import Segments, segment_quantiles

Floats = NDArray[np.float64]

_FIT_SHARE = 0.5  # objects below this share of the least height do not take part in the fit of the horizon
_BOX_STD_PX = 1.0  # standard deviation of a box's edge
_STEPS, _ROLL_STD = 10, math.tan(math.radians(2.0))  # steps of the fit, and the prior's deviation of camera roll
_SHIFTS = 24  # horizon shifts tried on each side, over three deviations
_MAX_FITTED, _TRIALS = 1500, 200  # largest number of objects in a horizon's fit, and number of samples of three objects
_CONFIDENCE = 0.975, 1.96  # 95 %, two-sided


class ObjectStatus(StrEnum):
    """States whether an object is an inlier, or why it is not used."""

    INLIER = "used"
    NO_HEIGHT = "no known height"
    BORDER = "touches the border"
    SMALL = "too small"
    HIDDEN = "partly hidden"
    ABOVE = "stands above the horizon"
    ODD = "disagrees with the others"


@dataclass(frozen=True, slots=True)
class BoxedObjects:
    """Bounding boxes of N objects on a road, seen by one camera.

    frame: (N,) int64 frame index of each box, in order of time.
    box_px: (N, 4) float64 left, top, right, bottom. The box of a mask reaches from first row - 0.5 to last row + 0.5.
    height_m: (N,) float64 known heights of the objects, NaN if unknown.
    spread_m: (N,) standard deviations of these heights.
    hidden: (N,) bool, true if the object's foot or top is known to be occluded.
    cut: (N,) bool, true if the image's edge may cut the object off.
    """

    frame: NDArray[np.int64]
    box_px: Floats
    height_m: Floats
    spread_m: Floats
    hidden: NDArray[np.bool_]
    cut: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def foot(self) -> Floats:
        """Return the middle of each box's lower edge, (N, 2) in pixels."""
        return np.stack((self.box_px[:, [0, 2]].mean(-1), self.box_px[:, 3]), -1)

    @property
    def height_px(self) -> Floats:
        """Return the height of each box, (N,) in pixels."""
        return self.box_px[:, 3] - self.box_px[:, 1]

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> BoxedObjects:
        """Return the objects that `chosen` selects: a mask (N,) bool or indices (M,)."""
        return BoxedObjects(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class HeightSurvey:
    """The camera height, estimated from objects of known height.

    camera_height_m: the estimate in metres.
    low_m, high_m: its 95 % confidence interval. If the assumed height of a whole class is wrong, estimate and interval
        are wrong by the same factor.
    implied_height_m: (N,) camera height that each object implies; NaN if the object is not used, 0 if it is above the
        horizon.
    verdict: the status of each of the N objects.
    horizons: (F, 3) horizon of each frame.
    """

    camera_height_m: float
    low_m: float
    high_m: float
    implied_height_m: Floats
    verdict: tuple[ObjectStatus, ...]
    horizons: Floats


def horizon_from_angles(camera: Camera[Floats], *, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Floats:
    """Return the horizon (3,) of a camera that is pitched up and rolled.

    pitch_deg: upward angle of the camera, degrees.
    roll_deg: angle in degrees of the camera's roll; positive if its right side is lower.
    """
    pitch, roll = math.radians(pitch_deg), math.radians(roll_deg)
    up = (-math.sin(roll) * math.cos(pitch), -math.cos(roll) * math.cos(pitch), math.sin(pitch))
    return horizon_from_normal(np.array(up), camera)


def pitch_roll_deg(normal: Floats) -> tuple[float, float]:
    """Return pitch and roll in degrees from the road's unit normal (3,) towards the camera.

    The angles have the signs of `horizon_from_angles`.
    """
    x, y, z = normal.tolist()
    return math.degrees(math.asin(max(-1.0, min(1.0, z)))), math.degrees(math.atan2(-x, -y))


def classify_boxes(objects: BoxedObjects, *, min_px: float = 20.0) -> list[ObjectStatus]:
    """Return the status of each of the N boxes before a horizon is known.

    min_px: smallest height of a usable box in pixels.
    """
    verdict = [ObjectStatus.INLIER] * len(objects)
    has_no_height = ~((objects.height_m > 0) & (objects.spread_m > 0))
    reasons = {ObjectStatus.HIDDEN: objects.hidden, ObjectStatus.SMALL: objects.height_px < min_px}
    reasons |= {ObjectStatus.BORDER: objects.cut, ObjectStatus.NO_HEIGHT: has_no_height}
    for reason, applies in reasons.items():
        for row in np.flatnonzero(applies).tolist():
            verdict[row] = reason
    return verdict


def survey_camera_height(
    objects: BoxedObjects,
    focal_px: float,
    frames: int,
    *,
    horizons: Floats | None = None,
    is_single_mount: bool = True,
    horizon_deg: float = 0.3,
    tolerance: float = 0.2,
    min_px: float = 20.0,
    sample: int = 3,
    draws: int = 200,
    seed: int = 0,
) -> HeightSurvey:
    """Return the camera height estimated from all objects together.

    All detections of one object share the error of its assumed height.

    objects: N boxes of objects with known heights.
    focal_px: focal length along y in pixels.
    frames: number of frames F.
    horizons: (3,) or (F, 3) measured horizons. All horizons of one mount are corrected by a common shift. None fits one
        horizon, which needs many near and far objects and a camera that does not change its orientation.
    is_single_mount: True if the horizons share one error. False if their errors are independent, as for several roads.
    horizon_deg: standard deviation of the horizon in degrees. A car's pitch varies by 0.3 degrees.
    tolerance: an inlier's implied height differs from the estimate by at most this |ln|.
    min_px: smallest height of a usable box in pixels.
    sample: number of objects in a RANSAC sample.
    draws: number of bootstrap draws of frames and objects.
    seed: seed of the random draws.

    Raises GeometryError if no object is usable, or if the objects do not agree on a horizon.
    """
    verdict, usable = _find_usable_objects(objects, min_px * (1 if horizons is not None else _FIT_SHARE))
    generator = np.random.default_rng(seed)
    slack_px = focal_px * math.radians(horizon_deg)
    if horizons is None:
        line = _fit_horizon(objects.select(usable), slack_px, min_px, generator, tolerance, sample)
        usable = usable & _is_high_enough(objects, line, min_px)
    # Detections of one object together weigh like one detection without error.
    chosen = objects.select(usable)
    track = track_boxes(chosen.frame, chosen.box_px)
    chosen = replace(chosen, spread_m=chosen.spread_m * np.sqrt(np.bincount(track)[track]))
    shift = np.zeros(3)
    of_frames = np.broadcast_to(line if horizons is None else horizons, (frames, 3))
    if horizons is not None:
        if is_single_mount:
            shift = _estimate_shift(chosen, of_frames[chosen.frame], slack_px)
        of_frames = of_frames + shift
    estimate, sigma, implied, agrees = _estimate(chosen, of_frames[chosen.frame], slack_px, tolerance)
    logs, errors = [], 1 if is_single_mount else frames
    for _ in range(draws):
        drawn = chosen.select(_resample_objects(chosen.frame, frames, generator))
        try:
            if horizons is None:  # the estimate varies with the draws
                redrawn = np.broadcast_to(_refine_horizon(drawn, line, slack_px, tolerance), (len(drawn), 3))
            else:
                moved = of_frames - shift
                moved[:, 2] += slack_px * generator.normal(size=errors)
                redrawn = moved[drawn.frame]
                if is_single_mount:
                    redrawn = redrawn + _estimate_shift(drawn, redrawn, slack_px)
            logs.append(_estimate(drawn, redrawn, slack_px, tolerance)[0])
        except GeometryError:  # this draw has too few objects
            continue
    low, high = _interval(estimate, sigma, logs)
    every = np.full(len(objects), np.nan)
    every[usable] = implied
    judged = _judge_objects(verdict, usable, implied, agrees)
    return HeightSurvey(math.exp(estimate), low, high, every, judged, of_frames)


def _find_usable_objects(objects: BoxedObjects, min_px: float) -> tuple[list[ObjectStatus], NDArray[np.bool_]]:
    verdict = classify_boxes(objects, min_px=min_px)
    usable = np.array([status is ObjectStatus.INLIER for status in verdict], bool)
    if not usable.any():
        counts = ", ".join(f"{verdict.count(reason)} {reason}" for reason in ObjectStatus if reason in verdict)
        found, expected = f"0 usable objects ({counts or 'no object'})", "whole cars or people with a known height"
        fix = "pass more frames, masks of cars and people, or heights of these classes"
        raise GeometryError("objects on the road", found=found, expected=expected, fix=fix)
    return verdict, usable


def _judge_objects(
    verdict: Sequence[ObjectStatus], usable: NDArray[np.bool_], implied: Floats, agrees: NDArray[np.bool_]
) -> tuple[ObjectStatus, ...]:
    judged: list[ObjectStatus] = [ObjectStatus.SMALL if status is ObjectStatus.INLIER else status for status in verdict]
    rows = np.flatnonzero(usable).tolist()
    for row, height_m, agree in zip(rows, implied.tolist(), agrees.tolist(), strict=True):
        judged[row] = ObjectStatus.ABOVE if height_m <= 0 else ObjectStatus.INLIER if agree else ObjectStatus.ODD
    return tuple(judged)


def _estimate_shift(objects: BoxedObjects, lines: Floats, slack_px: float) -> Floats:
    """Return the shift (3,) of all horizons (N, 3) with the least Huber loss of log heights."""
    shifts = slack_px * np.linspace(-3, 3, 2 * _SHIFTS + 1)
    below = -distance_above_horizon(lines, objects.foot[:, None])[:, 0] - shifts[:, None]
    stands = (below > 1).all(0)
    if stands.sum() < 2:
        return np.zeros(3)
    below = below[:, stands]
    implied = np.log((objects.height_m / objects.height_px)[stands]) + np.log(below)
    deviation = np.sqrt(_variance(objects)[stands] + (slack_px / below[_SHIFTS]) ** 2)
    middle = _lower_median(implied)[:, None]
    for _ in range(5):
        weight = (1.5 * deviation / abs(implied - middle).clip(min=1e-9)).clip(max=1) / deviation**2
        middle = (weight * implied).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    residual = abs(implied - middle) / deviation
    loss = np.where(residual < 1.5, residual**2 / 2, 1.5 * (residual - 0.75))
    likely = loss.sum(1) + (shifts / slack_px) ** 2 / 2
    return np.array([0.0, 0.0, shifts[likely.argmin()]])


def _lower_median(values: Floats) -> Floats:
    """Return the median (...) of values (..., N) without NaN; for an even count the lower of the two middle values."""
    return np.quantile(values, 0.5, axis=-1, method="lower")


def _fit_horizon(
    objects: BoxedObjects, slack_px: float, min_px: float, generator: np.random.Generator, tolerance: float, sample: int
) -> Floats:
    """Return one horizon (3,) of all objects by RANSAC, refined over objects of sufficient expected height.

    A choice by measured height would favor tall far objects and rotate the horizon.
    """
    some = objects.select(generator.permutation(len(objects))[:_MAX_FITTED])
    high = some.select(some.height_px >= min_px)
    heights = high.height_px, high.height_m
    fitted = fit_object_horizon(
        high.foot, *heights, generator=generator, tolerance=tolerance, trials=_TRIALS, sample=sample
    )
    line = fitted.horizon
    for _ in range(3):
        line = _refine_horizon(some.select(_is_high_enough(some, line, min_px)), line, slack_px, tolerance)
    return line


def _is_high_enough(objects: BoxedObjects, line: Floats, min_px: float) -> NDArray[np.bool_]:
    below = -distance_above_horizon(line, objects.foot)
    is_large = (below > 0) & (objects.height_px >= min_px)
    if not is_large.any():
        return is_large
    px_per_m = _lower_median((objects.height_px / (objects.height_m * below))[is_large])
    return objects.height_m * below * px_per_m >= min_px


def _refine_horizon(objects: BoxedObjects, line: Floats, slack_px: float, tolerance: float) -> Floats:
    """Return the horizon (3,) near `line` with the least spread of log camera heights, by Gauss-Newton."""
    x, y = objects.foot.T
    middle = x.mean()
    x = x - middle
    row, slope = -(line[0] * middle + line[2]) / line[1], -line[0] / line[1]
    log_scale = np.log(objects.height_m) - np.log(objects.height_px)
    level: float | None = None
    for _ in range(_STEPS):
        below = y - row - slope * x
        stands = below > 1
        _check_enough(stands, "below it")
        safe = np.where(stands, below, 1.0)
        implied = log_scale + np.log(safe)
        level = float(_lower_median(implied[stands])) if level is None else level
        residual = implied - level
        deviation = np.sqrt(_variance(objects) + (slack_px / safe) ** 2)
        near = stands & (abs(residual) < 2 * tolerance)
        _check_enough(near, "that agree")
        weight = (near / deviation) * np.sqrt((1.5 * deviation / abs(residual).clip(min=1e-9)).clip(max=1))
        A = np.stack((1 / safe, x / safe, np.ones_like(x)), -1) * weight[:, None]
        A = np.concatenate((A, [[0.0, 1 / _ROLL_STD, 0.0]]))
        b = np.append(residual * weight, -slope / _ROLL_STD)
        normal = A.T @ A + 1e-9 * np.diag((A * A).sum(0))
        step = np.linalg.solve(normal, A.T @ b)
        row, slope, level = row + step[0].clip(-20, 20), slope + step[1].clip(-0.1, 0.1), level + step[2]
    found = np.array([slope, -1.0, row - slope * middle])
    return found / np.linalg.norm(found[:2])


def _variance(objects: BoxedObjects) -> Floats:
    """Return the variance (N,) of the log implied height, by class spread and box edges."""
    return (objects.spread_m / objects.height_m) ** 2 + 2 * (_BOX_STD_PX / objects.height_px) ** 2


def _estimate(
    objects: BoxedObjects, lines: Floats, slack_px: float, tolerance: float
) -> tuple[float, float, Floats, NDArray[np.bool_]]:
    """Return the log height, its deviation for independent objects, implied heights (N,), and inliers (N,)."""
    below = -distance_above_horizon(lines, objects.foot[:, None])[:, 0]
    stands = below > 0
    if not stands.any():
        found, fix = "all of them above the horizon", "check pitch, roll and camera"
        raise GeometryError("objects on the road", found=found, expected="feet below it", fix=fix)
    safe = np.where(stands, below, 1.0)
    implied = objects.height_m * safe / objects.height_px
    logs = np.log(implied)
    weight = 1 / (_variance(objects) + (slack_px / safe) ** 2)
    middle = _weighted_median(logs[stands], weight[stands])
    nearest = abs(logs[stands] - middle).argmin()  # the median's neighborhood may contain no object
    center = logs[stands][nearest]
    agrees = stands & (abs(logs - center) < tolerance)
    estimate = _weighted_median(logs[agrees], weight[agrees])
    return estimate, float(weight[agrees].sum()) ** -0.5, np.where(stands, implied, 0.0), agrees


def _weighted_median(values: Floats, weight: Floats) -> float:
    if len(values) == 1:
        return float(values[0])
    order = values.argsort(stable=True)
    share = weight[order].cumsum()
    at = (share - 0.5 * weight[order]) / share[-1]  # weights are interpolated between the middles of their ranges
    later = int(np.searchsorted(at, 0.5).clip(1, len(at) - 1))
    a, b = values[order][later - 1], values[order][later]
    step = (0.5 - at[later - 1]) / (at[later] - at[later - 1])
    return float(a + step.clip(0, 1) * (b - a))


def _resample_objects(frame: NDArray[np.int64], frames: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw indices of objects: random stretches of sqrt(F) frames, then random objects in them."""
    length = math.ceil(math.sqrt(frames))
    shown, stretch = np.unique(frame // length, return_inverse=True)
    times = np.bincount(generator.integers(len(shown), size=len(shown)), minlength=len(shown))
    pool = np.arange(len(frame)).repeat(times[stretch])
    return pool[generator.integers(len(pool), size=len(pool))]


def _interval(estimate: float, sigma: float, logs: list[float]) -> tuple[float, float]:
    low, high = estimate - _CONFIDENCE[1] * sigma, estimate + _CONFIDENCE[1] * sigma
    if logs:
        low = min(low, float(np.quantile(logs, 1 - _CONFIDENCE[0])))
        high = max(high, float(np.quantile(logs, _CONFIDENCE[0])))
    return math.exp(low), math.exp(high)


def _check_enough(rows: NDArray[np.bool_], what: str) -> None:
    if rows.sum() < 3:
        found = f"fewer than 3 {what}"
        raise GeometryError("horizon of objects", found=found, expected="at least 3", fix="pass more objects")


# -- the camera height by each object in predicted depth, and the weights of objects


@dataclass(frozen=True, slots=True)
class CameraHeightEvidence(Generic[Array]):
    """The camera height in metres that each of M objects implies.

    camera_m: (M,) the object's scale factor times the camera height in predicted depth.
    horizon_m: (M,) camera height from the object's mask and the horizon alone; 0 if the object is above the horizon.

    Both are NaN if the object has no known height, or its image no road.
    """

    camera_m: Array
    horizon_m: Array


def estimate_camera_heights(
    depth: Array,
    camera: Camera,
    road: RoadPixelHeights[Array],
    objects: Segments[Array],
    height_m: Array,
    kind: str = "smaller",
) -> CameraHeightEvidence[Array]:
    """Estimate the camera height from each of the M objects of a batch, with predicted depth.

    depth: (B, 1, H, W) z in any unit; 0 means unknown.
    camera: its K is (3, 3) or (B, 3, 3).
    road: camera heights and normals of the road pixels.
    objects: pixels of the M objects.
    height_m: (M,) known heights above 0, NaN if unknown.
    kind: how the object's height in depth is measured: by its box at one depth, named as in `measure_box_heights`, or
        "smaller", the smaller of silhouette and box. The silhouette alone is too tall if depth at its edge is smeared
        into the background.
    """
    xp = array_namespace(depth)
    unit_height = measure_box_heights(depth, camera, objects, "median" if kind == "smaller" else kind)
    if kind == "smaller":
        silhouette = measure_silhouettes(depth, camera, road.plane, objects).height
        object_depth = segment_quantiles(objects.gather(depth)[:, 0], objects.segment, objects.count, (0.5,))[0]
        # The center of the highest pixel is on average half a pixel below the edge.
        edge = 0.5 * object_depth / focal_of_objects(camera, depth, objects)
        unit_height = xp.minimum(silhouette + edge, unit_height)
    unit_height = xp.where(unit_height > 0, unit_height, xp.full_like(unit_height, xp.nan))
    camera_m = height_m / unit_height * road.median_height[objects.image]
    line = horizon_from_normal(road.normal, camera)
    ratio = compute_horizon_ratios(line, objects, *depth.shape[-2:]).ratio
    return CameraHeightEvidence(camera_m, implied_camera_height(height_m, ratio))


def weight_objects(horizon_m: Array, reference_m: Array, *, tolerance: float = 0.2) -> Array:
    """Return the weight of each object, (M,): 1 up to the tolerance and 0 beyond it.

    horizon_m: (M,) camera heights from `estimate_camera_heights`.
    reference_m: (M,) camera height of the object's group. NaN means unknown and gives weight 1.
    tolerance: largest accepted |ln(horizon_m / reference_m)|.
    """
    xp, odd = array_namespace(horizon_m), log_height_ratio(horizon_m, reference_m)
    return xp.astype((abs(odd) < tolerance) | ~xp.isfinite(reference_m), odd.dtype)
