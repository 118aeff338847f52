"""A training whose images grow: loaders of several sizes, one after the other, as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

from stadia.core.errors import ConfigError
from stadia.core.types import Batch
from stadia.training.config import StageConfig, TrainingConfig
from stadia.training.stream import EpochLoader, Stretch, shard

POWER = {"root": 0.5, "linear": 1.0, "constant": 0.0}
"""Of the batch over the last stage's, by `training.stage_lr`: root for adam (Malladi et al., arXiv 2205.10287), linear
for gradient descent (Goyal et al., arXiv 1706.02677).
"""


@runtime_checkable
class Rests(Protocol):
    """A loader that can let its processes go."""

    def rest(self) -> None:
        """Nothing is asked of it for a while."""
        ...


class Staged:
    """The loaders of a training's stages as one `EpochLoader`; weights, optimizer and step go on from one to the next.

    Epochs are counted through. Each stage begins one of its own, so that no order and no augmentation comes twice;
    where its share ends in the middle of an epoch the rest of that is left out.

    Args:
        loaders: of each stage, at its size, in batches of its size.
        config: with `stages`, of which no batch_size is "auto" any more.
    """

    def __init__(self, loaders: Sequence[EpochLoader], config: TrainingConfig) -> None:
        self.loaders, self.config = tuple(loaders), config
        self.sizes = batch_sizes(config)
        self.now = len(self.loaders) - 1

    @property
    def samples(self) -> Any:
        """Of the last stage: what stands for the training's data."""
        return self.loaders[-1].samples  # type: ignore[attr-defined]

    def stretches(self, config: TrainingConfig) -> tuple[Stretch, ...]:
        """How many updates each stage makes of its share of the samples, and at which learning rate."""
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
        """Batches of an epoch of the last stage; of any, where the others have none."""
        return min(map(len, self.loaders)) and len(self.loaders[-1])

    def set_position(self, epoch: int, batch: int) -> None:
        """The next iteration goes through this epoch of the whole training, from this batch to its last."""
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
        """Keep the part of one process among those that train together."""
        shard(self.loaders, rank, world_size)

    def __iter__(self) -> Iterator[Batch[Any, Any]]:
        return iter(self.loaders[self.now])


def batch_sizes(config: TrainingConfig) -> list[int]:
    """Of each stage. Raises ConfigError where one is "auto" still."""
    sizes = [stage.batch_size for stage in config.stages]
    if "auto" in sizes:
        fix = "train by stadia.recipes.train, which probes the memory"
        raise ConfigError("training.stages", found="batch_size 'auto', unsettled", expected="a number", fix=fix)
    return [int(size) for size in sizes]


def told(stages: Sequence[StageConfig], stretches: Sequence[Stretch], lr: float) -> list[str]:
    """A line a stage, for whoever trains."""
    firsts = firsts_of(stretches)
    return [
        f"stage {number}: {stage.width}x{stage.height}, batches of {stage.batch_size}, steps {first} to"
        f" {first + part.steps - 1}, learning rate {part.lr_factor * lr:.3g} at the top of the schedule"
        for number, (stage, part, first) in enumerate(zip(stages, stretches, firsts, strict=True), start=1)
    ]


def facts(stages: Sequence[StageConfig], stretches: Sequence[Stretch]) -> list[dict[str, Any]]:
    """For run.json: what each stage is, and the step (from 1) that it begins with."""
    return [
        {**stage.model_dump(mode="json"), "first_step": first, "steps": part.steps, "lr_factor": part.lr_factor}
        for stage, part, first in zip(stages, stretches, firsts_of(stretches), strict=True)
    ]


def firsts_of(stretches: Sequence[Stretch]) -> list[int]:
    """The first step of each, from 1."""
    firsts = [1]
    for before, _ in pairwise(stretches):
        firsts.append(firsts[-1] + before.steps)
    return firsts


def at_constant_pixels(stage: StageConfig, last: StageConfig, batch_size: int) -> int:
    """So many samples that a batch has as many pixels as one of the last stage."""
    return max(batch_size * last.height * last.width // (stage.height * stage.width), 1)
