"""Convert times of other programs to seconds; their size shows the unit."""

import re
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

TIME_UNITS = ((1e18, "nanoseconds"), (1e17, "intervals of 100 ns"), (1e14, "microseconds"), (1e11, "milliseconds"))
"""Smallest first time that means each unit, for clocks that count from 1970 (Windows: from 1601, in 100 ns). Seconds
have 10 digits.
"""

UNITS_IN_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "intervals of 100 ns": 10**7,
                   "nanoseconds": 10**9}  # fmt: skip
MIN_STEP_OF_NANOSECONDS = 5e5  # median interval of whole numbers above which times from 0 are nanoseconds: 2 kHz
MIN_STEP_OF_MICROSECONDS = 2e3  # the same for microseconds: 500 Hz; PX4 counts them from its start
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.0*)?|-?[0-8][0-9]{18}(?:\.0*)?")


def find_time_unit(times: NDArray[np.float64]) -> str:
    """Return the unit of times (N,), a key of UNITS_IN_SECOND, by their size."""
    for smallest, unit in TIME_UNITS:
        if abs(times[0]) >= smallest:
            return unit
    is_whole = (times == np.rint(times)).all()
    step = float(np.median(np.diff(times))) if is_whole and len(times) > 1 else 0.0
    if step < MIN_STEP_OF_MICROSECONDS:
        return "seconds"
    return "nanoseconds" if step >= MIN_STEP_OF_NANOSECONDS else "microseconds"


def convert_times(words: Sequence[str], unit: str | None = None) -> tuple[NDArray[np.float64], str]:
    """Convert N times as texts to seconds (N,); return them and their unit.

    Whole numbers are converted as integers, since a float cannot represent nanoseconds since 1970. If whole numbers
    rise by less than a float in seconds can represent, the times still rise.

    words: finite numbers as texts.
    unit: unit of the times, a key of UNITS_IN_SECOND; None finds it by their size.

    Examples:
        >>> convert_times(["1403636579763555584", "1403636580763555584"])
        (array([1.40363658e+09, 1.40363658e+09]), 'nanoseconds')
    """
    values = np.array([float(word) for word in words])
    unit = unit or find_time_unit(values)
    per_second = UNITS_IN_SECOND[unit]
    if per_second == 1 or not all(map(_WHOLE_NUMBER.fullmatch, words)):
        return values / per_second, unit
    whole = np.array([int(word.partition(".")[0]) for word in words], np.int64)
    seconds = whole // per_second + whole % per_second / per_second
    rises = np.diff(whole) > 0
    if (rises & (np.diff(seconds) <= 0)).any():
        for row in np.flatnonzero(rises) + 1:
            seconds[row] = max(seconds[row], np.nextafter(seconds[row - 1], np.inf))
    return seconds, unit


MAX_NANOSECONDS = 9e18
"""About the largest number of an int64."""


def convert_to_nanoseconds(words: Sequence[str], unit: str) -> NDArray[np.int64] | None:
    """Convert N times as texts to whole nanoseconds (N,); None if they are too large.

    A float of seconds since 1970 is off by up to 128 ns.

    words: finite numbers as texts.
    unit: unit of the times, a key of UNITS_IN_SECOND.

    Examples:
        >>> convert_to_nanoseconds(["1403636579.763555584"], "seconds")
        array([1403636579763555584])
    """
    factor = 10**9 // UNITS_IN_SECOND[unit]
    if max(abs(float(word)) for word in words) * factor > MAX_NANOSECONDS:
        return None
    return np.array([round(Decimal(word) * factor) for word in words], np.int64)
