"""What each measurement of the preflight checks reads on clean and on broken data: the source of the thresholds."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reading:
    """instrument: what is measured.  codes: the findings that use it.  roadworld, real, broken: ranges of values.

    warns, stops: thresholds.
    """

    instrument: str
    codes: str
    roadworld: str
    real: str
    broken: str
    warns: str
    stops: str


READINGS = tuple(
    Reading(**table)
    for table in tomllib.loads(Path(__file__).with_name("calibration.toml").read_text(encoding="utf-8"))["reading"]
)
