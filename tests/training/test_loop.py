"""The numbers of the training loop: pinned to the last digit, and equal to a plain loop written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_recipe
import torch
from small_recipe import SmallLoader, SmallRecipe
from test_distributed import VALUES, needs_gloo, run_in_two_processes
from test_stages import HALF, WHOLE, config
from test_stages import train as train_in_stages

from stadia.core.seeds import derive
from stadia.training import optim, rng
from stadia.training.config import TrainingConfig
from stadia.training.loggers import read_rows
from stadia.training.loop import Callback, TrainingLoop
from stadia.training.run import Run
from stadia.training.stream import BatchStream, Plan

# fmt: off
LOSSES: dict[str, list[float]] = {
    "plain": [1.1317393779754639, 0.3453359305858612, 0.6591642498970032, 0.07562240213155746, 0.6580615043640137, 0.48006731271743774, 0.3370168209075928, 0.6616317629814148, 0.0976678878068924, 0.2515525221824646, 0.08846448361873627, 0.44031327962875366],
    "accumulate": [0.7804369330406189, 0.54762864112854, 0.30810070037841797, 0.37218669056892395, 0.1672208607196808, 0.1738361120223999, 0.36817362904548645, 0.0879458412528038, 0.21746039390563965, 0.07281573116779327, 0.08670150488615036, 0.10234180092811584],
    "bf16": [1.1353511810302734, 0.3427899181842804, 0.6609801054000854, 0.07650257647037506, 0.650638997554779, 0.4756178855895996, 0.34101027250289917, 0.6559895277023315, 0.09674077481031418, 0.25557228922843933, 0.09025628864765167, 0.4404103457927704],
    "stages": [0.4854404926300049, 0.14656002819538116, 0.3048628270626068, 0.17222388088703156, 0.7390546798706055, 0.0026323876809328794, 0.9964317083358765, 0.1192050501704216, 0.014945929870009422, 0.15702922642230988, 0.060285747051239014, 0.19770604372024536, 0.018895449116826057, 0.24133442342281342, 0.14166603982448578],
    "ddp": [0.8575807809829712, 0.39580899477005005, 0.2567640542984009, 0.3218316435813904, 0.13526910543441772, 0.44634589552879333, 0.09705806523561478, 0.1349974423646927, 0.05636780709028244],
}
"""Of the loop on Lightning's Trainer that this one replaced: torch 2.13 on a CPU."""
# fmt: on

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulate": {"accumulate": 2, "clip_norm": 0.5},
    "bf16": {"precision": "bf16"},
}


def logged_losses(run: Run) -> list[float]:
    return [float(row["train/loss"]) for row in read_rows(run.metrics_csv) if row["train/loss"]]


@pytest.mark.parametrize("name", CASES)
def test_losses_are_those_of_the_loop_before(tmp_path: Path, name: str) -> None:
    run, _ = small_recipe.train(tmp_path, max_steps=12, validate_every=5, **CASES[name])
    assert logged_losses(run) == pytest.approx(LOSSES[name], rel=1e-6)


def test_losses_in_stages_are_those_of_the_loop_before(tmp_path: Path) -> None:
    run, _ = train_in_stages(tmp_path, config(HALF, WHOLE))
    assert logged_losses(run) == pytest.approx(LOSSES["stages"], rel=1e-6)


def train_as_one_of_two(rank: int, root: Path) -> None:
    small_recipe.train(root, task=SmallRecipe(), **VALUES)


@needs_gloo
def test_losses_of_two_processes_are_those_of_the_loop_before(tmp_path: Path) -> None:
    assert run_in_two_processes(train_as_one_of_two, tmp_path) == [0, 0]
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert logged_losses(Run.open(folder)) == pytest.approx(LOSSES["ddp"], rel=1e-6)


@pytest.mark.parametrize(("accumulate", "clip_norm"), [(1, None), (2, None), (3, 0.5)])
def test_the_loop_equals_a_plain_loop_bit_for_bit(tmp_path: Path, accumulate: int, clip_norm: float | None) -> None:
    values = {"max_steps": 8, "accumulate": accumulate, "clip_norm": clip_norm}
    run, _ = small_recipe.train(tmp_path, **values)

    recipe, training = SmallRecipe(), TrainingConfig(batch_size=3, **values)
    loader = SmallLoader(derive(1, "data"))
    plan = Plan.of(loader, training)
    optimizer = torch.optim.AdamW(optim.parameter_groups(recipe, recipe.config.optimizer.weight_decay), lr=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: optim.factor(
            step, recipe.config.schedule, total_steps=plan.total_steps, steps_per_epoch=plan.steps_per_epoch
        ),
    )
    rng.seed_all(1, "training", 0)
    batches, losses = iter(BatchStream(loader, plan)), []
    for _ in range(plan.total_steps):
        optimizer.zero_grad()
        loss = torch.zeros(())
        for _ in range(accumulate):
            report = recipe.training_step(next(batches))
            (report.total / accumulate).backward()
            loss = loss + report.total.detach() / accumulate
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(recipe.parameters(), clip_norm)
        optimizer.step()
        schedule.step()
        losses.append(float(loss))
    assert logged_losses(run) == losses


class Calls(Callback):
    """Keeps the order of the hooks."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_train_start(self, loop: TrainingLoop) -> None:
        self.names.append("train start")

    def on_batch_start(self, loop: TrainingLoop, is_last: bool) -> None:
        self.names.append("last batch" if is_last else "batch")

    def on_before_update(self, loop: TrainingLoop) -> None:
        self.names.append(f"before update {loop.step + 1}")

    def on_batch_end(self, loop: TrainingLoop) -> None:
        self.names.append("batch end")

    def on_step_end(self, loop: TrainingLoop) -> None:
        self.names.append(f"step {loop.step}")

    def on_validation_start(self, loop: TrainingLoop) -> None:
        self.names.append("validation")

    def on_validation_end(self, loop: TrainingLoop) -> None:
        self.names.append("val/error" if "val/error" in loop.metrics else "none")

    def on_train_end(self, loop: TrainingLoop) -> None:
        self.names.append("train end")


def test_hooks_are_called_in_the_order_of_a_step(tmp_path: Path) -> None:
    calls = Calls()
    small_recipe.train(tmp_path, callbacks=[calls], max_steps=2, accumulate=2, validate_every=2)
    step = ["batch", "batch end", "last batch", "before update {0}", "batch end", "step {0}"]
    one, two = ([name.format(number) for name in step] for number in (1, 2))
    assert calls.names == ["train start", *one, *two, "validation", "val/error", "train end"]


def test_callbacks_end_when_a_training_fails(tmp_path: Path) -> None:
    class Fails(SmallRecipe):
        def training_step(self, batch: Any) -> Any:
            raise ValueError("broken")

    calls, errors = Calls(), []
    calls.on_exception = lambda loop, error: errors.append(str(error))  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="broken"):
        small_recipe.train(tmp_path, task=Fails(), callbacks=[calls])
    assert (errors, calls.names[-1]) == (["broken"], "train end")


def test_validation_leaves_each_module_in_its_mode(tmp_path: Path) -> None:
    recipe = SmallRecipe()
    recipe.network[1].eval()  # frozen batch norm
    small_recipe.train(tmp_path, task=recipe, max_steps=4, validate_every=2)
    assert [module.training for module in recipe.network] == [True, False, True, True, True, True]
