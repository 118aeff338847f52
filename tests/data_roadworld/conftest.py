"""One small world, rendered once, for the tests of RoadWorld."""

from __future__ import annotations

import pytest

from stadia.data.roadworld.presets import TINY, RoadWorldConfig
from stadia.data.roadworld.render import Renderer, View
from stadia.data.roadworld.world import World, make_world, world_seed

Frames = list[dict[str, View]]


@pytest.fixture(scope="session")
def config() -> RoadWorldConfig:
    return TINY.model_copy(update={"frames": 5})


@pytest.fixture(scope="session")
def world(config: RoadWorldConfig) -> World:
    return make_world(world_seed(0, "train", 0), config)


@pytest.fixture(scope="session")
def renderer(world: World, config: RoadWorldConfig) -> Renderer:
    return Renderer(world, config)


@pytest.fixture(scope="session")
def frames(renderer: Renderer) -> Frames:
    return [renderer.render(i) for i in range(3)]
