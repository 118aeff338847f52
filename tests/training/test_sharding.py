"""Two processes on the CPU with sharded weights: the training of ddp, whole checkpoints, exact resume."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_recipe
import torch
from small_recipe import HEIGHT, WIDTH, SmallRecipe
from test_distributed import VALUES, needs_gloo, run_in_two_processes
from test_resume import At, crash, table
from tests.refusals import refuses
from torch.distributed.tensor import DTensor

from stadia.core.errors import ConfigError
from stadia.files.run_facts import read_run_facts
from stadia.losses.loss_report import LossReport
from stadia.training import optim
from stadia.training.checkpoint import Checkpoint, load_weights
from stadia.training.config import TrainingConfig
from stadia.training.devices import make_fabric
from stadia.training.loop import Callback, TrainingLoop

pytestmark = [needs_gloo, pytest.mark.slow]

TOLERANCE = 1e-5
"""Relative. The gradient norm is summed by shards instead of weights, in float32: 6e-8 a rounding, nine updates."""

IMAGE = torch.linspace(0, 1, 2 * 3 * HEIGHT * WIDTH).reshape(2, 3, HEIGHT, WIDTH)


class CountsOwnWeights(Callback):
    """Writes how many values of the weights, and of the optimizer's state, this process has at an update."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_before_update(self, loop: TrainingLoop) -> None:
        weights = list(loop.recipe.parameters())
        state = [one["exp_avg"] for one in loop.optimizer.optimizer.state.values()]
        counts = {
            "all": sum(p.numel() for p in weights),
            "weights": sum(p.to_local().numel() for p in weights if isinstance(p, DTensor)),
            "gradients": sum(p.grad.to_local().numel() for p in weights if isinstance(p.grad, DTensor)),
            "state": sum(one.to_local().numel() for one in state if isinstance(one, DTensor)),
        }
        self.file.write_text(json.dumps(counts))


def train(
    rank: int, root: Path, values: dict[str, Any], resume: Path | None = None, crash_at: int | None = None
) -> None:
    optim.has_fused_update = lambda groups: None  # its last digit depends on the place of a weight in its shard
    callbacks = [] if crash_at is None else [At(crash_at, crash)]
    if values["strategy"] == "fsdp":
        callbacks += [CountsOwnWeights(root.parent / f"{root.name}-{rank}.json")]
    recipe = SmallRecipe()
    small_recipe.train(root, resume=resume, recipe=recipe, callbacks=callbacks, **{**VALUES, **values})
    torch.save(recipe.eval().network(IMAGE), root.parent / f"{root.name}-{rank}.pt")


def train_in_two_processes(root: Path, **values: Any) -> Path:
    assert run_in_two_processes(train, root, values) == [0, 0]
    (run,) = root.iterdir()
    return run


def scalars(run: Path, *without: str) -> list[dict[str, float]]:
    _, rows = table(run)
    return [{name: float(cell or "nan") for name, cell in row.items() if name not in without} for row in rows]


@pytest.fixture(scope="module")
def sharded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_in_two_processes(tmp_path_factory.mktemp("fsdp") / "runs", strategy="fsdp", images_every=2)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, marks=pytest.mark.exhaustive),
        {"grad_accumulation_steps": 2, "clip_norm": 0.3},
        pytest.param({"precision": "bf16"}, marks=pytest.mark.exhaustive),
    ],
    ids=["plain", "accumulated, clipped by the global norm", "bf16"],
)
def test_fsdp_trains_as_ddp_does(tmp_path: Path, values: dict[str, Any]) -> None:
    ddp, fsdp = (
        train_in_two_processes(tmp_path / name, strategy=name, histograms_every=4, **values) for name in ("ddp", "fsdp")
    )
    # The bias before the batch norm has no gradient but rounding errors, of which Adam makes updates: they change the
    # validation, not the training.
    noisy = ("val/error",) if "clip_norm" in values else ()
    for expected, found in zip(scalars(ddp, *noisy), scalars(fsdp, *noisy), strict=True):
        assert found == pytest.approx(expected, rel=TOLERANCE, nan_ok=True)
    weights = [Checkpoint.open(run / "checkpoints" / "last.safetensors").weights() for run in (ddp, fsdp)]
    for name in weights[0].keys() - {"network.0.bias", "network.1.running_mean"}:
        torch.testing.assert_close(weights[1][name], weights[0][name], rtol=TOLERANCE, atol=1e-6)
    histograms = [(run / "histograms.csv").read_text().splitlines() for run in (ddp, fsdp)]
    assert len(histograms[0]) == len(histograms[1])


def test_each_process_has_half_of_the_weights_gradients_and_optimizer_state(sharded_run: Path) -> None:
    counts = [json.loads((sharded_run.parents[1] / f"runs-{rank}.json").read_text()) for rank in range(2)]
    for kind in ("weights", "gradients", "state"):
        assert counts[0][kind] + counts[1][kind] == counts[0]["all"]
        assert min(one[kind] for one in counts) > 0.3 * counts[0]["all"]


def test_checkpoint_is_whole_and_predicts_the_same_in_one_process(sharded_run: Path) -> None:
    recipe = SmallRecipe(seed=1)
    load_weights(Checkpoint.open(sharded_run / "checkpoints" / "last.safetensors"), recipe, recipe="small")
    found = recipe.eval().network(IMAGE)
    for rank in range(2):
        trained = torch.load(sharded_run.parents[1] / f"runs-{rank}.pt")
        assert torch.equal(found, trained), "fit leaves whole trained weights in the recipe of every process"


def test_resume_is_exact(sharded_run: Path, tmp_path: Path) -> None:
    values = {"strategy": "fsdp", "images_every": 2}
    assert 0 not in run_in_two_processes(train, tmp_path / "crashed", values, None, 6)
    (crashed,) = (tmp_path / "crashed").iterdir()
    assert table(crashed)[1][-1]["step"] == "6"
    assert run_in_two_processes(train, tmp_path / "crashed", values, crashed) == [0, 0]
    assert table(crashed) == table(sharded_run)


class NotFiniteInOneProcess(SmallRecipe):
    def training_step(self, batch: Any) -> LossReport:
        report = super().training_step(batch)
        if self.global_step == 3 and self.rank == 1:
            return replace(report, total=report.total * math.nan)
        return report


def train_other(rank: int, root: Path, make: Callable[[], SmallRecipe], strategy: str) -> None:
    optim.has_fused_update = lambda groups: None
    small_recipe.train(root, recipe=make(), **{**VALUES, "strategy": strategy})


def test_loss_that_is_not_finite_in_one_process_stops_both(tmp_path: Path) -> None:
    assert 0 not in run_in_two_processes(train_other, tmp_path, NotFiniteInOneProcess, "fsdp")
    (run,) = tmp_path.iterdir()
    facts = read_run_facts(run)
    assert facts.status == "failed"
    assert "gradient of step 4" in str(facts.error)


def test_fp16_is_refused_with_fsdp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stadia.training.devices.select_device", lambda accelerator: torch.device("cuda"))
    with refuses(ConfigError, where="training.precision", found=("fp16", "training.strategy=fsdp")):
        make_fabric(TrainingConfig(strategy="fsdp", precision="fp16"))
