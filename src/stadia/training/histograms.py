"""How weights and gradients are spread, by group of layers: a layer that is dead, a gradient that vanishes on its way down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stadia.training.callbacks import StepCallback
from stadia.training.loggers import Logger
from stadia.training.stream import Plan
from stadia.training.task import Task
from stadia.training.update_ratio import sample

MOST_GROUPS = 24
WRAPPERS = ("backbone",)
"""Parts of a name that say nothing of where a layer stands."""


def groups_of(names: Iterable[str]) -> dict[str, str]:
    """The group of each weight by its name: as much of its path as gives at most MOST_GROUPS of them.

    What all paths begin with is left out: `model.depth.encoder.backbone.layer1.0.conv1.weight` is of `depth.encoder.layer1`.
    """
    paths = {name: [part for part in name.split(".")[:-1] if part not in WRAPPERS] for name in names}
    shared = len(list(takewhile(lambda parts: len(set(parts)) == 1, zip(*paths.values(), strict=False)))) if len(paths) > 1 else 0
    found = {name: ".".join(path[shared:] or path) for name, path in paths.items()}
    deepest = max((name.count(".") + 1 for name in found.values()), default=1)
    cuts = ({name: ".".join(path.split(".")[:depth]) for name, path in found.items()} for depth in range(deepest, 0, -1))
    chosen: dict[str, str] = {}
    for chosen in cuts:
        if len(set(chosen.values())) <= MOST_GROUPS:
            break
    return chosen


def spread(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """`weights/GROUP` and `gradients/GROUP` with a sample of their values, (n,) float32 on the CPU, in the order of the network.

    Of weights with two axes or more, as the update ratio has it; frozen ones have no gradient, those that nothing reached one of 0.
    """
    weights = {name: weight for name, weight in network.named_parameters() if weight.ndim > 1}
    groups: dict[str, list[nn.Parameter]] = {}
    for name, group in groups_of(weights).items():
        groups.setdefault(group, []).append(weights[name])
    for group, parameters in groups.items():
        yield f"weights/{group}", _joined([sample(weight) for weight in parameters])
        trained = [weight for weight in parameters if weight.requires_grad]
        if trained:
            yield f"gradients/{group}", _joined([sample(torch.zeros_like(w) if w.grad is None else w.grad) for w in trained])


def _joined(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.float() for each in values]).cpu()


class Histograms(StepCallback):
    """Logs them every so many steps, at the first and at the last: weights before the update, gradients before they are clipped."""

    def __init__(self, loggers: Sequence[Logger], every: int, plan: Plan) -> None:
        self.loggers, self.every, self.last = loggers, every, plan.total_steps

    def on_before_optimizer_step(self, trainer: pl.Trainer, task: Task[Any, Any], optimizer: Optimizer) -> None:
        step = trainer.global_step + 1
        if not self.every or not self.loggers or (step % self.every and step not in (1, self.last)):
            return
        for name, values in spread(task):
            numbers = values.numpy()
            for logger in self.loggers:
                logger.histogram(step, name, numbers)
