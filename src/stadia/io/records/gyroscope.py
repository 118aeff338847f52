"""Read the rates of a gyroscope: a csv of EuRoC, ROS or a phone, with or without a header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.io.input_files import check_no_archive, read_text
from stadia.io.records.poses import convert_times

Array = NDArray[np.float64]

EXPECTED_RATES = "rows of a time and three rates of a gyroscope, such as EuRoC's imu0/data.csv"

MAX_RATE_ROWS = 2_000_000
MAX_RATE_BYTES = 512 << 20

_RATE = re.compile(
    r"(?:.*[_.])?(?:w|gyro|gyr|g|omega|angular_velocity|angvel|rate)(?:_rs_s)?[_.]?([xyz])(?:\W.*)?", re.I
)
_STAMP = re.compile(r"#?\s*(?:.*[_.])?(?:t|time|timestamp|stamp)(?:\W.*|_s|_ns)?", re.I)


@dataclass(frozen=True, eq=False)
class GyroscopeLog:
    """The rates of a gyroscope.

    times_s: (N,) rising times, seconds.
    rates: (N, 3) rotation rates about its axes, in the unit of the file.
    name: name of the file.
    """

    times_s: Array
    rates: Array
    name: str


def read_gyroscope(path: Path) -> GyroscopeLog:
    """Read the rates of a gyroscope. Without a header, columns 2 to 4 are the rates.

    Raises DataError for a file without them, and for numbers that are not finite.
    """
    check_no_archive(path)
    lines = [line for line in read_text(path, expected=EXPECTED_RATES, max_bytes=MAX_RATE_BYTES).splitlines() if line]
    if not 2 < len(lines) <= MAX_RATE_ROWS:
        raise DataError(path, found=f"{len(lines)} rows", expected=EXPECTED_RATES, fix="check the file")
    columns = [0, 1, 2, 3]
    if re.match(r"\s*[-+.\d]", lines[0]) is None:
        names = [name.strip() for name in re.split(r"[,;\t]", lines[0])]
        found = {matched[1].lower(): column for column, name in enumerate(names) if (matched := _RATE.fullmatch(name))}
        times = [column for column, name in enumerate(names) if _STAMP.fullmatch(name)]
        if set(found) == set("xyz") and times:
            columns = [times[0], *(found[axis] for axis in "xyz")]
        elif len(names) < 4:
            shown = ", ".join(names)[:100]
            raise DataError(path, found=f"columns {shown}", expected=EXPECTED_RATES, fix="name them t, wx, wy, wz")
        lines = [line for line in lines[1:] if not line.startswith("#")]
    words = [re.split(r"[,;\s]+", line.strip()) for line in lines]
    try:
        stamps = [row[columns[0]] for row in words]
        rates = np.array([[float(row[column]) for column in columns[1:]] for row in words])
        times_s, _ = convert_times(stamps)
    except (IndexError, ValueError) as error:
        raise DataError(path, found=f"a row without four numbers ({error})", expected=EXPECTED_RATES) from error
    if not (np.isfinite(rates).all() and np.isfinite(times_s).all()):
        raise DataError(path, found="inf or NaN", expected="finite numbers", fix="leave out these rows")
    times_s, kept = np.unique(times_s, return_index=True)
    return GyroscopeLog(times_s, rates[kept], path.name)
