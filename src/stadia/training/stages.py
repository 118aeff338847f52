"""Progressive resizing: loaders of several image sizes, one after the other, as one loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

from stadia.core.errors import ConfigError
from stadia.core.types import Batch
from stadia.training.config import StageConfig, TrainingConfig
from stadia.training.stream import EpochLoader, Stretch, shard

POWER = {"root": 0.5, "linear": 1.0, "constant": 0.0}
"""Exponent of the batch size relative to the last stage, by `training.stage_lr`: root for adam (Malladi et al., arXiv
2205.10287), linear for gradient descent (Goyal et al., arXiv 1706.02677).
"""


@runtime_checkable
class Rests(Protocol):
    """A loader that can stop its processes."""

    def rest(self) -> None:
        """Stop the processes until the next iteration."""
        ...


class Staged:
    """The loaders of the stages of a training as one `EpochLoader`.

    Epochs are counted through. Each stage begins a new epoch, so no order and no augmentation repeats. Where the share
    of a stage ends within an epoch, the rest of that epoch is left out.

    Args:
        loaders: of each stage, at its size, in batches of its size.
        config: with `stages`, every batch_size resolved.
    """

    def __init__(self, loaders: Sequence[EpochLoader], config: TrainingConfig) -> None:
        self.loaders, self.config = tuple(loaders), config
        self.sizes = batch_sizes(config)
        self.now = len(self.loaders) - 1

    @property
    def samples(self) -> Any:
        """The samples of the last stage, which stand for the data of the training."""
        return self.loaders[-1].samples  # type: ignore[attr-defined]

    def stretches(self, config: TrainingConfig) -> tuple[Stretch, ...]:
        """Return the updates that each stage makes from its share of the samples, and its learning rate."""
        power, found = POWER[self.config.stage_lr], []
        for stage, loader, size in zip(self.config.stages, self.loaders, self.sizes, strict=True):
            steps = []
            if config.max_steps is not None:
                steps.append(round(stage.share * config.max_steps * self.sizes[-1] / size))
            if config.max_epochs is not None:
                steps.append(int(stage.share * config.max_epochs * len(loader) / config.accumulate + 1e-9))
            found.append(Stretch(max(min(steps), 1), len(loader), (size / self.sizes[-1]) ** power))
        return tuple(found)

    def __len__(self) -> int:
        """Return the batches of an epoch of the last stage; 0 where any stage has none."""
        return min(map(len, self.loaders)) and len(self.loaders[-1])

    def set_position(self, epoch: int, batch: int) -> None:
        """Let the next `iter` yield this epoch of the whole training, from this batch to its last."""
        first = 0
        for number, (stretch, loader) in enumerate(zip(self.stretches(self.config), self.loaders, strict=True)):
            epochs = -(-stretch.steps * self.config.accumulate // stretch.batches_per_epoch)
            if epoch < first + epochs or number == len(self.loaders) - 1:
                if number != self.now and isinstance(before := self.loaders[self.now], Rests):
                    before.rest()
                self.now = number
                loader.set_position(epoch, batch)
                return
            first += epochs

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the batches of one of `world_size` processes."""
        shard(self.loaders, rank, world_size)

    def __iter__(self) -> Iterator[Batch[Any, Any]]:
        return iter(self.loaders[self.now])


def batch_sizes(config: TrainingConfig) -> list[int]:
    """Return the batch size of each stage. Raises ConfigError where one is still "auto"."""
    sizes = [stage.batch_size for stage in config.stages]
    if "auto" in sizes:
        fix = "train by stadia.recipes.train, which probes the memory"
        raise ConfigError("training.stages", found="batch_size 'auto', unresolved", expected="a number", fix=fix)
    return [int(size) for size in sizes]


def told(stages: Sequence[StageConfig], stretches: Sequence[Stretch], lr: float) -> list[str]:
    """Return a line for each stage."""
    firsts = firsts_of(stretches)
    return [
        f"stage {number}: {stage.width}x{stage.height}, batches of {stage.batch_size}, steps {first} to"
        f" {first + part.steps - 1}, learning rate {part.lr_factor * lr:.3g} at the top of the schedule"
        for number, (stage, part, first) in enumerate(zip(stages, stretches, firsts, strict=True), start=1)
    ]


def facts(stages: Sequence[StageConfig], stretches: Sequence[Stretch]) -> list[dict[str, Any]]:
    """Return each stage for run.json, with its first step (from 1)."""
    return [
        {**stage.model_dump(mode="json"), "first_step": first, "steps": part.steps, "lr_factor": part.lr_factor}
        for stage, part, first in zip(stages, stretches, firsts_of(stretches), strict=True)
    ]


def firsts_of(stretches: Sequence[Stretch]) -> list[int]:
    """Return the first step of each part, from 1."""
    firsts = [1]
    for before, _ in pairwise(stretches):
        firsts.append(firsts[-1] + before.steps)
    return firsts


def at_constant_pixels(stage: StageConfig, last: StageConfig, batch_size: int) -> int:
    """Return the batch size of a stage whose batches have as many pixels as those of the last stage."""
    return max(batch_size * last.height * last.width // (stage.height * stage.width), 1)
