"""A warm-up may start at any epoch: before and after it the schedule alone counts."""

from __future__ import annotations

import pytest

from stadia.training.config import ScheduleConfig
from stadia.training.optim import compute_lr_factor


def factors(config: ScheduleConfig, steps: int = 40) -> list[float]:
    return [compute_lr_factor(step, config, total_steps=steps, steps_per_epoch=10) for step in range(steps)]


def test_it_multiplies_the_schedule_that_it_interrupts() -> None:
    plain = factors(ScheduleConfig(name="step", milestones=(0.25,), gamma=0.5))
    found = factors(ScheduleConfig(name="step", milestones=(0.25,), gamma=0.5, warmup_steps=2, warmup_from_epoch=1))
    assert found == pytest.approx([*plain[:10], 0.25, 0.5, *plain[12:]])


def test_from_the_first_epoch_it_is_the_usual_one() -> None:
    usual = factors(ScheduleConfig(warmup_steps=5))
    assert factors(ScheduleConfig(warmup_steps=5, warmup_from_epoch=0)) == usual
    assert usual[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
