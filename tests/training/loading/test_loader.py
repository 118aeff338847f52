"""The order of batches is a function of seed and epoch, from any position, with any workers, in any number of
processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.refusals import refuses
from torch.utils.data._utils.pin_memory import pin_memory

from stadia.core.errors import DataError
from stadia.core.types import TensorDataclass
from stadia.data.config import AugmentationConfig, CacheConfig
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.batch import Batch, Meta
from stadia.training.loading.loader import EpochSampler, Loader
from stadia.training.loading.samples import VideoSamples, stack_samples


@pytest.fixture
def samples(tmp_path: Path, world: Any) -> VideoSamples:
    (recording,) = open_recordings(world.recording(tmp_path / "a", 12, stereo=False, depth=False))
    return VideoSamples(
        [recording], height=32, width=48, offsets=(1,), augmentation=AugmentationConfig(), cache=CacheConfig()
    )


def indices(loader: Loader) -> list[list[int]]:
    return [[meta.index for meta in batch.meta] for batch in loader]


def test_epochs_differ_and_repeat(samples: VideoSamples) -> None:
    loader = Loader(samples, batch_size=2, shuffle=True, seed=1)
    assert len(loader) == 5
    epochs = []
    for epoch in (0, 1, 0):
        loader.set_position(epoch)
        epochs.append(indices(loader))
    assert epochs[0] == epochs[2] != epochs[1]
    assert len({i for batch in epochs[0] for i in batch}) == 10
    other = Loader(samples, batch_size=2, shuffle=True, seed=2)
    assert indices(other) != epochs[0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_anywhere_the_batches_are_the_same(samples: VideoSamples, workers: int) -> None:
    undisturbed = Loader(samples, batch_size=3, shuffle=True)
    resumed = Loader(samples, batch_size=3, shuffle=True, workers=workers)
    for epoch, start in ((0, 1), (2, 2), (1, 0)):
        undisturbed.set_position(epoch)
        resumed.set_position(epoch, start)
        expected, got = list(undisturbed)[start:], list(resumed)
        assert len(resumed) == 3, "the length is of the whole epoch"
        assert len(got) == len(expected)
        for one, two in zip(expected, got, strict=True):
            assert one.meta == two.meta
            assert torch.equal(one.inputs.image, two.inputs.image)


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_epoch(drop_last: bool, world_size: int) -> None:
    """Every process has equally many keys, none is in two, and together they are the batches of one process alone."""
    shards = []
    for rank in range(world_size):
        order = EpochSampler(50, batch_size=6 // world_size, shuffle=True, drop_last=drop_last)
        order.rank, order.world_size, order.epoch = rank, world_size, 7
        shards.append(list(order))
        assert len(shards[-1]) == len(order)
    seen = [index for shard in shards for _, index in shard]
    assert {epoch for shard in shards for epoch, _ in shard} == {7}
    assert len(seen) == (48 if drop_last else -(-50 // world_size) * world_size)
    assert len(set(seen)) == (48 if drop_last else 50)
    alone = EpochSampler(50, batch_size=6, shuffle=True, drop_last=drop_last)
    alone.epoch = 7
    size = 6 // world_size
    for number, start in enumerate(range(0, 48, 6)):
        together = {index for shard in shards for _, index in shard[number * size : (number + 1) * size]}
        assert together == {index for _, index in list(alone)[start : start + 6]}


def test_for_a_gpu_every_tensor_of_a_batch_is_in_pinned_memory(
    samples: VideoSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Loader(samples, batch_size=2, shuffle=True)._batches.pin_memory
    assert Loader(samples, batch_size=2, shuffle=True, device="cuda:0")._batches.pin_memory
    pinned = torch.zeros(7)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda _: pinned)  # needs a GPU
    batch = stack_samples([samples.packed((0, 0)), samples.packed((0, 1))])
    moved = pin_memory(batch)
    assert all(
        getattr(moved, f.name) is pinned for f in fields(batch) if isinstance(getattr(batch, f.name), torch.Tensor)
    )
    assert (moved.meta, moved.source_names) == (batch.meta, batch.source_names)


@dataclass(frozen=True, slots=True)
class ImageInputs(TensorDataclass):
    image: torch.Tensor


@dataclass(frozen=True, slots=True)
class MaskTargets(TensorDataclass):
    mask: torch.Tensor


class Mugs:
    """Single images with a mask, no video: what a worker sends is (image, mask, meta)."""

    def __len__(self) -> int:
        return 7

    def packed(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, Meta]:
        epoch, index = key
        return (
            torch.full((3, 4, 6), 10 * epoch + index, dtype=torch.uint8),
            torch.ones(1, 4, 6, dtype=torch.bool),
            Meta("mugs", index),
        )

    def stack(self, samples: Any) -> Any:
        images, masks, metas = zip(*samples, strict=True)
        return torch.stack(images), torch.stack(masks), metas

    def unpack(self, packed: Any, device: torch.device | str) -> Batch[ImageInputs, MaskTargets]:
        images, masks, metas = packed
        return Batch(ImageInputs(images.to(device) / 255), MaskTargets(masks.to(device)), metas)


class Unreadable:
    """Samples of which none can be read."""

    def __len__(self) -> int:
        return 4

    def packed(self, key: tuple[int, int]) -> None:
        raise DataError(f"frame {key[1]}", found="a truncated image", expected="a PNG", fix="copy it again")

    def stack(self, samples: Sequence[None]) -> None: ...


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_sample_reaches_the_trainer_as_it_is(workers):
    loader = Loader(Unreadable(), batch_size=2, shuffle=False, workers=workers)  # type: ignore[arg-type]
    with refuses(DataError, where="0", expected="PNG"):
        next(iter(loader))
    loader.rest()  # ends its workers
