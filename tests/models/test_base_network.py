"""The network whose weights are part of the package: their file, and depth of a world that it never saw."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from stadia.core.types import Camera
from stadia.models.depth.base_network import WEIGHTS_FILE, BaseNetwork
from stadia.models.depth.config import BaseConfig
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world

CARD = Path(__file__).parents[2] / "docs" / "reference" / "base-network.md"


def test_the_weights_are_small_and_those_of_the_model_card() -> None:
    assert WEIGHTS_FILE.stat().st_size < 12e6
    assert hashlib.sha256(WEIGHTS_FILE.read_bytes()).hexdigest() in CARD.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_road_that_it_never_saw_has_depth_in_metres() -> None:
    config = ROADWORLD_TINY.model_copy(update={"height": 128, "width": 384, "stereo": False})
    world = make_world(987_654_321, config)
    view = RoadRenderer(world, config).render(0)["left"]
    image = torch.from_numpy(view.image.copy()).permute(2, 0, 1)[None].float() / 255
    camera = Camera(torch.from_numpy(np.asarray(world.K, np.float32))[None], 128, 384)
    with torch.no_grad():
        maps = BaseNetwork(BaseConfig()).eval()(image, camera)
    known = (view.depth_m > 0) & (view.depth_m < 80)
    ratio = 1 / maps.inverse_depth[0][0, 0].numpy()[known] / view.depth_m[known]
    assert 0.8 < np.median(ratio) < 1.25
    assert np.mean(abs(ratio - 1)) < 0.3


def test_twice_the_focal_length_is_twice_the_depth() -> None:
    network, image = BaseNetwork(BaseConfig()).eval(), torch.rand(1, 3, 64, 96)
    K = torch.tensor([[[60.0, 0, 47.5], [0, 60, 31.5], [0, 0, 1]]])
    twice = K * torch.tensor([[2.0, 1, 1], [1, 2, 1], [1, 1, 1]])
    with torch.no_grad():
        one, other = (network(image, Camera(k, 64, 96)).inverse_depth[0] for k in (K, twice))
    torch.testing.assert_close(one, 2 * other)
