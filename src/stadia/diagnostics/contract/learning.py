"""A few steps on one batch: does it learn, does it leak, and does half the precision say the same."""

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

STEPS, FEWEST = 30, 10
LEARNS, TRAINED = 0.01, 0.5
"""Of the loss at the start: by as much it falls at least in STEPS steps on one batch. Of the loss of weights that have
learnt nothing: as low is that of weights that have.
"""

SETTLED, GROWTH_BYTES, STEADY = 2, 100 << 20, 0.5
"""Steps after which memory has settled; bytes by which it then grows; and of a third of that, what it grows by at least
in each third of
the steps: what is kept from step to step is as much each time, what a process takes for itself comes at once. How much
it holds beside
says nothing: of one that has its data in memory a leak is a small share.
"""

PARITY = 0.05
"""Of the loss, between float32 and bfloat16."""


def learns_one_batch(start: Start) -> Iterator[Finding]:
    """T26, T29: on one batch the loss falls, and memory does not grow from step to step.

    Where the time ends before STEPS steps (see `deadline`) those that were taken count; with fewer than FEWEST nothing
    is said. Nor is
    T26 of weights that have learnt such images already: they are where another hundred steps would leave them.
    """
    task, batch = start.task, start.batch
    redrawn = 0.0
    optimizer = optim.build(task, task.config.optimizer, task.parameter_groups())
    losses: list[float] = []
    held: list[int] = []
    with contextlib.suppress(TimeOver):
        redrawn = _of_redrawn_weights(task, batch)
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            report = task.training_step(batch)
            report.total.backward()
            optimizer.step()
            losses.append(float(report.total.detach()))
            del report
            held.append(_held_bytes(batch.inputs.image.device))
        with torch.no_grad():
            losses.append(float(task.training_step(batch).total))
    if len(held) < FEWEST:
        raise NotChecked(f"{len(held)} steps until the time for the contract was over, and {FEWEST} are needed")
    fell = losses[0] - sum(sorted(losses[-3:])[:2]) / 2
    if not fell > LEARNS * abs(losses[0]) and not losses[0] < TRAINED * redrawn:
        yield finding(
            "T26",
            Severity.WARN,
            measured=(
                f"the loss of one batch goes from {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses) - 1} steps on it"
            ),
            expected=f"below by {LEARNS:.0%} at least",
            evidence={"losses": {"step": list(range(len(losses))), "loss": losses}},
        )
    if grows_steadily(held):
        yield finding(
            "T29",
            Severity.WARN,
            measured=(
                f"{held[SETTLED] >> 20} MB are held after step {SETTLED + 1}, {held[-1] >> 20} MB after step"
                f" {len(held)}"
            ),
            expected="the same after every step",
            evidence={"held": {"step": list(range(1, len(held) + 1)), "bytes": held}},
        )


def grows_steadily(held: Sequence[int]) -> bool:
    """Whether the bytes that are held after each step grow in every third of the steps, by GROWTH_BYTES in all."""
    first, last = SETTLED, len(held) - 1
    ends = [held[first + (last - first) * third // 3] for third in range(4)]
    grown = ends[-1] - ends[0]
    return grown > GROWTH_BYTES and min(b - a for a, b in pairwise(ends)) > STEADY * grown / 3


def _of_redrawn_weights(task: AnyRecipe, batch: Batch[Any, Any]) -> float:
    """The loss of networks whose every weight stands at another's place: of as large weights, that have learnt nothing."""
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


def precisions_agree(start: Start) -> Iterator[Finding]:
    """T27: the loss in bfloat16 is that in float32; asked where the training runs in it."""
    if start.precision != "bf16":
        return
    with torch.no_grad():
        exact = float(start.task.training_step(start.batch).total)
        with torch.autocast(start.batch.inputs.image.device.type, dtype=torch.bfloat16):
            half = float(start.task.training_step(start.batch).total)
    if not abs(half - exact) <= PARITY * abs(exact):
        measured = f"the loss is {half:.4g} in bfloat16, {exact:.4g} in float32"
        yield finding("T27", Severity.WARN, measured=measured, expected=f"the same within {PARITY:.0%}")


def _held_bytes(device: torch.device) -> int:
    """What torch holds on a GPU; elsewhere what the process does."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
