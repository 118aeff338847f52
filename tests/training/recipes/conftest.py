"""A configuration of `selfsup` that trains on the tiny road world in seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stadia.training import train
from stadia.training.loop.loop import TrainingLoop
from stadia.training.recipes import CONFIGS, configure
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.studies.study_metric import check_metric

SMALL = (
    "data.height=32",
    "data.width=96",
    "model.network.encoder=test_efficientnet",
    "model.pose_net=resnet",
    "model.pose_encoder=test_efficientnet",
    "model.pretrained=false",
    "model.network.init_depth_m=12",
    "model.network.decoder_channels=[4,4,8,8,8]",
    "optimizer.lr=1e-3",
    "training.max_epochs=null",
    "training.max_steps=3",
    "training.batch_size=2",
    "training.workers=0",
    "training.log_every=1",
    "training.threads=1",
    'training.loggers=["csv"]',
)


@pytest.fixture(scope="session", autouse=True)
def validations_are_those_that_are_declared() -> Iterator[None]:
    validate = TrainingLoop.validate

    def check(loop: TrainingLoop) -> None:
        validate(loop)
        for name in loop.metrics if loop.recipe.recipe in CONFIGS else ():
            check_metric(loop.recipe.recipe, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLoop, "validate", check)
        yield


def _configure_small(worlds: Path, cache: Path) -> SelfsupConfig:
    config = configure("selfsup", SMALL, data={"path": str(worlds), "cache": {"folder": str(cache)}})
    assert isinstance(config, SelfsupConfig)
    return config


@pytest.fixture
def small(worlds: Path, tmp_path: Path) -> SelfsupConfig:
    return _configure_small(worlds, tmp_path / "cache")


@pytest.fixture(scope="session")
def trained_small(worlds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    return train(_configure_small(worlds, folder / "cache"), out=folder / "runs").folder
