"""Measure the cost of the phase clock: its marks of one step, against the shortest useful step.

    python benchmarks/phases.py [--threads 1] [--repeats 300]

The marks of one step are called without a training, so that their cost alone is measured: the difference of two
trainings would be less than the noise of either. The step is one of `dpt-tiny` on two images of
64x64. Prints microseconds per step, milliseconds of the step, the share (at most 1 %), and the
single cost of counting the operations of one step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import stadia.core.torchvision_shim  # noqa: F401
from stadia.models.config import DptConfig
from stadia.models.dpt_net import DptNet
from stadia.training.batches import TrainingPlan
from stadia.training.flops import FlopCounter
from stadia.training.phase_clock import PhaseClock
from stadia.training.run_folder import Run

MOST = 0.01


class TwoNetworks(nn.Module):
    """With two networks, as most recipes have."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.pose = nn.Identity(), nn.Identity()
        for network in (self.depth, self.pose):
            network.weight = nn.Parameter(torch.zeros(1))


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def marks(device: torch.device) -> Callable[[], None]:
    """Return all calls to the clock in one step."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder), "phases", {}, recipe="phases", seed=0)
    clock, recipe = PhaseClock(run, TrainingPlan(1000, 1, 1_000_000)), TwoNetworks().to(device)
    clock.start(device, recipe)
    value = torch.zeros((), device=device)

    def step() -> None:
        clock.mark("other")
        clock.mark("loading")
        clock.begin_batch(0)
        recipe.depth(value)
        recipe.pose(value)
        clock.mark("loss")
        clock.end_backward()
        for phase in ("optimizer", "metrics", "optimizer", "metrics", "images", "metrics"):
            clock.mark(phase)
        clock.end_step()
        clock.mark("checkpoints")

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    step = marks(device)
    step()  # the first one counts operations
    cost_s = seconds_of(step, arguments.repeats)

    network = DptNet(DptConfig(network="dpt-tiny", pretrained=False)).to(device)
    images, optimizer = torch.rand(2, 3, 64, 64, device=device), torch.optim.AdamW(network.parameters())

    def train() -> None:
        optimizer.zero_grad()
        network(images).mean().backward()
        optimizer.step()
        torch.cuda.synchronize() if device.type == "cuda" else None

    for _ in range(3):
        train()
    step_s = seconds_of(train, 20)

    def counted() -> None:
        with FlopCounter():
            train()

    counted_s = seconds_of(counted, 5)
    print(f"{cost_s * 1e6:.1f} us of marks a step, {step_s * 1e3:.1f} ms a step: {cost_s / step_s:.2%}")
    print(f"counting operations: {counted_s / step_s:.2f} times a step, once a training or stage")
    assert cost_s <= MOST * step_s, f"the marks cost {cost_s / step_s:.1%} of a step"


if __name__ == "__main__":
    main()
