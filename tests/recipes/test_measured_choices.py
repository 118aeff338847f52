"""The settings that depend on the machine are resolved by three training steps: precision and compilation."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.refusals import refuses

from stadia import launch, recipes
from stadia.core.config import resolve_config
from stadia.core.errors import RunError
from stadia.launch import step_measurement
from stadia.launch.step_measurement import choose_compilation, choose_precision
from stadia.recipes.selfsup.config import SelfsupConfig
from stadia.training.config import TrainingConfig


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.mark.parametrize(("bf16_s", "taken"), [(0.5, "bf16"), (1.5, "32")])
def test_the_faster_precision_is_taken(
    bf16_s: float, taken: str, out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the fastest step but the first, which compiles."""
    seconds = {"32": (9.0, 1.0, 1.2), "bf16": (0.1, 3.0, bf16_s)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        step_measurement,
        "measure_steps",
        lambda _, config, data: SimpleNamespace(seconds=seconds[config.training.precision]),
    )
    config = recipes.configure("selfsup", ["training.precision=auto"], data={"path": "drive.mp4"})
    chosen = choose_precision(config, None, Console(file=out, width=200))
    assert chosen.training.precision == taken
    assert f"training.precision=auto: {taken}, measured in three steps each (32 1 s, bf16 {bf16_s} s a step)" in (
        out.getvalue()
    )
    assert choose_precision(chosen, None, Console(file=out)) is chosen, "a given precision stays"


def measure_as(seconds: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let three steps with `training.compile` take these seconds each, or raise."""

    def measure(recipe_class: object, config: Any, data: object) -> SimpleNamespace:
        found = seconds[config.training.compile]
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(seconds=(60.0, found, found))

    monkeypatch.setattr(step_measurement, "measure_steps", measure)


def compiled(kind: str, **others: Any) -> Any:
    words = [f"training.{name}={value}" for name, value in {"compile": kind, **others}.items()]
    return recipes.configure("selfsup", words, data={"path": "drive.mp4"})


@pytest.mark.slow
def test_a_resumed_training_keeps_what_was_measured(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve_config(SelfsupConfig, small.model_dump(mode="json"), ["training.precision=auto"])
    seconds = {"32": 1.0, "bf16": 2.0}
    monkeypatch.setattr(step_measurement, "_measure", lambda config, data: seconds[config.training.precision])
    run = launch.train(config, out=tmp_path / "runs")
    assert run.config["training"]["precision"] == "32"
    seconds["bf16"] = 0.5  # another machine, or a busy one
    assert launch.train(config, resume=run.folder).config["training"]["precision"] == "32"


def test_a_compilation_that_works_is_taken(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    measure_as({"networks": 1.0}, monkeypatch)
    assert choose_compilation(compiled("networks"), None, Console(file=out)).training.compile == "networks"
    assert out.getvalue() == ""


def test_a_compilation_that_fails_falls_back_with_one_line(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    measure_as({"all": RuntimeError("expected strides\n(4, 1)")}, monkeypatch)
    assert choose_compilation(compiled("all"), None, Console(file=out, width=300)).training.compile == "off"
    assert out.getvalue() == (
        "note: training.compile=all failed (RuntimeError: expected strides (4, 1)). Nothing is compiled. Fix: set"
        " training.compile=off\n"
    )


def test_an_error_of_the_training_is_none_of_the_compiler(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RunError("memory of step 1", found="none left", expected="memory", fix="lower training.batch_size")
    measure_as({"all": error}, monkeypatch)
    with refuses(RunError, where="1"):
        choose_compilation(compiled("all"), None, Console(file=out))


def test_auto_takes_the_fastest_that_works_on_a_gpu(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seconds = {"off": 1.0, "loss": 0.6, "networks": 0.7, "all": 0.5, "graphs": RuntimeError("no graph")}
    measure_as(seconds, monkeypatch)
    assert choose_compilation(compiled("auto"), None, Console(file=out, width=300)).training.compile == "all"
    failed, chosen = out.getvalue().splitlines()
    assert "training.compile=graphs failed (RuntimeError: no graph)" in failed
    assert chosen.startswith("training.compile=auto: all, measured in three steps each (off 1 s, loss 0.6 s,")


def test_graphs_replay_one_batch_a_step() -> None:
    with pytest.raises(ValueError, match="grad_accumulation_steps=2"):
        TrainingConfig(compile="graphs", grad_accumulation_steps=2)


@pytest.mark.slow
def test_a_training_with_a_broken_compiler_is_the_training_without(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The compiler fails; the run trains as if none had been requested, and its configuration says so."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch.nn.Module, "compile", fail)
    config = resolve_config(SelfsupConfig, small.model_dump(mode="json"), ["training.compile=networks"])
    run = launch.train(config, out=tmp_path / "runs")
    assert run.config["training"]["compile"] == "off"
    assert "note: training.compile=networks failed (RuntimeError: no compiler here)" in capfd.readouterr().err
