"""The expected cost of a training is printed after some steps."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from stadia.launch import expected_cost
from stadia.launch.expected_cost import ExpectedCost, describe_time
from stadia.training.batches import TrainingPhase, TrainingPlan
from stadia.training.config import TrainingConfig
from stadia.training.training_state import TimeLimit


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def make_loop(total_steps: int, **training: Any) -> Any:
    """The state of a training that the callback reads: 10 validation batches, an epoch of 100 steps."""
    config = TrainingConfig(**training)
    phases = tuple(TrainingPhase(total_steps // len(config.stages), 100) for _ in config.stages)
    plan = TrainingPlan(100, 1, total_steps, phases=phases)
    fabric = SimpleNamespace(is_global_zero=True, device=torch.device("cpu"))
    recipe = torch.nn.Linear(1000, 1000)
    values = {"plan": plan, "fabric": fabric, "recipe": recipe, "val_batches": [0] * 10, "step": 0}
    return SimpleNamespace(**values, config=config, time_limit=TimeLimit(config.max_minutes))


def run_steps(loop: Any, cost: ExpectedCost, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make 20 steps of some seconds each; the sixth takes ten times as long."""
    now = [0.0]
    monkeypatch.setattr(expected_cost.time, "perf_counter", lambda: now[0])
    cost.on_train_start(loop)
    for step in range(1, 21):
        loop.step = step
        now[0] += 10 * seconds if step == 6 else seconds
        cost.on_step_end(loop)
    cost.on_train_end(loop)


STAGES = [{"height": size, "width": size, "share": 0.5, "batch_size": 8} for size in (64, 128)]


@pytest.mark.parametrize(
    ("steps", "seconds", "training", "line"),
    [
        (100, 0.1, {}, ""),
        (2000, 0.5, {}, "expected: 1987 more steps of 0.5 s and 20 validations, 17 min in all (until "),
        (100_000, 1.0, {}, "; shorter: `--minutes 20`"),
        (10**6, 1.0, {"max_minutes": 5}, ", 5 min in all"),
        (1000, 1.0, {"stages": STAGES}, "expected: 987 more steps of 2.5 s and 10 validations, 44 min in all"),
    ],
    ids=["short", "10 batches of 0.2 s a validation", "long", "limit in minutes", "four times the pixels"],
)
def test_one_line_after_the_first_steps(
    steps: int, seconds: float, training: dict[str, Any], line: str, out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_steps(make_loop(steps, **training), ExpectedCost(Console(file=out, width=300)), seconds, monkeypatch)
    assert len(out.getvalue().splitlines()) == bool(line)
    assert line in out.getvalue()
    assert " GB; disk 0.02 GB in the run's folder" in out.getvalue() or not line


def test_the_fast_one_of_two_data_sets_does_not_stand_for_both(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost, loop, now = ExpectedCost(Console(file=out, width=200)), make_loop(1013), [0.0]
    monkeypatch.setattr(expected_cost.time, "perf_counter", lambda: now[0])
    for loop.step in range(1, 14):
        now[0] += 0.2 if loop.step % 2 else 2.0
        cost.on_step_end(loop)
    assert "1000 more steps of 1 s" in out.getvalue()


def test_a_training_that_ends_early_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    cost, loop = ExpectedCost(Console(quiet=True)), make_loop(5)
    for loop.step in range(1, 6):
        cost.on_step_end(loop)
    cost.on_train_end(loop)
    assert not cost.memory._thread.is_alive()


def test_times_are_seconds_minutes_or_hours() -> None:
    assert [describe_time(seconds) for seconds in (95, 90 * 60, 3.5 * 3600)] == ["95 s", "90 min", "3.5 h"]
