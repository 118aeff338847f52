"""Optimizers hold every trainable parameter once, schedules equal formulas and torch, and updates are measured."""

import math

import pytest
import torch
from tests.refusals import refuses
from torch import nn

from stadia.core.errors import RunError
from stadia.training.loop import OPTIMIZERS, SCHEDULES
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig
from stadia.training.loop.recipe import UpdateRatio, build_optimizer, compute_lr_factor, group_parameters


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
    decayed, plain = group_parameters(module.parameters(), weight_decay=0.1)
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
    ("groups", "names"),
    [
        (lambda m: [{"params": [m[0].weight]}], ("0.bias",)),
        (lambda m: [{"params": list(m.parameters())}, {"params": [m[0].bias]}], ("0.bias", "2")),
        (lambda m: [{"params": [*m.parameters(), nn.Parameter(torch.zeros(1))]}], ("optimizer",)),
    ],
)
def test_parameter_groups_of_a_recipe_are_checked(groups, names: tuple[str, ...]) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    with refuses(RunError, names=names):
        build_optimizer(module, OptimizerConfig(), groups(module))


# -- learning rate -----------------------------------------------------------------------------------------------------


def factors(config: ScheduleConfig, total_steps: int = 100, steps_per_epoch: float = 10) -> list[float]:
    return [
        compute_lr_factor(step, config, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        for step in range(total_steps)
    ]


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_every_schedule_rises_over_the_warm_up_to_one_and_never_above(name: str) -> None:
    values = factors(ScheduleConfig(name=name, warmup_steps=4))
    assert values[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert max(values) == 1.0
    assert min(values) > 0


def test_cosine_equals_the_formula_and_torch() -> None:
    values = factors(ScheduleConfig(name="cosine"))
    assert values[25] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    for value in values:
        assert value == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        reference.step()


# -- size of an update -------------------------------------------------------------------------------------------------


def with_gradients(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0))) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    return parameters


def test_update_ratio_is_update_over_weight_norm() -> None:
    moved, still = with_gradients((3, 50, 70), (40, 20))
    bias = nn.Parameter(torch.zeros(5))
    bias.grad = torch.ones(5)
    ratio = UpdateRatio()
    ratio.measure_before([moved, bias])
    with torch.no_grad():
        moved *= 1.01
        bias += 1
    assert ratio.measure_after() == pytest.approx(0.01, rel=1e-3)
    ratio.measure_before([moved, still])
    with torch.no_grad():
        moved *= 1.01
    found = ratio.measure_after()
    assert found is not None
    assert 0.005 < found < 0.01
    assert ratio.measure_after() is None
