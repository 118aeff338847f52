"""Heights of cameras from masks of boxes that stand where a pinhole camera sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from stadia.core.recording import RoadMasks
from stadia.data.road_config import RoadConfig
from stadia.geometry.height_of_drives import TOP_BEHIND_FOOT_M
from stadia.recipes.first_heights import first_heights

CAR, F, ROWS, COLUMNS, HORIZON = 9, 300.0, 160, 480, 60.0
PRIORS = {"car": {"mean_m": 1.5, "spread_m": 0.1, "source": "by construction"}}


@dataclass
class Street:
    """Frames of a level camera over a road with boxes on it; `wrong` of them are said to be half or twice as high."""

    name: str
    camera_m: float
    frames: int = 60
    wrong: float = 0.0
    mount: str = ""
    said: list[dict[int, tuple[float, float]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        self.seen = [self._frame(random) for _ in range(self.frames)]
        self.mount = self.mount or self.name
        self.mask_reader = SimpleNamespace(classes={CAR: "car", 1: "road"}, heights_m=lambda stem, side: self.said[int(stem)])

    def _frame(self, random: np.random.Generator) -> RoadMasks:
        semantic, instance = np.zeros((ROWS, COLUMNS), np.uint8), np.zeros((ROWS, COLUMNS), np.uint16)
        said = {}
        for number, z in enumerate(sorted(random.uniform(8, 35, 3), reverse=True), start=1):
            high_m = 1.5 + 0.05 * random.standard_normal()
            foot, top = HORIZON + F * self.camera_m / z, HORIZON + F * (self.camera_m - high_m) / (z + TOP_BEHIND_FOOT_M)
            rows, left = slice(round(top), round(foot)), int(random.uniform(20, COLUMNS - 120))
            columns = slice(left, left + int(F * 1.8 / z))
            instance[rows, columns], semantic[rows, columns] = number, CAR
            said[number] = (high_m * (random.choice([0.5, 2.0]) if random.random() < self.wrong else 1.0), 0.1)
        self.said.append(said)
        return RoadMasks(semantic, instance)

    def __len__(self) -> int:
        return self.frames

    def masks(self, index: int, side: str) -> RoadMasks:
        return self.seen[index]

    def stem(self, index: int, side: str) -> str:
        return str(index)

    def K(self, index: int) -> np.ndarray:
        return np.array([[F, 0, COLUMNS / 2], [0, F, HORIZON], [0, 0, 1]])

    def camera(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(height=ROWS, width=COLUMNS)


def test_each_group_has_the_height_of_its_own_cameras():
    streets = [Street("low", 1.2), Street("middle", 1.65), Street("high", 2.1)]
    found = first_heights(streets, {"high": 0, "low": 1, "middle": 2}, RoadConfig(priors=PRIORS))
    assert {number: said.height_m for number, said in found.items()} == pytest.approx({0: 2.1, 1: 1.2, 2: 1.65}, rel=0.04)
    assert all(said.low_m < said.height_m < said.high_m for said in found.values())


def test_three_in_ten_wrong_heights_are_outvoted_and_not_ignored():
    street = Street("drive", 1.65, wrong=0.3)
    found = first_heights([street], {"drive": 0}, RoadConfig(priors=PRIORS, heights="each"))
    assert found[0].height_m == pytest.approx(1.65, rel=0.05)
    for said in street.said:
        said.update({number: (2 * high, spread) for number, (high, spread) in said.items()})
    again = first_heights([street], {"drive": 0}, RoadConfig(priors=PRIORS, heights="each"))
    assert again[0].height_m == pytest.approx(2 * found[0].height_m, rel=0.02)  # they are what is read


def test_a_group_that_says_too_little_has_none():
    few, none = Street("few", 1.65, frames=1), Street("none", 1.65, frames=4)
    none.mask_reader.classes = {1: "road"}
    assert (
        first_heights([few, none], {"few": 0, "none": 1}, RoadConfig(priors=PRIORS)) == {}
    )  # of which one has three objects, the other none
