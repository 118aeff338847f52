"""The camera's height above the road, estimated over the epochs of a training: one height per group of cameras.

Each accepted object of a frame implies a camera height. Their median is the frame's height, the median over an epoch's
frames is the epoch's, and epochs are averaged, later ones with more weight. Cameras mounted alike form a group with one
height, the one number in metres that supervises every frame.

An object is accepted if its size against the horizon agrees with the others'. No wrong start can mislead this test,
unlike a comparison with the last height (`test=absolute`). An epoch is accepted if its objects agree with each other
and with the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import RunError
from stadia.evaluation.plots.image_overlays import EpochHeight
from stadia.recipes.metric.config import CameraHeightsConfig
from stadia.training.validation_scores import gather_from_processes

Floats = NDArray[np.float64]
MIN_FRAMES = 5
"""Minimum frames of a group or a recording for a median and quartiles."""

MIN_MOUNT_RATIO, MIN_MOUNT_SHARE = 1.2, 0.1
"""A group has several mounts if a gap between its recordings' heights exceeds this factor, with at least this share of
the frames on each side.
"""


@dataclass(frozen=True, slots=True)
class HeightObservations:
    """Camera heights that the frames of an epoch imply.

    group, recording: (F,) of each frame.
    road_m: (F,) camera height over the road in each frame's own depth; NaN without a road.
    height_mismatch: (F,) log ratio of two estimates of a frame's own camera height; NaN without a road.
    frame: (M,) frame of each object.
    camera_m: (M,) camera height by the object's size in depth; NaN if unknown.
    horizon_m: (M,) camera height by its size against the horizon, without depth; NaN if unknown, and not positive above
        the horizon.
    """

    group: NDArray[np.int64]
    recording: NDArray[np.str_]
    road_m: Floats
    height_mismatch: Floats
    frame: NDArray[np.int64]
    camera_m: Floats
    horizon_m: Floats

    def of_group(self, group: int) -> HeightObservations:
        """Return the observations of one group."""
        mine = self.group == group
        number = np.cumsum(mine) - 1
        objects = mine[self.frame]
        of_frames = self.group[mine], self.recording[mine], self.road_m[mine], self.height_mismatch[mine]
        return HeightObservations(
            *of_frames, number[self.frame[objects]], self.camera_m[objects], self.horizon_m[objects]
        )


@dataclass(frozen=True, slots=True)
class EpochEstimate:
    """Camera height of a group from one epoch.

    camera_m: median over frames.
    frames: number of frames with accepted objects, of `frames_seen`.
    kept: share of accepted objects.
    spread: difference of the frames' quartiles low_m and high_m over the median.
    horizon_m: median over all objects by the horizon, without depth; about 3 % too low by construction. NaN if too few
        objects agree on it to test the others.
    road_m: median camera height over the road in the frames' own depth; NaN without a road.
    height_mismatch: median absolute log ratio of two estimates of that height; NaN if unknown.
    refused: reason why the estimate is not used; empty if it is.
    locked_height: how the absolute test accepts only a height that all objects together contradict; empty otherwise.
    apart: why the cameras of the group cannot have one height; empty otherwise. The group's average is then reset,
        unless epochs no longer change it (`last_epoch`).
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


@dataclass(frozen=True, slots=True)
class AverageHeight:
    """Height of a group: metres averaged over `epochs` epochs (0: unknown, NaN), and the horizon's, NaN if unknown."""

    metres: float = math.nan
    epochs: int = 0
    horizon_m: float = math.nan


def update_average(before: float, epochs: int, estimate: float, *, step: float = 1.0) -> float:
    """Return the mean over epochs with weights 1, 2, 3, ...: before + 2 / (k + 1) (estimate - before) at the k-th.

    before: mean over `epochs` epochs; not read if there are none.
    step: share of the update.
    """
    return estimate if epochs == 0 else before + step * 2 / (epochs + 2) * (estimate - before)


def compute_frame_medians(frame: NDArray[np.int64], values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the frames that have values, ascending, and the median of each."""
    order = np.lexsort((values, frame))
    frames, first, count = np.unique(frame[order], return_index=True, return_counts=True)
    ordered = values[order]
    return frames, (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2


def estimate_epoch_height(
    observed: HeightObservations, epoch: int, config: CameraHeightsConfig, known_m: float = math.nan
) -> EpochEstimate:
    """Return the height of one group from an epoch. Raises RunError if its recordings are of several mounts.

    known_m: height of the group before, for the absolute test; NaN if unknown.
    """
    by_depth = np.isfinite(observed.camera_m) & (observed.camera_m > 0)
    by_horizon = np.isfinite(observed.horizon_m) & (observed.horizon_m > 0)
    horizon_m = float(np.exp(np.median(np.log(observed.horizon_m[by_horizon])))) if by_horizon.any() else math.nan
    absolute = config.test == "absolute"
    tested = epoch >= config.test_from_epoch and not (absolute and math.isnan(known_m))
    by_both = np.where(by_depth & by_horizon, observed.horizon_m, np.nan)  # NaN agrees with nothing
    agree = np.abs(np.log(by_both / horizon_m)) < config.tolerance
    keep = by_depth
    if tested:
        keep = np.abs(np.log(by_both / known_m)) < config.tolerance if absolute else agree
    if agree.sum() <= config.min_inlier_share * by_depth.sum():
        horizon_m = math.nan  # they agree on no horizon: depth has not learnt one yet
    if epoch >= config.first_epoch:
        frames, medians = compute_frame_medians(observed.frame[by_depth], observed.camera_m[by_depth])
        # A road that is no plane yet does not constrain what stands on it. NaN counts as a plane.
        is_plane = ~(np.abs(observed.height_mismatch[frames]) >= config.max_height_mismatch)
        _check_one_mount(observed.recording[frames[is_plane]], np.log(medians[is_plane]), known_m)
    _, heights = compute_frame_medians(observed.frame[keep], observed.camera_m[keep])
    low, camera_m, high = np.quantile(heights, (0.25, 0.5, 0.75)) if len(heights) else [math.nan] * 3
    found = EpochEstimate(
        camera_m=float(camera_m),
        frames=len(heights),
        frames_seen=len(observed.group),
        kept=float(keep.sum() / max(by_depth.sum(), 1)),
        spread=float((high - low) / camera_m),
        horizon_m=horizon_m,
        low_m=float(low),
        high_m=float(high),
        road_m=_finite_median(observed.road_m),
        height_mismatch=_finite_median(np.abs(observed.height_mismatch)),
    )
    locked_height = _describe_locked_height(found, known_m, config) if absolute and tested else ""
    return replace(found, refused=_find_reason_to_refuse(found, config, tested=tested), locked_height=locked_height)


def _describe_locked_height(found: EpochEstimate, known_m: float, config: CameraHeightsConfig) -> str:
    """Return how the known height and the horizon, which does not depend on it, disagree; empty if they agree."""
    if not abs(math.log(found.horizon_m / known_m)) >= config.tolerance:  # NaN neither
        return ""
    return (
        f"{found.kept:.0%} of the objects agree with the known {known_m:.2f} m, and all together say"
        f" {found.horizon_m:.2f} m"
    )


def _finite_median(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def _find_reason_to_refuse(found: EpochEstimate, config: CameraHeightsConfig, *, tested: bool) -> str:
    """Return why an estimate is not used; empty if it is."""
    fewest = max(min(config.min_frames, config.min_frame_share * found.frames_seen), MIN_FRAMES)
    if found.frames < fewest:
        have = f"{found.frames} of {found.frames_seen} frames have some"
        return f"a height needs {fewest:g} frames with accepted objects, and {have}"
    if found.kept <= config.min_inlier_share:
        return f"{found.kept:.0%} of the objects agree against the horizon, not more than {config.min_inlier_share:.0%}"
    if found.spread >= config.max_spread:
        return (
            f"the frames' quartiles are {found.spread:.2f} of their median apart, not less than {config.max_spread:g}"
        )
    if found.height_mismatch >= config.max_height_mismatch:
        apart = math.expm1(found.height_mismatch)
        return f"heights by a plane through the road and by the road's pixels are {apart:.0%} apart: not a road yet"
    if tested and abs(found.camera_m / found.horizon_m - 1) >= config.max_horizon_disagreement:
        return (
            f"{found.camera_m:.2f} m by depth and {found.horizon_m:.2f} m by the horizon,"
            f" {config.max_horizon_disagreement:.0%} apart or more"
        )
    return ""


def _check_one_mount(recording: NDArray[np.str_], log_heights: Floats, known_m: float) -> None:
    """Raise RunError if a group's recordings, ordered by their median heights, have a wide gap.

    The known height of two mounts lies between theirs. If it lies above or below both, depth has not learnt these
    drives alike yet, and nothing is raised.
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
            fix="give cameras that are mounted at different heights groups of their own",
        )


class CameraHeights:
    """The heights of all groups, and the observations of the running epoch. Equal heights in every process."""

    def __init__(self, config: CameraHeightsConfig | None = None) -> None:
        self.config = config or CameraHeightsConfig()
        self.epoch = 0
        self.heights = {group: AverageHeight(metres, 1) for group, metres in self.config.known_m.items()}
        self._batches: list[dict[str, Any]] = []  # of this epoch, on the batch's device, so that nothing waits

    def begin(self, epoch: int) -> dict[int, EpochEstimate]:
        """Set the epoch, from 0, before each step. A new epoch evaluates the last one: its estimates by group, else {}.

        Called by all processes at the same step.
        """
        if epoch == self.epoch:
            return {}
        ended, self.epoch = self.epoch, epoch
        observed, self._batches = _join_batches(gather_from_processes(self._batches_on_cpu())), []
        groups = map(int, np.unique(observed.group))
        estimates = {group: self._estimate(observed.of_group(group), group, ended) for group in groups}
        for group, found in estimates.items():
            self.heights[group] = self._update(self.heights.get(group, AverageHeight()), found, ended)
        return estimates

    def add(
        self,
        recordings: Sequence[str],
        group: Tensor,
        road_m: Tensor,
        height_mismatch: Tensor,
        image: Tensor,
        camera_m: Tensor,
        horizon_m: Tensor,
    ) -> None:
        """Add the observations of a training batch.

        Args:
            recordings: B names, of the recording of each image.
            group: (B,) group of each image.
            road_m, height_mismatch: (B,), see `HeightObservations`.
            image: (M,) image in this batch of each object.
            camera_m, horizon_m: (M,), see `HeightObservations`.
        """
        values = {"group": group, "road_m": road_m, "height_mismatch": height_mismatch}
        values |= {"image": image, "camera_m": camera_m, "horizon_m": horizon_m}
        detached = {name: value.detach() for name, value in values.items()}
        self._batches.append({"recordings": list(recordings), **detached})

    def known(self, group: Tensor) -> Tensor:
        """Return the camera heights (B,) in metres of groups (B,), NaN if unknown."""
        return _select(group, {number: height.metres for number, height in self.heights.items()})

    def by_horizon(self, group: Tensor) -> Tensor:
        """Return the heights (B,) in metres that objects are tested against (`geometry.ground.horizon`), NaN before the
        first tested epoch.
        """
        if self.epoch < self.config.test_from_epoch:
            return _select(group, {})
        absolute = self.config.test == "absolute"
        return _select(
            group, {number: height.metres if absolute else height.horizon_m for number, height in self.heights.items()}
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the heights, and the observations of all processes in the running epoch. Called by all processes."""
        observed = _join_batches(gather_from_processes(self._batches_on_cpu()))
        names, recording = np.unique(observed.recording, return_inverse=True)
        arrays = {
            "recording": recording.astype(np.int64),
            "group": observed.group,
            "road_m": observed.road_m,
            "height_mismatch": observed.height_mismatch,
            "image": observed.frame,
            "camera_m": observed.camera_m,
            "horizon_m": observed.horizon_m,
        }
        return {
            "epoch": self.epoch,
            "heights": [{"group": group, **asdict(height)} for group, height in self.heights.items()],
            "recordings": names.tolist(),
            "said": {name: torch.from_numpy(values) for name, values in arrays.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any], *, rank: int = 0) -> None:
        """Restore a state. The first process takes the observations of all, so the number of processes may change."""
        self.epoch = state["epoch"]
        self.heights = {
            height["group"]: AverageHeight(height["metres"], height["epochs"], height["horizon_m"])
            for height in state["heights"]
        }
        batch = dict(state["said"])
        recordings = [state["recordings"][number] for number in batch.pop("recording").tolist()]
        self._batches = [{"recordings": recordings, **batch}] if rank == 0 else []

    def _estimate(self, observed: HeightObservations, group: int, epoch: int) -> EpochEstimate:
        known_m, nothing = self.heights.get(group, AverageHeight()).metres, math.nan
        try:
            found = estimate_epoch_height(observed, epoch, self.config, known_m)
        except RunError as error:
            frames = len(observed.group)
            return EpochEstimate(nothing, 0, frames, 0.0, nothing, nothing, refused=error.found, apart=str(error))
        low, high = self.config.between_m.get(group, (0.0, math.inf))
        if found.refused or low <= found.camera_m <= high:
            return found
        refused = f"{found.camera_m:.2f} m by depth, and {low:.2f} to {high:.2f} m by silhouettes alone"
        return replace(found, refused=refused)

    def _update(self, height: AverageHeight, found: EpochEstimate, epoch: int) -> AverageHeight:
        config = self.config
        last = math.inf if config.last_epoch is None else config.last_epoch
        if found.apart:
            return AverageHeight() if epoch <= last else height
        height = replace(height, horizon_m=height.horizon_m if math.isnan(found.horizon_m) else found.horizon_m)
        if found.refused or not config.first_epoch <= epoch <= last:
            return height
        jumps = height.epochs > 0 and abs(math.log(found.camera_m / height.metres)) > math.log(config.max_change)
        metres = update_average(height.metres, height.epochs, found.camera_m, step=0.5 if jumps else 1.0)
        return replace(height, metres=metres, epochs=height.epochs + 1)

    def _batches_on_cpu(self) -> list[dict[str, Any]]:
        return [
            {name: value.cpu() if isinstance(value, Tensor) else value for name, value in batch.items()}
            for batch in self._batches
        ]


def _join_batches(parts: Sequence[Sequence[Mapping[str, Any]]]) -> HeightObservations:
    """Return the observations of all batches of all processes, with frames numbered through."""
    batches = [batch for part in parts for batch in part]
    first = np.cumsum([0, *(len(batch["group"]) for batch in batches)])

    def column(name: str, dtype: type) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, dtype), *(batch[name].numpy().astype(dtype) for batch in batches)])

    frame = [batch["image"].numpy() + start for batch, start in zip(batches, first, strict=False)]
    recordings = [name for batch in batches for name in batch["recordings"]]
    return HeightObservations(
        group=column("group", np.int64),
        recording=np.array(recordings, dtype=np.str_),
        road_m=column("road_m", np.float64),
        height_mismatch=column("height_mismatch", np.float64),
        frame=np.concatenate([np.zeros(0, np.int64), *frame]),
        camera_m=column("camera_m", np.float64),
        horizon_m=column("horizon_m", np.float64),
    )


def _select(group: Tensor, values: Mapping[int, float]) -> Tensor:
    """Return the values (B,) of groups (B,), NaN for groups without one; waits for no device."""
    found = torch.full(group.shape, math.nan, device=group.device)
    for number, value in values.items():
        found = found.masked_fill(group == number, value)
    return found


class HeightHistory:
    """Estimates and averages of past epochs, by group name, for drawings and notes.

    groups: names, by number.
    """

    def __init__(self, groups: Sequence[str]) -> None:
        self.of: dict[str, list[EpochHeight]] = {name: [] for name in groups}

    def add(self, epoch: int, estimates: Mapping[int, EpochEstimate], kept_m: Sequence[float]) -> None:
        """Add an epoch that has ended.

        Args:
            epoch: its number.
            estimates: by group number; groups without frames are left out.
            kept_m: average of each group after the epoch, NaN if unknown.
        """
        for group, (of_group, kept) in enumerate(zip(self.of.values(), kept_m, strict=True)):
            if group in estimates:
                found = estimates[group]
                of_group.append(EpochHeight(epoch, found.camera_m, found.low_m, found.high_m, kept, found.refused))
            else:
                of_group.append(EpochHeight(epoch, math.nan, math.nan, math.nan, kept))

    def state_dict(self) -> dict[str, list[dict[str, Any]]]:
        return {name: [asdict(one) for one in of_group] for name, of_group in self.of.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.of = {name: [EpochHeight(**one) for one in state.get(name, ())] for name in self.of}
