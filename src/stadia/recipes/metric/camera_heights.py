"""Learn the camera height of each group of cameras over the epochs of a training."""

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
from stadia.evaluation.plots.charts import EpochHeight
from stadia.recipes.metric.config import CameraHeightsConfig
from stadia.training.validation_scores import gather_from_processes

# -- The camera's height above the road, learnt over frames and epochs: the one number in metres that every frame can be
# held to.
#
# Every believed object of a frame says how high the camera is. Their median is the frame's, the median over an epoch's
# frames is the epoch's, and epochs are averaged, later ones with more weight. Cameras mounted alike are a group, with one
# height.
#
# An object is believed where its size against the horizon is that of the others (no start can mislead that, unlike a
# comparison with the last height, `test=absolute`); and an epoch is, where its objects agree with each other and with the
# horizon.

Floats = NDArray[np.float64]
MIN_FRAMES = 5
"""Of a group or a recording, for quartiles and medians that mean something."""

MIN_MOUNT_RATIO, MIN_MOUNT_SHARE = 1.2, 0.1
"""Recordings of one group are of several mounts where no height lies between two that differ by this factor, each side
with this share.
"""


@dataclass(frozen=True, slots=True)
class HeightObservations:
    """What an epoch's frames say.

    group, recording: (F,) of each frame.
    road_m: (F,) the camera's height over the road in each frame's own depth; NaN where it has no road.
    height_mismatch: (F,) by what factor two ways to a frame's own camera height part, as a logarithm; NaN where it has no
        road.
    frame: (M,) the frame of each object.
    camera_m: (M,) the camera's height by its size in depth; NaN where it says none.
    horizon_m: (M,) by its size against the horizon, without depth; NaN where it says none, and not positive above the
        horizon.
    """

    group: NDArray[np.int64]
    recording: NDArray[np.str_]
    road_m: Floats
    height_mismatch: Floats
    frame: NDArray[np.int64]
    camera_m: Floats
    horizon_m: Floats

    def of_group(self, group: int) -> HeightObservations:
        """That group's alone."""
        mine = self.group == group
        number = np.cumsum(mine) - 1
        objects = mine[self.frame]
        of_frames = self.group[mine], self.recording[mine], self.road_m[mine], self.height_mismatch[mine]
        return HeightObservations(
            *of_frames, number[self.frame[objects]], self.camera_m[objects], self.horizon_m[objects]
        )


@dataclass(frozen=True, slots=True)
class EpochEstimate:
    """What an epoch says of a group.

    camera_m: the median over frames.  frames: that say something, of `frames_seen`.
    kept: share of the objects that were believed.  low_m, high_m: the frames' quartiles.  spread: between these, over
        the median.
    horizon_m: the median over all objects of what the horizon says without depth; about 3 % too low by its nature. NaN
        where too few agree on it for a test of the others.
    road_m: the camera's height over the road in the frames' own depth, their median; NaN where no frame has a road.
    height_mismatch: by what factor two ways to that height part, as a logarithm without sign, in the median; NaN where no
        frame says it.
    refused: why it is not used; empty where it is.
    locked_height: in which height the absolute test has locked itself, against what all objects say; empty where it has
        not.
    apart: why the group's cameras cannot have one height; empty where they can. What was learnt of its height is
        forgotten then; one that no epoch changes any more (`last_epoch`) stays.
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
    """Of a group: the height in metres, over how many epochs it is averaged (0: none known, NaN), and the horizon's,
    NaN where unknown.
    """

    metres: float = math.nan
    epochs: int = 0
    horizon_m: float = math.nan


def update_average(before: float, epochs: int, estimate: float, *, step: float = 1.0) -> float:
    """The mean over epochs with weights 1, 2, 3, ...: before + 2 / (k + 1) (estimate - before) at the k-th.

    before: over `epochs` epochs; not read where there is none.  step: how much of the way is gone.
    """
    return estimate if epochs == 0 else before + step * 2 / (epochs + 2) * (estimate - before)


def compute_frame_medians(frame: NDArray[np.int64], values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The frames that have values, ascending, and the median of each."""
    order = np.lexsort((values, frame))
    frames, first, count = np.unique(frame[order], return_index=True, return_counts=True)
    ordered = values[order]
    return frames, (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2


def estimate_epoch_height(
    said: HeightObservations, epoch: int, config: CameraHeightsConfig, known_m: float = math.nan
) -> EpochEstimate:
    """What an epoch says of one group. Raises RunError where the group's recordings are of cameras with several
    heights.

    known_m: the group's height before, which the absolute test holds objects against; NaN where there is none.
    """
    says = np.isfinite(said.camera_m) & (said.camera_m > 0)
    by_horizon = np.isfinite(said.horizon_m) & (said.horizon_m > 0)
    horizon_m = float(np.exp(np.median(np.log(said.horizon_m[by_horizon])))) if by_horizon.any() else math.nan
    absolute = config.test == "absolute"
    tested = epoch >= config.test_from_epoch and not (absolute and math.isnan(known_m))
    says_by_horizon = np.where(says & by_horizon, said.horizon_m, np.nan)  # NaN agrees with nothing
    agree = np.abs(np.log(says_by_horizon / horizon_m)) < config.tolerance
    keep = says
    if tested:
        keep = np.abs(np.log(says_by_horizon / known_m)) < config.tolerance if absolute else agree
    if agree.sum() <= config.min_inlier_share * says.sum():
        horizon_m = math.nan  # they agree on no horizon: depth has not learnt one yet
    if epoch >= config.first_epoch:
        frames, medians = compute_frame_medians(said.frame[says], said.camera_m[says])
        flat = ~(
            np.abs(said.height_mismatch[frames]) >= config.max_height_mismatch
        )  # what is no plane yet says nothing of what stands on it
        _check_one_mount(said.recording[frames[flat]], np.log(medians[flat]), known_m)
    _, heights = compute_frame_medians(said.frame[keep], said.camera_m[keep])
    low, camera_m, high = np.quantile(heights, (0.25, 0.5, 0.75)) if len(heights) else [math.nan] * 3
    found = EpochEstimate(
        camera_m=float(camera_m),
        frames=len(heights),
        frames_seen=len(said.group),
        kept=float(keep.sum() / max(says.sum(), 1)),
        spread=float((high - low) / camera_m),
        horizon_m=horizon_m,
        low_m=float(low),
        high_m=float(high),
        road_m=_median(said.road_m),
        height_mismatch=_median(np.abs(said.height_mismatch)),
    )
    locked_height = _locked_in(found, known_m, config) if absolute and tested else ""
    return replace(found, refused=_refused(found, config, tested=tested), locked_height=locked_height)


def _locked_in(found: EpochEstimate, known_m: float, config: CameraHeightsConfig) -> str:
    """In which height, where objects agree on another by the horizon, which no height before has a say in."""
    if not abs(math.log(found.horizon_m / known_m)) >= config.tolerance:  # NaN neither
        return ""
    return (
        f"{found.kept:.0%} of the objects agree with the known {known_m:.2f} m, and all together say"
        f" {found.horizon_m:.2f} m"
    )


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan


def _refused(found: EpochEstimate, config: CameraHeightsConfig, *, tested: bool) -> str:
    """Why an epoch is not to be believed; empty where it is."""
    fewest = max(min(config.min_frames, config.min_frame_share * found.frames_seen), MIN_FRAMES)
    if found.frames < fewest:
        return (
            f"a height needs {fewest:g} frames that say something, and {found.frames} of {found.frames_seen} frames do"
        )
    if found.kept <= config.min_inlier_share:
        return f"{found.kept:.0%} of the objects agree against the horizon, not more than {config.min_inlier_share:.0%}"
    if found.spread >= config.max_spread:
        return (
            f"the frames' quartiles are {found.spread:.2f} of their median apart, not less than {config.max_spread:g}"
        )
    if found.height_mismatch >= config.max_height_mismatch:
        apart = math.expm1(found.height_mismatch)
        return f"a plane through the road and the road's pixels say heights that are {apart:.0%} apart: not a road yet"
    if tested and abs(found.camera_m / found.horizon_m - 1) >= config.max_horizon_disagreement:
        return (
            f"{found.camera_m:.2f} m by depth and {found.horizon_m:.2f} m by the horizon,"
            f" {config.max_horizon_disagreement:.0%} apart or more"
        )
    return ""


def _check_one_mount(recording: NDArray[np.str_], log_heights: Floats, known_m: float) -> None:
    """The recordings of a group, in the order of their medians, have no wide gap: one camera height does not jump.

    The height known of two mounts lies between theirs. Where it lies above or below both, depth has not learnt these
    drives alike yet.
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
    """The heights of all groups, and what the running epoch's frames have said. Every process has one, with the same
    heights.
    """

    def __init__(self, config: CameraHeightsConfig | None = None) -> None:
        self.config = config or CameraHeightsConfig()
        self.epoch = 0
        self.heights = {group: AverageHeight(metres, 1) for group, metres in self.config.known_m.items()}
        self._said: list[dict[str, Any]] = []  # a batch each, on its device, so that none waits; new with every epoch

    def begin(self, epoch: int) -> dict[int, EpochEstimate]:
        """Tell the epoch, from 0, before each step. Where it is a new one, the last is evaluated: its estimates, by
        group; else nothing.

        Called by all processes at the same step.
        """
        if epoch == self.epoch:
            return {}
        ended, self.epoch = self.epoch, epoch
        said, self._said = _joined(gather_from_processes(self._on_cpu())), []
        estimates = {int(group): self._estimate(said.of_group(int(group)), ended) for group in np.unique(said.group)}
        for group, found in estimates.items():
            self.heights[group] = self._after(self.heights.get(group, AverageHeight()), found, ended)
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
        """Keep what a training batch says.

        Args:
            recordings: B names, of the recording of each image.
            group: (B,) whole numbers.
            road_m, height_mismatch: (B,), see `Said`.
            image: (M,) the image in this batch of each object.
            camera_m, horizon_m: (M,), see `Said`.
        """
        said = {"group": group, "road_m": road_m, "height_mismatch": height_mismatch}
        said |= {"image": image, "camera_m": camera_m, "horizon_m": horizon_m}
        self._said.append({"recordings": list(recordings), **{name: value.detach() for name, value in said.items()}})

    def known(self, group: Tensor) -> Tensor:
        """The camera heights (B,) in metres of images' groups (B,), NaN where none is known yet."""
        return _looked_up(group, {number: height.metres for number, height in self.heights.items()})

    def by_horizon(self, group: Tensor) -> Tensor:
        """What objects are held against, (B,) in metres (`geometry.ground.horizon.log_height_ratio`); NaN as long as none is
        tested.
        """
        if self.epoch < self.config.test_from_epoch:
            return _looked_up(group, {})
        absolute = self.config.test == "absolute"
        return _looked_up(
            group, {number: height.metres if absolute else height.horizon_m for number, height in self.heights.items()}
        )

    def state_dict(self) -> dict[str, Any]:
        """All there is, what every process has heard of the running epoch included. Called by all processes."""
        said = _joined(gather_from_processes(self._on_cpu()))
        names, recording = np.unique(said.recording, return_inverse=True)
        return {
            "epoch": self.epoch,
            "heights": [{"group": group, **asdict(height)} for group, height in self.heights.items()],
            "recordings": names.tolist(),
            "said": {
                "recording": torch.from_numpy(recording.astype(np.int64)),
                "group": torch.from_numpy(said.group),
                "road_m": torch.from_numpy(said.road_m),
                "height_mismatch": torch.from_numpy(said.height_mismatch),
                "image": torch.from_numpy(said.frame),
                "camera_m": torch.from_numpy(said.camera_m),
                "horizon_m": torch.from_numpy(said.horizon_m),
            },
        }

    def load_state_dict(self, state: Mapping[str, Any], *, rank: int = 0) -> None:
        """Go on from there. The first process takes what all have heard, so their number may change."""
        self.epoch = state["epoch"]
        self.heights = {
            height["group"]: AverageHeight(height["metres"], height["epochs"], height["horizon_m"])
            for height in state["heights"]
        }
        said = dict(state["said"])
        recordings = [state["recordings"][number] for number in said.pop("recording").tolist()]
        self._said = [{"recordings": recordings, **said}] if rank == 0 else []

    def _estimate(self, said: HeightObservations, epoch: int) -> EpochEstimate:
        try:
            found = estimate_epoch_height(
                said, epoch, self.config, self.heights.get(int(said.group[0]), AverageHeight()).metres
            )
        except RunError as error:
            nothing = math.nan
            return EpochEstimate(
                nothing, 0, len(said.group), 0.0, nothing, nothing, refused=error.found, apart=str(error)
            )
        low, high = self.config.between_m.get(int(said.group[0]), (0.0, math.inf))
        if found.refused or low <= found.camera_m <= high:
            return found
        return replace(
            found, refused=f"{found.camera_m:.2f} m by depth, and {low:.2f} to {high:.2f} m by silhouettes alone"
        )

    def _after(self, height: AverageHeight, found: EpochEstimate, epoch: int) -> AverageHeight:
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

    def _on_cpu(self) -> list[dict[str, Any]]:
        return [
            {name: value.cpu() if isinstance(value, Tensor) else value for name, value in batch.items()}
            for batch in self._said
        ]


def _joined(parts: Sequence[Sequence[Mapping[str, Any]]]) -> HeightObservations:
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


def _looked_up(group: Tensor, values: Mapping[int, float]) -> Tensor:
    """(B,) the values of groups (B,), NaN for those that have none; waits for no device."""
    found = torch.full(group.shape, math.nan, device=group.device)
    for number, value in values.items():
        found = found.masked_fill(group == number, value)
    return found


# -- How the camera heights of a training went, epoch by epoch: what each epoch's frames said of a group of cameras, and
# what was kept.


class HeightHistory:
    """What epochs said of each group of cameras, in their order.

    groups: their names, by number.
    """

    def __init__(self, groups: Sequence[str]) -> None:
        self.of: dict[str, list[EpochHeight]] = {name: [] for name in groups}

    def add(self, epoch: int, estimates: Mapping[int, EpochEstimate], kept_m: Sequence[float]) -> None:
        """Keep what an epoch that has ended says.

        Args:
            epoch: its number.
            estimates: by the number of the group; without those that had no frame.
            kept_m: of each group, NaN for none.
        """
        for group, (of_group, kept) in enumerate(zip(self.of.values(), kept_m, strict=True)):
            if group in estimates:
                found = estimates[group]
                of_group.append(EpochHeight(epoch, found.camera_m, found.low_m, found.high_m, kept, found.refused))
            else:
                of_group.append(EpochHeight(epoch, math.nan, math.nan, math.nan, kept))

    def state_dict(self) -> dict[str, list[dict[str, Any]]]:
        """All of it."""
        return {name: [asdict(one) for one in of_group] for name, of_group in self.of.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Go on from there."""
        self.of = {name: [EpochHeight(**one) for one in state.get(name, ())] for name in self.of}
