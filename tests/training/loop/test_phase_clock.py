"""Where the time goes: every second in one phase, by the clock of the device that works, and numbers that cannot be."""

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.training.loop.small_recipe import SmallLoader, SmallRecipe
from torch import Tensor, nn

from stadia.differentiable.batch import Batch
from stadia.io.metrics_table import read_rows
from stadia.losses.loss_report import LossReport
from stadia.training.loop.config import TrainingConfig
from stadia.training.loop.fit import fit
from stadia.training.loop.run_folder import Run

# -- the stopwatch
# ------------------------------------------------------------------------------------------------------


# -- a training
# ---------------------------------------------------------------------------------------------------------


class Slow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, image: Tensor) -> Tensor:
        time.sleep(0.01)
        return self.layer(image.mean(dim=(2, 3)))


class SlowRecipe(SmallRecipe):
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


def train(out: Path, recipe: SmallRecipe, **values: Any) -> tuple[Run, str]:
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
    with run.held():
        fit(recipe, SlowLoader(batch_size=11), SmallLoader(1, 11, shuffled=False), config, run, console=console)
    return run, console.file.getvalue()


@pytest.mark.slow
def test_every_second_of_a_training_has_a_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.append(now.pop() + seconds))
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
    assert all(seconds <= total[name] + 1e-9 for name, seconds in least.items()), total
    assert {"backward", "optimizer", "metrics", "checkpoints", "other"} <= total.keys()
    assert step["forward"] > 0.009
    assert step["loss"] > 0.019
    assert step["images"] < 0.04, "most steps draw none: a median"
    assert found.steps == STEPS
    assert "time: " in said
    logged = [row for row in read_rows(run.metrics_csv) if row["time/step_s"]]
    rows = [{name: float(cell) for name, cell in row.items() if name.startswith("time/")} for row in logged]
    whole = sum(row.pop("time/step_s") for row in rows)
    assert sum(sum(row.values()) for row in rows) == pytest.approx(whole, rel=0.05)
    assert all(
        row["time/forward_s"] > 0.009 and row["time/loss_s"] > 0.019 and row["time/loading_s"] > 0.004 for row in rows
    )
