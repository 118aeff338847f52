"""Check that timestamps increase, and that their unit is seconds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.checks.frames import windows
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import Survey

STOP_SHARE = 0.1
"""Share of consecutive frames: from here on most time offsets are wrong."""

MIN_INTERVAL_S, MAX_INTERVAL_S = 5e-4, 5.0
"""Between frames of a video: others are times in another unit, or no video."""

UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
"""Units per second."""

Timed = list[tuple[int, int, float, float]]


def timestamps(survey: Survey) -> Iterator[Finding]:
    """D15 timestamps that do not increase; else D16 another unit. Frames without timestamps are skipped: many formats
    have none.
    """
    pairs = [(i, i + 1) for window in windows(survey.length) for i in window[:-1]]
    known = [(i, j, survey.recording.timestamp_s(i), survey.recording.timestamp_s(j)) for i, j in pairs]
    timed = [(i, j, before, after) for i, j, before, after in known if before is not None and after is not None]
    if timed:
        yield from _check_order(survey, timed) or _check_time_unit(survey, timed)


def _check_order(survey: Survey, timed: Timed) -> list[Finding]:
    back = [(i, j, after - before) for i, j, before, after in timed if not after > before]  # also for NaN
    if not back:
        return []
    share = len(back) / len(timed)
    found = finding(
        "D15",
        Severity.STOP if share >= STOP_SHARE else Severity.WARN,
        measured=(
            f"{len(back)} of {len(timed)} neighboring frames are not later than the one before, "
            f"such as {back[0][1]}, by {back[0][2]:.3g} s"
        ),
        expected="times that rise from frame to frame",
        evidence={
            "median_step_s": float(np.median([after - before for _, _, before, after in timed])),
            "pairs": {
                "first": [i for i, _, _ in back[:8]],
                "second": [j for _, j, _ in back[:8]],
                "step_s": [s for *_, s in back[:8]],
            },
        },
        where=[survey.name],
    )
    return [found]


def _check_time_unit(survey: Survey, timed: Timed) -> list[Finding]:
    step_s = float(np.median([after - before for _, _, before, after in timed]))
    if MIN_INTERVAL_S <= step_s < MAX_INTERVAL_S:
        return []
    likely = [(name, in_a_second) for name, in_a_second in UNITS.items() if MIN_INTERVAL_S <= step_s / in_a_second <= 1]
    names = " or ".join(f"{name}, {step_s / in_a_second:.3g} s apart then" for name, in_a_second in likely)
    divisors = " or ".join(f"{in_a_second:.0f}" for _, in_a_second in likely)
    found = finding(
        "D16",
        Severity.WARN,
        measured=f"frames are {step_s:.4g} s apart (the median of {len(timed)})",
        expected=f"{MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g} s",
        cause=(
            f"times of another unit that are read as seconds ({names}), or images taken now and then instead of a video"
            if likely
            else None
        ),
        fix=f"divide times of another unit by {divisors}; leave out what is no video" if likely else None,
        evidence={"median_step_s": step_s},
        where=[survey.name],
    )
    return [found]
