"""A checkpoint's configuration cannot name a network that is far larger than the file's weights."""

from pathlib import Path

import pytest
from tests.refusals import refuses
from torch import nn

from stadia.core.errors import CheckpointError
from stadia.networks.weight_files import limit_parameters


def test_a_network_larger_than_its_checkpoint_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stadia.networks.weight_files.SLACK_NUMBERS", 2 << 20)
    layers: list[nn.Module] = []

    def build() -> None:
        with limit_parameters(Path("c.safetensors"), 10):
            layers.extend(nn.Linear(1000, 1000) for _ in range(9))

    with refuses(CheckpointError, where="c.safetensors", found="2"):
        build()
    assert len(layers) == 2
    nn.Linear(2000, 2000)  # the limit ends with the block
