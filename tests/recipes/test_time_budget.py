"""Steps and settings for given minutes: `--minutes`, `--preset auto`, and `launch.choose_configuration`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from stadia import launch, recipes
from stadia.core.errors import ConfigError
from stadia.dataloading.loader import MixtureLoader
from stadia.launch import time_budget
from stadia.launch.time_budget import MeasuredTraining, PlannedTraining, TimeBudget, choose_steps
from stadia.launch.training_data import OpenedData
from stadia.training.batches import StagedBatches
from stadia.training.training_state import CommandEnd, TimeLimit


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def make_measured(
    config: Any, *seconds: Sequence[float], data: Any = None, val_batches: int = 0, slowdown: float = 1.0
) -> MeasuredTraining:
    """Measured steps of each stage, and validation batches."""
    data = data or SimpleNamespace(train=None, val=[0] * val_batches)
    steps = tuple(SimpleNamespace(seconds=stage) for stage in seconds)
    return MeasuredTraining(OpenedData(config, config, data), steps, slowdown)  # type: ignore[arg-type]


def choose(config: Any, minutes: float, measured: MeasuredTraining, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(time_budget, "measure_training", lambda *_: measured)
    return choose_steps(config, TimeBudget(minutes), Console(quiet=True))[0]


def selfsup(*words: str) -> Any:
    return recipes.configure("selfsup", list(words), data={"path": "drive.mp4"})


def test_minutes_set_the_steps_by_the_measured_time(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 600 s: 12 s for what is not measured and 20 s for the loss checks. 1.5 times what fits is planned."""
    config = selfsup()
    opened: list[Any] = []

    def open_data(recipe: Any, config: Any, console: Console) -> OpenedData:
        opened.append(config)
        return OpenedData(config, config, SimpleNamespace(train=None, val=None))  # type: ignore[arg-type]

    monkeypatch.setattr(time_budget, "open_data", open_data)
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: 0.0)
    times = SimpleNamespace(seconds=(9.0, 0.6, 0.4))
    monkeypatch.setattr(time_budget, "measure_steps", lambda *_: times)
    chosen, data, end = choose_steps(config, TimeBudget(10), Console(file=out, width=200))
    training = chosen.training
    assert (training.max_steps, training.max_epochs, training.validate_every) == (1704, None, 228)
    assert training.max_minutes == pytest.approx(568 / 60)
    lines = [
        "measuring three steps of this training ...",
        "--minutes 10: about 1136 steps of 0.5 s; the time ends the training, after at most 1704 steps if the machine"
        " gets faster (training.max_steps=1704 training.max_minutes=9.47)",
    ]
    assert out.getvalue().splitlines() == lines
    assert (end.at_s, end.after_s) == (600.0, time_budget.END_S)
    assert data.resolve(chosen) == chosen
    measured = MeasuredTraining(data, (times,))  # type: ignore[arg-type]
    assert choose_steps(config, TimeBudget(10), Console(quiet=True), measured)[1] is data
    assert len(opened) == 1
    assert choose_steps(selfsup("data.width=416"), TimeBudget(10), Console(quiet=True), measured)[1] is not data
    assert len(opened) == 2
    times.seconds = (900.0, 900.0, 900.0)
    with pytest.raises(
        ConfigError, match=r"found 1: 0 s are over, .* take 12 s; expected at least 150\.2, .*--minutes 151"
    ):
        choose_steps(config, TimeBudget(1), Console(quiet=True))


def test_few_minutes_leave_the_loss_checks_out(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 s are more than a tenth of 3 minutes: they train instead. A shorter limit of the user is kept."""
    config = selfsup()
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(time_budget, "measure_training", lambda *_: make_measured(config, (0.9, 0.4, 0.4)))
    whole, opened, _ = choose_steps(config, TimeBudget(3), Console(file=out, width=200))
    assert opened.resolve(whole) is not None, "the data are not read again"
    chosen = whole.training
    assert (chosen.check_seconds, chosen.max_minutes) == (0, pytest.approx(168 / 60))
    line = "the loss checks are left out: 20 s (training.check_seconds) are more than 10% of 3 minutes."
    assert out.getvalue().startswith(f"{line} Fix: run them alone with --dry-run, or give more minutes")
    assert choose_steps(config, TimeBudget(4), Console(quiet=True))[0].training.check_seconds == 20
    short = selfsup("training.check_seconds=10")
    assert choose_steps(short, TimeBudget(3), Console(quiet=True))[0].training.check_seconds == 10
    monkeypatch.setattr(time_budget, "measure_training", lambda *_: make_measured(config, (9.0, 4.0, 4.0)))
    assert choose_steps(config, TimeBudget(3), Console(quiet=True))[0].training.check_seconds == 20, (
        "too short to check its losses"
    )


def test_minutes_count_every_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their batches in an epoch: three of 2 s to one of 0.4 s. The first step of each does not count."""

    class Mixture(MixtureLoader[Any]):
        def __init__(self) -> None: ...

        @property
        def batches(self) -> dict[str, int]:
            return {"slow": 30, "fast": 10}

    data = SimpleNamespace(train=Mixture(), val=None)
    measured = make_measured(selfsup(), (9.0, 2.0, 2.0, 5.0, 0.4, 0.4), data=data)
    assert measured.step_s == pytest.approx(1.6)
    assert choose(selfsup(), 20, measured, monkeypatch).training.max_steps == int(1.5 * (1200 - 12 - 20) / 1.6)


STAGES = (
    'training.stages=[{"height":96,"width":320,"share":0.5,"batch_size":16},'
    '{"height":192,"width":640,"share":0.5,"batch_size":8}]'
)


def test_minutes_count_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of the plan take the time: half as many of the first stage, whose batches are twice as large."""
    config = selfsup(STAGES)
    measured = make_measured(config, (9.0, 0.5, 0.5), (9.0, 1.0, 1.0))
    training = choose(config, 20, measured, monkeypatch).training
    small, large = StagedBatches([[0] * 100, [0] * 200], training).phases(training)  # type: ignore[list-item]
    assert (small.steps, large.steps) == (round(training.max_steps / 4), round(training.max_steps / 2))
    assert small.steps * 0.5 + large.steps * 1.0 == pytest.approx(0.9 * (1200 - 12 - 20), abs=2)
    finish = selfsup('training.finish={"at":0.8,"optimizer":{"name":"sgd"}}')
    chosen = choose(finish, 20, make_measured(finish, (9.0, 1.0, 1.0)), monkeypatch).training
    assert 0.8 * chosen.max_steps < (1200 - 12 - 20) / 1.0, "the time ends no training before its finish"
    assert large.steps > 0, "the time ends no training before the stage of the full size"


def test_minutes_shorten_a_warmup_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, warmup_steps in (("schedule.warmup_steps=1000", 6), ("schedule.warmup_steps=20", 20)):
        config = selfsup(words)
        chosen = choose(config, 5, make_measured(config, (9.0, 2.5, 2.5)), monkeypatch)
        assert (chosen.training.max_steps, chosen.schedule.warmup_steps) == (172, warmup_steps)


def test_a_machine_that_gets_faster_makes_more_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 288 s: a fourth more steps of 2 s than fit with the 2.5 s that were measured, until the time is over."""
    config = selfsup("training.max_minutes=3")  # of a preset: the minutes replace it
    training = choose(config, 5, make_measured(config, (9.0, 2.5, 2.5)), monkeypatch).training
    limit = TimeLimit(training.max_minutes)
    for step_s, reached in ((2.5, 116), (2.0, 144)):
        limit.restore(reached * step_s)
        assert (training.max_steps > reached, limit.is_over) == (True, True)
        limit.restore((reached - 1) * step_s)
        assert not limit.is_over


def test_minutes_include_opening_validating_and_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation of 50 batches takes 20 s: five of them, and scores of 30 s."""
    config = selfsup()
    now_s = [100.0]
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: now_s[0])
    budget = TimeBudget(20)
    now_s[0] += 100
    measured = make_measured(config, (9.0, 1.0, 1.0), val_batches=50)
    planned = choose_steps(config, budget, Console(quiet=True), measured)
    training = planned.config.training
    assert planned.end == CommandEnd(1300.0, pytest.approx(8 + 20 + 30))
    steps_s = 1200 - 100 - 20 - 12 - 30 - 5 * 20
    assert (training.max_steps, training.validate_every) == (int(1.5 * steps_s), 188)
    assert training.max_minutes == pytest.approx(steps_s / 60)
    often = selfsup("training.validate_every=50")
    training = choose(often, 20, make_measured(often, (9.0, 1.0, 1.0), val_batches=50), monkeypatch).training
    steps_s = 60 * training.max_minutes
    assert steps_s + 20 * (int(steps_s) // 50 + 1) <= 1200 - 20 - 12 - 30
    assert training.max_steps > 1.2 * steps_s
    slow = make_measured(config, (9.0, 1.0, 1.0), val_batches=400)
    training = choose(config, 20, slow, monkeypatch).training
    assert -(-training.max_steps // training.validate_every) == 1, "a validation of 160 s"


def test_what_was_measured_for_the_minutes_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The precision of the measured steps is that of the training, whose data are open."""
    given = selfsup("training.precision=auto", "training.compile=auto")
    found = selfsup("training.precision=bf16", "training.compile=off")
    steps = (SimpleNamespace(seconds=(9.0, 1.0, 1.0)),)
    data = SimpleNamespace(train=None, val=None)
    measured = MeasuredTraining(OpenedData(given, found, data), steps)  # type: ignore[arg-type]
    chosen = choose(given, 20, measured, monkeypatch)
    assert (chosen.training.precision, chosen.training.compile) == ("bf16", "off")
    assert measured.opened.resolve(chosen) == chosen


def test_a_device_that_is_not_here_is_refused_before_the_data_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(time_budget, "open_data", lambda *_: pytest.fail("the data were opened"))
    with pytest.raises(ConfigError, match=r"training\.accelerator: found .cuda."):
        choose_steps(selfsup("training.accelerator=cuda"), TimeBudget(5), Console(quiet=True))


@pytest.mark.parametrize("word", ["training.max_steps=5", "training.max_epochs=5", "--dry-run"])
def test_minutes_alone_decide_about_the_length(stadia, tmp_path, word):
    code, _, err = stadia("train", "selfsup", tmp_path, "--minutes", "5", word)
    assert (code, f"--minutes: found used together with {word.partition('=')[0]}" in err) == (2, True)


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
    assert time_budget.choose_area(steps, peak_bytes, free_bytes) == area


def test_auto_keeps_the_shape_of_the_data_and_what_the_user_set(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recording:
        @staticmethod
        def filmed_camera(index: int) -> Any:
            return SimpleNamespace(height=1080, width=1920)

    data = SimpleNamespace(train=None, val=None, split=SimpleNamespace(train=[SimpleNamespace(recording=Recording())]))
    measured = SimpleNamespace(seconds=(9.0, 0.2, 0.2), peak_bytes=(GB,), device="cpu")
    monkeypatch.setattr(time_budget, "open_data", lambda recipe, config, console: OpenedData(config, config, data))
    monkeypatch.setattr(time_budget, "_read_aspect", lambda config: 1920 / 1080)
    monkeypatch.setattr(time_budget, "measure_steps", lambda *_: measured)
    monkeypatch.setattr(time_budget, "available_memory_bytes", lambda: 16 * GB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def resolve(words: list[str]) -> Any:
        return recipes.configure("selfsup", [*words, *own], data={"path": "drive.mp4"})

    own = ["training.batch_size=2", "optimizer.lr=5e-4"]
    chosen, found = time_budget.choose_settings(resolve, TimeBudget(20), Console(file=out, width=300))
    assert found.opened.data is data
    config = resolve(chosen)
    assert (config.data.height, config.data.width) == (256, 448)
    assert config.model.network.name == "base"
    assert (config.training.batch_size, config.schedule.warmup_steps) == (2, 50)
    (printed,) = [line for line in out.getvalue().splitlines() if line.startswith("--preset auto: ")]
    words = printed.removeprefix("--preset auto: ").split()
    assert words[0] == "model.pose_net=correlation"
    assert [word for word in words if word.startswith(("training.batch_size", "optimizer.lr"))] == [
        "training.batch_size=2",
        "optimizer.lr=0.0005",
    ]
    assert recipes.configure("selfsup", words, data={"path": "drive.mp4"}) == config, "the line can be copied"


def test_auto_from_python_is_that_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user sets lies over what is chosen; the opened data and the minutes are passed on."""
    measured, chosen = SimpleNamespace(), ["data.width=416", "training.batch_size=4"]
    monkeypatch.setattr(time_budget, "choose_settings", lambda resolve, budget, console: (chosen, measured))
    monkeypatch.setattr(
        time_budget,
        "choose_steps",
        lambda config, budget, console, found: PlannedTraining(config, (budget.minutes, found), None),  # type: ignore[arg-type]
    )
    config, opened = launch.choose_configuration(["training.batch_size=2"], minutes=5, data={"path": "drive.mp4"})
    assert (config.recipe, config.data.width, config.training.batch_size) == ("selfsup", 416, 2)
    assert config.data.path == str(Path("drive.mp4").resolve())
    assert opened == (5, measured)
    with pytest.raises(ConfigError, match=r"--preset: found 'auto'.*Fix: stadia\.launch\.choose_configuration\("):
        recipes.configure("selfsup", preset="auto")


def test_auto_has_the_networks_and_the_loss_of_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an auto-mask at the start: it hides what the motion of one camera is learned from."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    auto = selfsup(*time_budget._choose_batch())
    preset = recipes.configure("selfsup", preset="tiny-laptop", data={"path": "drive.mp4"})
    assert (auto.model, auto.loss, auto.optimizer) == (preset.model, preset.loss, preset.optimizer)
    assert (auto.model.network.name, auto.model.pretrained) == ("base", True)
    assert auto.loss.auto_mask_from_step == 100


def test_auto_has_larger_batches_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    config = selfsup(*time_budget._choose_batch())
    assert config.model.network.name == "base"
    assert (config.training.batch_size, config.training.precision) == (12, "bf16")


def test_auto_settings_are_those_of_metric_too() -> None:
    config = recipes.configure("metric", time_budget._choose_batch(), data={"path": "drive.mp4"})
    assert (config.recipe, config.model.network.name, config.model.pose_net) == ("metric", "base", "correlation")


def test_metric_is_trained_by_the_preset_auto(stadia, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stadia train metric VIDEO --preset auto --minutes 5` measures a step of this recipe."""
    asked = []

    def choose(resolve: Any, budget: TimeBudget, console: Console) -> None:
        asked.append((resolve(["data.width=416"]).recipe, resolve([]).data.path, budget.minutes))
        raise ConfigError("stop", found="here", expected="no training", fix="none")

    monkeypatch.setattr(time_budget, "choose_for_machine", choose)
    (tmp_path / "photos").mkdir()
    code, _, err = stadia("train", "metric", tmp_path / "photos", "--preset", "auto", "--minutes", "5")
    assert (code, asked) == (2, [("metric", str(tmp_path / "photos"), 5.0)]), err


def test_auto_measures_in_the_shape_of_a_video(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "photos" / "0.png")
    config = recipes.configure("selfsup", data={"path": str(tmp_path / "photos")})
    assert time_budget._read_aspect(config) == 64 / 48


def test_auto_is_of_the_recipes_that_train_on_video(stadia, tmp_path) -> None:
    code, _, err = stadia("train", "supervised", tmp_path, "--preset", "auto")
    assert (code, "--preset auto: found recipe 'supervised'; expected selfsup or metric" in err) == (2, True)
    code, _, err = stadia("train", "selfsup", tmp_path, "--preset", "auto", "--dry-run")
    assert (code, "--preset auto: found used together with --dry-run" in err) == (2, True)
