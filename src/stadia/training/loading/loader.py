"""Load batches of one or several datasets in an order that depends only on (seed, epoch), so that runs resume."""

import atexit
import gc
import os
import signal
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing.util import get_temp_dir
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.seeds import make_generator
from stadia.differentiable.batch import Batch
from stadia.training.loading.transforms import IDENTITY_COLOR

AHEAD_SHARDS = 2  # shards that are copied before their first sample is needed
MAX_AHEAD_BATCHES = 1000  # batches whose keys are drawn ahead to find the next shards

PackedT = TypeVar("PackedT")
BatchT = TypeVar("BatchT", bound=Batch[Any, Any])
BatchT_co = TypeVar("BatchT_co", bound=Batch[Any, Any], covariant=True)
WORKERS_PER_CORE = 4
"""Most workers per core: more would only wait."""

MIN_MAX_WORKERS = 16
"""So many workers are always allowed, because presets for large machines have them."""

PackedTensorsT = TypeVar("PackedTensorsT", bound="PackedTensors")


@dataclass(frozen=True, slots=True)
class PackedTensors:
    """Base of packed samples: tensors of one sample or of a batch."""

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy after applying the function to every tensor, of any shape."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, PackedTensors):
                changed[field.name] = value.map_tensors(function)
            elif isinstance(value, Tensor):
                changed[field.name] = function(value)
        return replace(self, **changed)

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors to a device."""
        return self.map_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Pin the tensors, so that transfers overlap with the GPU's work."""
        return self.map_tensors(Tensor.pin_memory)


def stack_packed(samples: Sequence[PackedTensorsT], **stacked: Any) -> PackedTensorsT:
    """Stack the tensors (...) of B samples to (B, ...), and join their `meta`.

    stacked: fields that are stacked already.
    """
    for field in fields(samples[0]):
        values = [getattr(sample, field.name) for sample in samples]
        if field.name in stacked:
            continue
        if field.name == "meta":
            stacked["meta"] = tuple(meta for value in values for meta in value)
        elif field.name == "color":
            stacked["color"] = stack_or_default(values, IDENTITY_COLOR)
        elif isinstance(values[0], Tensor):
            stacked[field.name] = torch.stack(values)
    return replace(samples[0], **stacked)


def stack_or_default(values: Sequence[Tensor | None], default: Tensor) -> Tensor | None:
    """Stack B tensors of the same shape (...) to (B, ...), with the default for missing ones.

    The result is None if all are missing.
    """
    if all(value is None for value in values):
        return None
    return torch.stack([default if value is None else value for value in values])


def stack_padded(tensors: Sequence[Tensor], places: int, placeholder: Tensor) -> Tensor:
    """Stack (N_i, ...) to (B, places, ...), filled up with the placeholder."""
    return torch.stack(
        [
            torch.cat((tensor, placeholder.to(tensor.dtype).expand(places - len(tensor), *tensor.shape[1:])))
            for tensor in tensors
        ]
    )


class PackedSamples(Protocol[PackedT, BatchT_co]):
    """A dataset for a Loader: workers pack and stack samples, the training process unpacks batches."""

    def __len__(self) -> int: ...

    def packed(self, key: tuple[int, int]) -> PackedT:
        """Return the sample of a key (epoch, index). Raises StadiaError."""
        ...

    def stack(self, samples: Sequence[PackedT]) -> PackedT:
        """Stack samples along a new first axis."""
        ...

    def unpack(self, packed: PackedT, device: torch.device | str) -> BatchT_co:
        """Convert to a batch of floats on the device."""
        ...


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield (epoch, index) keys of samples; batch n has the same samples for any number of processes.

    batch_size: of one process.
    shuffle: use a permutation drawn from (seed, epoch).
    shards: (length,) the shard of each sample; the permutation then mixes samples of `shuffle_shards` shards at a time.
    drop_last: leave out samples that do not fill a batch of every process; else repeat the first samples.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        seed: int = 0,
        shards: NDArray[np.int64] | None = None,
        shuffle_shards: int = 1,
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.shards, self.shuffle_shards = shards, shuffle_shards
        self.rank, self.world_size = 0, 1
        self.epoch, self.first_batch = 0, 0

    def __len__(self) -> int:
        """Return the number of keys per epoch for this process."""
        total_batch = self.batch_size * self.world_size
        return self.length // total_batch * self.batch_size if self.drop_last else -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.length)
        if self.shuffle:
            generator = make_generator(self.seed, "order", self.epoch)
            if self.shards is None:
                order = generator.permutation(self.length)
            else:
                order = shuffle_by_shard(self.shards, self.shuffle_shards, generator)
        order = np.resize(order, len(self) * self.world_size)  # cut off, or repeated from the start
        total_batch = self.batch_size * self.world_size
        for start in range(self.first_batch * total_batch, len(order), total_batch):
            own = np.array_split(order[start : start + total_batch], self.world_size)[self.rank]
            yield from ((self.epoch, int(index)) for index in own)


def shuffle_by_shard(shards: NDArray[np.int64], window: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return a permutation of samples that uses about `window` shards at a time.

    A sample of the shard in place r of a random order goes to a random place in r to r + window.

    shards: (N,), from 0.
    """
    places = generator.permutation(int(shards.max()) + 1)
    return np.argsort(places[shards] + window * generator.random(len(shards)), kind="stable")


class PrefetchingSampler(Sampler[list[tuple[int, int]]]):
    """Yield batches of keys; threads `prefetch` the shard (N,) of the samples of the next AHEAD_SHARDS shards."""

    def __init__(self, batches: BatchSampler, shards: NDArray[np.int64], prefetch: Callable[[int], None]) -> None:
        self.batches, self.shards, self.prefetch = batches, shards, prefetch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        begun, ahead = set[int](), deque[tuple[list[tuple[int, int]], int]]()
        batches, threads = iter(self.batches), ThreadPoolExecutor(AHEAD_SHARDS, "prefetch")
        try:
            while True:
                while sum(new for _, new in ahead) < AHEAD_SHARDS and len(ahead) < MAX_AHEAD_BATCHES:
                    if (keys := next(batches, None)) is None:
                        break
                    first = {int(self.shards[index]): index for _, index in reversed(keys)}
                    new = [first[shard] for shard in first if shard not in begun]
                    begun.update(first)
                    for index in new:
                        threads.submit(self.prefetch, index)
                    ahead.append((keys, len(new)))
                if not ahead:
                    return
                yield ahead.popleft()[0]
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


class _BatchesOrErrors(Dataset[PackedT | StadiaError]):
    def __init__(self, samples: PackedSamples[PackedT, Any]) -> None:
        self.samples = samples

    def __getitem__(self, keys: list[tuple[int, int]]) -> PackedT | StadiaError:
        try:
            return self.samples.stack([self.samples.packed(key) for key in keys])
        except StadiaError as error:
            return error


def start_worker(_: int) -> None:
    """Limit a worker to one core, and ignore signals to all processes: the training ends it after saving its step."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    cv2.setNumThreads(0)


_LOADERS = weakref.WeakSet["Loader[Any, Any]"]()
"""Loaders with workers, which would keep this process from ending: they ignore the signal that ends them."""


@atexit.register
def _rest_all() -> None:
    """Stop all workers, also those of an iterator that a program or the traceback of an error still holds."""
    for loader in list(_LOADERS):
        iterator = loader._batches._iterator
        loader.rest()
        if iterator is not None:
            iterator._shutdown_workers()  # torch has no public function for it


class Loader(Generic[PackedT, BatchT]):
    """Iterate over batches of samples, epoch after epoch, from any position.

    samples: the dataset; `samples.packed((epoch, index))` returns one sample.
    batch_size: number of samples of one process in a batch.
    shuffle: whether to draw a new order in each epoch.
    workers: number of processes that load samples; 0 loads in this process.
    seed: seed of the order.
    drop_last: whether to drop an incomplete last batch; None drops it if `shuffle` is set and one batch can be filled.
    device: device that receives the batches and converts bytes to floats.

    Raises ConfigError for too many workers.
    """

    def __init__(
        self,
        samples: PackedSamples[PackedT, BatchT],
        *,
        batch_size: int,
        shuffle: bool,
        workers: int = 0,
        seed: int = 0,
        drop_last: bool | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        most = max(WORKERS_PER_CORE * (os.cpu_count() or 1), MIN_MAX_WORKERS)
        if workers > most:
            expected = f"at most {most} processes ({WORKERS_PER_CORE} per core)"
            raise ConfigError("training.workers", found=workers, expected=expected, fix="pass a smaller number")
        if workers:
            get_temp_dir()  # shared by the workers; a killed worker would leave its own
            _LOADERS.add(self)
        self._is_free_to_drop = shuffle if drop_last is None else None
        drop = (shuffle and len(samples) >= batch_size) if drop_last is None else drop_last
        self.samples, self.device = samples, device
        list_shards = getattr(samples, "list_shards", None)
        shards = list_shards() if shuffle and list_shards is not None else None
        window = getattr(samples, "shuffle_shards", 1)
        self.order = EpochSampler(
            len(samples),
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop,
            seed=seed,
            shards=shards,
            shuffle_shards=window,
        )
        self._sampler = BatchSampler(self.order, batch_size, drop)
        keys: Sampler[list[tuple[int, int]]] = self._sampler
        if shards is not None and (prefetch := getattr(samples, "prefetch", None)) is not None:
            keys = PrefetchingSampler(self._sampler, shards, prefetch)
        self._make_loader: Callable[[], DataLoader[PackedT | StadiaError]] = partial(
            DataLoader,
            _BatchesOrErrors(samples),
            batch_size=None,  # the sampler yields the keys of whole batches
            sampler=keys,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.device(device).type == "cuda",
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # otherwise each epoch would consume the training's random numbers
        )
        self._batches = self._make_loader()

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return len(self._batches)

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Start the next iteration at this batch of this epoch."""
        self.order.epoch, self.order.first_batch = epoch, batch

    def start(self) -> None:
        """Start the workers now, because later forks would keep a training's memory."""
        if self._batches.num_workers:
            self._open()

    def _open(self) -> Iterator[PackedT | StadiaError]:
        """Return the iterator over batches; the workers that it forks never collect garbage of this process.

        A fork has no threads of its parent: it would wait for ever for the threads of a video decoder that it frees.
        """
        gc.freeze()
        try:
            return iter(self._batches)
        finally:
            gc.unfreeze()

    def rest(self) -> None:
        """Stop the workers; the next iteration starts new ones."""
        self._batches = self._make_loader()

    def shard(self, rank: int, world_size: int) -> None:
        """Keep one process's part of the batches."""
        self.order.rank, self.order.world_size = rank, world_size
        if self._is_free_to_drop is not None:
            is_filled = self.order.length >= self.order.batch_size * world_size
            self.order.drop_last = self._sampler.drop_last = self._is_free_to_drop and is_filled

    def __iter__(self) -> Iterator[BatchT]:
        """Yield batches. Raises the error of a sample from any worker."""
        for packed in self._open():
            if isinstance(packed, StadiaError):
                raise packed
            yield self.samples.unpack(packed, self.device)


class MixtureLoader(Generic[BatchT]):
    """The loaders of several datasets as one loader. The field `meta` of a batch names its dataset.

    epochs: passes over each dataset per epoch of the mixture, by name.
    order: "mixed", drawn every epoch, or "sequential".
    """

    def __init__(
        self,
        loaders: Mapping[str, Loader[Any, BatchT]],
        epochs: Mapping[str, float],
        *,
        order: Literal["mixed", "sequential"] = "mixed",
        seed: int = 0,
    ) -> None:
        self.loaders, self.epochs, self.kind, self.seed = dict(loaders), dict(epochs), order, seed
        self.epoch, self.first_batch = 0, 0

    @property
    def batches(self) -> dict[str, int]:
        """Batches of each dataset per epoch of one process. Raises DataError without a whole batch."""
        for name, loader in self.loaders.items():
            if len(loader) == 0:
                fix = "record more, or lower training.batch_size"
                raise DataError(f"dataset '{name}'", found="no whole batch", expected="one per process", fix=fix)
        return {name: max(round(self.epochs[name] * len(loader)), 1) for name, loader in self.loaders.items()}

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return sum(self.batches.values())

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Start the next iteration at this batch of this epoch."""
        self.epoch, self.first_batch = epoch, batch

    def shard(self, rank: int, world_size: int) -> None:
        """Keep one process's part of the batches."""
        for loader in self.loaders.values():
            loader.shard(rank, world_size)

    @property
    def pass_ends(self) -> tuple[int, ...]:
        """Numbers of batches after which a dataset is complete; the epoch's end if all are mixed."""
        if self.kind == "mixed":
            return (len(self),)
        ends: list[int] = []
        for name, count in self.batches.items():
            start, whole = (ends[-1] if ends else 0), len(self.loaders[name])
            ends += [start + end for end in (*range(whole, count, whole), count)]
        return tuple(ends)

    def start(self) -> None:
        """Start the workers now, because later forks would keep a training's memory."""
        for loader in self.loaders.values():
            loader.start()

    def order(self, epoch: int) -> NDArray[np.intp]:
        """Return the number of the dataset of each of N batches in an epoch, (N,)."""
        each = np.repeat(np.arange(len(self.loaders)), list(self.batches.values()))
        return make_generator(self.seed, "mixture", epoch).permutation(each) if self.kind == "mixed" else each

    def __iter__(self) -> Iterator[BatchT]:
        """Yield batches. Raises the errors of the loaders."""
        order, names, counts = self.order(self.epoch), list(self.loaders), list(self.batches.values())
        before = np.bincount(order[: self.first_batch], minlength=len(names))
        starts = [self.epoch * count + done for count, done in zip(counts, before.tolist(), strict=True)]
        streams = [_iterate_from(self.loaders[name], start) for name, start in zip(names, starts, strict=True)]
        for number in order[self.first_batch :]:
            batch, name = next(streams[number]), names[number]
            yield replace(batch, meta=tuple(replace(meta, data=name) for meta in batch.meta))


def _iterate_from(loader: Loader[Any, BatchT], position: int) -> Iterator[BatchT]:
    while True:
        epoch, batch = divmod(position, len(loader))
        loader.set_position(epoch, batch)
        yield from loader
        position += len(loader) - batch


class SequentialLoader(MixtureLoader[BatchT]):
    """All batches of several datasets in sequence."""

    def __init__(self, loaders: Mapping[str, Loader[Any, BatchT]]) -> None:
        super().__init__(loaders, dict.fromkeys(loaders, 1.0), order="sequential")


def take_batches_of_each(loaders: Mapping[str, Loader[Any, BatchT]], batches: int) -> MixtureLoader[BatchT]:
    """Load this many batches of each dataset, in sequence."""
    epochs = {name: batches / max(len(loader), 1) for name, loader in loaders.items()}
    return MixtureLoader(loaders, epochs, order="sequential")
