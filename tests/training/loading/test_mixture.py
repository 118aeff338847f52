"""Several data sets as one loader: whole batches of one each, a position that is a pure function, equal parts for
processes.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from tests.combinations import mark_others

from stadia.core.types import TensorDataclass
from stadia.data.config import DataConfig
from stadia.differentiable.batch import Batch, Meta
from stadia.training.loading.loader import Loader, MixtureLoader
from stadia.training.recipes import configure

Order = Literal["mixed", "sequential"]


@dataclass(frozen=True, slots=True)
class SampleInputs(TensorDataclass):
    image: torch.Tensor


class Images:
    """So many of a size; what an image shows is its epoch and its index."""

    def __init__(self, count: int, width: int) -> None:
        self.count, self.width = count, width

    def __len__(self) -> int:
        return self.count

    def packed(self, key: tuple[int, int]) -> tuple[torch.Tensor, Meta]:
        epoch, index = key
        return torch.full((1, 2, self.width), 100 * epoch + index), Meta("drive", index)

    def stack(self, samples: Any) -> Any:
        images, metas = zip(*samples, strict=True)
        return torch.stack(images), metas

    def unpack(self, packed: Any, device: torch.device | str) -> Batch[Any, Any]:
        images, metas = packed
        return Batch(SampleInputs(images), SampleInputs(images), metas)


EPOCHS = {"a": 1.0, "b": 2.0, "c": 0.5}


def loaders(workers: int = 0) -> dict[str, Loader[Any, Any]]:
    """Of 5, 2 and 4 batches."""
    sets = {"a": Images(10, 6), "b": Images(5, 4), "c": Images(8, 8)}
    return {name: Loader(one, batch_size=2, shuffle=True, workers=workers) for name, one in sets.items()}


def mixture(order: Order = "mixed", workers: int = 0, seed: int = 0) -> MixtureLoader[Any]:
    return MixtureLoader(loaders(workers), EPOCHS, order=order, seed=seed)


def batch_keys(mixture: Any) -> list[tuple[str, int, list[int]]]:
    """Of each batch its data set, its images' width, and what they show."""
    found = []
    for batch in mixture:
        (name,) = {one.data for one in batch.meta}
        found.append((name, batch.inputs.image.shape[-1], batch.inputs.image[:, 0, 0, 0].tolist()))
    return found


@pytest.mark.slow
def test_batches_have_one_dataset_each_at_the_configured_rate() -> None:
    mixed = mixture()
    first = batch_keys(mixed)
    assert len(mixed) == len(first) == 5 + 4 + 2
    assert Counter((name, width) for name, width, _ in first) == {("a", 6): 5, ("b", 4): 4, ("c", 8): 2}
    names = [name for name, _, _ in first]
    assert names != sorted(names), "they are mixed"
    assert batch_keys(mixed) == first
    mixed.set_position(1)
    assert [name for name, _, _ in batch_keys(mixed)] != names, "every epoch by another draw"
    assert [name for name, _, _ in batch_keys(mixture(seed=1))] != names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "workers"),
    mark_others([("mixed", 0), ("sequential", 0), ("mixed", 1), ("sequential", 1)], [("sequential", 0), ("mixed", 1)]),
)
def test_resumed_anywhere_the_batches_are_the_same(order: Order, workers: int) -> None:
    undisturbed, resumed = mixture(order), mixture(order, workers)
    for epoch, start in ((0, 4), (3, 1), (1, 10)):
        undisturbed.set_position(epoch)
        resumed.set_position(epoch, start)
        assert batch_keys(resumed) == batch_keys(undisturbed)[start:]
        assert len(resumed) == len(undisturbed)


@pytest.mark.parametrize("order", ["mixed", "sequential"])
def test_processes_share_the_dataset_of_each_step_without_repeats(order: Order) -> None:
    parts = [mixture(order), mixture(order)]
    for rank, part in enumerate(parts):
        part.shard(rank, 2)
        part.set_position(2)
    first, second = map(batch_keys, parts)
    assert [name for name, _, _ in first] == [name for name, _, _ in second]
    assert len(first) == len(parts[0]) == 2 + 2 + 1
    for (name, _, mine), (_, _, others) in zip(first, second, strict=True):
        assert not set(mine) & set(others), name


def data(*words: str) -> DataConfig:
    config = configure("selfsup", words, data={"path": "K", "height": 64, "offsets": (-2, 2)}).data
    assert isinstance(config, DataConfig)
    return config
