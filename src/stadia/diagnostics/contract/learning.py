"""Take a few steps on one batch: does the loss fall, does memory grow, do bf16 and fp32 agree?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import psutil
import torch

from stadia.core.types import Batch
from stadia.diagnostics.catalog import finding
from stadia.diagnostics.contract.deadline import TimeOver
from stadia.diagnostics.contract.start import Start
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import NotChecked
from stadia.training import optim
from stadia.training.recipe import AnyRecipe

STEPS, MIN_STEPS = 30, 10
MIN_DECREASE, TRAINED = 0.01, 0.5
"""Share by which the loss must fall in STEPS steps on one batch. Share of the loss with shuffled weights below which
weights are already trained.
"""

SETTLED, GROWTH_BYTES, STEADY = 2, 100 << 20, 0.5
"""Steps until memory has settled, bytes by which it grows after that, and the share of a third of this growth that
each third of the steps must have. A leak is the same in each step; other allocations come at once. A share of all
memory would
not work: a process may hold its data in memory.
"""

PARITY = 0.05
"""Relative difference of the loss between float32 and bfloat16."""


def check_one_batch(start: Start) -> Iterator[Finding]:
    """T26, T29: on one batch the loss falls, and memory does not grow from step to step.

    With a time limit (see `deadline`) the steps taken so far count; fewer than MIN_STEPS are not checked. T26 is
    skipped for weights that are already trained on such images.
    """
    task, batch = start.task, start.batch
    shuffled = 0.0
    optimizer = optim.build(task, task.config.optimizer, task.parameter_groups())
    losses: list[float] = []
    held: list[int] = []
    with contextlib.suppress(TimeOver):
        shuffled = _loss_of_shuffled_weights(task, batch)
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            report = task.training_step(batch)
            report.total.backward()
            optimizer.step()
            losses.append(float(report.total.detach()))
            del report
            held.append(_memory_bytes(batch.inputs.image.device))
        with torch.no_grad():
            losses.append(float(task.training_step(batch).total))
    if len(held) < MIN_STEPS:
        raise NotChecked(f"{len(held)} steps until the time limit of the checks, and {MIN_STEPS} are needed")
    fell = losses[0] - sum(sorted(losses[-3:])[:2]) / 2
    if not fell > MIN_DECREASE * abs(losses[0]) and not losses[0] < TRAINED * shuffled:
        yield finding(
            "T26",
            Severity.WARN,
            measured=(
                f"the loss of one batch goes from {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses) - 1} steps on it"
            ),
            expected=f"below by {MIN_DECREASE:.0%} at least",
            evidence={"losses": {"step": list(range(len(losses))), "loss": losses}},
        )
    if grows_steadily(held):
        yield finding(
            "T29",
            Severity.WARN,
            measured=(
                f"{held[SETTLED] >> 20} MB are allocated after step {SETTLED + 1}, {held[-1] >> 20} MB after step"
                f" {len(held)}"
            ),
            expected="the same after every step",
            evidence={"held": {"step": list(range(1, len(held) + 1)), "bytes": held}},
        )


def grows_steadily(held: Sequence[int]) -> bool:
    """Return whether memory grows in every third of the steps, by GROWTH_BYTES in all."""
    first, last = SETTLED, len(held) - 1
    ends = [held[first + (last - first) * third // 3] for third in range(4)]
    grown = ends[-1] - ends[0]
    return grown > GROWTH_BYTES and min(b - a for a, b in pairwise(ends)) > STEADY * grown / 3


def _loss_of_shuffled_weights(task: AnyRecipe, batch: Batch[Any, Any]) -> float:
    """Return the loss with shuffled weights: as large, but untrained."""
    as_given, generator = (
        {name: value.clone() for name, value in task.state_dict().items()},
        torch.Generator().manual_seed(0),
    )
    try:
        with torch.no_grad():
            for weights in task.parameters():
                order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
                weights.copy_(weights.flatten()[order].view_as(weights))
            return float(task.training_step(batch).total)
    finally:
        task.load_state_dict(as_given)


def check_precision(start: Start) -> Iterator[Finding]:
    """T27: the loss in bfloat16 equals that in float32, where the training uses bfloat16."""
    if start.precision != "bf16":
        return
    with torch.no_grad():
        exact = float(start.task.training_step(start.batch).total)
        with torch.autocast(start.batch.inputs.image.device.type, dtype=torch.bfloat16):
            half = float(start.task.training_step(start.batch).total)
    if not abs(half - exact) <= PARITY * abs(exact):
        measured = f"the loss is {half:.4g} in bfloat16, {exact:.4g} in float32"
        yield finding("T27", Severity.WARN, measured=measured, expected=f"the same within {PARITY:.0%}")


def _memory_bytes(device: torch.device) -> int:
    """Return the memory of torch on a GPU, else that of the process."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
