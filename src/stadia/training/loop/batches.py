"""Arrange the batches of a whole training as one stream, and collect the scores of validation batches.

A position in the stream is the number of trained batches.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from stadia.core.errors import ConfigError, RunError
from stadia.differentiable import torch_state
from stadia.differentiable.batch import Batch, Meta
from stadia.io.run_facts import StageFacts
from stadia.training.loop.config import StageConfig, TrainingConfig


class BatchIterable(Protocol):
    """An iterable of batches with a length; a list of batches is one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch[Any, Any]]: ...


class EpochLoader(BatchIterable, Protocol):
    """A loader whose batches depend only on (seed, epoch, batch), so that a resumed training gets the same.

    `len` is the number of batches of an epoch.
    """

    def set_position(self, epoch: int, batch: int) -> None:
        """Let the next `iter` yield this epoch from batch number `batch` (from 0) on."""
        ...


@runtime_checkable
class Shardable(Protocol):
    """A loader that several processes can share."""

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the batches of one of `world_size` processes, equally many for each. Can be repeated."""
        ...


@runtime_checkable
class MultiDatasetLoader(Protocol):
    """A loader of several datasets, with a validation after each of them."""

    @property
    def pass_ends(self) -> tuple[int, ...]:
        """Return the rising numbers of batches after which a dataset ends."""
        ...


@runtime_checkable
class StartableLoader(Protocol):
    """A loader whose processes can start before its first iteration."""

    def start(self) -> None:
        """Start the processes."""
        ...


def shard_loaders(loaders: Iterable[object], rank: int, world_size: int) -> None:
    """Share loaders between processes. Raises RunError for a training loader without `shard`.

    Each process scores all of a validation loader without `shard`.
    """
    for loader in loaders:
        if isinstance(loader, Shardable):
            loader.shard(rank, world_size)
        elif world_size > 1 and hasattr(loader, "set_position"):
            found, expected = f"a {type(loader).__name__} without shard()", "a loader that processes can share"
            raise RunError("training data", found=found, expected=expected, fix="train on one device")


@dataclass(frozen=True)
class TrainingPhase:
    """A part of a training whose batches have one size.

    steps: updates of the weights.
    batches_per_epoch: number of batches of one process.
    lr_factor: factor on the scheduled learning rate.
    """

    steps: int
    batches_per_epoch: int
    lr_factor: float = 1.0


@runtime_checkable
class StagedLoader(Protocol):
    """A loader whose batches change their size during a training. Each stage begins a new epoch."""

    def phases(self, config: TrainingConfig) -> tuple[TrainingPhase, ...]:
        """Return the stages of one process, in order."""
        ...


class BatchPosition(NamedTuple):
    """The position of a batch in a training.

    epoch, batch: numbers of the epoch and of its batch, from 0.
    batches: number of batches of the epoch.
    phase: number of its `TrainingPhase`.
    end: position behind that batch.
    """

    epoch: int
    batch: int
    batches: int
    phase: int
    end: int


@dataclass(frozen=True)
class TrainingPlan:
    """The length of a training in batches, steps and epochs.

    batches_per_epoch: number of batches of one process, in the last phase.
    grad_accumulation_steps: batches of a step.
    total_steps: updates of the weights.
    pass_ends: see `MultiDatasetLoader`.
    """

    batches_per_epoch: int
    grad_accumulation_steps: int
    total_steps: int
    pass_ends: tuple[int, ...] = ()
    phases: tuple[TrainingPhase, ...] = ()

    @property
    def steps_per_epoch(self) -> float:
        """Return the steps of an epoch, which may be a fraction."""
        return self.batches_per_epoch / self.grad_accumulation_steps

    @property
    def total_batches(self) -> int:
        """Return the batches of the whole training."""
        return self.total_steps * self.grad_accumulation_steps

    @property
    def validates_by_pass(self) -> bool:
        """Return whether to validate after each dataset, or each epoch of a stage."""
        return len(self.pass_ends) > 1 or len(self.phases) > 1

    def place(self, position: int) -> BatchPosition:
        """Return the position of a batch of the training, by its number."""
        epoch, start = 0, 0
        parts = self.phases or (TrainingPhase(self.total_steps, self.batches_per_epoch),)
        for number, part in enumerate(parts):
            end = start + part.steps * self.grad_accumulation_steps
            if position < end or number == len(parts) - 1:
                passed, batch = divmod(position - start, part.batches_per_epoch)
                return BatchPosition(epoch + passed, batch, part.batches_per_epoch, number, end)
            epoch, start = epoch - (start - end) // part.batches_per_epoch, end  # an unfinished epoch ends
        raise AssertionError("a plan has at least one part")

    def lr_factor(self, step: int) -> float:
        """Return the factor on the learning rate of update number `step` (from 0)."""
        return self.phases[self.place(step * self.grad_accumulation_steps).phase].lr_factor if self.phases else 1.0

    def is_pass_end(self, step: int) -> bool:
        """Return whether a pass ends in update number `step` (from 1), see `validates_by_pass`."""
        last = step * self.grad_accumulation_steps
        first, length = last - self.grad_accumulation_steps, self.batches_per_epoch
        if len(self.phases) > 1:
            return self.place(first).epoch < self.place(last).epoch
        return any((last - end) // length > (first - end) // length for end in self.pass_ends)

    def epoch_of(self, step: int) -> int:
        """Return the epoch, from 0, at the end of update number `step` (from 1)."""
        return self.place(max(step * self.grad_accumulation_steps - 1, 0)).epoch

    @classmethod
    def from_loader(cls, loader: EpochLoader, config: TrainingConfig) -> "TrainingPlan":
        """Count the batches of a loader. Raises RunError if it has none.

        A step may cross the end of an epoch. An incomplete last step is left out.
        """
        batches = len(loader)
        if batches == 0:
            expected = f"at least {config.batch_size} samples (training.batch_size)"
            fix = "record more, or lower training.batch_size"
            raise RunError("training data", found="no whole batch", expected=expected, fix=fix)
        if isinstance(loader, StagedLoader):
            phases = loader.phases(config)
            return cls(batches, config.grad_accumulation_steps, sum(part.steps for part in phases), (), phases)
        limits = [] if config.max_steps is None else [config.max_steps]
        if config.max_epochs is not None:
            limits.append(max(config.max_epochs * batches // config.grad_accumulation_steps, 1))
        pass_ends = loader.pass_ends if isinstance(loader, MultiDatasetLoader) else ()
        return cls(batches, config.grad_accumulation_steps, min(limits), pass_ends)


class BatchStream(Iterable[Batch[Any, Any]]):
    """Every batch of a training from a position on, epoch after epoch.

    position: number of yielded batches; set it to resume.
    mark: called with "other" before each wait for a batch, and "loading" after it (`PhaseClock.mark`).
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
            self._check_epoch_length(place, place.batch + self.position - first)

    def _timed(self, load: Any, *arguments: Any) -> Any:
        self.mark("other")
        with torch_state.preserve_generators():
            loaded = load(*arguments)
        self.mark("loading")
        return loaded

    def _check_epoch_length(self, start: BatchPosition, given: int) -> None:
        if self.position != start.end and given != start.batches:
            found, expected = f"{given} batches in epoch {start.epoch}", f"{start.batches}, its length"
            fix = "correct len() or the iteration of the loader"
            raise RunError("training data", found=found, expected=expected, fix=fix)


# -- progressive resizing ----------------------------------------------------------------------------------------------

LR_EXPONENTS = {"root": 0.5, "linear": 1.0, "constant": 0.0}
"""A stage's learning rate grows with its batch size to this power, by `training.stage_lr_scaling`.

Sources: root for adam, Malladi et al., arXiv 2205.10287; linear for gradient descent, Goyal et al., arXiv 1706.02677.
"""


@runtime_checkable
class RestingLoader(Protocol):
    """A loader that can stop its processes."""

    def rest(self) -> None:
        """Stop the processes until the next iteration."""
        ...


class StagedBatches:
    """The loaders of all stages of a training as one `EpochLoader`.

    Each stage begins a new epoch, so that no order and no augmentation repeats.
    """

    def __init__(self, loaders: Sequence[EpochLoader], config: TrainingConfig) -> None:
        self.loaders, self.config = tuple(loaders), config
        self.sizes = batch_sizes(config)
        self.now = len(self.loaders) - 1

    @property
    def samples(self) -> Any:
        """Return the samples of the last stage."""
        return self.loaders[-1].samples  # type: ignore[attr-defined]

    def phases(self, config: TrainingConfig) -> tuple[TrainingPhase, ...]:
        """Return the updates of each stage, and its learning rate."""
        power = LR_EXPONENTS[self.config.stage_lr_scaling]
        phases = []
        for stage, loader, size in zip(self.config.stages, self.loaders, self.sizes, strict=True):
            steps = []
            if config.max_steps is not None:
                steps.append(round(stage.share * config.max_steps * self.sizes[-1] / size))
            if config.max_epochs is not None:
                steps.append(int(stage.share * config.max_epochs * len(loader) / config.grad_accumulation_steps + 1e-9))
            phases.append(TrainingPhase(max(min(steps), 1), len(loader), (size / self.sizes[-1]) ** power))
        return tuple(phases)

    def __len__(self) -> int:
        """Return the batches of an epoch of the last stage; 0 if any stage has none."""
        return min(map(len, self.loaders)) and len(self.loaders[-1])

    def set_position(self, epoch: int, batch: int) -> None:
        """Let the next `iter` yield this epoch of the whole training, from this batch on."""
        first = 0
        for number, (phase, loader) in enumerate(zip(self.phases(self.config), self.loaders, strict=True)):
            epochs = -(-phase.steps * self.config.grad_accumulation_steps // phase.batches_per_epoch)
            if epoch < first + epochs or number == len(self.loaders) - 1:
                if number != self.now and isinstance(before := self.loaders[self.now], RestingLoader):
                    before.rest()
                self.now = number
                loader.set_position(epoch, batch)
                return
            first += epochs

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the batches of one of `world_size` processes."""
        shard_loaders(self.loaders, rank, world_size)

    def __iter__(self) -> Iterator[Batch[Any, Any]]:
        return iter(self.loaders[self.now])


def batch_sizes(config: TrainingConfig) -> list[int]:
    """Return the batch size of each stage. Raises ConfigError if one is still "auto"."""
    sizes = [stage.batch_size for stage in config.stages]
    if "auto" in sizes:
        fix = "train by stadia.training.train, which sets it"
        raise ConfigError("training.stages", found="batch_size 'auto', unresolved", expected="a number", fix=fix)
    return [int(size) for size in sizes]


def describe_stages(stages: Sequence[StageConfig], phases: Sequence[TrainingPhase], lr: float) -> list[str]:
    """Return a line for each stage."""
    firsts = find_first_steps(phases)
    return [
        f"stage {number}: {stage.width}x{stage.height}, batches of {stage.batch_size}, steps {first} to"
        f" {first + part.steps - 1}, learning rate {part.lr_factor * lr:.3g} at the top of the schedule"
        for number, (stage, part, first) in enumerate(zip(stages, phases, firsts, strict=True), start=1)
    ]


def list_stage_facts(stages: Sequence[StageConfig], phases: Sequence[TrainingPhase]) -> tuple[StageFacts, ...]:
    """Return each stage for run.json."""
    return tuple(
        StageFacts(
            height=stage.height,
            width=stage.width,
            share=stage.share,
            batch_size=int(stage.batch_size),
            first_step=first,
            steps=phase.steps,
            lr_factor=phase.lr_factor,
        )
        for stage, phase, first in zip(stages, phases, find_first_steps(phases), strict=True)
    )


def find_first_steps(phases: Sequence[TrainingPhase]) -> list[int]:
    """Return the first step of each part, from 1."""
    return list(accumulate((phase.steps for phase in phases[:-1]), initial=1))


def scale_batch_size(stage: StageConfig, last: StageConfig, batch_size: int) -> int:
    """Return the batch size that gives a stage as many pixels as the last one."""
    return max(batch_size * last.height * last.width // (stage.height * stage.width), 1)


def select_device(accelerator: str = "auto") -> torch.device:
    """Return the GPU of this process if there is one and `training.accelerator` allows it, else the CPU.

    Examples:
        >>> select_device("cpu")
        device(type='cpu')
    """
    return torch.device("cuda" if torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda") else "cpu")


log = logging.getLogger(__name__)

T = TypeVar("T")
Sample = tuple[str, str, int, str, bool, int, int]
"""A sample is a dataset, recording, index, side, mirrored, instance, and its number in this process."""

Scores = dict[str, dict[Sample, float]]


class ValidationScores:
    """The scores of the validation batches of a process.

    by_sample: losses of all processes by sample; `means` sets it.
    unscored: (samples without a score, all) by name; set by `means`.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[tuple[Meta, ...], dict[str, Tensor]]] = []
        self.by_sample: Scores = {}
        self.unscored: dict[str, tuple[int, int]] = {}

    def add(self, meta: tuple[Meta, ...], values: Mapping[str, Tensor | float]) -> None:
        """Add scores of a batch by name: (B,), or one number for each of its samples."""
        expanded = {name: torch.as_tensor(value).detach().expand(len(meta)) for name, value in values.items()}
        self._batches.append((meta, expanded))

    def means(self) -> dict[str, float]:
        """Return the means over all processes (`compute_means`), and forget the samples. Called by all processes."""
        mine, self._batches = _list_scores(self._batches), []
        self.by_sample = {}
        for part in gather_from_processes(mine):
            for name, scores in part.items():
                self.by_sample.setdefault(name, {}).update(scores)
        counts = {name: (sum(map(math.isnan, scores.values())), len(scores)) for name, scores in self.by_sample.items()}
        self.unscored = {name: count for name, count in counts.items() if count[0]}
        return compute_means(self.by_sample)

    def warn_of_unscored(self) -> None:
        """Warn of the samples that `means` left out."""
        for count in dict.fromkeys(self.unscored.values()):
            names = ", ".join(name for name, other_count in self.unscored.items() if other_count == count)
            line = "validation: %d of %d samples have no ground truth for %s; the mean leaves them out"
            log.warning(line, *count, names)


def gather_from_processes(mine: T) -> list[T]:
    """Return the objects of all processes, by rank. Called by all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    parts = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return parts


def compute_means(scores: Scores) -> dict[str, float]:
    """Return the mean of each score over the samples that have it; NaN if no sample has it.

    A sample that several processes scored counts once. Sums are exact (`math.fsum`), so the order does not matter.

    Several datasets have their own means, "NAME/score". If all have a score, the plain name is the mean of their
    means.
    """
    names = dict.fromkeys(sample[0] for values in scores.values() for sample in values)
    if not any(names):
        return {score: _mean(values.values()) for score, values in scores.items()}
    means: dict[str, float] = {}
    for score, values in scores.items():
        sets = {name: [value for sample, value in values.items() if sample[0] == name] for name in names}
        of_sets = {name: _mean(some) for name, some in sets.items() if some}
        means |= {f"{name}/{score}": mean for name, mean in of_sets.items()}
        if len(of_sets) == len(names):
            means[score] = fmean(of_sets.values())  # NaN if one of them is
    return means


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def _list_scores(batches: list[tuple[tuple[Meta, ...], dict[str, Tensor]]]) -> Scores:
    scores: Scores = {}
    times: Counter[tuple[str, str, int, str, bool, int]] = Counter()
    for metas, values in batches:
        samples: list[Sample] = []
        for meta in metas:
            key = (meta.data, meta.recording, meta.index, meta.side, meta.mirrored, meta.instance)
            samples.append((*key, times[key]))
            times[key] += 1
        for name, value in values.items():
            scores.setdefault(name, {}).update(zip(samples, value.tolist(), strict=True))
    return scores
