"""A training that is killed, interrupted or crashed resumes with the losses of an undisturbed one, bit for bit."""

import io
import json
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from benchmarks.campaign.harness import fingerprint
from rich.console import Console
from tests.combinations import mark_others
from tests.processes import leave_stale_file, leave_stale_folder
from tests.refusals import refuses
from tests.training.loop import small_recipe

from stadia.core.errors import CheckpointError, DataError, RunError
from stadia.io import atomic_files as files
from stadia.io.metrics_table import read_rows
from stadia.io.run_facts import Status
from stadia.training.loop.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from stadia.training.loop.fit import Interrupted
from stadia.training.loop.loop import Callback, TrainingLoop
from stadia.training.loop.run_folder import Run


class At(Callback):
    def __init__(self, step: int, what: Callable[[], object]) -> None:
        self.step, self.what, self.done = step, what, False

    def on_batch_start(self, loop: TrainingLoop, is_last: bool) -> None:
        if loop.step == self.step and not self.done:
            self.done = True
            self.what()


class Crash(Exception):
    """Something that nobody foresaw."""


def crash() -> NoReturn:
    raise Crash


def table(run: Path) -> tuple[list[str], list[dict[str, str]]]:
    rows = read_rows(run / "metrics.csv")
    return list(rows[0]), [{name: cell for name, cell in row.items() if not name.startswith("time/")} for row in rows]


CASES: dict[str, dict[str, Any]] = {
    "right after a validation": {"checkpoint_every": 100, "validate_every": 9},
    "before any checkpoint": {"checkpoint_every": 100, "validate_every": 100},
    "at the end of an epoch": {"checkpoint_every": 7, "validate_every": 100},
    "bf16": {"checkpoint_every": 4, "precision": "bf16"},
    "sparse rows": {"checkpoint_every": 3, "log_every": 4, "validate_every": 100},
}


@pytest.mark.slow
@pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())
def test_crashed_training_resumes_exactly(tmp_path: Path, values: dict[str, Any]) -> None:
    undisturbed, _ = small_recipe.train(tmp_path / "undisturbed", **values)
    run = None
    with pytest.raises(Crash):
        small_recipe.train(tmp_path / "crashed", callbacks=[At(10, crash)], **values)
    (run,) = (tmp_path / "crashed").iterdir()
    assert Run.open(run).facts.status == "failed"
    small_recipe.train(tmp_path, resume=run, **values)
    assert table(run) == table(undisturbed.folder)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "validate_every"), [(signal.SIGINT, 11), (signal.SIGTERM, 100)])
def test_signal_saves_a_checkpoint_and_resume_is_exact(
    tmp_path: Path, number: signal.Signals, validate_every: int
) -> None:
    values = {"checkpoint_every": 100, "validate_every": validate_every, "grad_accumulation_steps": 2}
    values |= {"images_every": 100}
    undisturbed, _ = small_recipe.train(tmp_path / "undisturbed", **values)
    output = io.StringIO()
    before = signal.getsignal(number)
    callbacks = [At(10, lambda: os.kill(os.getpid(), number))]
    with pytest.raises(Interrupted, match="--resume"):
        small_recipe.train(tmp_path / "stopped", callbacks=callbacks, console=Console(file=output, width=500), **values)
    assert signal.getsignal(number) is before
    (run,) = (tmp_path / "stopped").iterdir()
    assert output.getvalue().splitlines()[-1].endswith(f"--resume {run}")
    assert Run.open(run).facts.status == "interrupted"
    assert json.loads((run / "checkpoints" / "last.json").read_text())["step"] == 11
    assert sorted(path.name for path in (run / "images").iterdir()) == ["step-000001.png", "step-000011.png"]
    small_recipe.train(tmp_path, resume=run, **values)
    assert table(run) == table(undisturbed.folder)


@pytest.mark.slow
def test_nothing_pickled_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Crash):
        small_recipe.train(tmp_path, callbacks=[At(10, crash)])
    (run,) = tmp_path.iterdir()

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch.serialization, "load", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    small_recipe.train(tmp_path, resume=run)


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    run, _ = small_recipe.train(tmp_path)
    before = table(run.folder)
    recipe = small_recipe.SmallRecipe(seed=3)
    output = io.StringIO()
    small_recipe.train(tmp_path, resume=run.folder, recipe=recipe, console=Console(file=output, width=300))
    assert output.getvalue() == (
        f"small: all 20 steps are done already, in {run.folder}."
        f" Fix: train a new run from its weights: start_from={run.folder}\n"
    )
    assert table(run.folder) == before
    assert recipe.network[0].weight.abs().sum() != small_recipe.SmallRecipe(seed=3).network[0].weight.abs().sum(), (
        "the trained weights are loaded"
    )


LOST = "checkpoints/last.safetensors", "metrics.csv"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "status"),
    mark_others(
        [(name, status) for name in LOST for status in ("finished", "failed", "running")],
        [(LOST[0], "finished"), (LOST[1], "running")],
    ),
)
def test_a_run_that_lost_a_file_is_refused_and_keeps_the_others(tmp_path: Path, name: str, status: Status) -> None:
    run, _ = small_recipe.train(tmp_path)
    (run.folder / name).unlink()
    run.update_facts(lambda facts: replace(facts, status=status))
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with refuses(RunError, where=name, fix=f"start_from={run.folder}"):
        small_recipe.train(tmp_path, resume=run.folder)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_what_a_killed_process_half_wrote_is_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Crash):
        small_recipe.train(tmp_path, callbacks=[At(10, crash)])
    (run,) = tmp_path.iterdir()
    leave_stale_file(run / "checkpoints" / "last.safetensors")
    leave_stale_folder(run / "checkpoints" / "last")
    (run / "checkpoints" / ".tmpWhRQul").write_text("years of work")  # as the package safetensors names its own
    (run / "checkpoints" / ".bashrc").write_text("years of work")  # of its user, in whatever way it got there
    monkeypatch.setattr(files, "_CLEANED", set())  # as in a new process
    small_recipe.train(tmp_path, resume=run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        ".bashrc",
        ".tmpWhRQul",
        "best.json",
        "best.safetensors",
        "last.json",
        "last.safetensors",
    ]


def stopped(root: Path) -> Path:
    with pytest.raises(Crash):
        small_recipe.train(root, callbacks=[At(13, crash)], histograms_every=4)
    (run,) = root.iterdir()
    return run


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped(tmp_path_factory.mktemp("stopped"))


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    checkpoint = Checkpoint.open(path)
    header, state = checkpoint.header.model_dump(), checkpoint.state()
    change(header, state)
    write_checkpoint(path, CheckpointHeader(**header), state)


WRONG: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "another run": lambda header, state: header["config"]["training"].update(max_steps=19),
    "weights alone": lambda header, state: header.update(kind="weights"),
    "another recipe": lambda header, state: header.update(recipe="large"),
    "another step": lambda header, state: header.update(step=9),
    "a step beyond the end": lambda header, state: (header.update(step=900), state.update(step=900)),
    "no optimizer": lambda header, state: state.pop("optimizer"),
    "no random numbers": lambda header, state: state.update(random={}),
    "a list of weights": lambda header, state: state.update(state_dict=[1]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_checkpoint_changes_nothing_in_the_run(stopped_run: Path, tmp_path: Path, name: str) -> None:
    run = shutil.copytree(stopped_run, tmp_path / stopped_run.name)
    rewrite(run / "checkpoints" / "last.safetensors", WRONG[name])
    before = fingerprint(run)
    with refuses(CheckpointError, where="last.safetensors") as caught:
        small_recipe.train(tmp_path, resume=run)
    assert "\n" not in str(caught.value)
    assert fingerprint(run) == before


@pytest.mark.slow
@pytest.mark.parametrize("table_name", ["metrics.csv", "histograms.csv"])
@pytest.mark.parametrize("damage", [lambda text: "garbage\nmore garbage\n", lambda text: text + "9" * 5000 + "\n"])
def test_a_damaged_table_changes_nothing_in_the_run(
    stopped_run: Path, tmp_path: Path, table_name: str, damage: Callable[[str], str]
) -> None:
    run = shutil.copytree(stopped_run, tmp_path / stopped_run.name)
    (run / table_name).write_text(damage((run / table_name).read_text()))
    before = fingerprint(run)
    with refuses(DataError, where=table_name):
        small_recipe.train(tmp_path, resume=run)
    assert fingerprint(run) == before
