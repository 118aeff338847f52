"""Compare a training on two processes with two independent trainings beside each other, in the same two processes.

    python benchmarks/process_efficiency.py [--batch 2] [--height 96] [--width 320] [--rounds 6] [--steps 3]

A step is forward, loss, backward and optimizer of two ResNet-18 with one thread. The kinds follow each other in every
round, so that other programs slow all of them alike:

independent: each process trains for itself.
ddp:         gradients are averaged over the processes, as `training.strategy=ddp` does.
views:       the same with gradients that are views of what is exchanged, without copies.
global:      as ddp, and also batch normalization is by the statistics of both, as with `training.global_batch_size`.

Printed are the median seconds of a step, and the median of the rounds' efficiencies: the time of independent steps
over that of the kind. Processor time does not depend on other programs. The exchange of the gradients alone is timed
as well.
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

import torch
from step import SOURCES, made_up_batch
from torch import nn

from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.networks.config import DepthPoseNetConfig, UnetConfig
from stadia.networks.pose_net import DepthPoseNet
from stadia.training.loop.config import OptimizerConfig, TrainingConfig
from stadia.training.loop.processes import make_fabric, use_global_batch_norm
from stadia.training.loop.recipe import build_optimizer

PROCESSES = 2
KINDS = ("independent", "ddp", "views", "global")


class LossOfNetwork(nn.Module):
    """Networks and loss as one forward."""

    def __init__(self, model: DepthPoseNet) -> None:
        super().__init__()
        self.model, self.loss = model, SelfSupervisedLoss(SelfSupervisedLossConfig())

    def forward(self, batch: Any) -> Any:
        """Return the loss of a batch."""
        return self.loss(batch.targets, self.model(batch), SOURCES).total


class Trainer:
    """Networks of one kind with their optimizer."""

    def __init__(self, kind: str, fabric: Any) -> None:
        torch.manual_seed(0)
        network = DepthPoseNet(DepthPoseNetConfig(network=UnetConfig(), pose_net="resnet", pretrained=False))
        if kind == "global":
            use_global_batch_norm(network)
        module = LossOfNetwork(network)
        self.module: Any = module
        if kind == "views":
            self.module = nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)
        elif kind != "independent":
            self.module = fabric.setup_module(module)
        self.optimizer = build_optimizer(network, OptimizerConfig(name="adam", lr=1e-5))
        self.gradient_bytes = sum(4 * weight.numel() for weight in network.parameters())

    def train(self, batch: Any, steps: int) -> tuple[float, float]:
        """Train; return the seconds and the processor seconds of a step."""
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.module(batch).backward()
            self.optimizer.step()
        return (time.perf_counter() - started_s) / steps, (time.process_time() - started_cpu_s) / steps


def average(values: tuple[float, ...]) -> list[float]:
    """Return the means over the processes."""
    means = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(means)
    return (means / PROCESSES).tolist()


def measure(fabric: Any, given: argparse.Namespace) -> None:
    """Measure all kinds in this process; the first one prints."""
    batch = made_up_batch(given.batch, given.height, given.width)
    trainers = {kind: Trainer(kind, fabric) for kind in KINDS}
    for trainer in trainers.values():
        trainer.train(batch, 1)
    times: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    exchanges = list[float]()
    gradient = torch.zeros(trainers["ddp"].gradient_bytes // 4)
    for _ in range(given.rounds):
        for kind, trainer in trainers.items():
            fabric.barrier()
            times[kind].append(average(trainer.train(batch, given.steps)))
        fabric.barrier()
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        torch.distributed.all_reduce(gradient)
        exchanges.append(average((time.perf_counter() - started_s, time.process_time() - started_cpu_s)))
    if fabric.global_rank:
        return
    print(f"{given.width}x{given.height}, batch {given.batch} in each of {PROCESSES} processes, 1 thread, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    for kind in KINDS:
        step_s, cpu_s = (statistics.median(column) for column in zip(*times[kind], strict=True))
        shares = [
            [alone / own for alone, own in zip(first, rows, strict=True)]
            for first, rows in zip(times["independent"], times[kind], strict=True)
        ]
        wall, cpu = (statistics.median(column) for column in zip(*shares, strict=True))
        print(f"{kind:12} {step_s:6.3f} s a step, efficiency {wall:.1%}; processor {cpu_s:6.3f} s, {cpu:.1%}")
    exchange_s, cpu_s = (statistics.median(column) for column in zip(*exchanges, strict=True))
    size = trainers["ddp"].gradient_bytes / 1e6
    print(f"exchange of {size:.0f} MB of gradients alone: {exchange_s:.3f} s, processor {cpu_s:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3)
    given = parser.parse_args()
    config = TrainingConfig(devices=PROCESSES, strategy="ddp", accelerator="cpu", threads=1)
    fabric = make_fabric(config)
    fabric.launch()
    torch.set_num_threads(1)
    measure(fabric, given)


if __name__ == "__main__":
    main()
