"""Two processes on the CPU: one folder, equal weights, exact means over both, and the same losses after a crash."""

import json
import math
import multiprocessing
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.processes import join_together
from tests.training.loop import small_recipe
from tests.training.loop.test_resume import At, crash, table
from torch import Tensor

from stadia.differentiable.batch import Batch
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.config import TrainingConfig
from stadia.training.loop.fit import fit
from stadia.training.loop.run_folder import Run

VALUES: dict[str, Any] = {"strategy": "ddp", "devices": 2, "max_steps": 9, "checkpoint_every": 4, "validate_every": 5}


def start_like_torchrun(
    rank: int, count: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    work(rank, *arguments)


def run_in_two_processes(work: Callable[..., None], *arguments: Any) -> list[int | None]:
    return run_in_processes(2, work, *arguments)


def run_in_processes(count: int, work: Callable[..., None], *arguments: Any, method: str = "fork") -> list[int | None]:
    """Run `work` in processes of one group; return their exit codes.

    method: "fork" is fast, because everything is imported already; "spawn" for work that uses threads of the parent.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context(method)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python 3.12 warns of forking beside threads; they do nothing here
        processes = [
            context.Process(target=start_like_torchrun, args=(rank, count, port, work, arguments))
            for rank in range(count)
        ]
        for one in processes:
            one.start()
    return join_together(processes, timeout=240)


def train(rank: int, root: Path, resume: Path | None = None, crash_at: int | None = None) -> None:
    callbacks = [] if crash_at is None else [At(crash_at, crash)]
    recipe = small_recipe.SmallRecipe()
    small_recipe.train(root, resume=resume, recipe=recipe, callbacks=callbacks, **VALUES)
    safetensors.torch.save_file(dict(recipe.named_parameters()), root / f"weights-{rank}.safetensors")


needs_gloo = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")


@pytest.mark.slow
@needs_gloo
def test_two_processes_are_one_training_and_resume_exactly(tmp_path: Path) -> None:
    assert run_in_two_processes(train, tmp_path / "undisturbed") == [0, 0]
    (undisturbed,) = (path for path in (tmp_path / "undisturbed").iterdir() if path.is_dir())
    weights = [
        safetensors.torch.load_file(tmp_path / "undisturbed" / f"weights-{rank}.safetensors") for rank in range(2)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    random = Checkpoint.open(undisturbed / "checkpoints" / "last.safetensors").state()["random"]["torch"]
    assert len(random) == 2, "each process has its own random numbers"
    assert not torch.equal(random[0], random[1])

    assert 0 not in run_in_two_processes(train, tmp_path / "crashed", None, 6)
    (crashed,) = (path for path in (tmp_path / "crashed").iterdir() if path.is_dir())
    assert table(crashed)[1][-1]["step"] == "6"
    assert run_in_two_processes(train, tmp_path / "crashed", crashed) == [0, 0]
    assert table(crashed) == table(undisturbed)


class Shares:
    """A validation set of 5 samples shared by two processes as `Loader` does it: three batches each, the first sample
    given twice.
    """

    batches = {(0, 1): [[0, 1, 2, 3, 4]], (0, 2): [[0], [2], [4]], (1, 2): [[1], [3], [0]]}  # noqa: RUF012
    mine = 0, 1

    def __len__(self) -> int:
        return len(self.batches[self.mine])

    def shard(self, rank: int, world_size: int) -> None:
        self.mine = rank, world_size

    def __iter__(self) -> Iterator[Batch]:
        return (
            small_recipe.collate([small_recipe.SmallSamples(0)[0, index] for index in batch])
            for batch in self.batches[self.mine]
        )


class Scores(small_recipe.SmallRecipe):
    def validation_step(self, batch: Batch) -> Mapping[str, Tensor]:
        index = torch.tensor([meta.index for meta in batch.meta], dtype=torch.float64)
        scores = (
            {"in_one_process_only": index.where(index >= 2, math.nan)}
            if any(meta.index in (2, 4) for meta in batch.meta)
            else {}
        )
        scores |= (
            {"in_the_other_only": index.where(index == 3, math.nan)}
            if any(meta.index == 3 for meta in batch.meta)
            else {}
        )
        return scores | {"error": 0.1 * index, "nowhere": torch.full_like(index, math.nan)}


def validate(rank: int, root: Path, devices: int) -> None:
    recipe = Scores()
    config = TrainingConfig(
        max_steps=1,
        accelerator="cpu",
        threads=1,
        loggers=("csv",),
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
    )
    run = Run.create(root, "small", {}, recipe="small", seed=0)
    metrics = fit(recipe, small_recipe.SmallLoader(), Shares(), config, run).metrics
    (root / f"validated-{rank}.json").write_text(json.dumps(metrics))


@pytest.mark.slow
@needs_gloo
def test_the_mean_of_a_validation_is_exact_over_two_processes_that_score_different_names(tmp_path: Path) -> None:
    validate(0, tmp_path / "alone", 1)
    assert run_in_two_processes(validate, tmp_path / "shared", 2) == [0, 0]
    validated = [
        tmp_path / "alone" / "validated-0.json",
        *(tmp_path / "shared" / f"validated-{rank}.json" for rank in range(2)),
    ]
    alone, first, second = (json.loads(path.read_text()) for path in validated)
    assert all(math.isnan(means.pop("val/nowhere")) for means in (alone, first, second))
    assert alone == first == second == {"val/in_one_process_only": 3.0, "val/in_the_other_only": 3.0, "val/error": 0.2}
