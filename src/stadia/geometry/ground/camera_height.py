"""Estimate the camera height from objects of known height.

`survey_camera_height` uses the objects' bounding boxes. `estimate_camera_heights` uses predicted depth; the recipe
`metric` calls it (FUMET, arXiv 2312.04530).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

import torch
from torch import Tensor

from stadia.core.errors import GeometryError
from stadia.core.types import Camera
from stadia.geometry.ground.drive_heights import track_boxes
from stadia.geometry.ground.horizon import (
    compute_horizon_ratios,
    distance_above_horizon,
    fit_object_horizon,
    horizon_from_normal,
    implied_camera_height,
    log_height_ratio,
)
from stadia.geometry.ground.object_scale import measure_box_heights
from stadia.geometry.ground.road_plane import RoadPixelHeights, measure_silhouettes
from stadia.geometry.segments import Segments, segment_quantiles

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

    frame: Tensor
    box_px: Tensor
    height_m: Tensor
    spread_m: Tensor
    hidden: Tensor
    cut: Tensor

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def foot(self) -> Tensor:
        """Return the middle of each box's lower edge, (N, 2) in pixels."""
        return torch.stack((self.box_px[:, [0, 2]].mean(-1), self.box_px[:, 3]), -1)

    @property
    def height_px(self) -> Tensor:
        """Return the height of each box, (N,) in pixels."""
        return self.box_px[:, 3] - self.box_px[:, 1]

    def select(self, chosen: Tensor) -> BoxedObjects:
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
    implied_height_m: Tensor
    verdict: tuple[ObjectStatus, ...]
    horizons: Tensor


def horizon_from_angles(camera: Camera, *, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Tensor:
    """Return the horizon (3,) of a camera that is pitched up and rolled.

    pitch_deg: upward angle of the camera, degrees.
    roll_deg: angle in degrees of the camera's roll; positive if its right side is lower.
    """
    pitch, roll = math.radians(pitch_deg), math.radians(roll_deg)
    up = (-math.sin(roll) * math.cos(pitch), -math.cos(roll) * math.cos(pitch), math.sin(pitch))
    return horizon_from_normal(torch.tensor(up, dtype=torch.float64), camera)


def pitch_roll_deg(normal: Tensor) -> tuple[float, float]:
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
        for row in applies.nonzero()[:, 0].tolist():
            verdict[row] = reason
    return verdict


def survey_camera_height(
    objects: BoxedObjects,
    focal_px: float,
    frames: int,
    *,
    horizons: Tensor | None = None,
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
    generator = torch.Generator().manual_seed(seed)
    slack_px = focal_px * math.radians(horizon_deg)
    if horizons is None:
        line = _fit_horizon(objects.select(usable), slack_px, min_px, generator, tolerance, sample)
        usable = usable & _is_high_enough(objects, line, min_px)
    # Detections of one object together weigh like one detection without error.
    chosen = objects.select(usable)
    track = track_boxes(chosen.frame, chosen.box_px)
    chosen = replace(chosen, spread_m=chosen.spread_m * torch.bincount(track)[track].sqrt())
    shift, vertical = torch.zeros(3, dtype=torch.float64), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    of_frames = (line if horizons is None else horizons.double()).expand(frames, 3)
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
                redrawn = _refine_horizon(drawn, line, slack_px, tolerance).expand(len(drawn), 3)
            else:
                rows = slack_px * torch.randn(errors, 1, generator=generator, dtype=torch.float64)
                redrawn = of_frames[drawn.frame] - shift + (rows * vertical).expand(frames, 3)[drawn.frame]
                redrawn = redrawn + (_estimate_shift(drawn, redrawn, slack_px) if is_single_mount else 0.0)
            logs.append(_estimate(drawn, redrawn, slack_px, tolerance)[0])
        except GeometryError:  # this draw has too few objects
            continue
    low, high = _interval(estimate, sigma, logs)
    every = torch.full((len(objects),), torch.nan, dtype=torch.float64)
    every[usable] = implied
    judged = _judge_objects(verdict, usable, implied, agrees)
    return HeightSurvey(math.exp(estimate), low, high, every, judged, of_frames)


def _find_usable_objects(objects: BoxedObjects, min_px: float) -> tuple[list[ObjectStatus], Tensor]:
    verdict = classify_boxes(objects, min_px=min_px)
    usable = torch.tensor([status is ObjectStatus.INLIER for status in verdict], dtype=torch.bool)
    if not bool(usable.any()):
        counts = ", ".join(f"{verdict.count(reason)} {reason}" for reason in ObjectStatus if reason in verdict)
        found, expected = f"0 usable objects ({counts or 'no object'})", "whole cars or people with a known height"
        fix = "pass more frames, masks of cars and people, or heights of these classes"
        raise GeometryError("objects on the road", found=found, expected=expected, fix=fix)
    return verdict, usable


def _judge_objects(
    verdict: Sequence[ObjectStatus], usable: Tensor, implied: Tensor, agrees: Tensor
) -> tuple[ObjectStatus, ...]:
    judged: list[ObjectStatus] = [ObjectStatus.SMALL if status is ObjectStatus.INLIER else status for status in verdict]
    rows = usable.nonzero()[:, 0].tolist()
    for row, height_m, agree in zip(rows, implied.tolist(), agrees.tolist(), strict=True):
        judged[row] = ObjectStatus.ABOVE if height_m <= 0 else ObjectStatus.INLIER if agree else ObjectStatus.ODD
    return tuple(judged)


def _estimate_shift(objects: BoxedObjects, lines: Tensor, slack_px: float) -> Tensor:
    """Return the shift (3,) of all horizons (N, 3) with the least Huber loss of log heights."""
    shifts = slack_px * torch.linspace(-3, 3, 2 * _SHIFTS + 1, dtype=torch.float64)
    below = -distance_above_horizon(lines, objects.foot[:, None]).squeeze(-1) - shifts[:, None]
    stands = (below > 1).all(0)
    if int(stands.sum()) < 2:
        return torch.zeros(3, dtype=torch.float64)
    below = below[:, stands]
    implied = (objects.height_m / objects.height_px)[stands].log() + below.log()
    deviation = (_variance(objects)[stands] + (slack_px / below[_SHIFTS]).square()).sqrt()
    middle = implied.median(1, keepdim=True).values
    for _ in range(5):
        weight = ((1.5 * deviation / (implied - middle).abs().clamp(min=1e-9)).clamp(max=1)) / deviation.square()
        middle = (weight * implied).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    residual = (implied - middle).abs() / deviation
    loss = torch.where(residual < 1.5, residual.square() / 2, 1.5 * (residual - 0.75))
    likely = loss.sum(1) + (shifts / slack_px).square() / 2
    return torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64) * shifts[likely.argmin()]


def _fit_horizon(
    objects: BoxedObjects, slack_px: float, min_px: float, generator: torch.Generator, tolerance: float, sample: int
) -> Tensor:
    """Return one horizon (3,) of all objects by RANSAC, refined over objects of sufficient expected height.

    A choice by measured height would favor tall far objects and rotate the horizon.
    """
    some = objects.select(torch.randperm(len(objects), generator=generator)[:_MAX_FITTED])
    high = some.select(some.height_px >= min_px)
    heights = high.height_px, high.height_m
    fitted = fit_object_horizon(
        high.foot, *heights, generator=generator, tolerance=tolerance, trials=_TRIALS, sample=sample
    )
    line = fitted.horizon
    for _ in range(3):
        line = _refine_horizon(some.select(_is_high_enough(some, line, min_px)), line, slack_px, tolerance)
    return line


def _is_high_enough(objects: BoxedObjects, line: Tensor, min_px: float) -> Tensor:
    below = -distance_above_horizon(line, objects.foot)
    stands = below > 0
    is_large = stands & (objects.height_px >= min_px)
    px_per_m = (objects.height_px / (objects.height_m * below.where(stands, torch.nan)))[is_large].nanmedian()
    return objects.height_m * below * px_per_m >= min_px


def _refine_horizon(objects: BoxedObjects, line: Tensor, slack_px: float, tolerance: float) -> Tensor:
    """Return the horizon (3,) near `line` with the least spread of log camera heights, by Gauss-Newton."""
    x, y = objects.foot.unbind(-1)
    middle = x.mean()
    x = x - middle
    row, slope = -(line[0] * middle + line[2]) / line[1], -line[0] / line[1]
    log_scale = objects.height_m.log() - objects.height_px.log()
    level: Tensor | None = None
    for _ in range(_STEPS):
        below = y - row - slope * x
        stands = below > 1
        _check_enough(stands, "below it")
        safe = below.where(stands, 1.0)
        implied = log_scale + safe.log()
        level = implied[stands].median() if level is None else level
        residual = implied - level
        deviation = (_variance(objects) + (slack_px / safe).square()).sqrt()
        near = stands & (residual.abs() < 2 * tolerance)
        _check_enough(near, "that agree")
        weight = (near / deviation) * (1.5 * deviation / residual.abs().clamp(min=1e-9)).clamp(max=1).sqrt()
        A = torch.stack((1 / safe, x / safe, torch.ones_like(x)), -1) * weight[:, None]
        A = torch.cat((A, torch.tensor([[0.0, 1 / _ROLL_STD, 0.0]], dtype=A.dtype)))
        b = torch.cat((residual * weight, -slope[None] / _ROLL_STD))
        normal = A.T @ A + 1e-9 * torch.eye(3, dtype=A.dtype) * (A * A).sum(0)
        step = torch.linalg.solve(normal, A.T @ b)
        row, slope, level = row + step[0].clamp(-20, 20), slope + step[1].clamp(-0.1, 0.1), level + step[2]
    found = torch.stack((slope, torch.full_like(slope, -1), row - slope * middle))
    return found / found[:2].norm()


def _variance(objects: BoxedObjects) -> Tensor:
    """Return the variance (N,) of the log implied height, by class spread and box edges."""
    return (objects.spread_m / objects.height_m).square() + 2 * (_BOX_STD_PX / objects.height_px).square()


def _estimate(
    objects: BoxedObjects, lines: Tensor, slack_px: float, tolerance: float
) -> tuple[float, float, Tensor, Tensor]:
    """Return the log height, its deviation for independent objects, implied heights (N,), and inliers (N,)."""
    below = -distance_above_horizon(lines, objects.foot[:, None]).squeeze(-1)
    stands = below > 0
    implied = torch.where(stands, objects.height_m * below / objects.height_px, 0.0)
    weight = (_variance(objects) + (slack_px / below.where(stands, 1.0)).square()).reciprocal()
    if not bool(stands.any()):
        found, fix = "all of them above the horizon", "check pitch, roll and camera"
        raise GeometryError("objects on the road", found=found, expected="feet below it", fix=fix)
    logs, weights = implied[stands].log(), weight[stands]
    nearest = (logs - _weighted_median(logs, weights)).abs().argmin()  # the median's neighborhood may contain no object
    center = float(logs[nearest])
    agrees = stands & ((implied.log() - center).abs() < tolerance)
    estimate = _weighted_median(implied[agrees].log(), weight[agrees])
    return estimate, float(weight[agrees].sum()) ** -0.5, implied, agrees


def _weighted_median(values: Tensor, weight: Tensor) -> float:
    if len(values) == 1:
        return float(values[0])
    order = values.argsort()
    share = weight[order].cumsum(0)
    at = (share - 0.5 * weight[order]) / share[-1]  # weights are interpolated between the middles of their ranges
    later = int(torch.searchsorted(at, 0.5).clamp(1, len(at) - 1))
    a, b = values[order][later - 1], values[order][later]
    step = (0.5 - at[later - 1]) / (at[later] - at[later - 1])
    return float(a + step.clamp(0, 1) * (b - a))


def _resample_objects(frame: Tensor, frames: int, generator: torch.Generator) -> Tensor:
    """Draw indices of objects: random stretches of sqrt(F) frames, then random objects in them."""
    length = math.ceil(math.sqrt(frames))
    stretch = frame // length
    shown = torch.bincount(stretch) > 0
    stretch, count = (shown.cumsum(0) - 1)[stretch], int(shown.sum())
    times = torch.bincount(torch.randint(count, (count,), generator=generator), minlength=count)
    pool = torch.arange(len(frame)).repeat_interleave(times[stretch])
    return pool[torch.randint(len(pool), (len(pool),), generator=generator)]


def _interval(estimate: float, sigma: float, logs: list[float]) -> tuple[float, float]:
    low, high = estimate - _CONFIDENCE[1] * sigma, estimate + _CONFIDENCE[1] * sigma
    if logs:
        drawn = torch.tensor(logs, dtype=torch.float64)
        low = min(low, float(drawn.quantile(1 - _CONFIDENCE[0])))
        high = max(high, float(drawn.quantile(_CONFIDENCE[0])))
    return math.exp(low), math.exp(high)


def _check_enough(rows: Tensor, what: str) -> None:
    if int(rows.sum()) < 3:
        found = f"fewer than 3 {what}"
        raise GeometryError("horizon of objects", found=found, expected="at least 3", fix="pass more objects")


# -- the camera height by each object in predicted depth, and the weights of objects; no gradients


@dataclass(frozen=True, slots=True)
class CameraHeightEvidence:
    """The camera height in metres that each of M objects implies.

    camera_m: (M,) the object's scale factor times the camera height in predicted depth.
    horizon_m: (M,) camera height from the object's mask and the horizon alone; 0 if the object is above the horizon.

    Both are NaN if the object has no known height, or its image no road.
    """

    camera_m: Tensor
    horizon_m: Tensor


@torch.no_grad()
def estimate_camera_heights(
    depth: Tensor, camera: Camera, road: RoadPixelHeights, objects: Segments, height_m: Tensor, kind: str = "smaller"
) -> CameraHeightEvidence:
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
    unit_height = measure_box_heights(depth, camera, objects, "median" if kind == "smaller" else kind)
    if kind == "smaller":
        silhouette = measure_silhouettes(depth, camera, road.plane, objects).height
        object_depth = segment_quantiles(objects.gather(depth)[:, 0], objects.segment, objects.count, (0.5,))[0]
        # The center of the highest pixel is on average half a pixel below the edge.
        edge = 0.5 * object_depth / camera.fy.to(depth).expand(len(depth))[objects.image]
        unit_height = torch.minimum(silhouette + edge, unit_height)
    camera_m = height_m / unit_height.where(unit_height > 0, torch.nan) * road.median_height[objects.image]
    line = horizon_from_normal(road.normal, camera)
    ratio = compute_horizon_ratios(line, objects, *depth.shape[-2:]).ratio
    return CameraHeightEvidence(camera_m, implied_camera_height(height_m, ratio))


def weight_objects(horizon_m: Tensor, reference_m: Tensor, *, tolerance: float = 0.2) -> Tensor:
    """Return the weight of each object, (M,): 1 up to the tolerance and 0 beyond it.

    horizon_m: (M,) camera heights from `estimate_camera_heights`.
    reference_m: (M,) camera height of the object's group. NaN means unknown and gives weight 1.
    tolerance: largest accepted |ln(horizon_m / reference_m)|.
    """
    odd = log_height_ratio(horizon_m, reference_m)
    weight = (odd.abs() < tolerance).to(odd.dtype)
    return weight.where(reference_m.isfinite(), torch.ones_like(weight))
