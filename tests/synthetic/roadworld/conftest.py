"""One small world, rendered once, for the tests of RoadWorld."""

import pytest

from stadia.synthetic.config import ROADWORLD_TINY, RoadWorldConfig
from stadia.synthetic.roadworld.road_world import RoadRenderer, RoadView, RoadWorld, derive_world_seed, make_world

Frames = list[dict[str, RoadView]]


@pytest.fixture(scope="session")
def config() -> RoadWorldConfig:
    return ROADWORLD_TINY.model_copy(update={"frames": 5})


@pytest.fixture(scope="session")
def world(config: RoadWorldConfig) -> RoadWorld:
    return make_world(derive_world_seed(0, "train", 0), config)


@pytest.fixture(scope="session")
def renderer(world: RoadWorld, config: RoadWorldConfig) -> RoadRenderer:
    return RoadRenderer(world, config)


@pytest.fixture(scope="session")
def frames(renderer: RoadRenderer) -> Frames:
    return [renderer.render(i) for i in range(3)]
