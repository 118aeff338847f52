"""`stadia adapt`: what is trained, what is kept, and what it prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stadia.apps.adapt import RECORD, AdaptationFigures, compare_figures, configure_adaptation
from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.files.json_files import read_json
from stadia.models.depth.config import DepthModelConfig, DepthNetworkConfig
from stadia.models.depth.depth_network import AffineDepthNetwork, build_depth_network
from stadia.recipes.base.build_recipe import load_recipe

Stadia = Callable[..., tuple[int, str, str]]
NETWORK = f"{Path(__file__).stem}:Tiny"


class Tiny(AffineDepthNetwork):
    """A backbone with batch normalization and a head, whose weights count as published."""

    Config = DepthNetworkConfig
    output = DepthScale.UP_TO_SCALE
    predicts_depth_at_start = True  # type: ignore[assignment]

    def __init__(self, config: DepthNetworkConfig, *, pretrained: bool = True) -> None:
        super().__init__(config)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 1, 3, padding=1)
        self.register_scale(1.0, 0.0)

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return 32, 96

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list(self.backbone.parameters())

    def raw(self, image: Tensor) -> Tensor:
        rows = torch.ones_like(image[:, :1]).cumsum(dim=2) / image.shape[-2]
        return (0.1 + rows) * self.head(self.backbone(self.normalize(image))).exp()


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    sys.modules.pop(Path(__file__).stem, None)


def build(**settings: Any) -> Any:
    return build_depth_network(DepthModelConfig.model_validate({"network": {"name": NETWORK}, **settings}))


@pytest.mark.parametrize("trained", ["decoder", "head"])
def test_the_decoder_alone_has_gradients(trained: str, own_module: None) -> None:
    network = build(trained=trained)
    network(torch.rand(1, 3, 32, 96)).inverse_depth[0].sum().backward()
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert all(parameter.grad is not None for parameter in network.head.parameters())


def test_a_network_without_a_backbone_has_no_head(own_module: None, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build()
    monkeypatch.setattr(type(network), "backbone_parameters", lambda self: [])
    with pytest.raises(ConfigError, match=r"model\.trained=decoder"):
        network.choose_trained(DepthModelConfig(trained="decoder"))


@pytest.mark.parametrize("keeps", [True, False])
def test_statistics_of_batch_normalization_stay(keeps: bool, own_module: None) -> None:
    network = build(keep_statistics=keeps)
    before = network.backbone[1].running_mean.clone()
    network.train()(torch.rand(2, 3, 32, 96))
    assert torch.equal(before, network.backbone[1].running_mean) is keeps


def test_ground_truth_decides_before_matches() -> None:
    before, after = AdaptationFigures(0.5, 0.3, 0.2), AdaptationFigures(0.4, 0.2, 0.25)
    kept, lines = compare_figures(before, after)
    assert kept == "before"
    assert lines[0] == "AbsRel to ground truth: 0.2 before, 0.25 after (+25%)"
    assert compare_figures(AdaptationFigures(), AdaptationFigures())[0] == "before"


def test_the_configuration_is_of_the_network(own_module: None) -> None:
    config: Any = configure_adaptation(NETWORK, Path("drive.mp4"), "decoder", ["optimizer.lr=1e-3"], size=(32, 96))
    assert (config.model.network.name, config.model.trained, config.optimizer.lr) == (NETWORK, "decoder", 1e-3)
    assert (config.data.height, config.data.width) == (32, 96)


@pytest.mark.slow
def test_it_adapts_and_keeps_the_better(worlds: Path, tmp_path: Path, own_module: None, stadia: Stadia) -> None:
    cache = f"data.cache.folder={tmp_path / 'cache'}"
    arguments = ("--minutes", "0.7", "--scope", "all", "--out", tmp_path, cache, "training.workers=0")
    code, text, err = stadia("adapt", NETWORK, worlds, *arguments, "training.threads=1", 'training.loggers=["csv"]')
    assert code == 0, err
    assert "kept: " in text
    (run,) = tmp_path.glob("*-adapt")
    record = read_json(run / RECORD)
    assert record["kept"] in ("before", "after")
    assert record["after"]["abs_rel"] is not None
    recipe: Any = load_recipe(run)
    assert isinstance(recipe.model.depth, nn.Module)


def test_a_scope_that_is_none(stadia: Stadia, tmp_path: Path) -> None:
    code, _, err = stadia("adapt", "dpt-large", tmp_path, "--scope", "tail")
    assert code != 0
    assert "--scope: found 'tail'; expected one of all, decoder, head, adapters" in err
