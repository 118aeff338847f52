"""Read the tables of numbers that a run logs: metrics.csv and histograms.csv."""

import re
from pathlib import Path
from typing import NoReturn

from stadia.core.errors import DataError
from stadia.io.input_files import parse_csv, parse_integer, read_text

MAX_STEP = 10**12

_TABLE = "a table of numbers with a column 'step'"

_NUMBER = re.compile(r"[-+]?(\d{1,20}(\.\d{0,30})?(e[-+]?\d{1,3})?|inf|nan)", re.ASCII)


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
