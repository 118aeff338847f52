"""Load several datasets as one: batches of one dataset each, in an order that depends only on (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.seeds import make_generator
from stadia.core.types import Batch

BatchT_co = TypeVar("BatchT_co", bound=Batch[Any, Any], covariant=True)
BatchT = TypeVar("BatchT", bound=Batch[Any, Any])


class BatchLoader(Protocol[BatchT_co]):
    """The methods of `dataloading.loader.Loader` that a mixture uses."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[BatchT_co]: ...
    def set_position(self, epoch: int, batch: int = 0) -> None: ...
    def shard(self, rank: int, world_size: int) -> None: ...


class MixtureLoader(Generic[BatchT]):
    """The loaders of several datasets as one; `meta` of a batch names its dataset.

    Each dataset has its own order and epochs, independent of the mixture's epochs. Positions follow from the mixture's
    position, so a resumed mixture continues with the same batches.

    Args:
        loaders: by the name of their dataset. Each has its own workers.
        epochs: of each dataset in one epoch of the mixture, by name; at least one whole batch.
        order: "mixed", another draw every epoch, or "sequential" in the given order.
        seed: of the draw.
    """

    def __init__(
        self,
        loaders: Mapping[str, BatchLoader[BatchT]],
        epochs: Mapping[str, float],
        *,
        order: Literal["mixed", "sequential"] = "mixed",
        seed: int = 0,
    ) -> None:
        self.loaders, self.epochs, self.kind, self.seed = dict(loaders), dict(epochs), order, seed
        self.epoch, self.first_batch = 0, 0

    @property
    def batches(self) -> dict[str, int]:
        """Batches of each dataset in an epoch, for one process. Raises DataError for one without a whole batch."""
        for name, loader in self.loaders.items():
            if len(loader) == 0:
                found, fix = "no whole batch", "record more, or lower training.batch_size"
                raise DataError(f"dataset '{name}'", found=found, expected="one at least for each process", fix=fix)
        return {name: max(round(self.epochs[name] * len(loader)), 1) for name, loader in self.loaders.items()}

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return sum(self.batches.values())

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Start the next iteration at this batch of this epoch."""
        self.epoch, self.first_batch = epoch, batch

    def shard(self, rank: int, world_size: int) -> None:
        """Keep one process's part of the batches; in each step all processes load the same dataset."""
        for loader in self.loaders.values():
            loader.shard(rank, world_size)

    @property
    def pass_ends(self) -> tuple[int, ...]:
        """Numbers of batches after which a dataset is complete; where all are mixed, only the end of the epoch."""
        if self.kind == "mixed":
            return (len(self),)
        ends: list[int] = []
        for name, count in self.batches.items():
            start, whole = (ends[-1] if ends else 0), len(self.loaders[name])
            ends += [start + end for end in (*range(whole, count, whole), count)]
        return tuple(ends)

    def order(self, epoch: int) -> NDArray[np.intp]:
        """Return (len,) the dataset number of each batch in an epoch."""
        each = np.repeat(np.arange(len(self.loaders)), list(self.batches.values()))
        return make_generator(self.seed, "mixture", epoch).permutation(each) if self.kind == "mixed" else each

    def __iter__(self) -> Iterator[BatchT]:
        """Yield batches. Raises the errors of the loaders."""
        order, names, counts = self.order(self.epoch), list(self.loaders), list(self.batches.values())
        before = np.bincount(order[: self.first_batch], minlength=len(names))
        streams = [
            _iterate_from(self.loaders[name], self.epoch * counts[i] + int(before[i])) for i, name in enumerate(names)
        ]
        for number in order[self.first_batch :]:
            yield add_dataset_name(next(streams[number]), names[number])


def _iterate_from(loader: BatchLoader[BatchT], position: int) -> Iterator[BatchT]:
    """Yield batches from a position that counts from the start of the first epoch; nothing is loaded in advance."""
    while True:
        epoch, batch = divmod(position, len(loader))
        loader.set_position(epoch, batch)
        yield from loader
        position += len(loader) - batch


class SequentialLoader(Generic[BatchT]):
    """All batches of several datasets for validation, one dataset after the other.

    loaders: by the name of their dataset.
    """

    def __init__(self, loaders: Mapping[str, BatchLoader[BatchT]]) -> None:
        self.loaders = dict(loaders)

    def __len__(self) -> int:
        return sum(map(len, self.loaders.values()))

    def shard(self, rank: int, world_size: int) -> None:
        """Keep one process's part, see `Mixture`."""
        for loader in self.loaders.values():
            loader.shard(rank, world_size)

    def __iter__(self) -> Iterator[BatchT]:
        for name, loader in self.loaders.items():
            for batch in loader:
                yield add_dataset_name(batch, name)


def add_dataset_name(batch: BatchT, name: str) -> BatchT:
    """Return the batch with the name of its dataset in its meta."""
    return replace(batch, meta=tuple(replace(one, data=name) for one in batch.meta))


def take_batches_of_each(loaders: Mapping[str, BatchLoader[BatchT]], batches: int) -> MixtureLoader[BatchT]:
    """Load so many batches of each dataset, one dataset after the other, to examine all of them."""
    return MixtureLoader(
        loaders, {name: batches / max(len(one), 1) for name, one in loaders.items()}, order="sequential"
    )
