"""A few steps on one batch: does it learn, does it leak, and does half the precision say the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil
import torch

from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.contract.deadline import TimeOver
from stadia.diagnostics.contract.start import Start
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import NotChecked
from stadia.training import optimisers

STEPS, FEWEST = 30, 10
LEARNS = 0.01
"""Of the loss at the start: by as much it falls at least in STEPS steps on one batch."""

GROWTH, GROWTH_BYTES = 0.2, 100 << 20
"""Of memory from the third step to the last, in a share and in bytes: more is kept from step to step."""

PARITY = 0.05
"""Of the loss, between float32 and bfloat16."""


def learns_one_batch(start: Start) -> Iterator[Finding]:
    """T26, T29: on one batch the loss falls, and memory does not grow from step to step.

    Where the time ends before STEPS steps (see `deadline`) those that were taken count; with fewer than FEWEST nothing is said.
    """
    task, batch = start.task, start.batch
    optimiser = optimisers.build(task, task.optimiser_config, task.parameter_groups())
    losses: list[float] = []
    held: list[int] = []
    with contextlib.suppress(TimeOver):
        for _ in range(STEPS):
            optimiser.zero_grad(set_to_none=True)
            report = task.step(batch)
            report.total.backward()
            optimiser.step()
            losses.append(float(report.total.detach()))
            del report
            held.append(_held_bytes(batch.inputs.image.device))
        with torch.no_grad():
            losses.append(float(task.step(batch).total))
    if len(held) < FEWEST:
        raise NotChecked(f"{len(held)} steps until the time for the contract was over, and {FEWEST} are needed")
    fell = losses[0] - sum(sorted(losses[-3:])[:2]) / 2
    if not fell > LEARNS * abs(losses[0]):
        yield finding(
            "T26",
            Severity.WARN,
            measured=f"the loss of one batch goes from {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses) - 1} steps on it",
            expected=f"below by {LEARNS:.0%} at least",
            evidence={"losses": {"step": list(range(len(losses))), "loss": losses}},
        )
    if held[-1] > (1 + GROWTH) * held[2] and held[-1] - held[2] > GROWTH_BYTES:
        yield finding(
            "T29",
            Severity.WARN,
            measured=f"{held[2] >> 20} MB are held after the third step, {held[-1] >> 20} MB after step {len(held)}",
            expected="the same after every step",
            evidence={"held": {"step": list(range(1, len(held) + 1)), "bytes": held}},
        )


def precisions_agree(start: Start) -> Iterator[Finding]:
    """T27: the loss in bfloat16 is that in float32; asked where the training runs in it."""
    if start.precision != "bf16":
        return
    with torch.no_grad():
        exact = float(start.task.step(start.batch).total)
        with torch.autocast(start.batch.inputs.image.device.type, dtype=torch.bfloat16):
            half = float(start.task.step(start.batch).total)
    if not abs(half - exact) <= PARITY * abs(exact):
        measured = f"the loss is {half:.4g} in bfloat16, {exact:.4g} in float32"
        yield finding("T27", Severity.WARN, measured=measured, expected=f"the same within {PARITY:.0%}")


def _held_bytes(device: torch.device) -> int:
    """What torch holds on a GPU; elsewhere what the process does."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
