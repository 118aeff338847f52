"""Where the time goes: every second in one phase, by the clock of the device that works, and numbers that cannot be."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from small_recipe import SmallLoader, SmallRecipe
from torch import Tensor, nn

from stadia.core.types import Batch
from stadia.diagnostics.finding import read_findings
from stadia.diagnostics.monitors.training_monitor import TrainingMonitor
from stadia.losses.loss_report import LossReport
from stadia.training import phase_clock
from stadia.training.batches import TrainingPlan
from stadia.training.config import TrainingConfig
from stadia.training.fit import fit
from stadia.training.loggers import read_rows
from stadia.training.phase_clock import PhaseClock, Stopwatch
from stadia.training.run_folder import Run

# -- the stopwatch
# ------------------------------------------------------------------------------------------------------


class Gpu:
    """A device that works through a queue on its own clock; the processor's stands in `host_s`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host_s = self.done_s = 0.0
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at_s = gpu.done_s = max(gpu.done_s, gpu.host_s)

            def query(self) -> bool:
                return self.at_s <= gpu.host_s

            def elapsed_time(self, other: Event) -> float:
                assert other.query(), "read before it has happened"
                return 1e3 * (other.at_s - self.at_s)

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(
            phase_clock, "synchronize", lambda device: setattr(gpu, "host_s", max(gpu.host_s, gpu.done_s))
        )

    def launch(self, seconds: float, launching_s: float = 0.001) -> None:
        self.host_s += launching_s
        self.done_s = max(self.done_s, self.host_s) + seconds


def test_gpu_time_is_booked_where_the_gpu_spends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward and the backward are launched in no time; the program waits for both when the norm is read."""
    gpu = Gpu(monkeypatch)
    watch = Stopwatch("cuda")
    for _ in range(5):
        gpu.host_s += 0.02  # loading, while the GPU has nothing to do
        watch.mark("loading")
        gpu.launch(0.1)
        watch.mark("forward")
        gpu.launch(0.2)
        watch.mark("backward")
        gpu.host_s = gpu.done_s  # waits
        watch.mark("optimizer")
        watch.end_step()
    total = watch.lap()
    assert total == pytest.approx({"loading": 0.1, "forward": 0.505, "backward": 1.0, "optimizer": 0}, abs=1e-6)
    assert sum(total.values()) == pytest.approx(gpu.host_s), "the parts make the whole"
    assert watch.medians() == pytest.approx(
        {"loading": 0.02, "forward": 0.101, "backward": 0.2, "optimizer": 0}, abs=1e-6
    )


# -- a training
# ---------------------------------------------------------------------------------------------------------


class Slow(nn.Module):
    """A linear layer that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, image: Tensor) -> Tensor:
        time.sleep(0.01)
        return self.layer(image.mean(dim=(2, 3)))


class SlowRecipe(SmallRecipe):
    """10 ms in the network, 20 ms in the loss, 40 ms in images, 30 ms in each of two batches of a validation."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Slow()  # type: ignore[assignment]

    def training_step(self, batch: Batch) -> LossReport:
        error = self.network(batch.inputs.image)[:, 0] - batch.targets.image.mean(dim=(1, 2, 3))
        time.sleep(0.02)
        return LossReport(error.square().mean(), {"square": error.square().mean()}, {})

    def validation_step(self, batch: Batch) -> Mapping[str, Tensor]:
        time.sleep(0.03)
        return {"error": torch.ones(len(batch.meta))}

    def images(self, batch: Batch, report: Any) -> Mapping[str, Any]:
        time.sleep(0.04)
        return super().images(batch, report)


class SlowLoader(SmallLoader):
    def __iter__(self) -> Any:
        for batch in super().__iter__():
            time.sleep(0.005)
            yield batch


STEPS = 8


def train(out: Path, recipe: SmallRecipe, *, watched: bool = False, **values: Any) -> tuple[Run, str]:
    config = TrainingConfig(
        **{
            "max_steps": STEPS,
            "batch_size": 11,
            "log_every": 1,
            "workers": 0,
            "images_every": 4,
            "loggers": ("csv",),
            **values,
        }
    )
    run = Run.create(out, "small", {"training": config.model_dump(mode="json")}, recipe="small", seed=0)
    console = Console(file=io.StringIO(), width=300)
    callbacks = [TrainingMonitor(run, console)] if watched else []
    with run.held():
        fit(
            recipe,
            SlowLoader(batch_size=11),
            SmallLoader(1, 11, shuffled=False),
            config,
            run,
            callbacks=callbacks,
            console=console,
        )
    return run, console.file.getvalue()


@pytest.mark.slow
def test_every_second_of_a_training_has_a_phase(tmp_path: Path) -> None:
    run, said = train(tmp_path, SlowRecipe(), validate_every=4)
    found = run.facts.time
    assert found is not None
    total, step = found.phases_s, found.step_s
    assert sum(total.values()) == pytest.approx(found.wall_s, rel=0.03)
    least = {
        "forward": 0.01 * STEPS,
        "loss": 0.02 * STEPS,
        "loading": 0.005 * STEPS,
        "images": 0.04 * 3,
        "validation": 0.03 * 4,
    }
    assert all(seconds <= total[name] for name, seconds in least.items()), total
    assert {"backward", "optimizer", "metrics", "checkpoints", "other"} <= total.keys()
    assert step["forward"] >= 0.01
    assert step["loss"] >= 0.02
    assert step["images"] < 0.04, "most steps draw none: a median"
    assert found.steps == STEPS
    assert "time: " in said
    logged = [row for row in read_rows(run.metrics_csv) if row["time/step_s"]]
    rows = [{name: float(cell) for name, cell in row.items() if name.startswith("time/")} for row in logged]
    whole = sum(row.pop("time/step_s") for row in rows)
    assert sum(sum(row.values()) for row in rows) == pytest.approx(whole, rel=0.05)
    assert all(
        row["time/forward_s"] >= 0.01 and row["time/loss_s"] >= 0.02 and row["time/loading_s"] >= 0.005 for row in rows
    )


@pytest.mark.slow
def test_operations_are_counted_and_counting_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of 3 to 8 channels, 3x3, to 2x4 places, and a linear layer of 64, for 11 samples."""
    counted, one = SmallRecipe(), 11 * (2 * 27 * 8 * 8 + 2 * 64)
    run, _ = train(tmp_path / "counted", counted)
    flops = run.facts.time.flops
    assert flops["forward"] == one
    assert one < flops["backward"] <= 2 * one, "by the weights, and by what is not the image"
    assert not flops.get("loss")
    assert run.facts.time.peak_flops_per_s is None, "of a short training"
    assert run.facts.time.flops_per_s["step"] > 0

    monkeypatch.setattr(phase_clock, "FlopCounter", lambda: contextlib.nullcontext(SimpleNamespace(flops=0)))
    plain = SmallRecipe()
    train(tmp_path / "plain", plain)
    assert all(torch.equal(weight, plain.state_dict()[name]) for name, weight in counted.state_dict().items())


class Double(nn.Module):
    """A part of a network whose code torch compiles, as it does not that of nn.Linear alone."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.linear(x)


@pytest.mark.slow
def test_a_network_that_is_compiled_stays_so_after_the_counted_batch() -> None:
    """A first call that a counter sees would keep torch from compiling the network in the whole training."""
    compiled: list[torch.fx.GraphModule] = []

    def compile_graph(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        compiled.append(graph)
        return graph.forward

    clock = PhaseClock(TrainingPlan(1000, 1, 1_000_000))
    network = nn.Sequential(Double())
    network[0].compile(backend=compile_graph)  # a part, as of a recipe: the clock marks whole networks
    clock.start(torch.device("cpu"), nn.ModuleList([network]))
    for step in range(2):
        clock.begin_batch(step)
        network(torch.ones(1, 2))
        clock.end_backward()
        assert len(compiled) == step
    assert clock.flops["forward"] == 2 * 2 * 2


# -- what cannot be
# -----------------------------------------------------------------------------------------------------


def codes(run: Run) -> list[str]:
    path = run.folder / "findings.jsonl"
    return [found.code for found in read_findings(path) if found.code == "T06"] if path.exists() else []


@pytest.mark.parametrize(("peak", "expected"), [(1e15, []), (1.0, ["T06"])])
def test_more_operations_than_the_machine_can_do_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peak: float, expected: list[str]
) -> None:
    """A clock that reads too little time says more than the peak; here the peak is so low that any does. Measuring it
    draws no number.
    """

    def measured(*_: Any) -> float:
        torch.rand(3)
        return peak

    monkeypatch.setattr(phase_clock, "PEAK_FROM_S", 0.0)
    monkeypatch.setattr(phase_clock, "measure_matmul_peak", measured)
    before = torch.get_rng_state()
    run, said = train(tmp_path, SmallRecipe(), watched=True)
    assert codes(run) == expected
    assert run.facts.time.peak_flops_per_s == peak
    assert "GFLOP/s\n" in said
    assert ("times the machine's measured peak" in said) == bool(expected)
    assert before.shape == torch.get_rng_state().shape
