"""Batches whose order is a pure function of (seed, epoch), so that a run resumed in mid-epoch sees what it would have
seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from stadia.core.errors import StadiaError
from stadia.core.seeds import generator
from stadia.core.types import Batch

PackedT = TypeVar("PackedT")
BatchT = TypeVar("BatchT", bound=Batch[Any, Any])
BatchT_co = TypeVar("BatchT_co", bound=Batch[Any, Any], covariant=True)


class PackedSamples(Protocol[PackedT, BatchT_co]):
    """A dataset that a Loader can load: samples packed by workers, stacked by them, made into a batch where it is used.

    `stadia.data.samples.Samples` is that of video. What is sent is best small (images as bytes, see
    `stadia.data.packed`); where it has a method `pin_memory` that gives a pinned copy, a GPU fetches it while the
    processor goes on.
    """

    def __len__(self) -> int: ...

    def packed(self, key: tuple[int, int]) -> PackedT:
        """The sample of a key (epoch, index): a function of it and of the seed, of nothing else. Raises StadiaError."""
        ...

    def stack(self, samples: Sequence[PackedT]) -> PackedT:
        """Samples to one with a new first axis."""
        ...

    def unpack(self, packed: PackedT, device: torch.device | str) -> BatchT_co:
        """To a batch of floats on the device."""
        ...


class EpochOrder(Sampler[tuple[int, int]]):
    """Yields (epoch, index) keys of samples, so that workers need not be told the epoch.

    Args:
        length: number of samples.
        batch_size: of one process.
        shuffle: a permutation drawn from (seed, epoch); else in order.
        drop_last: leave out the samples at the end that do not fill a batch of every process; else the first ones are
            repeated until each process has equally many.

    Batch n of all processes together holds the same samples however many processes share them, where batch_size times
    their number stays the same.
    """

    def __init__(self, length: int, *, batch_size: int, shuffle: bool, drop_last: bool, seed: int = 0) -> None:
        self.length, self.batch_size, self.shuffle, self.drop_last, self.seed = (
            length,
            batch_size,
            shuffle,
            drop_last,
            seed,
        )
        self.rank, self.world_size = 0, 1
        self.epoch, self.first_batch = 0, 0

    def __len__(self) -> int:
        """Keys of a whole epoch for this process, wherever it is started."""
        together = self.batch_size * self.world_size
        return self.length // together * self.batch_size if self.drop_last else -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = (
            generator(self.seed, "order", self.epoch).permutation(self.length)
            if self.shuffle
            else np.arange(self.length)
        )
        order = np.resize(order, len(self) * self.world_size)  # cut off, or repeated from the start
        together = self.batch_size * self.world_size
        for start in range(self.first_batch * together, len(order), together):
            mine = np.array_split(order[start : start + together], self.world_size)[self.rank]
            yield from ((self.epoch, int(index)) for index in mine)


class _Told(Dataset[PackedT | StadiaError]):
    """Packed samples, or the error that one could not be read for: as a value, since a DataLoader changes one that is
    raised.
    """

    def __init__(self, samples: PackedSamples[PackedT, Any]) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, int]) -> PackedT | StadiaError:
        try:
            return self.samples.packed(key)
        except StadiaError as error:
            return error


def _stack(
    stack: Callable[[Sequence[PackedT]], PackedT], samples: list[PackedT | StadiaError]
) -> PackedT | StadiaError:
    error = next((s for s in samples if isinstance(s, StadiaError)), None)
    return error or stack([s for s in samples if not isinstance(s, StadiaError)])


def start_worker(_: int) -> None:
    """One core a worker: OpenCV would start its own threads in each."""
    cv2.setNumThreads(0)


class Loader(Generic[PackedT, BatchT]):
    """Batches of samples, epoch after epoch, from any position on; what a training asks of a loader.

    Args:
        samples: what to load, `Samples` of video or any other PackedSamples.
        batch_size: of one process.
        shuffle: for training.
        workers: processes that load; they live as long as the loader. 0 loads in this one.
        seed: of the order; the samples have their own.
        drop_last: leave out an incomplete last batch; by default where shuffled and a batch can be filled.
        device: where images become floats ("cuda" is the process's own): a quarter of the bytes go there.
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
        drop = (shuffle and len(samples) >= batch_size) if drop_last is None else drop_last
        self.samples, self.device = samples, device
        self.order = EpochOrder(len(samples), batch_size=batch_size, shuffle=shuffle, drop_last=drop, seed=seed)
        self._make: Callable[[], DataLoader[PackedT | StadiaError]] = partial(
            DataLoader,
            _Told(samples),
            batch_size=batch_size,
            sampler=self.order,
            drop_last=drop,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=partial(_stack, samples.stack),
            pin_memory=torch.device(device).type == "cuda",
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # else every epoch would draw from the training's random numbers
        )
        self._batches = self._make()

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self._batches)

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """The next iteration goes through this epoch, from this batch to its last."""
        self.order.epoch, self.order.first_batch = epoch, batch

    def rest(self) -> None:
        """Let the workers go; the next iteration starts others."""
        self._batches = self._make()

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the part of one process among those that train together: equally many batches for each."""
        self.order.rank, self.order.world_size = rank, world_size

    def __iter__(self) -> Iterator[BatchT]:
        """Raises what a sample raised, whichever process read it: DataError naming the file."""
        for packed in self._batches:
            if isinstance(packed, StadiaError):
                raise packed
            yield self.samples.unpack(packed, self.device)
