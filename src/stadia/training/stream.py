"""The batches of a whole training as one stream, so that a position in it is one number: the batches trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from stadia.core.errors import RunError
from stadia.core.types import Batch
from stadia.training import rng
from stadia.training.config import TrainingConfig


class Batches(Protocol):
    """What validation asks of a loader: batches, and how many. A list of them will do."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch[Any, Any]]: ...


class EpochLoader(Batches, Protocol):
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
class OfSeveral(Protocol):
    """A loader of several data sets, which is worth a validation more often than once an epoch."""

    @property
    def pass_ends(self) -> tuple[int, ...]:
        """After how many batches of an epoch, rising, a data set has been gone through; the last is the epoch's length."""
        ...


def shard(loaders: Iterable[object], rank: int, world_size: int) -> None:
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
class Stretch:
    """A part of a training whose batches are of one size.

    steps: updates of the weights.  batches_per_epoch: that one process loads.  lr_factor: on the schedule's learning
        rate.
    """

    steps: int
    batches_per_epoch: int
    lr_factor: float = 1.0


@runtime_checkable
class InStages(Protocol):
    """A loader whose batches change their size in the course of a training. Its epochs are counted through, and each
    stage begins one.
    """

    def stretches(self, config: TrainingConfig) -> tuple[Stretch, ...]:
        """The stages, in their order, for one process."""
        ...


class Place(NamedTuple):
    """Where a batch stands: its epoch, its number in it (both from 0) and how many that has; its stretch, and the
    position behind that.
    """

    epoch: int
    batch: int
    batches: int
    stretch: int
    end: int


@dataclass(frozen=True)
class Plan:
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
    stretches: tuple[Stretch, ...] = ()

    @property
    def steps_per_epoch(self) -> float:
        return self.batches_per_epoch / self.accumulate

    @property
    def total_batches(self) -> int:
        return self.total_steps * self.accumulate

    @property
    def by_passes(self) -> bool:
        """Whether the training is made of passes that are each worth a validation: through a data set of several, or in
        stages.
        """
        return len(self.pass_ends) > 1 or len(self.stretches) > 1

    def place(self, position: int) -> Place:
        """Where batch number `position` of the whole training stands; behind its end as if the last stretch went on."""
        epoch, start = 0, 0
        parts = self.stretches or (Stretch(self.total_steps, self.batches_per_epoch),)
        for number, part in enumerate(parts):
            end = start + part.steps * self.accumulate
            if position < end or number == len(parts) - 1:
                passed, batch = divmod(position - start, part.batches_per_epoch)
                return Place(epoch + passed, batch, part.batches_per_epoch, number, end)
            epoch, start = epoch - (start - end) // part.batches_per_epoch, end  # an epoch that was begun is over
        raise AssertionError("a plan has a stretch")

    def lr_factor(self, step: int) -> float:
        """On the learning rate of update number `step` (from 0)."""
        return self.stretches[self.place(step * self.accumulate).stretch].lr_factor if self.stretches else 1.0

    def ends_a_pass(self, step: int) -> bool:
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
    def of(cls, loader: EpochLoader, config: TrainingConfig) -> Plan:
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
        if isinstance(loader, InStages):
            stretches = loader.stretches(config)
            return cls(batches, config.accumulate, sum(part.steps for part in stretches), (), stretches)
        limits = [] if config.max_steps is None else [config.max_steps]
        if config.max_epochs is not None:
            limits.append(max(config.max_epochs * batches // config.accumulate, 1))
        return cls(batches, config.accumulate, min(limits), loader.pass_ends if isinstance(loader, OfSeveral) else ())


class BatchStream(Iterable[Batch[Any, Any]]):
    """Every batch of a training from a position on, epoch after epoch.

    position: batches handed out; set it to resume.

    mark: called with "other" before, and "loading" after each wait for a batch; see `phase_clock.PhaseClock`.
    """

    def __init__(self, loader: EpochLoader, plan: Plan, mark: Callable[[str], object] = lambda phase: None) -> None:
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
        with rng.untouched():
            loaded = load(*arguments)
        self.mark("loading")
        return loaded

    def _check_epoch_is_whole(self, begun: Place, given: int) -> None:
        if self.position != begun.end and given != begun.batches:
            expected = f"{begun.batches}, as len() says"
            raise RunError(
                "training data", found=f"{given} batches in epoch {begun.epoch}", expected=expected, fix="report it"
            )
