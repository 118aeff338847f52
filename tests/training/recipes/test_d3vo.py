"""The recipe `selfsup` with all outputs of D3VO's networks: what is logged, shown, validated, refused, predicted and
resumed.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from stadia.core.config import resolve_config
from stadia.differentiable.batch import Batch, Prediction
from stadia.differentiable.images import camera_to_torch
from stadia.networks.pose_net import DepthPoseNet
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

pytestmark = pytest.mark.slow  # its fixtures train or compile

D3VO = (
    "model.network.right_view=true",
    "model.network.uncertainty=true",
    "model.brightness=true",
    "model.pose_net=d3vo",
    "model.pose_head=pool",
)


def changed(config: SelfsupConfig, *overrides: str) -> SelfsupConfig:
    return resolve_config(SelfsupConfig, config.model_dump(mode="json"), overrides)


@pytest.fixture
def d3vo(small: SelfsupConfig) -> SelfsupConfig:
    return changed(small, *D3VO)


@pytest.fixture
def recipe(d3vo: SelfsupConfig) -> SelfsupRecipe:
    torch.manual_seed(0)
    recipe = SelfsupRecipe(changed(d3vo, "data.stereo=true"))
    recipe.focal.fill_(0.6)
    return recipe


@pytest.fixture
def batch(d3vo: SelfsupConfig) -> Batch:
    return next(iter(SelfsupRecipe.prepare(d3vo, Console(quiet=True))[1].train))


def set_predictions(recipe: SelfsupRecipe, monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    real = DepthPoseNet.forward

    def forward(model: DepthPoseNet, batch: Batch) -> Prediction:
        return replace(real(model, batch), **values)

    monkeypatch.setattr(DepthPoseNet, "forward", forward)


def test_step_logs_network_statistics(
    recipe: SelfsupRecipe, small: SelfsupConfig, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = recipe.training_step(batch).logged
    expected = {f"{what}/{name}" for what in ("gain", "offset") for name in ("-1", "+1", "stereo")}
    assert expected | {f"log_uncertainty/p{percent}" for percent in (10, 50, 90)} <= set(seen)
    assert all(seen[name] == name.startswith("gain") for name in expected)
    brightness = torch.tensor([[[1.0, 0.0], [1.2, 0.0], [1.0, 0.1]], [[1.0, 0.0], [1.4, 0.0], [1.0, 0.3]]])
    ramp = torch.linspace(-1, 1, 96).expand(2, 1, 32, 96)
    set_predictions(
        recipe,
        monkeypatch,
        brightness=brightness,
        log_uncertainty=(ramp, *[ramp[..., :: 2**s, :: 2**s] for s in (1, 2, 3)]),
    )
    seen = recipe.training_step(batch).logged
    assert float(seen["gain/+1"]) == pytest.approx(1.3)
    assert float(seen["offset/stereo"]) == pytest.approx(0.2)
    assert float(seen["log_uncertainty/p50"]) == pytest.approx(0, abs=0.15)
    assert float(seen["log_uncertainty/p90"]) == pytest.approx(0.8, abs=0.15)
    assert not any(value.requires_grad for value in seen.values())
    monkeypatch.undo()
    plain = SelfsupRecipe(changed(small, "data.stereo=true")).training_step(batch).logged
    assert not [name for name in plain if name.startswith(("gain", "offset", "log_uncertainty"))]


def test_the_rig_that_teaches_the_right_view_is_remembered(d3vo: SelfsupConfig) -> None:
    config, data = SelfsupRecipe.prepare(d3vo, Console(quiet=True))
    recipe = SelfsupRecipe(config)
    shown = torch.rand(1, 3, 32, 96)
    assert recipe.eval().maps(shown).T_right_left is None
    recipe.save_data_stats(data)
    rig = recipe.predictor().maps(shown, camera_to_torch(data.recordings["train"][0].camera(0))).T_right_left  # type: ignore[union-attr]
    assert rig is not None
    assert float(rig[0, 3]) == pytest.approx(-0.54)
    assert "T_right_left" in recipe.state_dict()
    wide = SimpleNamespace(T_right_left=2 * rig.double().numpy(), camera=data.recordings["train"][0].camera)
    other = SelfsupRecipe(config)
    other.save_data_stats(SimpleNamespace(recordings={"train": [*data.recordings["train"], wide]}))  # type: ignore[arg-type]
    assert other.eval().maps(shown).T_right_left is None
