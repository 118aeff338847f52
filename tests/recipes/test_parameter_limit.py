"""A checkpoint's configuration cannot name a network that is far larger than the file's weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.refusals import refuses
from torch import nn

from stadia.core.errors import CheckpointError
from stadia.models import pretrained_weights
from stadia.recipes import configure
from stadia.recipes.base import build_recipe


def test_a_network_larger_than_its_checkpoint_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained_weights, "SLACK_NUMBERS", 2 << 20)
    layers: list[nn.Module] = []

    def build() -> None:
        with pretrained_weights.limit_parameters(Path("c.safetensors"), 10):
            layers.extend(nn.Linear(1000, 1000) for _ in range(9))

    with refuses(CheckpointError, where="c.safetensors", found="2"):
        build()
    assert len(layers) == 2
    nn.Linear(2000, 2000)  # the limit ends with the block


def test_loading_a_checkpoint_builds_no_network_larger_than_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = configure("selfsup", data={"path": "DATA"}, model={"network": {"encoder": "test_efficientnet"}})
    header = SimpleNamespace(recipe="selfsup", config=values.model_dump(mode="json"))
    small = SimpleNamespace(path="c.safetensors", header=header, built_recipe=None, count_numbers=lambda: 10)
    monkeypatch.setattr(pretrained_weights, "SLACK_NUMBERS", 100_000)
    monkeypatch.setattr(build_recipe, "open_checkpoint", lambda _: small)
    with refuses(CheckpointError, where="c.safetensors", found="0"):
        build_recipe.load_recipe(Path("c.safetensors"))
