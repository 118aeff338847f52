"""Learning-rate schedules: pure functions from the step to a factor on the learning rate."""

from __future__ import annotations

import math
from typing import Protocol

from stadia.training import SCHEDULES
from stadia.training.config import ScheduleConfig


class Schedule(Protocol):
    """A factor on the learning rate of an update, counted from the end of the warm-up.

    Args:
        update: its number, from 0.
        config: the schedule's numbers.
        total_steps: of the run, without its warm-up.
        milestone_steps: `config.milestones` in steps of the same count.
    """

    def __call__(
        self, update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]
    ) -> float: ...


def constant(update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]) -> float:
    """1 from the first step to the last."""
    return 1.0


def step(update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]) -> float:
    """`gamma` to the power of the milestones passed; the update after a milestone is the first with the new rate."""
    return config.gamma ** sum(update >= milestone for milestone in milestone_steps)


def cosine(update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]) -> float:
    """Half a cosine from 1 to final_factor (Loshchilov and Hutter, SGDR, arXiv 1608.03983, eq. 5, one period)."""
    progress = min(update / max(total_steps, 1), 1.0)
    return config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))


def factor(step: int, config: ScheduleConfig, *, total_steps: int, steps_per_epoch: float) -> float:
    """What to multiply `optimizer.lr` with for update number `step` (from 0): the warm-up, then the schedule.

    The warm-up gives 1/n, 2/n, ... 1 for its n steps, so that no update has a rate of zero. Milestones count from the
    run's start.
    """
    warmup = config.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    unit = total_steps if config.milestones_in == "fractions" else steps_per_epoch
    milestones = tuple(milestone * unit - warmup for milestone in config.milestones)
    schedule: Schedule = SCHEDULES.load(config.name)
    return schedule(step - warmup, config=config, total_steps=total_steps - warmup, milestone_steps=milestones)
