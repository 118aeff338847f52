"""Steps and settings for given minutes: `--minutes`, `--preset auto`, and `launch.choose_configuration`."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from stadia import training as launch
from stadia.core.errors import ConfigError
from stadia.training import recipes, time_budget
from stadia.training.loading.loader import MixtureLoader
from stadia.training.loop.clock import CommandEnd
from stadia.training.step_measurement import DryRunResult
from stadia.training.time_budget import MeasuredTraining, average_steps, choose_steps

GB = 10**9


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def make_measured(config: Any, step_s: float, validation_s: float = 0.0, **facts: Any) -> MeasuredTraining:
    known = {"data": SimpleNamespace(train=None, val=None), "peak_bytes": GB, "device": "cpu", **facts}
    return MeasuredTraining(config=config, step_s=step_s, validation_s=validation_s, **known)


def choose(
    config: Any, minutes: float, measured: MeasuredTraining, console: Console | None = None
) -> time_budget.PlannedTraining:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_budget.time, "perf_counter", lambda: 0.0)
        return choose_steps(config, minutes, console or Console(quiet=True), measured=measured)


def selfsup(*words: str) -> Any:
    return recipes.configure("selfsup", list(words), data={"path": "drive.mp4"})


def test_minutes_set_the_steps_by_the_measured_time(out: io.StringIO) -> None:
    measured = make_measured(selfsup(), 0.5)
    planned = choose(selfsup(), 10, measured, Console(file=out, width=200))
    training = planned.config.training
    assert (training.max_steps, training.max_epochs, training.validate_every) == (1716, None, 229)
    assert training.max_minutes == pytest.approx(572 / 60)
    assert out.getvalue() == (
        "--minutes 10: about 1144 steps of 0.5 s, until the time is over"
        " (training.max_steps=1716 training.max_minutes=9.53)\n"
    )
    assert planned.end == CommandEnd(600.0, time_budget.END_S)
    assert planned.data is measured.data
    with pytest.raises(ConfigError) as refused:
        choose(selfsup(), 1, make_measured(selfsup(), 900.0))
    assert (refused.value.where, refused.value.fix) == ("--minutes", "--minutes 151")


def test_minutes_include_what_comes_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: 200.0)
    measured = make_measured(selfsup(), 1.0, 20.0)
    planned = choose_steps(selfsup(), 20, Console(quiet=True), started_s=100.0, measured=measured)
    assert planned.end == CommandEnd(1300.0, 8 + 50)
    steps_s = 1200 - 100 - 58 - 20 - 4 * 20
    assert planned.config.training.max_minutes == pytest.approx(steps_s / 60)
    assert planned.config.training.validate_every == -(-steps_s // 5)
    slow = choose(selfsup(), 20, make_measured(selfsup(), 1.0, 160.0)).config.training
    assert slow.validate_every == slow.max_steps, "one validation, at the end"


def test_the_mean_step_counts_every_data_set_and_every_stage() -> None:

    class Mixture(MixtureLoader[Any]):
        def __init__(self) -> None: ...

        @property
        def batches(self) -> dict[str, int]:
            return {"slow": 30, "fast": 10}

    steps = DryRunResult("cpu", (GB,) * 6, (9.0, 2.0, 2.0, 5.0, 0.4, 0.4))
    assert average_steps(selfsup().training, Mixture(), [steps]) == pytest.approx(1.6)
    stages = [DryRunResult("cpu", (GB,) * 3, (9.0, step_s, step_s)) for step_s in (0.5, 1.0)]
    assert average_steps(selfsup(STAGES).training, None, stages) == pytest.approx(0.5 * 0.5 * 0.5 + 0.5 * 1.0)


STAGES = (
    'training.stages=[{"height":96,"width":320,"share":0.5,"batch_size":16},'
    '{"height":192,"width":640,"share":0.5,"batch_size":8}]'
)


def test_auto_keeps_the_shape_of_the_data_and_what_the_user_set(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:

    class Recording:
        @staticmethod
        def filmed_camera(index: int) -> Any:
            return SimpleNamespace(height=1080, width=1920)

    data = SimpleNamespace(train=None, val=None, split=SimpleNamespace(train=[SimpleNamespace(recording=Recording())]))
    measured: list[Any] = []

    def measure(config: Any, console: Console) -> MeasuredTraining:
        measured.append((config.data.height, config.data.width))
        return make_measured(config, 0.2, data=data)

    monkeypatch.setattr(time_budget, "measure_training", measure)
    monkeypatch.setattr(time_budget, "_read_aspect", lambda config: 1920 / 1080)
    monkeypatch.setattr(time_budget, "available_memory_bytes", lambda: 16 * GB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    own = ["training.batch_size=2", "optimizer.lr=5e-4"]
    console = Console(file=out, width=300)
    monkeypatch.setattr(time_budget, "Terminal", lambda **_: console)
    config: Any
    config, opened = launch.choose_configuration(own, minutes=20, data={"path": "drive.mp4"})
    assert opened is data
    assert measured == [(128, 224), (256, 448)]
    assert (config.data.height, config.data.width) == measured[1]
    assert config.data.path == str(Path("drive.mp4").resolve())
    assert (config.model.network.name, config.training.batch_size, config.schedule.warmup_steps) == ("base", 2, 50)
    (printed,) = [line for line in out.getvalue().splitlines() if line.startswith("--preset auto: ")]
    words = printed.removeprefix("--preset auto: ").split()
    assert [word for word in words if word.startswith(("training.batch_size", "optimizer.lr"))] == [
        "training.batch_size=2",
        "optimizer.lr=0.0005",
    ]
    repeated: Any = recipes.configure("selfsup", words, data={"path": "drive.mp4"})
    assert (repeated.model, repeated.loss) == (config.model, config.loss), "the line can be copied"
    with pytest.raises(ConfigError) as refused:
        recipes.configure("selfsup", preset="auto")
    assert "stadia.training.choose_configuration(" in str(refused.value.fix)
