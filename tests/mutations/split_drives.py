"""Drives of which other frames train than are held out: D13."""

import numpy as np
from numpy.typing import NDArray
from tests.mutations.mutation import MutationCase

from stadia.core.types import LEFT, Camera, Recording
from stadia.geometry.cameras import from_field_of_view
from stadia.judge.finding import Finding, Stage
from stadia.judge.recordings.preflight_runner import check_splits, run_preflight


class Drive(Recording):
    """Images of noise: no two are alike, in any recording."""

    def __init__(self, name: str, session: str | None = None) -> None:
        self.name, self._session = name, session or name

    def __len__(self) -> int:
        return 40

    @property
    def session(self) -> str:
        return self._session

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        seed = [index, *self.name.encode()]
        return np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return from_field_of_view(70, height=48, width=64)


def found(train: dict[Drive, range], val: dict[Drive, range]) -> list[Finding]:
    return list(check_splits({"train": list(train.items()), "val": list(val.items())}))


def _case(name: str, train: dict[Drive, range], val: dict[Drive, range]) -> MutationCase:
    def of(train: dict[Drive, range], val: dict[Drive, range]) -> list[Finding]:
        return run_preflight([], {"train": list(train.items()), "val": list(val.items())})

    apart = {Drive("a"): range(40)}, {Drive("c"): range(3)}
    return MutationCase(name, ("D13",), Stage.DATA, lambda folder: of(train, val), lambda folder: of(*apart))


ROWS = (
    _case(
        "another cut of a drive is held out",
        {Drive("07", "day 3"): range(20)},
        {Drive("raw", "day 3"): range(20, 40), Drive("other"): range(40)},
    ),
    _case(
        "a block of a recording is held out",
        {Drive("a"): range(30), Drive("b"): range(40)},
        {Drive("a"): range(35, 40)},
    ),
)
