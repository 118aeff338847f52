"""metrics.csv, TensorBoard and W&B; each goes on behind a checkpoint without a doubled row."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stadia.core.errors import RunError
from stadia.training import LOGGERS
from stadia.training.loggers import CsvLogger, TensorBoardLogger, WandbLogger, read_rows
from stadia.training.run_folder import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "demo", {}, recipe="small", seed=0)


@pytest.mark.parametrize("name", list(LOGGERS))
def test_every_logger_can_be_loaded(name: str) -> None:
    assert LOGGERS.load(name).__doc__


def test_a_row_a_step_and_a_column_a_name(run: Run) -> None:
    logger = CsvLogger(run, 0)
    logger.scalars(1, 0, {"train/loss": 0.1 + 0.2})
    assert run.metrics_csv.read_text() == "step,epoch,train/loss\n1,0,0.30000000000000004\n"
    logger.scalars(1, 0, {"val/abs_rel": math.nan})
    logger.scalars(2, 0, {"train/loss": 1e-30})
    assert (
        run.metrics_csv.read_text()
        == "step,epoch,train/loss,val/abs_rel\n1,0,0.30000000000000004,\n1,0,,nan\n2,0,1e-30,\n"
    )


def test_names_with_commas_and_quotes_survive(run: Run) -> None:
    CsvLogger(run, 0).scalars(1, 0, {'a,"b"': 1.0})
    assert read_rows(run.metrics_csv) == [{"step": "1", "epoch": "0", 'a,"b"': "1.0"}]


def test_a_resumed_table_loses_what_came_after_the_checkpoint_and_half_a_row(run: Run) -> None:
    logger = CsvLogger(run, 0)
    for step in (1, 2, 3):
        logger.scalars(step, 0, {"train/loss": float(step)})
    with run.metrics_csv.open("a") as file:
        file.write("4,0,0.0")  # killed while writing
    logger = CsvLogger(run, 2)
    assert [row["step"] for row in read_rows(run.metrics_csv)] == ["1", "2"]
    logger.scalars(3, 0, {"train/loss": 9.0})
    assert run.metrics_csv.read_text().splitlines()[1:] == ["1,0,1.0", "2,0,2.0", "3,0,9.0"]


def test_full_disk_is_reported(run: Run) -> None:
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("no /dev/full here")
    logger = CsvLogger(run, 0)
    logger.path, logger.columns = full, ["step", "epoch", "train/loss"]
    with pytest.raises(RunError, match="found No space left on device; expected room for a row"):
        logger.scalars(1, 0, {"train/loss": 1.0})


def events(run: Run) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run.folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the reader's own
def test_tensorboard_holds_scalars_and_images_and_forgets_what_is_done_again(run: Run) -> None:
    logger = TensorBoardLogger(run, 0)
    for step in (1, 2, 3):
        logger.scalars(step, 0, {"train/loss": float(step)})
    logger.image(1, "images", np.zeros((4, 5, 3), np.uint8))
    logger.close()
    logger = TensorBoardLogger(run, 2)
    logger.scalars(3, 0, {"train/loss": 9.0})
    logger.close()
    shown = events(run)
    assert [(event.step, event.value) for event in shown.Scalars("train/loss")] == [(1, 1.0), (2, 2.0), (3, 9.0)]
    assert shown.Images("images")[0].width == 5


def test_missing_wandb_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"pip install 'stadia\[wandb\]'"):
        WandbLogger(run, 0)


def test_histograms_are_percentiles_of_sizes_and_forget_what_is_done_again(run: Run) -> None:
    logger = CsvLogger(run, 0)
    values = np.concatenate([np.zeros(50), -np.arange(1.0, 51.0)]).astype(np.float32)
    for step in (1, 2, 3):
        logger.histogram(step, "gradients/decoder", values)
    CsvLogger(run, 2).histogram(3, "gradients/decoder", 2 * values)
    rows = read_rows(run.histograms_csv)
    assert [(row["step"], row["name"]) for row in rows] == [(str(step), "gradients/decoder") for step in (1, 2, 3)]
    assert [float(rows[0][name]) for name in ("zero", "p05", "p25", "p50", "p95")] == pytest.approx(
        [0.5, 0, 0, 0.5, 45.05]
    )
    assert float(rows[2]["p95"]) == pytest.approx(90.1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the reader's own
def test_tensorboard_holds_histograms(run: Run) -> None:
    logger = TensorBoardLogger(run, 0)
    logger.histogram(7, "weights/decoder", np.array([-3.0, 1.0, 2.0], np.float32))
    logger.close()
    (event,) = events(run).Histograms("weights/decoder")
    assert (event.step, event.histogram_value.num, event.histogram_value.min, event.histogram_value.max) == (
        7,
        3,
        -3,
        2,
    )


def test_wandb_gets_histograms_and_images(run: Run) -> None:
    logged: list[tuple[dict[str, Any], int]] = []
    logger = WandbLogger.__new__(WandbLogger)
    logger.run = SimpleNamespace(log=lambda values, step: logged.append((values, step)))
    logger.wandb = SimpleNamespace(Image=lambda image: image.shape, Histogram=lambda values: ("histogram", len(values)))
    logger.histogram(4, "gradients/pose", np.zeros(9, np.float32))
    logger.image(4, "motion", np.zeros((2, 5, 3), np.uint8))
    assert logged == [({"gradients/pose": ("histogram", 9)}, 4), ({"motion": (2, 5, 3)}, 4)]
