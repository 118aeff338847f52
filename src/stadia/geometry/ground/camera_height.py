"""Camera height from objects of known height, by their boxes or by predicted depth.

`survey_camera_height` uses boxes, a horizon and the distribution of heights. `estimate_camera_heights` uses predicted
depth; the recipe `metric` learns its scale from it (FUMET, arXiv 2312.04530).
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

_FIT_SHARE = 0.5  # of the least height: where the horizon is fitted, objects are chosen by how high they should be
_BOX_STD_PX = 1.0  # of an edge of a box, one standard deviation
_STEPS, _ROLL_STD = 10, math.tan(math.radians(2.0))  # the prior on camera roll
_SHIFTS = 24  # to each side, over three deviations
_MAX_FITTED, _TRIALS = 1500, 200  # objects that a horizon is fitted to, and samples of three of them
_CONFIDENCE = 0.975, 1.96  # of 95 %, two-sided


class ObjectStatus(StrEnum):
    """Whether an object is an inlier, or why it is not used."""

    INLIER = "used"
    NO_HEIGHT = "no known height"
    BORDER = "touches the border"
    SMALL = "too small"
    HIDDEN = "partly hidden"
    ABOVE = "stands above the horizon"
    ODD = "disagrees with the others"


@dataclass(frozen=True, slots=True)
class BoxedObjects:
    """Objects on a road in images of one camera.

    frame: (N,) int64, the image, in order of time.
    box_px: (N, 4) float64 left, top, right, bottom edges in pixels; of a mask, first row - 0.5 to last row + 0.5.
    height_m: (N,) float64 known heights, NaN if unknown.
    spread_m: (N,) their standard deviation.
    hidden: (N,) bool, foot or top is known to be occluded.
    cut: (N,) bool, the image's edge cuts it, or may.
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
        """Return (N, 2), the middle of the lower edge."""
        return torch.stack((self.box_px[:, [0, 2]].mean(-1), self.box_px[:, 3]), -1)

    @property
    def height_px(self) -> Tensor:
        """Return (N,), from the upper edge to the lower."""
        return self.box_px[:, 3] - self.box_px[:, 1]

    def select(self, chosen: Tensor) -> BoxedObjects:
        """Return some of them, by bool or by number."""
        return BoxedObjects(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class HeightSurvey:
    """Camera height estimated from objects, in metres.

    camera_height_m, low_m, high_m: the estimate and its 95 % interval over objects, frames and horizon. A wrong prior
        of a whole class is not included; it scales the height.
    implied_height_m: (N,) by each object; NaN if not used, 0 above the horizon.
    verdict: N of them.
    horizons: (F, 3) of each frame.
    """

    camera_height_m: float
    low_m: float
    high_m: float
    implied_height_m: Tensor
    verdict: tuple[ObjectStatus, ...]
    horizons: Tensor


def horizon_from_angles(camera: Camera, *, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Tensor:
    """Return the horizon (3,) of a camera pitched up by `pitch_deg`, its right side rolled down by `roll_deg`."""
    pitch, roll = math.radians(pitch_deg), math.radians(roll_deg)
    up = (-math.sin(roll) * math.cos(pitch), -math.cos(roll) * math.cos(pitch), math.sin(pitch))
    return horizon_from_normal(torch.tensor(up, dtype=torch.float64), camera)


def pitch_roll_deg(normal: Tensor) -> tuple[float, float]:
    """Return pitch and roll as in `horizon_from_angles`, from the unit normal (3,) towards the camera."""
    x, y, z = normal.tolist()
    return math.degrees(math.asin(max(-1.0, min(1.0, z)))), math.degrees(math.atan2(-x, -y))


def classify_boxes(objects: BoxedObjects, *, min_px: float = 20.0) -> list[ObjectStatus]:
    """Return the status of each of N boxes, before any horizon."""
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
    """Return the camera's height from all objects together.

    objects: N in `frames` images of one camera.
    focal_px: focal length along y.
    horizons: (3,) or (F, 3) if known. Horizons of one mount are corrected by one common shift, estimated from near and
        far objects with the prior `horizon_deg`. None: one horizon for all images, fitted to the objects; that needs
        many objects near and far, and one camera orientation.
    is_single_mount: horizons of all images share one error; False: independent errors, as for several roads.
    horizon_deg: standard deviation of the horizon, 0.3 degrees for the pitch of a car. It lowers the weight of far
        objects.
    tolerance: largest |ln| of an object's implied height over the estimate, for an inlier.
    min_px: smallest box height.
    sample: objects of a RANSAC sample for the horizon.
    draws: of the bootstrap over stretches of frames and over objects.

    An object in many frames has one unknown height: its detections share the spread of its class.
    Raises GeometryError if no object is left, or if they do not agree on a horizon.
    """
    verdict, usable = _find_usable_objects(objects, min_px * (1 if horizons is not None else _FIT_SHARE))
    generator = torch.Generator().manual_seed(seed)
    slack_px = focal_px * math.radians(horizon_deg)
    if horizons is None:
        line = _fit_horizon(objects.select(usable), slack_px, min_px, generator, tolerance, sample)
        usable = usable & _is_high_enough(objects, line, min_px)
    # Detections of one object together weigh as much as one detection without error.
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
            if horizons is None:  # it varies with the draws itself
                redrawn = _refine_horizon(drawn, line, slack_px, tolerance).expand(len(drawn), 3)
            else:
                rows = slack_px * torch.randn(errors, 1, generator=generator, dtype=torch.float64)
                redrawn = of_frames[drawn.frame] - shift + (rows * vertical).expand(frames, 3)[drawn.frame]
                redrawn = redrawn + (_estimate_shift(drawn, redrawn, slack_px) if is_single_mount else 0.0)
            logs.append(_estimate(drawn, redrawn, slack_px, tolerance)[0])
        except GeometryError:  # too few of them in this draw
            continue
    low, high = _interval(estimate, sigma, logs)
    every = torch.full((len(objects),), torch.nan, dtype=torch.float64)
    every[usable] = implied
    judged = _judge_objects(verdict, usable, implied, agrees)
    return HeightSurvey(math.exp(estimate), low, high, every, judged, of_frames)


def _find_usable_objects(objects: BoxedObjects, min_px: float) -> tuple[list[ObjectStatus], Tensor]:
    """Return the status of each box, and (N,) bool, true if usable. Raises GeometryError without a usable box."""
    verdict = classify_boxes(objects, min_px=min_px)
    usable = torch.tensor([status is ObjectStatus.INLIER for status in verdict], dtype=torch.bool)
    if not bool(usable.any()):
        counts = ", ".join(f"{verdict.count(reason)} {reason}" for reason in ObjectStatus if reason in verdict)
        found, expected = f"none that can be used ({counts or 'no object'})", "whole cars or people with a known height"
        fix = "pass more frames, masks of cars and people, or heights of these classes"
        raise GeometryError("objects on the road", found=found, expected=expected, fix=fix)
    return verdict, usable


def _judge_objects(
    verdict: Sequence[ObjectStatus], usable: Tensor, implied: Tensor, agrees: Tensor
) -> tuple[ObjectStatus, ...]:
    """Return the status of all N objects, from the implied heights (M,) and agreement (M,) of the usable ones."""
    judged: list[ObjectStatus] = [ObjectStatus.SMALL if status is ObjectStatus.INLIER else status for status in verdict]
    rows = usable.nonzero()[:, 0].tolist()
    for row, height_m, agree in zip(rows, implied.tolist(), agrees.tolist(), strict=True):
        judged[row] = ObjectStatus.ABOVE if height_m <= 0 else ObjectStatus.INLIER if agree else ObjectStatus.ODD
    return tuple(judged)


def _estimate_shift(objects: BoxedObjects, lines: Tensor, slack_px: float) -> Tensor:
    """Return (3,) to add to the horizons (N, 3): the common shift of least Huber loss in logarithms."""
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

    Selecting by measured height would favor tall objects among the far ones, and rotate the horizon.
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
    """Return (N,) bool: whether an object of its class's height would be `min_px` high there."""
    below = -distance_above_horizon(line, objects.foot)
    stands = below > 0
    is_large = stands & (objects.height_px >= min_px)
    px_per_m = (objects.height_px / (objects.height_m * below.where(stands, torch.nan)))[is_large].nanmedian()
    return objects.height_m * below * px_per_m >= min_px


def _refine_horizon(objects: BoxedObjects, line: Tensor, slack_px: float, tolerance: float) -> Tensor:
    """Return the horizon (3,) with the least spread of log camera heights, near a given one, by Gauss-Newton."""
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
    """Return (N,), the variance of the log implied height, by the class's spread and the box's edges."""
    return (objects.spread_m / objects.height_m).square() + 2 * (_BOX_STD_PX / objects.height_px).square()


def _estimate(
    objects: BoxedObjects, lines: Tensor, slack_px: float, tolerance: float
) -> tuple[float, float, Tensor, Tensor]:
    """Return the log height, its deviation for independent objects, the implied heights (N,), and the inliers (N,)."""
    below = -distance_above_horizon(lines, objects.foot[:, None]).squeeze(-1)
    stands = below > 0
    implied = torch.where(stands, objects.height_m * below / objects.height_px, 0.0)
    weight = (_variance(objects) + (slack_px / below.where(stands, 1.0)).square()).reciprocal()
    if not bool(stands.any()):
        found, fix = "all of them above the horizon", "check pitch, roll and camera"
        raise GeometryError("objects on the road", found=found, expected="feet below it", fix=fix)
    logs, weights = implied[stands].log(), weight[stands]
    nearest = (logs - _weighted_median(logs, weights)).abs().argmin()  # near the median itself there may be no object
    center = float(logs[nearest])
    agrees = stands & ((implied.log() - center).abs() < tolerance)
    estimate = _weighted_median(implied[agrees].log(), weight[agrees])
    return estimate, float(weight[agrees].sum()) ** -0.5, implied, agrees


def _weighted_median(values: Tensor, weight: Tensor) -> float:
    if len(values) == 1:
        return float(values[0])
    order = values.argsort()
    share = weight[order].cumsum(0)
    at = (share - 0.5 * weight[order]) / share[-1]  # the middle of each one's weight; in between, a line
    later = int(torch.searchsorted(at, 0.5).clamp(1, len(at) - 1))
    a, b = values[order][later - 1], values[order][later]
    step = (0.5 - at[later - 1]) / (at[later] - at[later - 1])
    return float(a + step.clamp(0, 1) * (b - a))


def _resample_objects(frame: Tensor, frames: int, generator: torch.Generator) -> Tensor:
    """Draw numbers of objects: sqrt(F) frames long stretches with replacement, then objects of these likewise."""
    length = math.ceil(math.sqrt(frames))
    stretch = frame // length
    shown = torch.bincount(stretch) > 0
    stretch, count = (shown.cumsum(0) - 1)[stretch], int(shown.sum())
    times = torch.bincount(torch.randint(count, (count,), generator=generator), minlength=count)
    pool = torch.arange(len(frame)).repeat_interleave(times[stretch])
    return pool[torch.randint(len(pool), (len(pool),), generator=generator)]


def _interval(estimate: float, sigma: float, logs: list[float]) -> tuple[float, float]:
    """Return the 95 % interval of the draws, at least the objects' own deviations."""
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
    """Camera height in metres by each object, (M,); NaN without a known height, or in an image without road.

    camera_m: the object's scale in depth, times the camera's height in that depth.
    horizon_m: from its mask and the horizon only; 0 for an object above the horizon.
    """

    camera_m: Tensor
    horizon_m: Tensor


@torch.no_grad()
def estimate_camera_heights(
    depth: Tensor, camera: Camera, road: RoadPixelHeights, objects: Segments, height_m: Tensor
) -> CameraHeightEvidence:
    """Estimate the camera height from each object of a batch; heights must be positive.

    depth: (B, 1, H, W) z in any unit, also different units per image.
    camera: K (3, 3) or (B, 3, 3).
    road: of the same depth (`road_pixel_heights`).
    objects: of (B, H, W).
    height_m: (M,) known heights, NaN for none.

    The smaller of silhouette and box at median depth counts: depth smeared into the background makes a silhouette too
    tall.
    """
    silhouette = measure_silhouettes(depth, camera, road.plane, objects).height
    object_depth = segment_quantiles(objects.gather(depth)[:, 0], objects.segment, objects.count, (0.5,))[0]
    fy = camera.fy.to(depth).expand(len(depth))[objects.image]
    # The center of the highest pixel is half a pixel below the edge, on average.
    silhouette = silhouette + 0.5 * object_depth / fy
    unit_height = torch.minimum(silhouette, measure_box_heights(depth, camera, objects, "median"))
    camera_m = height_m / unit_height.where(unit_height > 0, torch.nan) * road.median_height[objects.image]
    line = horizon_from_normal(road.normal, camera)
    ratio = compute_horizon_ratios(line, objects, *depth.shape[-2:]).ratio
    return CameraHeightEvidence(camera_m, implied_camera_height(height_m, ratio))


def weight_objects(
    horizon_m: Tensor, reference_m: Tensor, *, spread: float | None = None, tolerance: float = 0.2
) -> Tensor:
    """Return the weight of each object, (M,) from 0 to 1.

    horizon_m: (M,) from `estimate_camera_heights`.
    reference_m: (M,) camera height of its group; NaN if unknown, which gives weight 1.
    spread: None: weight 1 up to the tolerance and 0 beyond. Else exp(-odd^2 / (2 spread^2)), in the logarithm.
    tolerance: largest accepted |ln(horizon_m / reference_m)|.
    """
    odd = log_height_ratio(horizon_m, reference_m)
    if spread is None:
        weight = (odd.abs() < tolerance).to(odd.dtype)
    else:
        weight = (-0.5 * (odd / spread).square()).exp().nan_to_num()
    return weight.where(reference_m.isfinite(), torch.ones_like(weight))
