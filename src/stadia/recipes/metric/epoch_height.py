"""Estimate the camera height of an epoch from the objects and roads of its frames, or the reason why it has none.

An object is an inlier where its size against the horizon agrees with the other objects. Unlike a comparison with the
last height (`test=absolute`), a wrong start cannot mislead this test. An epoch counts where its objects agree with each
other and with the horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import RunError
from stadia.recipes.metric.config import CameraHeightsConfig

Floats = NDArray[np.float64]
MIN_FRAMES = 5
"""Of a group or a recording, for meaningful quartiles and medians."""

MIN_MOUNT_RATIO, MIN_MOUNT_SHARE = 1.2, 0.1
"""A group has several mounts where its recordings split at a gap of this factor, with this share on each side."""


@dataclass(frozen=True, slots=True)
class HeightObservations:
    """The observations of an epoch: F frames, M objects.

    group, recording: (F,) of each frame.
    road_m: (F,) the camera height over the road in the depth of the frame; NaN without a road.
    height_mismatch: (F,) the logarithm of the ratio of two estimates of that height; NaN without a road.
    frame: (M,) the frame of each object.
    camera_m: (M,) the camera height from the size of the object and its depth; NaN for none.
    horizon_m: (M,) from its size against the horizon, without depth; NaN for none, not positive above the horizon.
    """

    group: NDArray[np.int64]
    recording: NDArray[np.str_]
    road_m: Floats
    height_mismatch: Floats
    frame: NDArray[np.int64]
    camera_m: Floats
    horizon_m: Floats

    def select_group(self, group: int) -> HeightObservations:
        """Return the observations of one group."""
        mine = self.group == group
        number, objects = np.cumsum(mine) - 1, mine[self.frame]
        frames = self.group[mine], self.recording[mine], self.road_m[mine], self.height_mismatch[mine]
        return HeightObservations(*frames, number[self.frame[objects]], self.camera_m[objects], self.horizon_m[objects])


@dataclass(frozen=True, slots=True)
class EpochEstimate:
    """The estimate of an epoch for a group.

    camera_m: the median over frames.  frames: with an inlier object, of `frames_seen`.
    kept: share of inlier objects.  low_m, high_m: the quartiles of the frames.  spread: between these, over the median.
    horizon_m: the median over all objects of the height from the horizon, without depth; by nature about 3 % too low.
        NaN where too few objects agree on it to test the others.
    road_m: the median over frames of the camera height over the road in their own depth; NaN where no frame has a road.
    height_mismatch: the median over frames of the absolute logarithm of the ratio of two estimates of that height; NaN
        where no frame has one.
    refused: why it is not used; empty where it is.
    locked_height: the height at which the absolute test keeps only objects that confirm it, against the median of all
        objects; empty where it does not.
    apart: why the cameras of the group cannot have one height; empty where they can. The learnt height is dropped then,
        except one that no later epoch changes (`last_epoch`).
    """

    camera_m: float
    frames: int
    frames_seen: int
    kept: float
    spread: float
    horizon_m: float
    low_m: float = math.nan
    high_m: float = math.nan
    road_m: float = math.nan
    height_mismatch: float = math.nan
    refused: str = ""
    locked_height: str = ""
    apart: str = ""


def compute_frame_medians(frame: NDArray[np.int64], values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the frames that have values, ascending, and the median of each."""
    order = np.lexsort((values, frame))
    frames, first, count = np.unique(frame[order], return_index=True, return_counts=True)
    ordered = values[order]
    return frames, (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2


def estimate_epoch_height(
    observed: HeightObservations, epoch: int, config: CameraHeightsConfig, known_m: float = math.nan
) -> EpochEstimate:
    """Estimate the height of one group from an epoch. Raises RunError where its recordings have several heights.

    known_m: the height of the group before, for the absolute test; NaN for none.
    """
    has_height = np.isfinite(observed.camera_m) & (observed.camera_m > 0)
    by_horizon = np.isfinite(observed.horizon_m) & (observed.horizon_m > 0)
    horizon_m = float(np.exp(np.median(np.log(observed.horizon_m[by_horizon])))) if by_horizon.any() else math.nan
    absolute = config.test == "absolute"
    tested = epoch >= config.test_from_epoch and not (absolute and math.isnan(known_m))
    comparable_m = np.where(has_height & by_horizon, observed.horizon_m, np.nan)  # NaN agrees with nothing
    agree = np.abs(np.log(comparable_m / horizon_m)) < config.tolerance
    keep = has_height
    if tested:
        keep = np.abs(np.log(comparable_m / known_m)) < config.tolerance if absolute else agree
    if agree.sum() <= config.min_inlier_share * has_height.sum():
        horizon_m = math.nan  # they agree on no horizon: depth has learnt none yet
    if epoch >= config.first_epoch:
        frames, medians = compute_frame_medians(observed.frame[has_height], observed.camera_m[has_height])
        # Without a plane, the objects on the road have no meaning. NaN counts as flat.
        flat = ~(np.abs(observed.height_mismatch[frames]) >= config.max_height_mismatch)
        _check_one_mount(observed.recording[frames[flat]], np.log(medians[flat]), known_m)
    _, heights = compute_frame_medians(observed.frame[keep], observed.camera_m[keep])
    low, camera_m, high = np.quantile(heights, (0.25, 0.5, 0.75)) if len(heights) else [math.nan] * 3
    found = EpochEstimate(
        camera_m=float(camera_m),
        frames=len(heights),
        frames_seen=len(observed.group),
        kept=float(keep.sum() / max(has_height.sum(), 1)),
        spread=float((high - low) / camera_m),
        horizon_m=horizon_m,
        low_m=float(low),
        high_m=float(high),
        road_m=_median(observed.road_m),
        height_mismatch=_median(np.abs(observed.height_mismatch)),
    )
    locked_height = _describe_lock(found, known_m, config) if absolute and tested else ""
    return replace(found, refused=_find_refusal(found, config, tested=tested), locked_height=locked_height)


def _describe_lock(found: EpochEstimate, known_m: float, config: CameraHeightsConfig) -> str:
    """Return at which height, where the objects agree on another one by the horizon, which needs no height before."""
    if not abs(math.log(found.horizon_m / known_m)) >= config.tolerance:  # NaN neither
        return ""
    return (
        f"{found.kept:.0%} of the objects agree with the known {known_m:.2f} m, and the median of all is"
        f" {found.horizon_m:.2f} m"
    )


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan


def _find_refusal(found: EpochEstimate, config: CameraHeightsConfig, *, tested: bool) -> str:
    """Return why the estimate of an epoch is rejected; empty where it is not."""
    fewest = max(min(config.min_frames, config.min_frame_share * found.frames_seen), MIN_FRAMES)
    if found.frames < fewest:
        return (
            f"a height needs {fewest:g} frames with inlier objects, found {found.frames} of {found.frames_seen} frames"
        )
    if found.kept <= config.min_inlier_share:
        return f"{found.kept:.0%} of the objects agree against the horizon, not more than {config.min_inlier_share:.0%}"
    if found.spread >= config.max_spread:
        return f"the quartiles of the frames differ by {found.spread:.2f} of the median, at most {config.max_spread:g}"
    if found.height_mismatch >= config.max_height_mismatch:
        apart = math.expm1(found.height_mismatch)
        return f"the heights over a plane and over the road pixels differ by {apart:.0%}: not a road yet"
    if tested and abs(found.camera_m / found.horizon_m - 1) >= config.max_horizon_disagreement:
        return (
            f"{found.camera_m:.2f} m by depth and {found.horizon_m:.2f} m by the horizon differ by"
            f" {config.max_horizon_disagreement:.0%} or more"
        )
    return ""


def _check_one_mount(recording: NDArray[np.str_], log_heights: Floats, known_m: float) -> None:
    """Raise RunError where the medians of the recordings of a group have a wide gap: several camera heights.

    The average height of two mounts lies between theirs. Where it lies above or below both, depth has not converged on
    these drives yet, and nothing is raised.
    """
    names, counts = np.unique(recording, return_counts=True)
    names, counts = names[counts >= MIN_FRAMES], counts[counts >= MIN_FRAMES]
    if len(names) < 2:
        return
    medians = np.array([np.median(log_heights[recording == name]) for name in names])
    order = np.argsort(medians)
    names, counts, medians = names[order], counts[order], medians[order]
    share = np.cumsum(counts)[:-1] / counts.sum()
    gaps = np.where(np.minimum(share, 1 - share) >= MIN_MOUNT_SHARE, np.diff(medians), 0)
    widest = int(np.argmax(gaps))
    if gaps[widest] > math.log(MIN_MOUNT_RATIO):
        low, high = (float(np.exp(np.median(side))) for side in (medians[: widest + 1], medians[widest + 1 :]))
        if low > MIN_MOUNT_RATIO * known_m or high < known_m / MIN_MOUNT_RATIO:
            return
        raise RunError(
            "a group of cameras",
            found=(
                f"{low:.2f} m above the road in {widest + 1} recordings ('{names[widest]}'), "
                f"{high:.2f} m in {len(names) - widest - 1} ('{names[widest + 1]}')"
            ),
            expected="one height in a group",
            fix="put cameras that are mounted at different heights into different groups",
        )
