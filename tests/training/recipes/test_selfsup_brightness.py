"""How `selfsup` delays the brightness that its networks predict: until the warp beats the unwarped image, through
checkpoints too.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console

from stadia.core.config import resolve_config
from stadia.differentiable.batch import Batch
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe


def changed(config: SelfsupConfig, *overrides: str) -> SelfsupConfig:
    return resolve_config(SelfsupConfig, config.model_dump(mode="json"), overrides)


@pytest.fixture
def bright(small: SelfsupConfig) -> SelfsupConfig:
    return changed(small, "model.brightness=true")


def set_brightness(recipe: SelfsupRecipe, monkeypatch: pytest.MonkeyPatch, gain: float, offset: float) -> None:
    forward = recipe.model.forward

    def forward_with_brightness(batch: Batch) -> Any:
        prediction = forward(batch)
        return replace(prediction, brightness=torch.tensor([gain, offset]).expand_as(prediction.brightness))

    monkeypatch.setattr(recipe.model, "forward", forward_with_brightness)


@pytest.mark.slow
def test_brightness_is_held_until_the_gate_opens(bright: SelfsupConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, batch = (
        SelfsupRecipe(changed(bright, "data.stereo=true")),
        next(iter(SelfsupRecipe.prepare(bright, Console(quiet=True))[1].train)),
    )
    assert recipe.gate is not None
    set_brightness(recipe, monkeypatch, 1.2, 0.1)
    recipe.train()
    held = recipe.training_step(batch)
    assert held.terms["brightness"] == 0
    assert float(recipe.gate.ratio) == pytest.approx(0.99 + 0.01 * float(held.logged["warped_over_unwarped"]), rel=1e-6)
    recipe.gate.is_open.fill_(True)
    recipe.eval()
    ratio = recipe.gate.ratio.clone()
    let_through = recipe.training_step(batch)
    assert float(let_through.terms["brightness"]) > 0
    assert let_through.terms["photometric"] != held.terms["photometric"]
    assert torch.equal(recipe.gate.ratio, ratio), "what is not trained on opens no gate"
