"""A loader whose order is a pure function of (seed, epoch), so that a run resumed in mid-epoch sees what it would have seen."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from torch.utils.data import DataLoader, Sampler

from stadia.core.seeds import generator
from stadia.core.types import Batch, collate
from stadia.data.samples import Samples


class EpochOrder(Sampler[tuple[int, int]]):
    """Yields (epoch, index) keys of `Samples`, so that workers need not be told the epoch.

    Args:
        length: number of samples.
        batch_size: of one process.
        shuffle: a permutation drawn from (seed, epoch); else in order.
        drop_last: leave out the last samples that do not fill a batch of every process; else the first ones are repeated
            until each process has equally many.
        rank, world_size: this process among those that train together. Batch n of all of them is the same set of samples
            whatever world_size, where world_size * batch_size is the same.

    Lightning calls `set_epoch` by itself. `len` is of the whole epoch, also after `resume`.
    """

    def __init__(
        self, length: int, *, batch_size: int, shuffle: bool, seed: int = 0, drop_last: bool = False, rank: int = 0, world_size: int = 1
    ) -> None:
        self.length, self.batch_size, self.shuffle, self.seed, self.drop_last = length, batch_size, shuffle, seed, drop_last
        self.rank, self.world_size = rank, world_size
        self.epoch, self.start_batch = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration goes through, from its start unless it was resumed in the middle."""
        if epoch != self.epoch:
            self.epoch, self.start_batch = epoch, 0

    def resume(self, epoch: int, start_batch: int) -> None:
        """Go on in `epoch` with batch `start_batch`; the epochs after it are whole again."""
        self.epoch, self.start_batch = epoch, start_batch

    def __len__(self) -> int:
        together = self.batch_size * self.world_size
        return self.length // together * self.batch_size if self.drop_last else -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = generator(self.seed, "order", self.epoch).permutation(self.length) if self.shuffle else np.arange(self.length)
        order = np.resize(order, len(self) * self.world_size)  # cut off, or repeated from the start
        together = self.batch_size * self.world_size
        for start in range(self.start_batch * together, len(order), together):
            mine = np.array_split(order[start : start + together], self.world_size)[self.rank]
            yield from ((self.epoch, int(index)) for index in mine)


def start_worker(_: int) -> None:
    """One core a worker: OpenCV would start its own threads in each."""
    cv2.setNumThreads(0)


def build_loader(
    samples: Samples,
    *,
    batch_size: int,
    shuffle: bool,
    workers: int = 0,
    seed: int = 0,
    drop_last: bool | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[Batch]:
    """Batches of samples. `loader.sampler` is the `EpochOrder`: `set_epoch` before each epoch, `resume` after a break.

    drop_last: None drops where shuffled (training), unless that would leave nothing.
    With more processes pass Lightning `use_distributed_sampler=False`: the order is already shared out.
    """
    fills = len(samples) >= batch_size * world_size
    drop = (shuffle and fills) if drop_last is None else drop_last
    order = EpochOrder(len(samples), batch_size=batch_size, shuffle=shuffle, seed=seed, drop_last=drop, rank=rank, world_size=world_size)
    return DataLoader(
        samples,
        batch_size=batch_size,
        sampler=order,
        drop_last=drop,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
        worker_init_fn=start_worker,
    )
