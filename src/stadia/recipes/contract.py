"""Run the loss checks before the first step: each loss on loss cases, and a copy of the task on its first batch."""

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

SECONDS = 20.0
"""Time limit of all checks."""

RESERVE = 2.0
"""Seconds kept for what cannot be interrupted: one law of a loss, or the loss and the optimizer of a step."""

OF_LOSSES = 0.5
"""Share of the time for the laws of the losses, so that slow machines check the first step too."""


def contract(
    task: AnyRecipe, config: RecipeConfig, data: TrainingData, console: Console, *, seconds: float = SECONDS
) -> list[Finding]:
    """Return the findings of the loss checks. Changes neither the task nor the random number generators.

    task: about to be trained, with its initial weights.
    """
    started = time.monotonic()
    until = started + seconds - RESERVE
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
            "laws of the losses", "", lambda: _check_loss_laws(start, batch, started + OF_LOSSES * (until - started))
        )
        found += of_start(start, until - time.monotonic())
    notes = [one.measured.partition(":")[0] for one in found if one.code == "N01"]
    unchecked = f"; not checked: {', '.join(dict.fromkeys(notes))}" if notes else ""
    console.print(
        f"loss checks: {time.monotonic() - started:.0f} s, {len(found) - len(notes)} findings{unchecked}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return found


def _check_loss_laws(start: Start, batch: Batch[Any, Any], until: float) -> list[Finding]:
    with ending_at(until):  # a recipe may run its networks
        losses = start.task.exact_losses(batch)
    return of_losses(losses, until)
