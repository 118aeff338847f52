"""What a run's record keeps over a resume: the times of its phases, the score of its start, and where it began."""

import io
import os
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console
from tests.combinations import mark_others
from tests.refusals import refuses
from tests.training.loop import small_recipe
from tests.training.loop.test_resume import At

from stadia.core.errors import RunError
from stadia.io.run_facts import TimeLimitEnd
from stadia.judge.depth import TrainingRecord
from stadia.training.loop.fit import Interrupted
from stadia.training.loop.loop import TrainingLoop
from stadia.training.loop.run_folder import Run


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def stop_after(root: Path, step: int, **values: object) -> Path:
    with pytest.raises(Interrupted):
        small_recipe.train(root, callbacks=[At(step - 1, interrupt)], **values)
    (run,) = root.iterdir()
    return run


def started_recipe() -> small_recipe.SmallRecipe:
    recipe = small_recipe.SmallRecipe()
    recipe.started_from, recipe.start_steps = "runs/long/checkpoints/best.safetensors, step 5000", 5000
    return recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stopped_at", "factor"), mark_others([(8, 1e-9), (20, 1e-9), (8, 1e9), (20, 1e9)], [(8, 1e-9), (20, 1e9)])
)
def test_a_better_start_is_remembered_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int, factor: float
) -> None:
    score_validation = TrainingLoop.score_validation

    def score(loop: TrainingLoop) -> dict[str, float]:
        found = score_validation(loop)
        return {name: value * factor for name, value in found.items()} if loop.step == 0 else found

    monkeypatch.setattr(TrainingLoop, "score_validation", score)
    folder = stop_after(tmp_path, stopped_at, recipe=started_recipe())
    output = io.StringIO()
    small_recipe.train(tmp_path, resume=folder, console=Console(file=output, width=500))
    assert Run.open(folder).facts.worse_than_start == (factor < 1)
    assert TrainingRecord.read(folder).is_worse_than_start == (factor < 1)
    if stopped_at < 20:
        assert ("note: the start was better: val/" in output.getvalue()) == (factor < 1)


@pytest.fixture
def seconds_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def begin_batch(recipe: object) -> None:
        now[0] += 2.0

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(small_recipe.SmallRecipe, "on_batch_start", begin_batch)


def resume(folder: Path, minutes: float | None) -> tuple[int, str]:
    output = io.StringIO()
    console = Console(file=output, width=500)
    _, trained = small_recipe.train(folder.parent, resume=folder, console=console, max_minutes=minutes)
    return trained.steps, output.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("seconds_a_step")
def test_a_run_that_its_time_ended_goes_on_with_a_larger_limit(tmp_path: Path) -> None:
    run, trained = small_recipe.train(tmp_path, max_minutes=0.15)
    assert trained.steps == 5, "10 s are more than 9 s"
    steps, printed = resume(run.folder, 0.15)
    assert (steps, printed) == (
        5,
        f"small: training.max_minutes=0.15 are used up (the steps took 0.167) at step 5 of 20, in {run.folder}."
        " Fix: resume it with more (training.max_minutes=MINUTES, or null for no limit), or train a new run from its"
        f" weights: start_from={run.folder}\n",
    )
    steps, printed = resume(run.folder, 0.16)
    assert steps == 5
    assert printed.startswith("small: training.max_minutes=0.16 are used up (the steps took 0.167) at step 5 of 20")
    assert "was the last" not in printed
    with refuses(RunError, found=("training.max_minutes", "0.16", "->")):
        resume(run.folder, 0.1)
    steps, printed = resume(run.folder, 0.3)
    assert steps == 9
    assert "steps 6 to at most 20" in printed
    assert "training.max_minutes=0.3): step 9 of at most 20" in printed
    now = Run.open(run.folder)
    assert now.config["training"]["max_minutes"] == 0.3
    assert (now.facts.ended_by_time, now.facts.status) == (TimeLimitEnd(step=9, seconds=18.0), "finished")
    steps, printed = resume(run.folder, None)
    assert steps == 20
    done = Run.open(run.folder)
    assert done.config["training"]["max_minutes"] is None
    assert done.facts.ended_by_time is None
    assert resume(run.folder, None)[1].startswith("small: all 20 steps are done already")
