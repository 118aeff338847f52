"""Read from a run's files how well its network was trained."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from stadia.core.errors import DataError
from stadia.diagnostics.finding import Severity, Stage, read_valid_findings

LEARNING_CODES = {
    *("L20", "M20", "M21", "M22", "M23", "R20", "S20", "S21", "S22", "S23", "S24"),
    *("T02", "T03", "T07", "T08", "T09", "T10", "T15"),
}
"""Findings of a training whose network learns little or nothing."""

LAST_ROWS = 10


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What is known of a training; None or empty where it is not.

    steps: updates made.
    warped_over_unwarped, auto_masked: medians of the last logged rows.
    codes: of the findings of its monitors, each once.
    focal: fx / width of each of its data sets.
    """

    steps: int | None = None
    warped_over_unwarped: float | None = None
    auto_masked: float | None = None
    codes: tuple[str, ...] = ()
    focal: tuple[float, ...] = ()

    @classmethod
    def read(cls, run: Path, *, steps: int | None = None, focal: tuple[float, ...] = ()) -> TrainingRecord:
        """Read metrics.csv and findings.jsonl of a run; of a folder without them, return what is given.

        steps: of the checkpoint, where it is known.
        """
        rows = _read_numbers(run / "metrics.csv")
        rows = rows if steps is None else [row for row in rows if row["step"] <= steps]
        return cls(
            steps=steps if steps is not None or not rows else int(rows[-1]["step"]),
            warped_over_unwarped=_last_median(rows, "train/warped_over_unwarped"),
            auto_masked=_last_median(rows, "train/auto_masked"),
            codes=_read_codes(run / "findings.jsonl"),
            focal=focal,
        )


def _read_numbers(path: Path) -> list[dict[str, float]]:
    """Return the rows of metrics.csv as numbers; none where it is missing or damaged, which `diagnose` reports."""
    from stadia.training.loggers import read_rows  # imports torch

    try:
        rows = read_rows(path) if path.is_file() else []
    except DataError:
        return []
    return [{name: float(cell) for name, cell in row.items() if cell and name != "name"} for row in rows]


def _last_median(rows: list[dict[str, float]], name: str) -> float | None:
    values = [row[name] for row in rows if name in row][-LAST_ROWS:]
    return statistics.median(values) if values else None


def _read_codes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    found, _ = read_valid_findings(path)
    known = (one.code for one in found if one.stage is Stage.TRAINING and one.severity is not Severity.NOTE)
    return tuple(dict.fromkeys(known))
