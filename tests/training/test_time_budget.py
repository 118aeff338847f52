"""Steps and settings for given minutes: `--minutes`, `--preset auto`, and `launch.choose_configuration`."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.refusals import refuses

from stadia import training as launch
from stadia.core.errors import ConfigError
from stadia.training import recipes, time_budget
from stadia.training.loading.loader import MixtureLoader
from stadia.training.loop.time_limit import CommandEnd
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


def test_few_minutes_leave_the_loss_checks_out(out: io.StringIO) -> None:
    planned = choose(selfsup(), 3, make_measured(selfsup(), 0.4), Console(file=out, width=200))
    assert (planned.config.training.check_seconds, planned.config.training.max_minutes) == (0, pytest.approx(172 / 60))
    assert "20 s (training.check_seconds) are more than 10%" in out.getvalue()
    assert choose(selfsup(), 4, make_measured(selfsup(), 0.4)).config.training.check_seconds == 20
    short = selfsup("training.check_seconds=10")
    assert choose(short, 3, make_measured(short, 0.4)).config.training.check_seconds == 10
    assert choose(selfsup(), 3, make_measured(selfsup(), 4.0)).config.training.check_seconds == 20, "too few steps"


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


@pytest.mark.parametrize("words", [STAGES, 'training.finish={"at":0.8,"optimizer":{"name":"sgd"}}'])
def test_the_clock_ends_no_training_before_its_last_part(words: str) -> None:
    planned = choose(selfsup(words), 20, make_measured(selfsup(words), 1.0))
    assert planned.config.training.max_steps == int(0.9 * (1200 - 8 - 20))
    assert (planned.data is None) == (words == STAGES), "the batches of stages depend on the steps"


def test_a_device_that_is_not_here_is_refused_before_the_data_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(time_budget, "open_data", lambda *_: pytest.fail("the data were opened"))
    with refuses(ConfigError, where="training.accelerator"):
        choose_steps(selfsup("training.accelerator=cuda"), 5, Console(quiet=True))


@pytest.mark.parametrize("word", ["training.max_steps=5", "--dry-run"])
def test_minutes_alone_decide_about_the_length(stadia, tmp_path, word):
    code, _, err = stadia("train", "selfsup", tmp_path, "--minutes", "5", word)
    assert (code, f"--minutes: found used together with {word.partition('=')[0]}" in err) == (2, True)


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
    assert time_budget.choose_area(steps, peak_bytes, free_bytes) == area


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


def test_metric_is_trained_by_the_preset_auto(stadia, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def choose(resolve: Any, minutes: float, console: Console, *, started_s: float) -> None:
        asked.append((resolve(["data.width=416"]).recipe, resolve([]).data.path, minutes))
        raise ConfigError("stop", found="here", expected="no training", fix="none")

    monkeypatch.setattr(time_budget, "choose_for_machine", choose)
    (tmp_path / "photos").mkdir()
    code, _, err = stadia("train", "metric", tmp_path / "photos", "--preset", "auto", "--minutes", "5")
    assert (code, asked) == (2, [("metric", str(tmp_path / "photos"), 5.0)]), err


def test_auto_is_of_the_recipes_that_train_on_video(stadia, tmp_path) -> None:
    code, _, err = stadia("train", "supervised", tmp_path, "--preset", "auto")
    assert (code, "--preset auto: found recipe 'supervised'; expected selfsup or metric" in err) == (2, True)
    code, _, err = stadia("train", "selfsup", tmp_path, "--preset", "auto", "--dry-run")
    assert (code, "--preset auto: found used together with --dry-run" in err) == (2, True)
