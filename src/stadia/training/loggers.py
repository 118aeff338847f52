"""Log scalars, images and histograms to CSV, TensorBoard and Weights & Biases."""

from __future__ import annotations

import csv
import importlib.util
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import RunError
from stadia.core.files import write_text
from stadia.training.run_folder import Run

PERCENTS = (5, 25, 50, 75, 95)
HISTOGRAM = ["step", "name", "zero", *(f"p{percent:02}" for percent in PERCENTS)]
"""The columns of histograms.csv."""


class Logger(ABC):
    """Write what the callbacks measure. Opened once per training, in its main process.

    Args:
        run: whose folder to write into.
        step: of the checkpoint that the training resumes from, else 0; later rows are removed.
    """

    @abstractmethod
    def __init__(self, run: Run, step: int) -> None: ...

    @abstractmethod
    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Log scalars of a step, by name."""

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log an (H, W, 3) RGB image of a step."""
        return

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        """Log the distribution of (N,) values of a step."""
        return

    def close(self) -> None:
        """Flush and close."""
        return


class CsvLogger(Logger):
    """Write metrics.csv: `step`, `epoch`, then a column per scalar in order of appearance; empty = not logged.

    Each row is flushed. A new name adds a column: the file is rewritten atomically. histograms.csv has a row per
    histogram: percentiles of |value|, and the share of values that are exactly 0.
    """

    def __init__(self, run: Run, step: int) -> None:
        self.path, self.histograms = run.metrics_csv, run.histograms_csv
        self.columns = ["step", "epoch"]
        rows = read_rows(self.path) if self.path.exists() else []
        if rows:
            self.columns = list(rows[0])
        kept = [row for row in rows if int(row["step"]) <= step]
        self._write(kept)
        if self.histograms.exists():
            before = [row for row in read_rows(self.histograms) if int(row["step"]) <= step]
            write_text(self.histograms, "".join([_line(HISTOGRAM), *(_line(list(row.values())) for row in before)]))

    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        row = {"step": str(step), "epoch": str(epoch), **{name: repr(float(value)) for name, value in values.items()}}
        new = [name for name in row if name not in self.columns]
        if new:
            rows = read_rows(self.path)
            self.columns += new
            self._write(rows)
        _append(self.path, [row.get(name, "") for name in self.columns])

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        if not self.histograms.exists():
            write_text(self.histograms, _line(HISTOGRAM))
        sizes = np.abs(values)
        numbers = [float((sizes == 0).mean()), *np.percentile(sizes, PERCENTS).tolist()]
        _append(self.histograms, [str(step), name, *map(repr, numbers)])

    def _write(self, rows: list[dict[str, str]]) -> None:
        write_text(
            self.path,
            "".join([_line(self.columns), *(_line([row.get(name, "") for name in self.columns]) for row in rows)]),
        )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a metrics.csv as text by column, without an incomplete last row."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(io.StringIO(whole)))


def _append(path: Path, cells: list[str]) -> None:
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(_line(cells))
    except OSError as error:
        raise RunError(
            path, found=error.strerror, expected="room for a row", fix="free some space, then resume the run"
        ) from error


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


class TensorBoardLogger(Logger):
    """Write events into RUN/tensorboard; `tensorboard --logdir runs` shows every run."""

    def __init__(self, run: Run, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        self.writer.add_image(name, image, step, dataformats="HWC")

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        self.writer.add_histogram(name, values, step)

    def close(self) -> None:
        self.writer.close()


class WandbLogger(Logger):
    """Log to Weights & Biases, where it is installed; a resumed training continues the same W&B run."""

    def __init__(self, run: Run, step: int) -> None:
        if importlib.util.find_spec("wandb") is None:
            raise RunError(
                "training.loggers",
                found="'wandb', not installed",
                expected="a logger at hand",
                fix="pip install 'stadia[wandb]'",
            )
        import wandb

        self.wandb = wandb
        self.run = wandb.init(
            project="stadia",
            name=run.folder.name,
            id=run.folder.name,
            dir=str(run.folder),
            config=run.config,
            resume="allow",
        )

    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        self.run.log(
            {"epoch": epoch, **{name: value for name, value in values.items() if math.isfinite(value)}}, step=step
        )

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        self.run.log({name: self.wandb.Image(image)}, step=step)

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        self.run.log({name: self.wandb.Histogram(values)}, step=step)

    def close(self) -> None:
        self.run.finish()
