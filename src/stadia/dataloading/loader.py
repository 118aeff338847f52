"""Load batches in an order that depends only on (seed, epoch), so that resumed runs continue with the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from stadia.core.errors import StadiaError
from stadia.core.seeds import make_generator
from stadia.core.types import Batch

PackedT = TypeVar("PackedT")
BatchT = TypeVar("BatchT", bound=Batch[Any, Any])
BatchT_co = TypeVar("BatchT_co", bound=Batch[Any, Any], covariant=True)


class PackedSamples(Protocol[PackedT, BatchT_co]):
    """A dataset for a Loader: workers pack and stack samples, the training process unpacks them to a batch.

    `dataloading.samples.VideoSamples` is the one of video. Packed samples should be small (images as bytes, see `dataloading.samples`).
    With a method `pin_memory` that returns a pinned copy, transfers to a GPU overlap with its work.
    """

    def __len__(self) -> int: ...

    def packed(self, key: tuple[int, int]) -> PackedT:
        """Return the sample of a key (epoch, index), which depends only on the key and the seed. Raises StadiaError."""
        ...

    def stack(self, samples: Sequence[PackedT]) -> PackedT:
        """Stack samples along a new first axis."""
        ...

    def unpack(self, packed: PackedT, device: torch.device | str) -> BatchT_co:
        """Convert to a batch of floats on the device."""
        ...


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield (epoch, index) keys of samples, so that workers need no epoch of their own.

    Batch n over all processes holds the same samples for any number of processes, if the total batch size is the same.

    Args:
        length: number of samples.
        batch_size: of one process.
        shuffle: a permutation drawn from (seed, epoch); else in order.
        drop_last: leave out last samples that do not fill a batch of every process; else repeat the first ones until
            each process has equally many.
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
        """Return the number of keys in a whole epoch for this process, for any start position."""
        total_batch = self.batch_size * self.world_size
        return self.length // total_batch * self.batch_size if self.drop_last else -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = (
            make_generator(self.seed, "order", self.epoch).permutation(self.length)
            if self.shuffle
            else np.arange(self.length)
        )
        order = np.resize(order, len(self) * self.world_size)  # cut off, or repeated from the start
        total_batch = self.batch_size * self.world_size
        for start in range(self.first_batch * total_batch, len(order), total_batch):
            own = np.array_split(order[start : start + total_batch], self.world_size)[self.rank]
            yield from ((self.epoch, int(index)) for index in own)


class _SamplesOrErrors(Dataset[PackedT | StadiaError]):
    """Packed samples, or the error as a value where one cannot be read: a DataLoader alters raised errors."""

    def __init__(self, samples: PackedSamples[PackedT, Any]) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, int]) -> PackedT | StadiaError:
        try:
            return self.samples.packed(key)
        except StadiaError as error:
            return error


def _stack_or_error(
    stack: Callable[[Sequence[PackedT]], PackedT], samples: list[PackedT | StadiaError]
) -> PackedT | StadiaError:
    error = next((s for s in samples if isinstance(s, StadiaError)), None)
    return error or stack([s for s in samples if not isinstance(s, StadiaError)])


def start_worker(_: int) -> None:
    """Limit a worker to one core: OpenCV would start its own threads in each."""
    cv2.setNumThreads(0)


class Loader(Generic[PackedT, BatchT]):
    """Batches of samples, epoch after epoch, from any position.

    Args:
        samples: `Samples` of video or any other PackedSamples.
        batch_size: of one process.
        shuffle: for training.
        workers: loading processes, which live as long as the loader. 0 loads in this process.
        seed: of the order; the samples have their own.
        drop_last: leave out an incomplete last batch; by default where shuffled and a batch can be filled.
        device: where images become floats ("cuda" is the process's own), so a quarter of the bytes are transferred.
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
        self.order = EpochSampler(len(samples), batch_size=batch_size, shuffle=shuffle, drop_last=drop, seed=seed)
        self._make_loader: Callable[[], DataLoader[PackedT | StadiaError]] = partial(
            DataLoader,
            _SamplesOrErrors(samples),
            batch_size=batch_size,
            sampler=self.order,
            drop_last=drop,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=partial(_stack_or_error, samples.stack),
            pin_memory=torch.device(device).type == "cuda",
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # else every epoch would consume the training's random numbers
        )
        self._batches = self._make_loader()

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return len(self._batches)

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Start the next iteration at this batch of this epoch."""
        self.order.epoch, self.order.first_batch = epoch, batch

    def rest(self) -> None:
        """Stop the workers; the next iteration starts others."""
        self._batches = self._make_loader()

    def shard(self, rank: int, world_size: int) -> None:
        """Keep one process's part of the batches; every process has equally many."""
        self.order.rank, self.order.world_size = rank, world_size

    def __iter__(self) -> Iterator[BatchT]:
        """Yield batches. Raises the error of a sample from any worker: DataError that names the file."""
        for packed in self._batches:
            if isinstance(packed, StadiaError):
                raise packed
            yield self.samples.unpack(packed, self.device)
