"""Three full steps before a training: that it runs, and what it holds."""

import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tests.refusals import refuses

from stadia import training
from stadia.core.errors import RunError
from stadia.training import workflow
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe
from stadia.training.step_measurement import SampleStep, check_memory

MB = 1 << 20


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(autouse=True)
def not_held_to_its_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stadia.training.workflow.run_loss_checks", lambda *_: [])


@pytest.mark.slow
def test_dry_run_reports_peak_memory_of_three_steps_for_every_recipe(
    small: SelfsupConfig, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, **given: updates.append(len(self.state)) or step(self, **given)
    )
    long = small.model_copy(
        update={"training": small.training.model_copy(update={"max_steps": 5000, "grad_accumulation_steps": 2})}
    )
    before = psutil.Process().memory_info().rss  # of this process, which also counts
    found = training.dry_run(long)
    assert len(updates) == 3
    assert updates[0] == 0 < updates[1] == updates[2]
    assert (found.device, len(found.peak_bytes), len(found.seconds)) == ("cpu", 3, 3)
    assert all(100 * MB < peak < before + 8000 * MB for peak in found.peak_bytes)
    assert str(found).startswith("3 full steps: peak memory of all its processes ")
    assert not list(here.iterdir()), "nothing is kept"


@pytest.mark.slow
def test_long_steps_are_estimated_from_one_sample(small: SelfsupConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "MAX_DRY_STEPS_S", 0.0)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: pytest.fail("a step was made"))
    found = training.dry_run(small)
    assert (found.is_estimated, found.device, len(found.peak_bytes), len(found.seconds)) == (True, "cpu", 1, 1)
    assert str(found).startswith("a step, estimated from one sample: about ")


def test_an_estimate_grows_with_the_batch_and_is_refused_before_it_fills_the_memory(small: SelfsupConfig) -> None:
    sample = SampleStep("cpu", seconds=2.0, held_bytes=500 * MB, weight_bytes=100 * MB, sample_bytes=50 * MB)
    found = sample.estimate_steps(8, batches=2)
    assert (found.peak_bytes, found.seconds) == ((1200 * MB,), (32.0,))
    check_memory(found, small)
    with refuses(RunError, where="memory", found="GB", fix="batch_size"):
        check_memory(sample.estimate_steps(1 << 30, batches=1), small)


@pytest.mark.slow
def test_out_of_memory_error_names_the_step(small: SelfsupConfig, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = SelfsupRecipe.training_step

    def full(self: SelfsupRecipe, batch: Any) -> Any:
        if self.global_step == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        return step(self, batch)

    monkeypatch.setattr(SelfsupRecipe, "training_step", full)
    with refuses(RunError, where="2", found=("MB", "CUDA"), fix="batch_size"):
        training.dry_run(small)
