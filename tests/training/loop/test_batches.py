"""The length of a training, and its batches as one stream: from any position on, shared by processes."""

from collections.abc import Iterator

import pytest
from tests.refusals import refuses
from tests.training.loop.small_recipe import SmallLoader

from stadia.core.errors import RunError
from stadia.differentiable.batch import Batch
from stadia.training.loop.batches import BatchStream, TrainingPlan, shard_loaders
from stadia.training.loop.config import TrainingConfig


def test_a_plan_counts_steps_batches_and_epochs() -> None:
    loader = SmallLoader(batch_size=3)  # 7 batches
    plan = TrainingPlan.from_loader(loader, TrainingConfig(max_epochs=3, grad_accumulation_steps=2))
    assert (plan.total_steps, plan.total_batches, plan.steps_per_epoch) == (10, 20, 3.5)
    assert [plan.epoch_of(step) for step in (0, 1, 3, 4, 7, 8, 10)] == [0, 0, 0, 1, 1, 2, 2]
    assert TrainingPlan.from_loader(loader, TrainingConfig(max_epochs=3, max_steps=4)).total_steps == 4


def keys(batches: Iterator[Batch]) -> list[tuple[int, ...]]:
    return [tuple(meta.index for meta in batch.meta) for batch in batches]


@pytest.mark.slow
def test_a_stream_goes_on_from_its_position_over_epochs() -> None:
    plan = TrainingPlan.from_loader(SmallLoader(), TrainingConfig(max_steps=18))
    whole = keys(iter(BatchStream(SmallLoader(), plan)))
    assert len(whole) == 18
    assert whole[:7] != whole[7:14], "every epoch has its own order"
    for position in (0, 5, 7, 17, 18):
        rest = BatchStream(SmallLoader(), plan)  # with workers: test_resume.py, in a process of its own
        rest.position = position
        assert keys(iter(rest)) == whole[position:]


def test_processes_share_the_batches() -> None:
    plan = TrainingPlan(3, 1, 3)
    seen = []
    for rank in range(2):
        loader = SmallLoader()
        shard_loaders([loader, None], rank, 2)
        assert len(loader) == 3
        seen += keys(iter(BatchStream(loader, plan)))
    indices = [index for batch in seen for index in batch]
    assert len(indices) == len(set(indices)) == 18


def test_a_loader_that_cannot_be_shared_is_refused_for_training_alone() -> None:
    class Alone:
        def __len__(self) -> int:
            return 1

        def set_position(self, epoch: int, batch: int) -> None: ...

        def __iter__(self) -> Iterator[Batch]:
            return iter(())

    shard_loaders([Alone()], 0, 1)
    shard_loaders([[]], 0, 2)
    with refuses(RunError, where="training data"):
        shard_loaders([Alone()], 0, 2)
