"""The batches of a whole training as one stream: its length, its position, its processes.

A position in the stream is one number: the batches trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from stadia.core.errors import RunError
from stadia.core.types import Batch
from stadia.training import rng
from stadia.training.config import TrainingConfig


class Batches(Protocol):
    """An iterable of batches with a length; a list of batches is one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch[Any, Any]]: ...


class EpochLoader(Batches, Protocol):
    """A loader whose batches are a pure function of (seed, epoch, batch): no state, no global random number.

    Its order and augmentation depend on these alone, whatever the number of its workers. So a resumed training gets the
    same batches as an undisturbed one. `len` is the number of batches of an epoch.
    """

    def set_position(self, epoch: int, batch: int) -> None:
        """Let the next `iter` yield the batches of this epoch from number `batch` (from 0) to its last."""
        ...


@runtime_checkable
class Shardable(Protocol):
    """A loader that several processes can share; needed for more than one device."""

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the batches of one of `world_size` processes: the same number for each, none in two. Can be repeated."""
        ...


@runtime_checkable
class OfSeveral(Protocol):
    """A loader of several data sets: each end of one is a validation."""

    @property
    def pass_ends(self) -> tuple[int, ...]:
        """Numbers of batches, rising, after which a data set ends within an epoch; the last is the epoch's length."""
        ...


def shard(loaders: Iterable[object], rank: int, world_size: int) -> None:
    """Share loaders between processes. Raises RunError for a training loader without `shard`.

    A validation loader without it stays whole: each process validates all of it, and the mean is the same.
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
    """A part of a training whose batches have one size.

    steps: updates of the weights.  batches_per_epoch: of one process.  lr_factor: on the scheduled learning rate.
    """

    steps: int
    batches_per_epoch: int
    lr_factor: float = 1.0


@runtime_checkable
class InStages(Protocol):
    """A loader whose batches change their size during a training. Epochs are counted through; each stage begins one."""

    def stretches(self, config: TrainingConfig) -> tuple[Stretch, ...]:
        """Return the stages, in their order, for one process."""
        ...


class Place(NamedTuple):
    """The position of a batch in a training.

    epoch, batch: its epoch, and its number in it, from 0.  batches: of the epoch.
    phase: the number of its `Stretch`.  end: the position behind that.
    """

    epoch: int
    batch: int
    batches: int
    phase: int
    end: int


@dataclass(frozen=True)
class Plan:
    """The length of a training in batches, steps and epochs.

    batches_per_epoch: of one process.  accumulate: batches of one step.  total_steps: updates of the weights.
    pass_ends: see `OfSeveral`.
    stretches: its parts, where it has several; batches_per_epoch is that of the last one.
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
        """Whether to validate after each pass: through one of several data sets, or through an epoch of a stage."""
        return len(self.pass_ends) > 1 or len(self.stretches) > 1

    def place(self, position: int) -> Place:
        """Return the position of batch number `position` of the training; behind its end, the last part goes on."""
        epoch, start = 0, 0
        parts = self.stretches or (Stretch(self.total_steps, self.batches_per_epoch),)
        for number, part in enumerate(parts):
            end = start + part.steps * self.accumulate
            if position < end or number == len(parts) - 1:
                passed, batch = divmod(position - start, part.batches_per_epoch)
                return Place(epoch + passed, batch, part.batches_per_epoch, number, end)
            epoch, start = epoch - (start - end) // part.batches_per_epoch, end  # an unfinished epoch ends
        raise AssertionError("a plan has at least one part")

    def lr_factor(self, step: int) -> float:
        """Return the factor on the learning rate of update number `step` (from 0)."""
        return self.stretches[self.place(step * self.accumulate).phase].lr_factor if self.stretches else 1.0

    def ends_a_pass(self, step: int) -> bool:
        """Return whether a pass ends in update number `step` (from 1), see `by_passes`."""
        first, last = (step - 1) * self.accumulate, step * self.accumulate  # batches before and behind it
        if len(self.stretches) > 1:
            return self.place(first).epoch < self.place(last).epoch
        return any(
            (last - end) // self.batches_per_epoch > (first - end) // self.batches_per_epoch for end in self.pass_ends
        )

    def epoch_of(self, step: int) -> int:
        """Return the epoch, from 0, in which update number `step` (from 1) ends."""
        return self.place(max(step * self.accumulate - 1, 0)).epoch

    @classmethod
    def of(cls, loader: EpochLoader, config: TrainingConfig) -> Plan:
        """Count the batches of a loader. Raises RunError where it has none.

        A step may cross the end of an epoch; batches short of a whole last step are left out.
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
            self._check_epoch_length(place, place.batch + self.position - first)

    def _timed(self, load: Any, *arguments: Any) -> Any:
        """Call, mark the time, and keep the random generators (a DataLoader draws the seed of its workers)."""
        self.mark("other")
        with rng.untouched():
            loaded = load(*arguments)
        self.mark("loading")
        return loaded

    def _check_epoch_length(self, start: Place, given: int) -> None:
        if self.position != start.end and given != start.batches:
            expected = f"{start.batches}, its length"
            raise RunError(
                "training data",
                found=f"{given} batches in epoch {start.epoch}",
                expected=expected,
                fix="correct len() or the iteration of the loader",
            )
