"""The history of the camera heights of a training: the estimate of each epoch, and the height that was kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stadia.training.camera_heights import Estimate


@dataclass(frozen=True, slots=True)
class EpochHeight:
    """The height of one group of cameras after an epoch. Metres, NaN where there is none.

    epoch: from 0.  said_m, low_m, high_m: the median over its frames, and their quartiles.
    kept_m: the average height from then on.  refused: why the estimate was rejected; empty where it was not.
    """

    epoch: int
    said_m: float
    low_m: float
    high_m: float
    kept_m: float
    refused: str = ""


class HeightCourse:
    """The epochs of each group of cameras, in their order.

    groups: their names, by number.
    """

    def __init__(self, groups: Sequence[str]) -> None:
        self.of: dict[str, list[EpochHeight]] = {name: [] for name in groups}

    def add(self, epoch: int, estimates: Mapping[int, Estimate], kept_m: Sequence[float]) -> None:
        """Add the estimates of an epoch.

        Args:
            epoch: its number.
            estimates: by the number of the group; without groups that had no frame.
            kept_m: of each group, NaN for none.
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
