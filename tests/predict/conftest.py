"""A run of a small network."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stadia.io.run_facts import UNKNOWN_FACTS, RecipeFacts, TrainedCamera, write_run_facts
from stadia.training.loop.checkpoint import CheckpointHeader, write_checkpoint
from stadia.training.recipes import configure
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

SMALL = (
    "data.height=64",
    "data.width=96",
    "data.stereo=true",
    "model.network.encoder=test_resnet",
    "model.pose_net=resnet",
    "model.pose_encoder=test_resnet",
    "model.pretrained=false",
    "model.network.decoder_channels=[4,4,8,8,8]",
)
CAMERA = TrainedCamera(K=((140, 0, 99.5), (0, 140, 64.5), (0, 0, 1)), size=(130, 200))


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Writes a run's folder with a small, untrained network."""
    return write_small_run


def write_small_run(folder: Path, *, focal: float = 0.7, settings: tuple[str, ...] = ()) -> Path:
    """A run's folder with a small `selfsup` in it, whose depth depends on the image."""
    config = configure("selfsup", (*SMALL, *settings), data={"path": "drive.mp4"})
    torch.manual_seed(0)
    recipe = SelfsupRecipe(config)  # type: ignore[arg-type]
    recipe.focal.fill_(focal)
    for head in recipe.model.depth.decoder.heads.values():
        torch.nn.init.normal_(head.weight, std=0.3)  # type: ignore[arg-type]
    header = CheckpointHeader(
        recipe="selfsup", config=config.model_dump(mode="json"), kind="weights", step=7, epoch=0, metrics={}
    )
    write_checkpoint(folder / "checkpoints" / "best.safetensors", header, {"state_dict": recipe.state_dict()})
    write_run_facts(folder, replace(UNKNOWN_FACTS, recipe_facts=RecipeFacts(camera=CAMERA)))
    return folder
