"""Several data sets of road video in one training: the cameras of each have a height of their own, whatever they are
called.
"""

from pathlib import Path

import pytest
from rich.console import Console

from stadia import training
from stadia.core.config import resolve_config
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld
from stadia.training import recipes
from stadia.training.recipes.metric.config import MetricConfig
from stadia.training.recipes.metric.data import MultiRoadData
from stadia.training.recipes.metric.recipe import MetricRecipe
from stadia.training.recipes.selfsup.config import SelfsupConfig

pytestmark = pytest.mark.slow  # its fixtures train or compile

TRUE = "data.ground_truth_depth=true", "data.extra_datasets.low.ground_truth_depth=true"


@pytest.fixture(scope="module")
def low_worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ROADWORLD_TINY.model_copy(update={"frames": 5, "test": 0, "stereo": False, "camera_height_m": (1.2,)})
    return write_roadworld(config, tmp_path_factory.mktemp("low") / "tiny", workers=1).parent


@pytest.fixture
def two(small: SelfsupConfig, low_worlds: Path) -> MetricConfig:
    values = small.model_dump(mode="json", exclude={"motion"}) | {"recipe": "metric", "name": "metric"}
    other = (f"data.extra_datasets.low.path={low_worlds}", "data.extra_datasets.low.width=64")
    easy = (
        "road.priors=roadworld",
        "road.border_px=1",
        "road.min_object_share=0.0005",
        "heights.first_epoch=0",
        "heights.min_frames=1",
    )
    return resolve_config(MetricConfig, values, ("data.name=high", *other, *easy, "training.batch_size=1"))


def test_the_cameras_of_each_data_set_are_a_group(two: MetricConfig) -> None:
    settled, data = MetricRecipe.prepare(two, Console(quiet=True))
    assert isinstance(data, MultiRoadData)
    assert settled.camera_groups == ("high: 1.65 m", "low: 1.2 m")
    assert (settled.data.stereo, settled.data.extra_datasets["low"].stereo) == (False, False)
    seen = {
        (batch.meta[0].data, batch.inputs.image.shape[-1], *batch.targets.camera_group.tolist()) for batch in data.train
    }
    assert seen == {("high", 96, 0), ("low", 64, 1)}
    assert data.val is not None
    assert {(batch.meta[0].data, *batch.targets.camera_group.tolist()) for batch in data.val} == {
        ("high", 0),
        ("low", 1),
    }


def test_both_are_trained_on_remembered_and_scored(two: MetricConfig, tmp_path: Path) -> None:
    run = training.train(
        resolve_config(MetricConfig, two.model_dump(mode="json"), ("training.max_steps=2",)), out=tmp_path / "runs"
    )
    predictor = recipes.load_predictor(run.folder)
    recipe = predictor.recipe  # type: ignore[attr-defined]
    assert recipe.groups == ("high: 1.65 m", "low: 1.2 m")
    assert {path.stem.split("-")[1] for path in (run.folder / "scores").glob("val-*.json")} == {"high", "low"}
    assert [*run.facts.data["extra_datasets"]] == ["low"]
    assert (
        run.facts.data["extra_datasets"]["low"]["masks"].keys()
        == run.facts.data["extra_datasets"]["low"]["fingerprints"].keys()
    )
