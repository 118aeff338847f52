"""The batches of a whole training: its length in steps, its position, its data sets, stages and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch

from stadia.core import random_state
from stadia.core.errors import ConfigError, RunError
from stadia.core.types import Batch
from stadia.training.config import StageConfig, TrainingConfig

# -- The batches of a whole training as one stream, so that a position in it is one number: the batches trained.


class BatchLoader(Protocol):
    """What validation asks of a loader: batches, and how many. A list of them will do."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch[Any, Any]]: ...


class EpochLoader(BatchLoader, Protocol):
    """A loader whose batches are a pure function of (seed, epoch, batch): no state, no global random number.

    Whatever order or augmentation it draws must depend on these alone, whatever the number of its workers; then a
    resumed training sees the batches that an undisturbed one would have seen. `len` is the number of batches of an
    epoch.
    """

    def set_position(self, epoch: int, batch: int) -> None:
        """What the next `iter` yields: the batches of this epoch from number `batch` (from 0) to its last."""
        ...


@runtime_checkable
class Shardable(Protocol):
    """A loader that several processes can share; needed for more than one device."""

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the batches of one of `world_size` processes: the same number for each, none in two. May be called
        again.
        """
        ...


@runtime_checkable
class MultiDatasetLoader(Protocol):
    """A loader of several data sets, which is worth a validation more often than once an epoch."""

    @property
    def pass_ends(self) -> tuple[int, ...]:
        """After how many batches of an epoch, rising, a data set has been gone through; the last is the epoch's length."""
        ...


def shard_loaders(loaders: Iterable[object], rank: int, world_size: int) -> None:
    """Tell loaders which of several processes they load for. Raises RunError for one that trains and cannot be shared.

    A validation loader that cannot is left whole: each process then validates all of it, and their mean is the same.
    """
    for loader in loaders:
        if isinstance(loader, Shardable):
            loader.shard(rank, world_size)
        elif world_size > 1 and hasattr(loader, "set_position"):
            raise RunError(
                "training data",
                found=f"a {type(loader).__name__} without shard()",
                expected="a loader that processes can share",
                fix="train on one device",
            )


@dataclass(frozen=True)
class TrainingPhase:
    """A part of a training whose batches are of one size.

    steps: updates of the weights.  batches_per_epoch: that one process loads.  lr_factor: on the schedule's learning
        rate.
    """

    steps: int
    batches_per_epoch: int
    lr_factor: float = 1.0


@runtime_checkable
class StagedLoader(Protocol):
    """A loader whose batches change their size in the course of a training. Its epochs are counted through, and each
    stage begins one.
    """

    def stretches(self, config: TrainingConfig) -> tuple[TrainingPhase, ...]:
        """The stages, in their order, for one process."""
        ...


class BatchPosition(NamedTuple):
    """Where a batch stands: its epoch, its number in it (both from 0) and how many that has; its stretch, and the
    position behind that.
    """

    epoch: int
    batch: int
    batches: int
    stretch: int
    end: int


@dataclass(frozen=True)
class TrainingPlan:
    """How long a training is, in its three units.

    batches_per_epoch: that one process loads.  accumulate: batches of one step.
    total_steps: updates of the weights.
    pass_ends: after how many batches of an epoch a data set has been gone through.
    stretches: its parts, where it has several; batches_per_epoch is the last one's.
    """

    batches_per_epoch: int
    accumulate: int
    total_steps: int
    pass_ends: tuple[int, ...] = ()
    stretches: tuple[TrainingPhase, ...] = ()

    @property
    def steps_per_epoch(self) -> float:
        return self.batches_per_epoch / self.accumulate

    @property
    def total_batches(self) -> int:
        return self.total_steps * self.accumulate

    @property
    def validates_by_pass(self) -> bool:
        """Whether the training is made of passes that are each worth a validation: through a data set of several, or in
        stages.
        """
        return len(self.pass_ends) > 1 or len(self.stretches) > 1

    def place(self, position: int) -> BatchPosition:
        """Where batch number `position` of the whole training stands; behind its end as if the last stretch went on."""
        epoch, start = 0, 0
        parts = self.stretches or (TrainingPhase(self.total_steps, self.batches_per_epoch),)
        for number, part in enumerate(parts):
            end = start + part.steps * self.accumulate
            if position < end or number == len(parts) - 1:
                passed, batch = divmod(position - start, part.batches_per_epoch)
                return BatchPosition(epoch + passed, batch, part.batches_per_epoch, number, end)
            epoch, start = epoch - (start - end) // part.batches_per_epoch, end  # an epoch that was begun is over
        raise AssertionError("a plan has a stretch")

    def lr_factor(self, step: int) -> float:
        """On the learning rate of update number `step` (from 0)."""
        return self.stretches[self.place(step * self.accumulate).stretch].lr_factor if self.stretches else 1.0

    def is_pass_end(self, step: int) -> bool:
        """Whether a data set has been gone through in update number `step` (from 1), where there are several; or an
        epoch of a stage.
        """
        first, last = (step - 1) * self.accumulate, step * self.accumulate  # batches before and behind it
        if len(self.stretches) > 1:
            return self.place(first).epoch < self.place(last).epoch
        return any(
            (last - end) // self.batches_per_epoch > (first - end) // self.batches_per_epoch for end in self.pass_ends
        )

    def epoch_of(self, step: int) -> int:
        """The epoch, from 0, that update number `step` (from 1) ended in."""
        return self.place(max(step * self.accumulate - 1, 0)).epoch

    @classmethod
    def of(cls, loader: EpochLoader, config: TrainingConfig) -> TrainingPlan:
        """Count. Steps run on over the end of an epoch; batches short of a whole last step are left out. Raises
        RunError for no batch.
        """
        batches = len(loader)
        if batches == 0:
            raise RunError(
                "training data",
                found="no whole batch",
                expected=f"at least {config.batch_size} samples (training.batch_size)",
                fix="record more, or lower training.batch_size",
            )
        if isinstance(loader, StagedLoader):
            stretches = loader.stretches(config)
            return cls(batches, config.accumulate, sum(part.steps for part in stretches), (), stretches)
        limits = [] if config.max_steps is None else [config.max_steps]
        if config.max_epochs is not None:
            limits.append(max(config.max_epochs * batches // config.accumulate, 1))
        return cls(
            batches, config.accumulate, min(limits), loader.pass_ends if isinstance(loader, MultiDatasetLoader) else ()
        )


class BatchStream(Iterable[Batch[Any, Any]]):
    """Every batch of a training from a position on, epoch after epoch.

    Lightning sees one long epoch of it, which leaves it no epoch boundary to resume at: `state_dict` and
    `load_state_dict` (the interface it asks of a loader that can be resumed) hold the number of batches handed out and
    nothing else.

    mark: told "other" before, and "loading" after each wait for a batch; see `phases.PhaseClock`.
    """

    def __init__(
        self, loader: EpochLoader, plan: TrainingPlan, mark: Callable[[str], object] = lambda phase: None
    ) -> None:
        self.loader, self.plan, self.mark = loader, plan, mark
        self.position = 0

    def __len__(self) -> int:
        return self.plan.total_batches

    def __iter__(self) -> Iterator[Batch[Any, Any]]:
        while self.position < self.plan.total_batches:
            first, place = self.position, self.plan.place(self.position)
            self.loader.set_position(place.epoch, place.batch)
            batches = self._timed(iter, self.loader)
            while self.position < place.end:
                loaded = self._timed(next, batches, None)
                if loaded is None:
                    break
                self.position += 1
                yield loaded
            self._check_epoch_is_whole(place, place.batch + self.position - first)

    def _timed(self, load: Any, *arguments: Any) -> Any:
        """Call, mark the time, and leave the global random numbers alone (a DataLoader draws its workers' seed from
        torch's).
        """
        self.mark("other")
        with random_state.preserve_generators():
            loaded = load(*arguments)
        self.mark("loading")
        return loaded

    def _check_epoch_is_whole(self, begun: BatchPosition, given: int) -> None:
        if self.position != begun.end and given != begun.batches:
            expected = f"{begun.batches}, as len() says"
            raise RunError(
                "training data", found=f"{given} batches in epoch {begun.epoch}", expected=expected, fix="report it"
            )

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class ValidationBatches(Iterable[Batch[Any, Any]]):
    """A validation loader (or a list of batches) as Lightning should see it: one loader, not started before it is
    needed.
    """

    def __init__(self, loader: BatchLoader) -> None:
        self.loader = loader
        if len(loader) == 0:
            raise RunError(
                "validation data",
                found="no batch",
                expected="at least one",
                fix="give it a recording, or train without",
            )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch[Any, Any]]:
        yield from self.loader


# -- A training whose images grow: loaders of several sizes, one after the other, as one.


LR_EXPONENTS = {"root": 0.5, "linear": 1.0, "constant": 0.0}
"""Of the batch over the last stage's, by `training.stage_lr_scaling`: root for adam (Malladi et al., arXiv 2205.10287), linear
for gradient descent (Goyal et al., arXiv 1706.02677).
"""


@runtime_checkable
class RestingLoader(Protocol):
    """A loader that can let its processes go."""

    def rest(self) -> None:
        """Nothing is asked of it for a while."""
        ...


class StagedBatches:
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

    def stretches(self, config: TrainingConfig) -> tuple[TrainingPhase, ...]:
        """How many updates each stage makes of its share of the samples, and at which learning rate."""
        power, found = LR_EXPONENTS[self.config.stage_lr_scaling], []
        for stage, loader, size in zip(self.config.stages, self.loaders, self.sizes, strict=True):
            steps = []
            if config.max_steps is not None:
                steps.append(round(stage.share * config.max_steps * self.sizes[-1] / size))
            if config.max_epochs is not None:
                steps.append(int(stage.share * config.max_epochs * len(loader) / config.accumulate + 1e-9))
            found.append(TrainingPhase(max(min(steps), 1), len(loader), (size / self.sizes[-1]) ** power))
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
                if number != self.now and isinstance(before := self.loaders[self.now], RestingLoader):
                    before.rest()
                self.now = number
                loader.set_position(epoch, batch)
                return
            first += epochs

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the part of one process among those that train together."""
        shard_loaders(self.loaders, rank, world_size)

    def __iter__(self) -> Iterator[Batch[Any, Any]]:
        return iter(self.loaders[self.now])


def batch_sizes(config: TrainingConfig) -> list[int]:
    """Of each stage. Raises ConfigError where one is "auto" still."""
    sizes = [stage.batch_size for stage in config.stages]
    if "auto" in sizes:
        fix = "train by stadia.recipes.train, which probes the memory"
        raise ConfigError("training.stages", found="batch_size 'auto', unsettled", expected="a number", fix=fix)
    return [int(size) for size in sizes]


def describe_stages(stages: Sequence[StageConfig], stretches: Sequence[TrainingPhase], lr: float) -> list[str]:
    """A line a stage, for whoever trains."""
    firsts = find_first_steps(stretches)
    return [
        f"stage {number}: {stage.width}x{stage.height}, batches of {stage.batch_size}, steps {first} to"
        f" {first + part.steps - 1}, learning rate {part.lr_factor * lr:.3g} at the top of the schedule"
        for number, (stage, part, first) in enumerate(zip(stages, stretches, firsts, strict=True), start=1)
    ]


def stages_to_json(stages: Sequence[StageConfig], stretches: Sequence[TrainingPhase]) -> list[dict[str, Any]]:
    """For run.json: what each stage is, and the step (from 1) that it begins with."""
    return [
        {**stage.model_dump(mode="json"), "first_step": first, "steps": part.steps, "lr_factor": part.lr_factor}
        for stage, part, first in zip(stages, stretches, find_first_steps(stretches), strict=True)
    ]


def find_first_steps(stretches: Sequence[TrainingPhase]) -> list[int]:
    """The first step of each, from 1."""
    firsts = [1]
    for before, _ in pairwise(stretches):
        firsts.append(firsts[-1] + before.steps)
    return firsts


def scale_batch_size(stage: StageConfig, last: StageConfig, batch_size: int) -> int:
    """So many samples that a batch has as many pixels as one of the last stage."""
    return max(batch_size * last.height * last.width // (stage.height * stage.width), 1)


# -- Where batches and networks go.


def select_device(accelerator: str = "auto") -> torch.device:
    """The process's GPU where there is one and `training.accelerator` lets it be used, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda") else "cpu")
