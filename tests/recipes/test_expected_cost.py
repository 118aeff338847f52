"""The expected cost of a training is printed after some steps, and `--minutes` sets the number of steps."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from stadia import recipes
from stadia.core.errors import ConfigError
from stadia.recipes.base import expected_cost
from stadia.recipes.base.expected_cost import MEASURED_STEPS, SKIPPED_STEPS, ExpectedCost, choose_steps, describe_time


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def make_loop(total_steps: int, **training: Any) -> Any:
    """The state of a training that the callback reads: 10 validation batches, an epoch of 100 steps."""
    config = {"validate_every": None, "max_minutes": None, **training}
    plan = SimpleNamespace(total_steps=total_steps, grad_accumulation_steps=1, steps_per_epoch=100)
    fabric = SimpleNamespace(is_global_zero=True, device=torch.device("cpu"))
    recipe = torch.nn.Linear(1000, 1000)
    values = {"plan": plan, "fabric": fabric, "recipe": recipe, "val_batches": [0] * 10, "step": 0}
    return SimpleNamespace(**values, config=SimpleNamespace(**config))


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


def test_one_line_after_the_first_steps(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """1987 steps of 0.5 s, and 20 validations of 10 batches of 0.2 s."""
    cost = ExpectedCost(Console(file=out, width=200))
    run_steps(make_loop(SKIPPED_STEPS + MEASURED_STEPS + 1987), cost, 0.5, monkeypatch)
    (line,) = out.getvalue().splitlines()
    assert line.startswith("expected: 1987 more steps of 0.5 s and 20 validations, 17 min in all (until ")
    assert line.endswith(" GB; disk 0.02 GB in the run's folder")


def test_long_trainings_name_what_is_shorter_and_short_ones_print_nothing(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_steps(make_loop(100), ExpectedCost(Console(file=out)), 0.1, monkeypatch)
    assert out.getvalue() == ""
    run_steps(make_loop(100_000), ExpectedCost(Console(file=out, width=300)), 1.0, monkeypatch)
    assert "shorter: `--minutes 20`" in out.getvalue()


def test_a_limit_in_minutes_bounds_the_time(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    run_steps(make_loop(10**6, max_minutes=5), ExpectedCost(Console(file=out, width=200)), 1.0, monkeypatch)
    assert ", 5 min in all" in out.getvalue()


def test_a_training_that_ends_early_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    cost, loop = ExpectedCost(Console(quiet=True)), make_loop(5)
    for loop.step in range(1, 6):
        cost.on_step_end(loop)
    cost.on_train_end(loop)
    assert not cost.memory._thread.is_alive()


def test_times_are_minutes_or_hours() -> None:
    assert (describe_time(90 * 60), describe_time(3.5 * 3600)) == ("90 min", "3.5 h")


def test_minutes_set_the_steps_by_the_measured_time(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipes.configure("selfsup", data={"path": "drive.mp4"})
    monkeypatch.setattr(expected_cost, "prepare_data", lambda recipe, config, console: (config, None))
    times = SimpleNamespace(seconds=(9.0, 0.6, 0.5))
    monkeypatch.setattr(expected_cost, "measure_steps", lambda *_: times)
    training = choose_steps(config, 10, Console(file=out, width=200)).training
    assert (training.max_steps, training.max_epochs, training.validate_every) == (1020, None, 204)
    assert out.getvalue() == "--minutes 10: 1020 steps of 0.5 s (training.max_steps=1020)\n"
    times.seconds = (900.0, 900.0, 900.0)
    with pytest.raises(ConfigError, match=r"--minutes: found 1, and a step takes 900 s; expected time for one step"):
        choose_steps(config, 1, Console(quiet=True))


def test_a_device_that_is_not_here_is_refused_before_the_data_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipes.configure("selfsup", ["training.accelerator=cuda"], data={"path": "drive.mp4"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(expected_cost, "prepare_data", lambda *_: pytest.fail("the data were opened"))
    with pytest.raises(ConfigError, match=r"training\.accelerator: found .cuda."):
        choose_steps(config, 5, Console(quiet=True))


@pytest.mark.parametrize("word", ["training.max_steps=5", "training.max_epochs=5", "--dry-run"])
def test_minutes_alone_decide_about_the_length(stadia, tmp_path, word):
    code, _, err = stadia("train", "selfsup", tmp_path, "--minutes", "5", word)
    assert (code, f"--minutes: found given with {word.partition('=')[0]}" in err) == (2, True)


GB = 10**9


@pytest.mark.parametrize(
    ("steps", "peak_bytes", "free_bytes", "area"),
    [
        (4000, GB, 64 * GB, 122880),
        (3999, GB, 64 * GB, 53248),
        (1000, GB, 64 * GB, 30720),
        (10, GB, 64 * GB, 30720),
        (10**6, GB, 4 * GB, 53248),
        (10**6, 8 * GB, 4 * GB, 30720),
    ],
)
def test_the_largest_image_with_enough_steps_and_memory(steps, peak_bytes, free_bytes, area) -> None:
    assert expected_cost.choose_area(steps, peak_bytes, free_bytes) == area


def test_auto_keeps_the_shape_of_the_data_and_what_the_user_set(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recording:
        @staticmethod
        def camera(index: int) -> Any:
            return SimpleNamespace(height=1080, width=1920)

    data = SimpleNamespace(split=SimpleNamespace(train=[SimpleNamespace(recording=Recording())]))
    measured = SimpleNamespace(seconds=(9.0, 0.2, 0.2), peak_bytes=(GB,), device="cpu")
    memory = SimpleNamespace(available=16 * GB)
    monkeypatch.setattr(expected_cost, "prepare_data", lambda recipe, config, console: (config, data))
    monkeypatch.setattr(expected_cost, "measure_steps", lambda *_: measured)
    monkeypatch.setattr(expected_cost.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(expected_cost, "find_packaged_file", lambda name: None)

    def resolve(words: list[str]) -> Any:
        return recipes.configure("selfsup", [*words, "training.batch_size=2"], data={"path": "drive.mp4"})

    chosen = expected_cost.choose_settings(resolve, 20, Console(file=out, width=300))
    config = resolve(chosen)
    assert (config.data.height, config.data.width) == (256, 448)
    assert (config.model.encoder, config.model.pretrained) == ("mobilenetv3_small_100", False)
    assert (config.training.batch_size, config.schedule.warmup_steps) == (2, 50)
    assert out.getvalue().startswith("--preset auto: model.encoder=mobilenetv3_small_100 ")


def test_auto_is_of_selfsup_alone(stadia, tmp_path) -> None:
    code, _, err = stadia("train", "dpt", tmp_path, "--preset", "auto")
    assert (code, "--preset auto: found recipe 'dpt'; expected selfsup" in err) == (2, True)
    code, _, err = stadia("train", "selfsup", tmp_path, "--preset", "auto", "--dry-run")
    assert (code, "--preset auto: found given with --dry-run" in err) == (2, True)
