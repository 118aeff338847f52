"""Check whether brightness is constant between consecutive frames, and between cameras."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import LEFT, RIGHT
from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.instruments.matching import gray
from stadia.diagnostics.survey import NotChecked, Survey

QUANTILES = (0.25, 0.5, 0.75, 0.9)
NOTE_GAIN, WARN_GAIN = 0.1, 0.25
"""|ln gain|, the median over pairs. Consecutive frames of clean recordings: at most .02 (KITTI, 7-Scenes, EuRoC,
RoadWorld).
Left and right: .016, but .155 for EuRoC with two auto-exposures. Random gains of .5 to 1.4 per image: .6 and .3.
"""


def exposure(survey: Survey) -> Iterator[Finding]:
    """B03: consecutive frames, or left and right, differ in brightness."""
    last = survey.length - 1
    pairs = {"to the next image": [(survey.image(i), survey.image(i + 1)) for i in survey.anchors if i < last]}
    if RIGHT in survey.recording.sides:
        pairs["from left to right"] = [(survey.image(i, LEFT), survey.image(i, RIGHT)) for i in survey.anchors]
    gains = {name: [abs(math.log(gain(*pair))) for pair in each] for name, each in pairs.items() if each}
    if not gains:
        raise NotChecked("one image of one camera")
    size, name = max((float(np.median(each)), name) for name, each in gains.items())
    if size <= NOTE_GAIN:
        return
    yield finding(
        "B03",
        Severity.WARN if size > WARN_GAIN else Severity.NOTE,
        measured=f"{name} brightness changes by {math.expm1(size):.0%} (the median of {len(gains[name])} pairs)",
        expected=f"at most {math.expm1(NOTE_GAIN):.0%}",
        evidence={"gains": {"pair": list(range(len(gains[name]))), "times": [math.exp(one) for one in gains[name]]}},
        where=[survey.name],
    )


def gain(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the brightness factor between two (H, W, 3) images of nearly the same view: the median over their
    quantiles.
    """
    quantiles = (
        np.quantile(gray(picture), QUANTILES) + 1 for picture in (other, one)
    )  # + 1: black is as bright as black
    return float(np.exp(np.median(np.log(np.divide(*quantiles)))))
