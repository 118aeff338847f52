"""Log scalars, images and histograms to CSV, TensorBoard and Weights & Biases. Imports no torch."""

import csv
import importlib.util
import io
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, RunError
from stadia.io.atomic_files import explain_write_error, open_to_append, write_text
from stadia.io.input_files import parse_csv, parse_integer, read_text
from stadia.training.loop.run_folder import Run

PERCENTS = (5, 25, 50, 75, 95)
HISTOGRAM = ["step", "name", "zero", *(f"p{percent:02}" for percent in PERCENTS)]

MAX_STEP = 10**12
_TABLE = "a table of numbers with a column 'step'"
_NUMBER = re.compile(r"[-+]?(\d{1,20}(\.\d{0,30})?(e[-+]?\d{1,3})?|inf|nan)", re.ASCII)

_BAR, _GAP = 20, 4  # pixels of the label's bar and of the gap between tiles
_BACKGROUND, _INK = 24, (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_SHAPE = 1.5  # desired width over height of a sheet


class Logger(ABC):
    """Write the callbacks' measurements. Opened once per training, in its main process.

    run: the run that gets the files.
    step: step of the resumed checkpoint, or 0; later rows are removed.
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
    """Write metrics.csv: `step`, `epoch`, then a column per scalar in order of appearance.

    histograms.csv has a row per histogram: percentiles of |value|, and the share of zeros.
    """

    def __init__(self, run: Run, step: int) -> None:
        self.path, self.histograms = run.metrics_csv, run.histograms_csv
        self.columns = ["step", "epoch"]
        rows = read_rows(self.path) if self.path.exists() else []
        if rows:
            self.columns = list(rows[0])
        self._write(_keep_rows(rows, step))
        if self.histograms.exists():
            before = _keep_rows(read_rows(self.histograms), step)
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
        lines = [self.columns, *([row.get(name, "") for name in self.columns] for row in rows)]
        write_text(self.path, "".join(map(_line, lines)))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a metrics.csv or histograms.csv as text by column, without an incomplete last row.

    Raises DataError for a row without a step, or with anything but numbers.
    """
    text = read_text(path, expected=_TABLE)
    rows = parse_csv(path, text[: text.rfind("\n") + 1], _TABLE)
    for number, row in enumerate(rows, start=2):
        if parse_integer(row.get("step", ""), most=MAX_STEP) is None:
            _refuse_cell(path, number, "step", row.get("step", "no such column"))
        for name, cell in row.items():
            if name != "name" and cell and not _NUMBER.fullmatch(cell):
                _refuse_cell(path, number, name, cell)
    return rows


def _refuse_cell(path: Path, number: int, name: str, cell: str) -> NoReturn:
    found = f"{cell[:40]!r} in column '{name[:40]}' of line {number}"
    raise DataError(path, found=found, expected=_TABLE, fix="delete the line, or restore the file")


def _keep_rows(rows: list[dict[str, str]], step: int) -> list[dict[str, str]]:
    return [row for row in rows if int(row["step"]) <= step]


def _append(path: Path, cells: list[str]) -> None:
    try:
        with open_to_append(path) as file:
            file.write(_line(cells).encode())
    except OSError as error:
        fix = "free some space, then resume the run"
        raise RunError(
            path, found=f"a table that cannot be written ({error.strerror})", expected="free space for a row", fix=fix
        ) from error


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


class TensorBoardLogger(Logger):
    """Write events into RUN/tensorboard; `tensorboard --logdir runs` shows every run."""

    def __init__(self, run: Run, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = run.folder / "tensorboard"
        with self._explained():
            self.writer = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            explain_write_error(error, self.folder)
            raise

    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        with self._explained():
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        with self._explained():
            self.writer.add_image(name, image, step, dataformats="HWC")

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        with self._explained():
            self.writer.add_histogram(name, values, step)

    def close(self) -> None:
        with self._explained():
            self.writer.close()


class WandbLogger(Logger):
    """Log to Weights & Biases; a resumed training continues the same W&B run."""

    def __init__(self, run: Run, step: int) -> None:
        if importlib.util.find_spec("wandb") is None:
            found, expected, fix = "'wandb', not installed", "a logger at hand", "pip install 'stadia[wandb]'"
            raise RunError("training.loggers", found=found, expected=expected, fix=fix)
        import wandb

        self.wandb, name, folder = wandb, run.folder.name, str(run.folder)
        self.run = wandb.init(project="stadia", name=name, id=name, dir=folder, config=run.config, resume="allow")

    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.run.log({"epoch": epoch, **finite}, step=step)

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        self.run.log({name: self.wandb.Image(image)}, step=step)

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        self.run.log({name: self.wandb.Histogram(values)}, step=step)

    def close(self) -> None:
        self.run.finish()


def compose_image_sheet(images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Lay labeled (H, W, 3) uint8 RGB images out on one sheet, row by row, enlarged to one size.

    Examples:
        >>> compose_image_sheet({"input": np.zeros((32, 64, 3), np.uint8)}).dtype
        dtype('uint8')
    """
    if not images:
        raise ValueError("a sheet needs an image")
    height = max(image.shape[0] for image in images.values())
    width = max(image.shape[1] for image in images.values())
    factor = -(-max(map(_label_width, images)) // width)
    height, width = factor * height, factor * width
    tile_height, tile_width = height + _BAR + _GAP, width + _GAP
    columns = min(
        range(1, len(images) + 1),
        key=lambda n: abs(np.log(n * tile_width / (-(-len(images) // n) * tile_height) / _SHAPE)),
    )
    rows = -(-len(images) // columns)
    sheet = np.full((rows * tile_height + _GAP, columns * tile_width + _GAP, 3), _BACKGROUND, np.uint8)
    for number, (label, image) in enumerate(images.items()):
        top, left = (number // columns) * tile_height + _GAP, (number % columns) * tile_width + _GAP
        cv2.putText(sheet, label, (left + 2, top + _BAR - 6), *_FONT, _INK, 1, cv2.LINE_AA)
        fitted = _enlarge(image, height, width)
        sheet[top + _BAR : top + _BAR + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return sheet


def _label_width(label: str) -> int:
    return int(cv2.getTextSize(label, *_FONT, 1)[0][0]) + 4


def _enlarge(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is (H, W, 3) uint8, found {image.shape} {image.dtype}")
    factor = min(height / image.shape[0], width / image.shape[1])
    size = max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)
