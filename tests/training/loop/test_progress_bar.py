"""The progress bar of a training counts to the steps that are planned."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from stadia.training.loop import callbacks
from stadia.training.loop.callbacks import ProgressBar

STEPS = 80


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now_s=0.0, perf_counter=lambda: clock.now_s)
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


def count_totals(clock: SimpleNamespace, left_s: float) -> list[int]:
    report = SimpleNamespace(total=torch.tensor(1.0))
    limit = SimpleNamespace(left_s=left_s)
    loop: Any = SimpleNamespace(
        step=0, plan=SimpleNamespace(total_steps=STEPS), time_limit=limit, is_finished=False, report=report
    )
    bar, totals = ProgressBar(Console(file=io.StringIO(), force_terminal=True)), []
    bar.on_train_start(loop)
    for loop.step in range(1, STEPS + 1):
        clock.now_s += 0.37
        limit.left_s -= 0.37
        loop.is_finished = loop.step == STEPS
        bar.on_step_end(loop)
        totals.append(int(bar.bar.tasks[0].total or 0))
    bar.bar.stop()
    return totals


def test_total_is_that_of_the_plan_at_every_step(clock: SimpleNamespace) -> None:
    assert set(count_totals(clock, float("inf"))) == {STEPS}


def test_total_is_smaller_where_the_time_ends_the_training(clock: SimpleNamespace) -> None:
    assert count_totals(clock, 40 * 0.37)[0] in (40, 41)
