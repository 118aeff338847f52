"""Log the distribution of weights and gradients by group of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

import torch
from torch import Tensor, nn

from stadia.training.loggers import Logger
from stadia.training.loop import Callback, TrainingLoop
from stadia.training.optim import sample_values

MAX_GROUPS, MAX_WEIGHTS, PARTS = 24, 12, 3
WRAPPERS = ("backbone",)
"""Parts of a name without information on the position of a layer."""


def group_layers(names: Iterable[str]) -> dict[str, str]:
    """Return the group of each weight by name: the first PARTS parts of its path, or fewer, for MAX_GROUPS at most.

    The common start of all paths is left out: `model.depth.encoder.backbone.layer1.0.conv1.weight` belongs to
    `depth.encoder.layer1`. A group of more than MAX_WEIGHTS is divided by the next part, the largest first, up to
    MAX_GROUPS: so each layer of a transformer has its own group.
    """
    paths = {name: [part for part in name.split(".")[:-1] if part not in WRAPPERS] for name in names}
    shared = (
        len(list(takewhile(lambda parts: len(set(parts)) == 1, zip(*paths.values(), strict=False))))
        if len(paths) > 1
        else 0
    )
    paths = {name: path[shared:] or path for name, path in paths.items()}
    length = next(
        n for n in range(PARTS, -1, -1) if len(_group_by_prefix(paths, dict.fromkeys(paths, n))) <= MAX_GROUPS
    )
    lengths = dict.fromkeys(paths, length)
    divided = True
    while divided:
        divided = False
        groups = _group_by_prefix(paths, lengths)
        for members in sorted((m for m in groups.values() if len(m) > MAX_WEIGHTS), key=len, reverse=True):
            deeper = lengths | {name: lengths[name] + 1 for name in members}
            if (
                not divided
                and max(len(paths[name]) for name in members) > lengths[members[0]]
                and len(_group_by_prefix(paths, deeper)) <= MAX_GROUPS
            ):
                lengths, divided = deeper, True
    return {name: ".".join(path[: lengths[name]]) or "all" for name, path in paths.items()}


def _group_by_prefix(
    paths: Mapping[str, Sequence[str]], lengths: Mapping[str, int]
) -> dict[tuple[str, ...], list[str]]:
    """Group the names by the first parts of their paths."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, path in paths.items():
        groups.setdefault(tuple(path[: lengths[name]]), []).append(name)
    return groups


def sample_distributions(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield `weights/GROUP` and `gradients/GROUP` with a sample of the values, (n,) float32 on the CPU.

    Of weights with two axes or more, as in the update ratio. Frozen weights have no gradient; a gradient that is None
    counts as 0.
    """
    weights = {name: weight for name, weight in network.named_parameters() if weight.ndim > 1}
    groups: dict[str, list[nn.Parameter]] = {}
    for name, group in group_layers(weights).items():
        groups.setdefault(group, []).append(weights[name])
    for group, parameters in groups.items():
        yield f"weights/{group}", _concatenate([sample_values(weight) for weight in parameters])
        trained = [weight for weight in parameters if weight.requires_grad]
        if trained:
            yield (
                f"gradients/{group}",
                _concatenate([sample_values(torch.zeros_like(w) if w.grad is None else w.grad) for w in trained]),
            )


def _concatenate(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.float() for each in values]).cpu()


class Histograms(Callback):
    """Log histograms every so many steps, at the first and the last: before the update, and before clipping."""

    def __init__(self, loggers: Sequence[Logger], every: int) -> None:
        self.loggers, self.every = loggers, every

    def on_before_update(self, loop: TrainingLoop) -> None:
        step = loop.step + 1
        if not self.every or not self.loggers or (step % self.every and step not in (1, loop.plan.total_steps)):
            return
        for name, values in sample_distributions(loop.recipe):
            numbers = values.numpy()
            for logger in self.loggers:
                logger.histogram(step, name, numbers)
