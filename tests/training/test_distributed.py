"""Two processes on the CPU: one folder, equal weights, validation over both, and the same losses after a crash."""

from __future__ import annotations

import multiprocessing
import os
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import small_recipe
import torch
from test_resume import At, crash, table

from stadia.training.checkpoints import Checkpoint

VALUES: dict[str, Any] = {"strategy": "ddp", "devices": 2, "max_steps": 9, "checkpoint_every": 4, "validate_every": 5}


def process(rank: int, port: int, root: Path, resume: Path | None, crash_at: int | None) -> None:
    """One of the two, started as torchrun would start it."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    callbacks = [] if crash_at is None else [At(crash_at, crash)]
    task = small_recipe.SmallTask()
    small_recipe.train(root, resume=resume, task=task, callbacks=callbacks, **VALUES)
    safetensors.torch.save_file(dict(task.named_parameters()), root / f"weights-{rank}.safetensors")


def both(root: Path, resume: Path | None = None, crash_at: int | None = None) -> list[int | None]:
    """Run the two processes; their exit codes."""
    root.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")  # everything is imported already
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking beside threads; they do nothing here
        processes = [context.Process(target=process, args=(rank, port, root, resume, crash_at)) for rank in range(2)]
        for one in processes:
            one.start()
    for one in processes:
        one.join(timeout=120)
        one.kill()
        one.join()
    return [one.exitcode for one in processes]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_are_one_training_and_resume_exactly(tmp_path: Path) -> None:
    assert both(tmp_path / "undisturbed") == [0, 0]
    (undisturbed,) = (path for path in (tmp_path / "undisturbed").iterdir() if path.is_dir())
    weights = [safetensors.torch.load_file(tmp_path / "undisturbed" / f"weights-{rank}.safetensors") for rank in range(2)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    random = Checkpoint.open(undisturbed / "checkpoints" / "last.safetensors").state()["random"]["torch"]
    assert len(random) == 2, "each process has its own random numbers"
    assert not torch.equal(random[0], random[1])

    assert 0 not in both(tmp_path / "crashed", crash_at=6)
    (crashed,) = (path for path in (tmp_path / "crashed").iterdir() if path.is_dir())
    assert table(crashed)[1][-1]["step"] == "6"
    assert both(tmp_path / "crashed", resume=crashed) == [0, 0]
    assert table(crashed) == table(undisturbed)
