"""The progress bar of a training counts to the steps that are planned."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from stadia.training import callbacks
from stadia.training.callbacks import ProgressBar, describe_validation

STEPS = 80


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now_s=0.0, perf_counter=lambda: clock.now_s)
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


def count_totals(clock: SimpleNamespace, left_s: float) -> list[int]:
    """Return the total at each step; a step takes 0.37 s.  left_s: until the time limit at the first step."""
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


@pytest.mark.parametrize(
    ("names", "metrics", "best", "line"),
    [
        (("val/abs_rel",), {"val/abs_rel": 0.31}, None, "step 20/80  validation: Label 0.31, the best so far"),
        (
            ("val/abs_rel",),
            {"val/abs_rel": 0.31},
            0.3,
            "step 20/80  validation: Label 0.31; the best is 0.3 at step 10",
        ),
        (
            ("val/abs_rel", "val/residual"),
            {"val/abs_rel": math.nan, "val/residual": 0.2},
            None,
            "step 20/80  validation: Label 0.2, the best so far",
        ),
        (
            ("val/abs_rel", "val/residual"),
            {"val/abs_rel": math.nan, "val/residual": 0.2},
            0.3,
            "step 20/80  validation: Label 0.2",  # the best is of another score
        ),
        ((), {"val/abs_rel": 0.31}, None, "step 20/80  validation: Label 0.31"),  # no score chooses its checkpoint
        (("val/abs_rel",), {"val/abs_rel": math.nan}, 0.3, ""),
        ((), {}, None, ""),
    ],
)
def test_a_validation_has_one_line(
    names: tuple[str, ...], metrics: dict[str, float], best: float | None, line: str
) -> None:
    recipe = SimpleNamespace(best_metrics=names, describe_score=lambda name: "Label")
    before = None if best is None else SimpleNamespace(step=10, name="val/abs_rel")
    plan = SimpleNamespace(total_steps=STEPS)
    loop: Any = SimpleNamespace(step=20, plan=plan, recipe=recipe, metrics=metrics, best=best, best_score=before)
    described = describe_validation(loop)
    assert described == line
