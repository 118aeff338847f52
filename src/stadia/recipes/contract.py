"""Holds a training to its contract before the first step: its losses on exact scenes, and a copy of its task on its
first batch.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from rich.console import Console

from stadia.core.types import Batch
from stadia.diagnostics.contract.deadline import ending_at
from stadia.diagnostics.contract.engine import collected, of_losses, of_start
from stadia.diagnostics.contract.start import Start
from stadia.diagnostics.finding import Finding
from stadia.recipes.config import RecipeConfig
from stadia.recipes.recipe import AnyRecipe, TrainingData
from stadia.training import rng
from stadia.training.devices import device_of
from stadia.training.stream import Plan

SECONDS, RESERVE, OF_LOSSES = 20.0, 2.0, 0.5
"""At most, of which the last ones are for what is not interrupted: a law of a loss, or the loss and the optimizer of a
step; and the share of the rest that the laws of the losses have, so that the start is looked at on slow machines too.
"""


def contract(
    task: AnyRecipe, config: RecipeConfig, data: TrainingData, console: Console, *, seconds: float = SECONDS
) -> list[Finding]:
    """What is wrong with a training before it starts. Neither the task nor any random number is changed by it.

    task: about to be trained, with its first weights.
    """
    began = time.monotonic()
    until = began + seconds - RESERVE
    training = config.training
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    with rng.untouched():
        data.train.set_position(0, 0)
        batch = next(iter(data.train))
        start = Start.of(
            task, batch, device_of(training.accelerator), precision=training.precision, depth_range_m=task.depth_range_m
        )
        start.task.plan = Plan.of(data.train, training)
        found = collected(
            "laws of the losses", "", lambda: _of_its_losses(start, batch, began + OF_LOSSES * (until - began))
        )
        found += of_start(start, until - time.monotonic())
    notes = [one.measured.partition(":")[0] for one in found if one.code == "N01"]
    told = f"; not checked: {', '.join(dict.fromkeys(notes))}" if notes else ""
    console.print(
        f"contract: {time.monotonic() - began:.0f} s, {len(found) - len(notes)} findings{told}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return found


def _of_its_losses(start: Start, batch: Batch[Any, Any], until: float) -> list[Finding]:
    with ending_at(until):  # a recipe may ask its networks how they answer
        losses = start.task.exact_losses(batch)
    return of_losses(losses, until)
