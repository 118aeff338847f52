"""Every trainable parameter exactly once; decay where it belongs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stadia.core.errors import RunError
from stadia.training import OPTIMIZERS
from stadia.training.config import OptimizerConfig
from stadia.training.optim import build_optimizer, make_parameter_groups


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(4), nn.Linear(4, 2))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_holds_each_parameter_once_and_moves_it(name: str) -> None:
    module = network()
    optimizer = build_optimizer(module, OptimizerConfig(name=name, lr=0.1))
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in module.parameters()}
    assert len(held) == len(list(module.parameters()))
    before = [p.detach().clone() for p in module.parameters()]
    sum((p * p).sum() + p.sum() for p in module.parameters()).backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


def test_biases_and_normalization_are_not_decayed() -> None:
    module = network()
    decayed, plain = make_parameter_groups(module, weight_decay=0.1)
    assert [id(p) for p in decayed["params"]] == [id(module[0].weight), id(module[3].weight)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert len(plain["params"]) == 6


def test_frozen_parameters_stay_out_and_tied_ones_count_once() -> None:
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    module["b"].weight = module["a"].weight
    module["a"].bias.requires_grad_(False)
    optimizer = build_optimizer(module, OptimizerConfig())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda m: [{"params": [m[0].weight]}], "'0.bias' left out"),
        (lambda m: [{"params": list(m.parameters())}, {"params": [m[0].bias]}], "'0.bias' 2 times"),
        (lambda m: [{"params": [*m.parameters(), nn.Parameter(torch.zeros(1))]}], "a parameter of another module"),
    ],
)
def test_a_recipe_s_own_groups_are_checked(groups, message: str) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RunError, match=message):
        build_optimizer(module, OptimizerConfig(), groups(module))


def test_module_without_trainable_weights_is_refused() -> None:
    with pytest.raises(RunError, match="no trainable parameter"):
        build_optimizer(nn.Sequential(nn.ReLU()), OptimizerConfig())
