"""How weights and gradients are spread, by group of layers: a layer that is dead, a gradient that vanishes on its way
down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

import torch
from torch import Tensor, nn

from stadia.training.loggers import Logger
from stadia.training.loop import Callback, TrainingLoop
from stadia.training.optim import sample

MOST_GROUPS, MOST_WEIGHTS, PARTS = 24, 12, 3
WRAPPERS = ("backbone",)
"""Parts of a name that say nothing of where a layer stands."""


def groups_of(names: Iterable[str]) -> dict[str, str]:
    """The group of each weight by its name: the first PARTS parts of its path, fewer where that gives more than
    MOST_GROUPS.

    What all paths begin with is left out: `model.depth.encoder.backbone.layer1.0.conv1.weight` is of
        `depth.encoder.layer1`. A group of
    more than MOST_WEIGHTS is divided by the next part, the largest first, while there are no more than MOST_GROUPS: a
    transformer's layers are seen one by one.
    """
    paths = {name: [part for part in name.split(".")[:-1] if part not in WRAPPERS] for name in names}
    shared = (
        len(list(takewhile(lambda parts: len(set(parts)) == 1, zip(*paths.values(), strict=False))))
        if len(paths) > 1
        else 0
    )
    paths = {name: path[shared:] or path for name, path in paths.items()}
    length = next(n for n in range(PARTS, -1, -1) if len(_cut(paths, dict.fromkeys(paths, n))) <= MOST_GROUPS)
    lengths = dict.fromkeys(paths, length)
    divided = True
    while divided:
        divided = False
        groups = _cut(paths, lengths)
        for members in sorted((m for m in groups.values() if len(m) > MOST_WEIGHTS), key=len, reverse=True):
            deeper = lengths | {name: lengths[name] + 1 for name in members}
            if (
                not divided
                and max(len(paths[name]) for name in members) > lengths[members[0]]
                and len(_cut(paths, deeper)) <= MOST_GROUPS
            ):
                lengths, divided = deeper, True
    return {name: ".".join(path[: lengths[name]]) or "all" for name, path in paths.items()}


def _cut(paths: Mapping[str, Sequence[str]], lengths: Mapping[str, int]) -> dict[tuple[str, ...], list[str]]:
    """The names by the first parts of their paths, so many of each."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, path in paths.items():
        groups.setdefault(tuple(path[: lengths[name]]), []).append(name)
    return groups


def spread(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """`weights/GROUP` and `gradients/GROUP` with a sample of their values, (n,) float32 on the CPU, in the order of the
    network.

    Of weights with two axes or more, as the update ratio has it; frozen ones have no gradient, those that nothing
    reached one of 0.
    """
    weights = {name: weight for name, weight in network.named_parameters() if weight.ndim > 1}
    groups: dict[str, list[nn.Parameter]] = {}
    for name, group in groups_of(weights).items():
        groups.setdefault(group, []).append(weights[name])
    for group, parameters in groups.items():
        yield f"weights/{group}", _joined([sample(weight) for weight in parameters])
        trained = [weight for weight in parameters if weight.requires_grad]
        if trained:
            yield (
                f"gradients/{group}",
                _joined([sample(torch.zeros_like(w) if w.grad is None else w.grad) for w in trained]),
            )


def _joined(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.float() for each in values]).cpu()


class Histograms(Callback):
    """Log them every so many steps, at the first and the last: weights before the update, gradients before clipping."""

    def __init__(self, loggers: Sequence[Logger], every: int) -> None:
        self.loggers, self.every = loggers, every

    def on_before_update(self, loop: TrainingLoop) -> None:
        step = loop.step + 1
        if not self.every or not self.loggers or (step % self.every and step not in (1, loop.plan.total_steps)):
            return
        for name, values in spread(loop.recipe):
            numbers = values.numpy()
            for logger in self.loggers:
                logger.histogram(step, name, numbers)
