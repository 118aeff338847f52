"""`fit`: what it writes, and how it ends when it cannot go on."""

import io
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from tests.refusals import refuses
from tests.training.loop import small_recipe
from tests.training.loop.small_recipe import SmallLoader, SmallRecipe

from stadia.core.errors import RunError
from stadia.core.seeds import derive_seed
from stadia.differentiable.batch import Batch
from stadia.io.metrics_table import read_rows
from stadia.losses.loss_report import LossReport
from stadia.training.loop.checkpoint import Checkpoint, list_kept_checkpoints, load_weights
from stadia.training.loop.config import TrainingConfig
from stadia.training.loop.fit import fit
from stadia.training.loop.loop import Callback, TrainingLoop
from stadia.training.loop.run_folder import Run


def rows(run: Run) -> list[dict[str, str]]:
    return read_rows(run.metrics_csv)


@pytest.mark.slow
def test_run_folder_holds_losses_images_and_checkpoints(tmp_path: Path) -> None:
    run, fitted = small_recipe.train(tmp_path, images_every=15, log_every=5, loggers=("csv", "tensorboard"))
    assert [row["step"] for row in rows(run)] == ["5", "7", "10", "14", "15", "20", "20"]
    assert [row["epoch"] for row in rows(run)] == ["0", "0", "1", "1", "2", "2", "2"]
    trained, validated = rows(run)[0], rows(run)[1]
    assert {name for name, cell in trained.items() if cell} == {
        *("step", "epoch", "train/loss", "train/term/square", "train/term/size"),
        *("train/gradient_norm", "train/update_ratio", "train/lr", "gradient/output", "time/step_s"),
        *(f"time/{phase}_s" for phase in ("loading", "forward", "loss", "backward", "optimizer", "rest")),
    }
    assert {name for name, cell in validated.items() if cell} == {"step", "epoch", "val/error", "val/draw"}
    assert float(trained["train/loss"]) == pytest.approx(
        float(trained["train/term/square"]) + float(trained["train/term/size"])
    )
    assert 0 < float(trained["time/loading_s"]) < float(trained["time/step_s"]) < 5
    assert sorted(path.name for path in run.images.iterdir()) == [
        "step-000001.png",
        "step-000015.png",
        "step-000020.png",
    ]
    assert cv2.imread(str(run.images / "step-000020.png")) is not None
    assert list((run.folder / "tensorboard").iterdir())
    assert run.facts.status == "finished"
    assert (fitted.steps, fitted.checkpoint) == (20, run.checkpoints / "best.safetensors")


@pytest.mark.slow
def test_the_weights_of_every_few_steps_are_kept(tmp_path: Path) -> None:
    run, _ = small_recipe.train(tmp_path, keep_every=8)
    kept = list_kept_checkpoints(run.folder)
    assert [path.name for path in kept] == ["step-0000008.safetensors", "step-0000016.safetensors"]
    assert [Checkpoint.open(path).header.step for path in kept] == [8, 16]
    assert Checkpoint.open(run.folder).header.step == 20 or Checkpoint.open(run.folder).path.name == "best.safetensors"


@pytest.mark.slow
def test_the_best_is_chosen_by_the_metric_and_not_by_the_loss(tmp_path: Path) -> None:
    class Rising(SmallRecipe):
        def validation_step(self, batch: Batch) -> dict[str, float]:
            return {"error": float(self.global_step == 7) * -1.0, "loss": -float(self.global_step)}

    run, _ = small_recipe.train(tmp_path, recipe=Rising())
    best, last = (Checkpoint.open(run.checkpoints / f"{name}.safetensors") for name in ("best", "last"))
    assert (best.header.step, last.header.step) == (7, 20)
    assert (best.header.kind, last.header.kind) == ("weights", "training")
    assert best.header.metrics == {"val/error": -1.0, "val/loss": -7.0}
    assert best.header.config == run.config
    recipe = SmallRecipe(seed=9)
    load_weights(best, recipe, recipe="small")


def test_validation_is_the_mean_over_samples_not_batches(tmp_path: Path) -> None:
    class Sizes(SmallRecipe):
        def validation_step(self, batch: Batch) -> dict[str, float]:
            return {"error": float(batch.size)}

    batches = [small_recipe.collate([small_recipe.SmallSamples(0)[0, n] for n in range(size)]) for size in (1, 3)]
    run = Run.create(tmp_path, "small", {}, recipe="small", seed=0)
    config = TrainingConfig(max_steps=1, accelerator="cpu", loggers=("csv",), log_every=1)
    fit(Sizes(), SmallLoader(), batches, config, run)
    assert float(rows(run)[-1]["val/error"]) == (1 * 1 + 3 * 3) / 4


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:

    class Plain(SmallRecipe):
        def __init__(self) -> None:
            super().__init__()
            self.network[1], self.network[3] = torch.nn.Identity(), torch.nn.Identity()

    single = SmallLoader(batch_size=6)
    values = {"max_steps": 3, "accelerator": "cpu", "loggers": ("csv",), "log_every": 1}
    tables = []
    for loader, accumulate in ((SmallLoader(batch_size=3), 2), (single, 1)):
        run = Run.create(tmp_path, "small", {}, recipe="small", seed=0)
        fit(Plain(), loader, None, TrainingConfig(**values, grad_accumulation_steps=accumulate), run)
        tables.append([(float(row["train/loss"]), float(row["train/gradient_norm"])) for row in rows(run)])
    assert np.allclose(*tables, rtol=1e-5)


def test_clipping_bounds_the_step_and_logs_the_norm_before(tmp_path: Path) -> None:
    class Norms(Callback):
        seen: list[float] = []  # noqa: RUF012

        def on_step_end(self, loop: TrainingLoop) -> None:
            gradients = [p.grad for p in loop.recipe.parameters() if p.grad is not None]
            self.seen.append(float(torch.nn.utils.get_total_norm(gradients)))

    run, _ = small_recipe.train(tmp_path, callbacks=[Norms()], clip_norm=0.5, max_steps=4)
    assert len(Norms.seen) == 4
    assert max(Norms.seen) <= 0.5 + 1e-6
    assert max(float(row["train/gradient_norm"]) for row in rows(run) if row["train/gradient_norm"]) > 0.5


def test_bf16_runs_the_network_in_bfloat16(tmp_path: Path) -> None:
    class Types(SmallRecipe):
        seen: set[torch.dtype] = set()  # noqa: RUF012

        def training_step(self, batch: Batch) -> LossReport:
            self.seen.add(self.network[0](batch.inputs.image).dtype)
            return super().training_step(batch)

    small_recipe.train(tmp_path, recipe=Types(), precision="bf16", max_steps=2)
    assert Types.seen == {torch.bfloat16}
    Types.seen.clear()
    small_recipe.train(tmp_path, recipe=Types(), max_steps=2)
    assert Types.seen == {torch.float32}


# -- it says little, and only on its console
# ------------------------------------------------------------------------------


# -- how it ends when it cannot go on
# -------------------------------------------------------------------------------------


class BreaksAt(SmallRecipe):
    def training_step(self, batch: Batch) -> LossReport:
        report = super().training_step(batch)
        if self.training and self.global_step == 4:
            broken = report.maps["square"].clone()
            broken[1] = torch.nan
            return LossReport(
                broken.mean(), {"square": broken.mean(), "size": report.terms["size"]}, {"square": broken}
            )
        return report


def test_a_loss_that_is_not_finite_names_its_term_and_its_sample(tmp_path: Path) -> None:
    loader = SmallLoader(derive_seed(1, "data"))
    loader.set_position(0, 4)
    second = next(iter(loader)).meta[1]
    with refuses(RunError, where="5", found=second.index):
        small_recipe.train(tmp_path, recipe=BreaksAt(), checkpoint_every=2)
    (folder,) = tmp_path.iterdir()
    assert Run.open(folder).facts.status == "failed"
    assert Run.open(folder).facts.error.startswith("NotFiniteError: loss of step 5")
    assert Checkpoint.open(folder / "checkpoints" / "last.safetensors").header.step == 4


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path: Path) -> None:
    class Root(SmallRecipe):
        def training_step(self, batch: Batch) -> LossReport:
            report = super().training_step(batch)
            root = (self.network[0].bias * 0).abs().sum().sqrt()  # 0, with an infinite slope
            return replace(report, total=report.total + root) if self.training else report

    recipe = Root()
    with refuses(RunError, where="1", found="network.0.bias"):
        small_recipe.train(tmp_path, recipe=recipe)
    assert all(p.isfinite().all() for p in recipe.parameters())


@pytest.mark.slow
def test_a_training_ends_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is that of the training's own pauses, so that a busy machine and other threads change nothing."""
    now, this, wait = [0.0], threading.get_ident(), time.sleep

    def sleep(seconds: float) -> None:
        if threading.get_ident() == this:
            now[0] += seconds
        else:
            wait(seconds)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    told = Console(file=io.StringIO(), width=300)
    run, fitted = small_recipe.train(
        tmp_path,
        pause_s=0.02,
        max_steps=500,
        max_minutes=0.3 / 60,
        checkpoint_every=100,
        images_every=400,
        console=told,
    )
    last = fitted.steps
    shown = sorted(path.name for path in run.images.iterdir())
    assert shown == ["step-000001.png", f"step-{last:06d}.png"], "the report shows what was learned"
    assert 2 <= last <= 15, "of 0.02 s"
    printed = told.file.getvalue()  # type: ignore[attr-defined]
    assert f"step {last}/{last} " in printed, "the last line is about the last step"
    assert f"(training.max_minutes=0.005): step {last} of at most 500" in printed
    assert (run.facts.status, run.facts.ended_by_time.step, run.facts.time.steps) == ("finished", last, last)
    assert [row["step"] for row in rows(run) if row["val/error"]][-1] == str(last)
    assert Checkpoint.open(run.checkpoints / "last.safetensors").header.step == last
    rates = [float(row["train/lr"]) for row in rows(run) if row["train/lr"]]
    assert rates[-1] < 0.5 * rates[0], "the schedule follows the time"
    resumed = Console(file=io.StringIO(), width=300)
    _, again = small_recipe.train(
        tmp_path, resume=run.folder, max_steps=500, max_minutes=0.3 / 60, checkpoint_every=100, console=resumed
    )
    assert again.steps == last
    first, *_ = resumed.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first.startswith("small: training.max_minutes=0.005 are used up (the steps took 0.00")
    assert f") at step {last} of 500, in {run.folder}. Fix: resume it with more (training.max_minutes=" in first
