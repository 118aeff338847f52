"""A training is the same where its loading processes are started anew, as on Windows and macOS, and not forked."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stadia import training
from stadia.core.config import resolve_config
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.recipes.selfsup.config import SelfsupConfig

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]  # each worker imports torch, which takes seconds


@pytest.fixture
def start_method() -> Iterator[None]:
    before = multiprocessing.get_start_method()
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("start_method")
def test_spawned_workers_train_as_those_in_this_process(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stadia.training.start_checks.run_loss_checks", lambda *_: [])  # tested elsewhere
    weights = {}
    for workers in (0, 1):  # each imports torch anew, for training and for validation
        multiprocessing.set_start_method("spawn", force=True)
        words = [f"training.workers={workers}", "training.max_steps=2"]
        config = resolve_config(SelfsupConfig, small.model_dump(mode="json"), words)
        run = training.train(config, out=tmp_path / str(workers))
        weights[workers] = Checkpoint.open(run.checkpoints / "last.safetensors").weights()
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
