"""Do frames follow one another in time?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.checks.frames import windows
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.survey import Survey

STOP = 0.1
"""Of the neighbours: from here on most offsets in time are wrong."""


def timestamps(survey: Survey) -> Iterator[Finding]:
    """D15 neighbours of which the second is not the later one. Silent where frames have no times: many formats have none."""
    pairs = [(i, i + 1) for window in windows(survey.length) for i in window[:-1]]
    known = [(i, j, survey.recording.timestamp_s(i), survey.recording.timestamp_s(j)) for i, j in pairs]
    timed = [(i, j, before, after) for i, j, before, after in known if before is not None and after is not None]
    back = [(i, j, after - before) for i, j, before, after in timed if not after > before]  # of a time that is no number as well
    if not back:
        return
    share = len(back) / len(timed)
    yield finding(
        "D15",
        Severity.STOP if share >= STOP else Severity.WARN,
        measured=f"{len(back)} of {len(timed)} neighbouring frames are not later than the one before, "
        f"such as {back[0][1]}, by {back[0][2]:.3g} s",
        expected="times that rise from frame to frame",
        evidence={
            "median_step_s": float(np.median([after - before for _, _, before, after in timed])),
            "pairs": {"first": [i for i, _, _ in back[:8]], "second": [j for _, j, _ in back[:8]], "step_s": [s for *_, s in back[:8]]},
        },
        where=[survey.name],
    )
