"""Several data sets as one loader: batches of one data set each, in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.seeds import generator
from stadia.core.types import Batch

BatchT_co = TypeVar("BatchT_co", bound=Batch[Any, Any], covariant=True)
BatchT = TypeVar("BatchT", bound=Batch[Any, Any])


class Loads(Protocol[BatchT_co]):
    """What `data.loader.Loader` is to a mixture."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[BatchT_co]: ...
    def set_position(self, epoch: int, batch: int = 0) -> None: ...
    def shard(self, rank: int, world_size: int) -> None: ...


class Mixture(Generic[BatchT]):
    """The loaders of several data sets as one; `meta` of a batch says of which data set it is.

    Each data set is gone through in its own order, epoch after epoch of its own, wherever the mixture's epochs begin
    and end. So a position is one number for each, which follows from the mixture's, and a mixture that is resumed sees
    what it would have seen.

    Args:
        loaders: by the name of their data set. Each has its own workers.
        epochs: of each data set in one epoch of the mixture, by name; whole batches, one at least.
        order: "mixed", every epoch by another draw, or "one_after_another" as they are named.
        seed: of the draw.
    """

    def __init__(
        self,
        loaders: Mapping[str, Loads[BatchT]],
        epochs: Mapping[str, float],
        *,
        order: Literal["mixed", "one_after_another"] = "mixed",
        seed: int = 0,
    ) -> None:
        self.loaders, self.epochs, self.kind, self.seed = dict(loaders), dict(epochs), order, seed
        self.epoch, self.first_batch = 0, 0

    @property
    def batches(self) -> dict[str, int]:
        """How many of each data set an epoch has, for one process. Raises DataError for a data set without a whole one."""
        for name, loader in self.loaders.items():
            if len(loader) == 0:
                fix = "record more, or lower training.batch_size"
                raise DataError(
                    f"data set '{name}'", found="no whole batch", expected="one at least for each process", fix=fix
                )
        return {name: max(round(self.epochs[name] * len(loader)), 1) for name, loader in self.loaders.items()}

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return sum(self.batches.values())

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """The next iteration goes through this epoch, from this batch to its last."""
        self.epoch, self.first_batch = epoch, batch

    def shard(self, rank: int, world_size: int) -> None:
        """Keep the part of one process among those that train together: in each step they all see the same data set."""
        for loader in self.loaders.values():
            loader.shard(rank, world_size)

    @property
    def pass_ends(self) -> tuple[int, ...]:
        """After how many batches of an epoch a data set has been gone through; where all are mixed, at its end alone."""
        if self.kind == "mixed":
            return (len(self),)
        ends: list[int] = []
        for name, count in self.batches.items():
            start, whole = (ends[-1] if ends else 0), len(self.loaders[name])
            ends += [start + end for end in (*range(whole, count, whole), count)]
        return tuple(ends)

    def order(self, epoch: int) -> NDArray[np.intp]:
        """(len,) of which data set each batch of an epoch is, by its number."""
        each = np.repeat(np.arange(len(self.loaders)), list(self.batches.values()))
        return generator(self.seed, "mixture", epoch).permutation(each) if self.kind == "mixed" else each

    def __iter__(self) -> Iterator[BatchT]:
        """Raises what a loader raises."""
        order, names, counts = self.order(self.epoch), list(self.loaders), list(self.batches.values())
        before = np.bincount(order[: self.first_batch], minlength=len(names))
        streams = [_from(self.loaders[name], self.epoch * counts[i] + int(before[i])) for i, name in enumerate(names)]
        for number in order[self.first_batch :]:
            yield named(next(streams[number]), names[number])


def _from(loader: Loads[BatchT], position: int) -> Iterator[BatchT]:
    """Batches from a position on, counted from the start of its first epoch; nothing is loaded before it is asked for."""
    while True:
        epoch, batch = divmod(position, len(loader))
        loader.set_position(epoch, batch)
        yield from loader
        position += len(loader) - batch


class InTurn(Generic[BatchT]):
    """All batches of several data sets, for validation: one data set after the other.

    loaders: by the name of their data set.
    """

    def __init__(self, loaders: Mapping[str, Loads[BatchT]]) -> None:
        self.loaders = dict(loaders)

    def __len__(self) -> int:
        return sum(map(len, self.loaders.values()))

    def shard(self, rank: int, world_size: int) -> None:
        """See `Mixture`."""
        for loader in self.loaders.values():
            loader.shard(rank, world_size)

    def __iter__(self) -> Iterator[BatchT]:
        for name, loader in self.loaders.items():
            for batch in loader:
                yield named(batch, name)


def named(batch: BatchT, name: str) -> BatchT:
    """The batch, whose samples say of which data set they are."""
    return replace(batch, meta=tuple(replace(one, data=name) for one in batch.meta))


def turns(loaders: Mapping[str, Loads[BatchT]], batches: int) -> Mixture[BatchT]:
    """So many batches of each data set, one after the other: for a look at all of them."""
    return Mixture(
        loaders, {name: batches / max(len(one), 1) for name, one in loaders.items()}, order="one_after_another"
    )
