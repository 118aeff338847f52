"""Heights of cameras from masks of boxes that stand where a pinhole camera sees them."""

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stadia.core.types import RoadMasks
from stadia.data.height_priors import RoadConfig
from stadia.geometry.ground.drive_heights import TOP_BEHIND_FOOT_M
from stadia.training.recipes.metric import data as first_heights_of_groups
from stadia.training.recipes.metric.data import InitialHeights, estimate_initial_heights

CAR, F, ROWS, COLUMNS, HORIZON = 9, 300.0, 160, 480, 60.0
PRIORS = {"car": {"mean_m": 1.5, "spread_m": 0.1, "source": "by construction"}}


@dataclass
class Street:
    name: str
    camera_m: float
    frames: int = 60
    wrong: float = 0.0
    mount: str = ""
    pitch_deg: float = 0.0
    seed: int = 0
    said: list[dict[int, tuple[float, float]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self.seen = [self._frame(random) for _ in range(self.frames)]
        self.mount = self.mount or self.name
        self.mask_reader = SimpleNamespace(
            classes={CAR: "car", 1: "road"}, heights_m=lambda stem, side: self.said[int(stem)]
        )

    def _frame(self, random: np.random.Generator) -> RoadMasks:
        semantic, instance = np.zeros((ROWS, COLUMNS), np.uint8), np.zeros((ROWS, COLUMNS), np.uint16)
        said = {}
        for number, z in enumerate(sorted(random.uniform(8, 35, 3), reverse=True), start=1):
            high_m = 1.5 + 0.05 * random.standard_normal()
            horizon = HORIZON + F * np.tan(np.radians(self.pitch_deg))
            foot, top = (
                horizon + F * self.camera_m / z,
                horizon + F * (self.camera_m - high_m) / (z + TOP_BEHIND_FOOT_M),
            )
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


def predict_heights(*streets: Street, width: int = COLUMNS, **config: Any) -> InitialHeights:
    groups = {mount: number for number, mount in enumerate(dict.fromkeys(street.mount for street in streets))}
    return estimate_initial_heights(
        streets, groups, RoadConfig(priors=PRIORS, **config), height=ROWS * width // COLUMNS, width=width
    )


@pytest.mark.slow
def test_each_group_has_the_height_of_its_own_cameras():
    found = predict_heights(Street("high", 2.1), Street("low", 1.2), Street("middle", 1.65)).estimated
    assert {number: said.height_m for number, said in found.items()} == pytest.approx(
        {0: 2.1, 1: 1.2, 2: 1.65}, rel=0.04
    )
    assert all(said.low_m < said.height_m < said.high_m for said in found.values())


@pytest.mark.slow
def test_group_with_few_objects_has_a_reason_instead_of_a_height(monkeypatch):
    few, none = Street("few", 1.65, frames=1), Street("none", 1.65, frames=4)
    none.mask_reader.classes = {1: "road"}
    found = predict_heights(few, none, heights="each")
    assert found.estimated == {}
    assert found.reasons[0] == "2 objects that agree, at least 12 are needed"
    assert found.reasons[1] == "0 objects that agree, at least 12 are needed"
    monkeypatch.setattr(first_heights_of_groups, "MAX_LOG_INTERVAL", 0.01)
    found = predict_heights(Street("wide", 1.65, frames=9))
    assert found.estimated == {}
    assert re.fullmatch(r"the interval is 1\.\d\d to 1\.\d\d m", found.reasons[0])
