"""`--size`: a checkpoint at another size than it was trained at, where its networks can."""

import pytest
import torch
from tests.refusals import refuses
from tests.tensor_cameras import intrinsics

from stadia.core.errors import ConfigError
from stadia.predict.options import parse_size
from stadia.training.recipes import configure
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

TRAINED = {"data": {"height": 192, "width": 640}}


def test_width_comes_first() -> None:
    assert parse_size("1216x352") == (352, 1216)


@pytest.mark.parametrize("text", ["1216", "1216x", "1216X352", "0x352", "-32x32", "32.0x32"])
def test_what_is_no_size(text: str) -> None:
    with refuses(ConfigError, where="--size", expected="WIDTHxHEIGHT"):
        parse_size(text)


@pytest.fixture
def recipe() -> SelfsupRecipe:
    words = ("data.height=32", "data.width=96", "data.stereo=true", "model.network.decoder_channels=[4,4,8,8,8]")
    encoders = (
        "model.network.encoder=test_efficientnet",
        "model.pose_net=resnet",
        "model.pose_encoder=test_efficientnet",
        "model.pretrained=false",
    )
    config = configure("selfsup", (*words, *encoders), data={"path": "nowhere"})
    assert isinstance(config, SelfsupConfig)
    return SelfsupRecipe(config)


def test_a_convolutional_network_runs_at_any_multiple_of_its_stride(recipe: SelfsupRecipe) -> None:
    recipe.focal.fill_(0.6)
    predictor = recipe.predictor((96, 160))
    assert (predictor.height, predictor.width) == (96, 160)
    camera = intrinsics(96, 96, 79.5, 47.5, height=96, width=160)
    assert predictor.inverse_depth(torch.rand(1, 3, 96, 160), camera).shape == (1, 1, 96, 160)
    with refuses(ConfigError, found="150x96", expected="32", fix="160x96"):
        recipe.predictor((96, 150))
    own = recipe.predictor()
    assert (own.height, own.width) == (recipe.height, recipe.width)
