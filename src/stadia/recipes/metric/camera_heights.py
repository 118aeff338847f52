"""Learn the camera height above the road over the epochs of a training, for each group of cameras mounted alike.

Each inlier object of a frame gives a camera height. The median over a frame's objects is the height of the frame, the
median over an epoch's frames that of the epoch. Epochs are averaged, later ones with a larger weight. `epoch_height`
estimates that of an epoch.
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
from stadia.datasets.masks.height_priors import RoadConfig, find_prior
from stadia.evaluation.plots.charts import EpochHeight
from stadia.recipes.metric.config import CameraHeightsConfig
from stadia.recipes.metric.epoch_height import EpochEstimate, HeightObservations, estimate_epoch_height
from stadia.training.validation_scores import gather_from_processes


@dataclass(frozen=True, slots=True)
class AverageHeight:
    """The height of a group.

    metres: NaN for none.  epochs: that it is averaged over; 0 for none.  horizon_m: from the horizon; NaN for none.
    """

    metres: float = math.nan
    epochs: int = 0
    horizon_m: float = math.nan


def update_average(before: float, epochs: int, estimate: float, *, step: float = 1.0) -> float:
    """Return the mean over epochs with weights 1, 2, 3, ...: before + 2 / (k + 1) (estimate - before) at the k-th.

    before: over `epochs` epochs; ignored for none.  step: factor on the change.
    """
    return estimate if epochs == 0 else before + step * 2 / (epochs + 2) * (estimate - before)


_COLUMNS = {
    **{name: name for name in ("group", "road_m", "height_mismatch")},
    "image": "frame",
    "camera_m": "camera_m",
    "horizon_m": "horizon_m",
}
"""Values of a batch by their name in checkpoints, to their name in `HeightObservations`."""


class CameraHeights:
    """The heights of all groups, and the observations of the present epoch. The heights are equal in all processes."""

    def __init__(self, config: CameraHeightsConfig | None = None) -> None:
        self.config = config or CameraHeightsConfig()
        self.epoch = 0
        self.heights = {group: AverageHeight(metres, 1) for group, metres in self.config.known_m.items()}
        self._observed: list[dict[str, Any]] = []  # batches of this epoch, on their device

    def begin(self, epoch: int) -> dict[int, EpochEstimate]:
        """Set the epoch, from 0, before each step. At a new one, return the estimates of the last, by group.

        Called by all processes at the same step.
        """
        if epoch == self.epoch:
            return {}
        ended, self.epoch = self.epoch, epoch
        observed, self._observed = _join_batches(gather_from_processes(self._on_cpu())), []
        estimates = {
            int(group): self._estimate(observed.select_group(int(group)), ended) for group in np.unique(observed.group)
        }
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
        """Add the observations of a training batch.

        Args:
            recordings: B names, of the recording of each image.
            group: (B,) whole numbers.
            road_m, height_mismatch: (B,), see `HeightObservations`.
            image: (M,) the image in this batch of each object.
            camera_m, horizon_m: (M,), see `HeightObservations`.
        """
        values = (group, road_m, height_mismatch, image, camera_m, horizon_m)
        observed = {name: value.detach() for name, value in zip(_COLUMNS, values, strict=True)}
        self._observed.append({"recordings": list(recordings), **observed})

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
            "heights": [{"group": group, **asdict(height)} for group, height in self.heights.items()],
            "recordings": names.tolist(),
            "observations": {
                "recording": torch.from_numpy(recording.astype(np.int64)),
                **{column: torch.from_numpy(getattr(observed, name)) for column, name in _COLUMNS.items()},
            },
        }

    def load_state_dict(self, state: Mapping[str, Any], *, rank: int = 0) -> None:
        """Restore a state. The first process gets all observations, so the number of processes may change."""
        self.epoch = state["epoch"]
        self.heights = {
            height["group"]: AverageHeight(height["metres"], height["epochs"], height["horizon_m"])
            for height in state["heights"]
        }
        observed = dict(state["observations"])
        recordings = [state["recordings"][number] for number in observed.pop("recording").tolist()]
        self._observed = [{"recordings": recordings, **observed}] if rank == 0 else []

    def _estimate(self, observed: HeightObservations, epoch: int) -> EpochEstimate:
        try:
            found = estimate_epoch_height(observed, epoch, self.config, self.height_m(int(observed.group[0])))
        except RunError as error:
            frames = len(observed.group)
            return EpochEstimate(math.nan, 0, frames, 0.0, math.nan, math.nan, refused=error.found, apart=str(error))
        low, high = self.config.between_m.get(int(observed.group[0]), (0.0, math.inf))
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
            for batch in self._observed
        ]


def _join_batches(parts: Sequence[Sequence[Mapping[str, Any]]]) -> HeightObservations:
    batches = [batch for part in parts for batch in part]
    first = np.cumsum([0, *(len(batch["group"]) for batch in batches)])
    joined: dict[str, NDArray[Any]] = {}
    for column, name in _COLUMNS.items():
        dtype = np.int64 if column in ("group", "image") else np.float64
        values = [batch[column].numpy().astype(dtype) for batch in batches]
        if column == "image":  # its number in the batch, to that of its frame
            values = [value + start for value, start in zip(values, first, strict=False)]
        joined[name] = np.concatenate([np.zeros(0, dtype), *values])
    recordings = [name for batch in batches for name in batch["recordings"]]
    return HeightObservations(recording=np.array(recordings, dtype=np.str_), **joined)


def _select_heights(group: Tensor, values: Mapping[int, float]) -> Tensor:
    """Return (B,) the values of groups (B,), NaN for those without. Waits for no device."""
    found = torch.full(group.shape, math.nan, device=group.device)
    for number, value in values.items():
        found = found.masked_fill(group == number, value)
    return found


# -- which heights metres rest on, and why there are none

MAX_HEIGHT_LOG_ERROR = 0.1
"""Maximum log ratio between the estimated height and the height in predicted depth for depth in metres."""


def follows_height(predicted_m: float, known_m: float) -> bool:
    """Return whether the camera height in predicted depth agrees with the known one; false for NaN."""
    return predicted_m > 0 and known_m > 0 and abs(math.log(predicted_m / known_m)) < MAX_HEIGHT_LOG_ERROR


def describe_height_priors(config: RoadConfig) -> str:
    """Return the object heights that metres rest on, for the run's record."""
    priors = {name: find_prior(name, config.height_priors) for name in config.objects}
    listed = "; ".join(
        f"{name} {prior.mean_m:g} m, spread {prior.spread_m:g} m ({prior.source})"
        for name, prior in priors.items()
        if prior is not None
    )
    each = "heights of single objects, else " * (config.heights == "each")
    return f"{each}heights of classes: {listed}. A mean that is 5 % off makes all lengths 5 % off"


def explain_missing_scale(
    epoch_heights: Mapping[str, Sequence[EpochHeight]], known_m: Sequence[float], predicted_m: Sequence[float]
) -> str:
    """Return why depth is not in metres: what each camera group lacks.

    epoch_heights: the epochs of each group.
    known_m, predicted_m: of each group, its height and that in predicted depth; NaN for none.
    """
    if not any(epoch_heights.values()):
        return "the best weights are from before the first camera height was estimated; train longer"
    reasons = []
    for (name, epochs), known, predicted in zip(epoch_heights.items(), known_m, predicted_m, strict=True):
        of = f" of the cameras '{name}'" if name else ""
        if not known > 0:
            why = next((one.refused for one in reversed(epochs) if one.refused), "no epoch gave one")
            reasons.append(f"no height{of} is known: {why}; see the findings")
        elif not predicted > 0:
            reasons.append(f"the road{of} does not occur in the last epoch (height {known:.2f} m); check the masks")
        elif not follows_height(predicted, known):
            found = f"depth of the last epoch gives a camera height{of} of {predicted:.2f} m"
            reasons.append(f"{found} instead of {known:.2f} m; train longer")
    return "; ".join(reasons)
