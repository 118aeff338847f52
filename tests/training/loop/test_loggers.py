"""metrics.csv, TensorBoard and W&B; each goes on behind a checkpoint without a doubled row."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stadia.io.image_io import compose_image_sheet
from stadia.io.metrics_table import read_rows
from stadia.training.loop.callbacks import CsvLogger, TensorBoardLogger
from stadia.training.loop.run_folder import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "demo", {}, recipe="small", seed=0)


def test_a_row_a_step_and_a_column_a_name(run: Run) -> None:
    logger = CsvLogger(run, 0)
    logger.scalars(1, 0, {"train/loss": 0.1 + 0.2})
    assert run.metrics_csv.read_text() == "step,epoch,train/loss\n1,0,0.30000000000000004\n"
    logger.scalars(1, 0, {"val/a,b": math.nan})
    logger.scalars(2, 0, {"train/loss": 1e-30})
    rows = "1,0,0.30000000000000004,\n1,0,,nan\n2,0,1e-30,\n"
    assert run.metrics_csv.read_text() == f'step,epoch,train/loss,"val/a,b"\n{rows}'
    assert list(read_rows(run.metrics_csv)[0]) == ["step", "epoch", "train/loss", "val/a,b"]


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
    logger.histogram(1, "weights/decoder", np.array([-3.0, 1.0, 2.0], np.float32))
    logger.close()
    (file,) = run.folder.rglob("events.*")
    file.rename(file.with_name("events.out.tfevents.0"))  # files are read by name, and both have the same second
    logger = TensorBoardLogger(run, 2)
    logger.scalars(3, 0, {"train/loss": 9.0})
    logger.close()
    shown = events(run)
    assert [(event.step, event.value) for event in shown.Scalars("train/loss")] == [(1, 1.0), (2, 2.0), (3, 9.0)]
    assert shown.Images("images")[0].width == 5
    (event,) = shown.Histograms("weights/decoder")
    assert (event.step, event.histogram_value.num, event.histogram_value.min) == (1, 3, -3)


# -- image sheet -------------------------------------------------------------------------------------------------------


def plain_image(value: int, height: int = 20, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), (value, 0, 255), np.uint8)


def area(sheet: np.ndarray, value: int) -> int:
    return int((sheet == (value, 0, 255)).all(axis=2).sum())


@pytest.mark.parametrize("count", [1, 5])
def test_every_image_is_on_the_sheet_whole(count: int) -> None:
    values = [30 + 25 * n for n in range(count)]
    sheet = compose_image_sheet({str(value): plain_image(value) for value in values})
    assert sheet.dtype == np.uint8
    for value in values:
        assert area(sheet, value) == 20 * 60
