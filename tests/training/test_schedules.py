"""Schedules against numbers worked out by hand, and against torch's own."""

from __future__ import annotations

import math

import pytest
import torch

from stadia.training import SCHEDULES
from stadia.training.config import ScheduleConfig
from stadia.training.optim import compute_lr_factor


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


def test_constant_is_one() -> None:
    assert set(factors(ScheduleConfig(name="constant"))) == {1.0}


def test_step_falls_at_fractions_of_the_run_wherever_the_warm_up_ends() -> None:
    values = factors(ScheduleConfig(name="step", milestones=(0.5, 0.75), gamma=0.1, warmup_steps=10))
    assert values[49:51] == [1.0, 0.1]
    assert values[74:76] == pytest.approx([0.1, 0.01])


def test_step_falls_after_epochs() -> None:
    """Monodepth2's schedule: a tenth after epoch 15 of 20 (10 steps each here)."""
    values = factors(ScheduleConfig(name="step", milestones=(15,), milestones_in="epochs"), total_steps=200)
    assert values[149:151] == [1.0, 0.1]


def test_cosine_equals_the_formula_and_torch() -> None:
    values = factors(ScheduleConfig(name="cosine"))
    assert values[25] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    for value in values:
        assert value == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        reference.step()


def test_cosine_ends_at_its_final_factor() -> None:
    config = ScheduleConfig(name="cosine", final_factor=0.2, warmup_steps=10)
    assert compute_lr_factor(100, config, total_steps=100, steps_per_epoch=10) == pytest.approx(0.2)
    assert compute_lr_factor(55, config, total_steps=100, steps_per_epoch=10) == pytest.approx(0.6)
