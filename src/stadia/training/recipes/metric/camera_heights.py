"""Learn the camera height above the road over the epochs of a training, for each group of equal cameras.

Each inlier object of a frame gives a camera height. Medians over objects and frames give the height of an epoch, which
`CameraHeights` averages.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import RunError
from stadia.data.height_priors import RoadConfig, find_prior
from stadia.evaluation.plots.height_charts import EpochHeight
from stadia.training.loop.batches import gather_from_processes
from stadia.training.recipes.metric.config import CameraHeightsConfig

Floats = NDArray[np.float64]

MIN_FRAMES = 5
"""Fewer frames have no meaningful quartiles and medians."""

MIN_MOUNT_RATIO = 1.2
"""A group has several mounts if the heights of its recordings have a gap of this factor."""

MIN_MOUNT_SHARE = 0.1
"""Each side of such a gap has this share of the frames."""

MIN_MOUNT_SEPARATION = 4.0
"""Each side's distance from the gap, over its median absolute deviation, is at least this."""

MIN_SIDE_RECORDINGS = 3
"""The medians of this many recordings on a side show the spread of one mount."""


@dataclass(frozen=True, slots=True)
class HeightObservations:
    """The observations of an epoch: F frames, M objects.

    group, recording: (F,) of each frame.
    road_m: (F,) the camera height over the road in the depth of the frame; NaN without a road.
    height_mismatch: (F,) log ratio of two estimates of that height; NaN without a road.
    image: (M,) the frame of each object.
    camera_m: (M,) the camera height by the object's size and depth; NaN if unknown.
    horizon_m: (M,) by its size and the horizon, without depth; NaN if unknown, not positive above the horizon.
    """

    group: NDArray[np.int64]
    recording: NDArray[np.str_]
    road_m: Floats
    height_mismatch: Floats
    image: NDArray[np.int64]
    camera_m: Floats
    horizon_m: Floats

    def select_group(self, group: int) -> "HeightObservations":
        """Return the observations of one group."""
        frames = self.group == group
        objects = frames[self.image]
        number = np.cumsum(frames) - 1
        of_frames = {name: getattr(self, name)[frames] for name in ("group", "recording", "road_m", "height_mismatch")}
        of_objects = {name: getattr(self, name)[objects] for name in ("camera_m", "horizon_m")}
        return HeightObservations(image=number[self.image[objects]], **of_frames, **of_objects)


@dataclass(frozen=True, slots=True)
class EpochEstimate:
    """The estimate of an epoch for a group.

    camera_m: the frames' heights by `pool`.
    frames: frames with an inlier object, of `frames_seen`.
    kept: share of inlier objects.
    low_m, high_m: quartiles of the frames.
    spread: their distance over the median.
    horizon_m: the median over all objects by the horizon, about 3 % too low; NaN if too few objects agree.
    road_m: the median camera height over the road in the frames' own depth; NaN without a road.
    height_mismatch: the median absolute log ratio of two estimates of that height.
    refused: why it is not used, or "".
    locked_height: the height at which the absolute test keeps only objects that confirm it, or "".
    apart: why the cameras of the group cannot have one height, or "". Then the learned height is dropped.
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
    """Estimate the height of one group from an epoch. Raises RunError if its recordings have several heights.

    known_m: the group's height so far, which the absolute test compares with; NaN if unknown.
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
        horizon_m = math.nan  # they agree on no horizon: depth has learned none yet
    if epoch >= config.first_epoch:
        frames, medians = compute_frame_medians(observed.image[has_height], observed.camera_m[has_height])
        # Without a plane, objects on the road have no meaning. NaN counts as flat.
        flat = ~(np.abs(observed.height_mismatch[frames]) >= config.max_height_mismatch)
        _check_one_mount(observed.recording[frames[flat]], np.log(medians[flat]), known_m)
    frames, heights = compute_frame_medians(observed.image[keep], observed.camera_m[keep])
    low, camera_m, high = np.quantile(heights, (0.25, 0.5, 0.75)) if len(heights) else [math.nan] * 3
    if config.pool != "median" and len(heights):
        counts = np.bincount(observed.image[keep])[frames]
        camera_m = np.average(heights, weights=counts if config.pool == "weighted" else None)
    estimate = EpochEstimate(
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
    locked_height = _describe_lock(estimate, known_m, config) if absolute and tested else ""
    return replace(estimate, refused=_find_refusal(estimate, config, tested=tested), locked_height=locked_height)


def _describe_lock(estimate: EpochEstimate, known_m: float, config: CameraHeightsConfig) -> str:
    if not abs(math.log(estimate.horizon_m / known_m)) >= config.tolerance:  # NaN neither
        return ""
    return (
        f"{estimate.kept:.0%} of the objects agree with the known {known_m:.2f} m, and the median of all is"
        f" {estimate.horizon_m:.2f} m"
    )


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan


def _find_refusal(estimate: EpochEstimate, config: CameraHeightsConfig, *, tested: bool) -> str:
    fewest = max(min(config.min_frames, config.min_frame_share * estimate.frames_seen), MIN_FRAMES)
    if estimate.frames < fewest:
        counted = f"{estimate.frames} of {estimate.frames_seen} frames"
        return f"a height needs {fewest:g} frames with inlier objects, found {counted}"
    if estimate.kept <= config.min_inlier_share:
        share = f"{estimate.kept:.0%} of the objects agree against the horizon"
        return f"{share}, not more than {config.min_inlier_share:.0%}"
    if estimate.spread >= config.max_spread:
        spread = f"the quartiles of the frames differ by {estimate.spread:.2f} of the median"
        return f"{spread}, at most {config.max_spread:g}"
    if estimate.height_mismatch >= config.max_height_mismatch:
        apart = math.expm1(estimate.height_mismatch)
        return f"the heights over a plane and over the road pixels differ by {apart:.0%}: depth has no flat road yet"
    if tested and abs(estimate.camera_m / estimate.horizon_m - 1) >= config.max_horizon_disagreement:
        return (
            f"{estimate.camera_m:.2f} m by depth and {estimate.horizon_m:.2f} m by the horizon differ by"
            f" {config.max_horizon_disagreement:.0%} or more"
        )
    return ""


def _check_one_mount(recording: NDArray[np.str_], log_heights: Floats, known_m: float) -> None:
    """Raise RunError if the medians of the recordings of a group have a wide gap: several camera heights.

    Depth must have converged, and single frames must vary less than the two sides.
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
        low, high = (float(np.median(side)) for side in (medians[: widest + 1], medians[widest + 1 :]))
        known = np.isin(recording, names)
        sides = np.where(np.isin(recording, names[widest + 1 :]), high, low)
        deviation = float(np.median(np.abs(log_heights - sides)[known]))
        if min(widest + 1, len(names) - widest - 1) >= MIN_SIDE_RECORDINGS:  # then their own spread is known
            of_recordings = np.abs(medians - np.where(np.arange(len(names)) > widest, high, low))
            deviation = min(deviation, float(np.median(of_recordings)))
        low_m, high_m = math.exp(low), math.exp(high)
        if low_m > MIN_MOUNT_RATIO * known_m or high_m < known_m / MIN_MOUNT_RATIO:
            return
        if high - low < MIN_MOUNT_SEPARATION * deviation:
            return
        raise RunError(
            "a group of cameras",
            found=(
                f"{low_m:.2f} m above the road in {widest + 1} recordings ('{names[widest]}'), "
                f"{high_m:.2f} m in {len(names) - widest - 1} ('{names[widest + 1]}')"
            ),
            expected="one height in a group",
            fix="put cameras at different heights into different groups",
        )


# -- the average over epochs


@dataclass(frozen=True, slots=True)
class AverageHeight:
    """The height of a group; NaN if unknown.

    epochs: number of averaged epochs.
    horizon_m: height from the horizon.
    """

    metres: float = math.nan
    epochs: int = 0
    horizon_m: float = math.nan


def update_average(before: float, epochs: int, estimate: float, *, step: float = 1.0) -> float:
    """Return the mean over epochs with weights 1, 2, 3, ...: before + 2 / (k + 1) (estimate - before) at the k-th.

    before: the average over `epochs` epochs.
    step: factor on the change.
    """
    return estimate if epochs == 0 else before + step * 2 / (epochs + 2) * (estimate - before)


_COLUMNS = tuple(field.name for field in fields(HeightObservations) if field.name != "recording")
"""A batch has these values, by their names in checkpoints and in `HeightObservations`."""


class CameraHeights:
    """The heights of all groups, equal in all processes, and the observations of the present epoch."""

    def __init__(self, config: CameraHeightsConfig | None = None) -> None:
        self.config = config or CameraHeightsConfig()
        self.epoch = 0
        self.heights = {group: AverageHeight(metres, 1) for group, metres in self.config.known_m.items()}
        self.held_until: dict[int, int] = {}  # the height of a group stays after this epoch
        self._observed: list[dict[str, Any]] = []  # batches of this epoch, on their device

    def begin(self, epoch: int) -> dict[int, EpochEstimate]:
        """Set the epoch, from 0, before each step. At a new one, return the estimates of the last, by group.

        All processes call it at the same step.
        """
        if epoch == self.epoch:
            return {}
        ended, self.epoch = self.epoch, epoch
        observed, self._observed = _join_batches(gather_from_processes(self._on_cpu())), []
        estimates = {
            int(group): self._estimate(observed.select_group(int(group)), ended) for group in np.unique(observed.group)
        }
        for group, estimate in estimates.items():
            self.heights[group] = self._after(group, self.heights.get(group, AverageHeight()), estimate, ended)
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
        """Add the observations of a training batch."""
        observed = (group, road_m, height_mismatch, image, camera_m, horizon_m)
        columns = {name: values.detach() for name, values in zip(_COLUMNS, observed, strict=True)}
        self._observed.append({"recordings": list(recordings), **columns})

    def height_m(self, group: int) -> float:
        """Return the camera height of a group, NaN for none."""
        return self.heights.get(group, AverageHeight()).metres

    def known_heights(self, group: Tensor) -> Tensor:
        """Return the camera heights (B,) in metres of groups (B,), NaN for none."""
        return _select_heights(group, {number: height.metres for number, height in self.heights.items()})

    def reference_heights(self, group: Tensor) -> Tensor:
        """Return the heights (B,) in metres that the test compares objects with; NaN before `test_from_epoch`."""
        if self.epoch < self.config.test_from_epoch:
            return _select_heights(group, {})
        absolute = self.config.test == "absolute"
        return _select_heights(
            group, {number: height.metres if absolute else height.horizon_m for number, height in self.heights.items()}
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with the observations of all processes. Called by all processes."""
        observed = _join_batches(gather_from_processes(self._on_cpu()))
        names, recording = np.unique(observed.recording, return_inverse=True)
        return {
            "epoch": self.epoch,
            "held_until": [{"group": group, "epoch": epoch} for group, epoch in self.held_until.items()],
            "heights": [{"group": group, **asdict(height)} for group, height in self.heights.items()],
            "recordings": names.tolist(),
            "observations": {
                "recording": torch.from_numpy(recording.astype(np.int64)),
                **{column: torch.from_numpy(getattr(observed, column)) for column in _COLUMNS},
            },
        }

    def load_state_dict(self, state: Mapping[str, Any], *, rank: int = 0) -> None:
        """Restore a state. The first process gets all observations, so the number of processes may change."""
        self.epoch = state["epoch"]
        self.held_until = {held["group"]: held["epoch"] for held in state.get("held_until", ())}
        self.heights = {
            height["group"]: AverageHeight(height["metres"], height["epochs"], height["horizon_m"])
            for height in state["heights"]
        }
        observed = dict(state["observations"])
        recordings = [state["recordings"][number] for number in observed.pop("recording").tolist()]
        self._observed = [{"recordings": recordings, **observed}] if rank == 0 else []

    def _estimate(self, observed: HeightObservations, epoch: int) -> EpochEstimate:
        group = int(observed.group[0])
        try:
            estimate = estimate_epoch_height(observed, epoch, self.config, self.height_m(group))
        except RunError as error:
            return EpochEstimate(
                camera_m=math.nan,
                frames=0,
                frames_seen=len(observed.group),
                kept=0.0,
                spread=math.nan,
                horizon_m=math.nan,
                refused=error.found,
                apart=str(error),
            )
        low, high = self.config.between_m.get(group, (0.0, math.inf))
        if estimate.refused or low <= estimate.camera_m <= high:
            return estimate
        refused = f"{estimate.camera_m:.2f} m by depth, and {low:.2f} to {high:.2f} m by silhouettes alone"
        return replace(estimate, refused=refused)

    def _after(self, group: int, height: AverageHeight, estimate: EpochEstimate, epoch: int) -> AverageHeight:
        config = self.config
        last = math.inf if config.last_epoch is None else config.last_epoch
        if estimate.apart:
            return AverageHeight() if epoch <= last else height
        height = replace(height, horizon_m=height.horizon_m if math.isnan(estimate.horizon_m) else estimate.horizon_m)
        if estimate.refused or not config.first_epoch <= epoch <= last or self._holds(group, epoch):
            return height
        if height.epochs == 0:
            self.held_until[group] = epoch + config.hold_epochs
        change = abs(math.log(estimate.camera_m / height.metres)) if height.epochs else 0.0
        if config.max_jump is not None and change >= math.log(config.max_jump):
            return height
        if config.momentum is not None and height.epochs:
            metres = config.momentum * height.metres + (1 - config.momentum) * estimate.camera_m
            return replace(height, metres=metres, epochs=height.epochs + 1)
        jumps = change > math.log(config.max_change)
        metres = update_average(height.metres, height.epochs, estimate.camera_m, step=0.5 if jumps else 1.0)
        return replace(height, metres=metres, epochs=height.epochs + 1)

    def hold(self, epoch: int) -> None:
        """Keep the heights for `hold_epochs` from this epoch on."""
        self.held_until = dict.fromkeys(self.heights, epoch + self.config.hold_epochs - 1)

    def _holds(self, group: int, epoch: int) -> bool:
        is_update = (epoch - self.config.first_epoch + 1) % self.config.update_every == 0
        return epoch <= self.held_until.get(group, -1) or not is_update

    def _on_cpu(self) -> list[dict[str, Any]]:
        return [
            {name: value.cpu() if isinstance(value, Tensor) else value for name, value in batch.items()}
            for batch in self._observed
        ]


def _join_batches(parts: Sequence[Sequence[Mapping[str, Any]]]) -> HeightObservations:
    batches = [batch for part in parts for batch in part]
    first = np.cumsum([0, *(len(batch["group"]) for batch in batches)])
    joined: dict[str, NDArray[Any]] = {}
    for column in _COLUMNS:
        dtype = np.int64 if column in ("group", "image") else np.float64
        values = [batch[column].numpy().astype(dtype) for batch in batches]
        if column == "image":  # its number in the batch, converted to the number of its frame
            values = [value + start for value, start in zip(values, first, strict=False)]
        joined[column] = np.concatenate([np.zeros(0, dtype), *values])
    recordings = [name for batch in batches for name in batch["recordings"]]
    return HeightObservations(recording=np.array(recordings, dtype=np.str_), **joined)


def _select_heights(group: Tensor, values: Mapping[int, float]) -> Tensor:
    """Return the values (B,) of groups, or NaN, without waiting for a device."""
    selected = torch.full(group.shape, math.nan, device=group.device)
    for number, value in values.items():
        selected = selected.masked_fill(group == number, value)
    return selected


# -- heights from which metres come, or the reason against metres

MAX_HEIGHT_LOG_ERROR = 0.1
"""Largest |ln| of the ratio of the known height and the height in predicted depth, both in metres."""


def follows_height(predicted_m: float, known_m: float) -> bool:
    """Return whether the camera height in predicted depth agrees with the known one; false for NaN."""
    return predicted_m > 0 and known_m > 0 and abs(math.log(predicted_m / known_m)) < MAX_HEIGHT_LOG_ERROR


def describe_height_priors(config: RoadConfig) -> str:
    """Return the object heights that metres depend on."""
    priors = {name: find_prior(name, config.height_priors) for name in config.objects}
    listed = "; ".join(
        f"{name} {prior.mean_m:g} m, spread {prior.spread_m:g} m ({prior.source})"
        for name, prior in priors.items()
        if prior is not None
    )
    single = "heights of single objects, else " * (config.heights == "each")
    return f"{single}heights of classes: {listed}. A mean that is 5 % off makes all lengths 5 % off"


def explain_missing_scale(
    epoch_heights: Mapping[str, Sequence[EpochHeight]], known_m: Sequence[float], predicted_m: Sequence[float]
) -> str:
    """Return why depth is not in metres: the missing condition of each camera group.

    epoch_heights: the epochs of each group.
    known_m, predicted_m: height of each group, known and in predicted depth; NaN if unknown.
    """
    if not any(epoch_heights.values()):
        return "the best weights are older than the first camera height; train longer"
    reasons = []
    for (name, epochs), known, predicted in zip(epoch_heights.items(), known_m, predicted_m, strict=True):
        of = f" of the cameras '{name}'" if name else ""
        if not known > 0:
            why = next((epoch.refused for epoch in reversed(epochs) if epoch.refused), "no epoch gave a height")
            reasons.append(f"no height{of} is known: {why}; see the findings")
        elif not predicted > 0:
            reasons.append(f"no road{of} in the last epoch (height {known:.2f} m); check the masks")
        elif not follows_height(predicted, known):
            height = f"depth of the last epoch gives a camera height{of} of {predicted:.2f} m"
            reasons.append(f"{height} instead of {known:.2f} m; train longer")
    return "; ".join(reasons)
