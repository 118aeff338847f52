"""Which K the poses confirm, by the epipolar lines that it gives with them: what a principal point off the middle
cannot tell by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stadia.diagnostics.finding import Severity
from stadia.diagnostics.instruments.two_view import Array, epipolar_distance_px
from stadia.diagnostics.survey import Survey

LEAST_STEPS = 2
SURE, RIGHT = 2.0, 0.9
"""A wrong K lies this much further from the lines than the right one: 2.0 to 28 where cx and cy were exchanged or K was
doubled or halved (RoadWorld, KITTI, 7-Scenes). Of crops, the right K lies at most 0.8 times as far as one with its
center in the middle, or rescaled.
"""

MOST_PX = 3.0
"""Where both lie further from the lines, the poses are wrong, and tell nothing of K. In grains of the image."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Median distances of matches between frames to the lines that the poses give them, in grains of the image.

    given: through K as given.  others: through others, by their names. None where no poses are, or nothing moves.
    """

    given: float
    others: Mapping[str, float]

    @property
    def severity(self) -> Severity | None:
        """STOP where another K is right, None where the given one is, WARN where the poses do not tell."""
        least = min(self.others.values(), default=math.inf)
        if min(self.given, least) >= MOST_PX:
            return Severity.WARN
        if self.given >= SURE * least:
            return Severity.STOP
        return None if self.given <= RIGHT * least else Severity.WARN

    @property
    def evidence(self) -> dict[str, Any]:
        """All of them, side by side; empty where the poses tell nothing."""
        if not self.others:
            return {}
        return {
            "hypothesis": ["K as given", *self.others],
            "grains from the lines of the poses": [self.given, *self.others.values()],
        }


def lines(survey: Survey, given: Array, others: Mapping[str, Array]) -> Lines:
    """Of the steps between frames that have the given K."""
    steps = [s for s in survey.steps if all(np.array_equal(survey.K(i), given) for i in (s.first, s.second))]
    known = [
        (step.matches, T) for step in steps if (T := step.T_second_first) is not None and np.linalg.norm(T[:3, 3]) > 0
    ]
    if len(known) < LEAST_STEPS:
        return Lines(math.inf, {})

    def distance(K: Array) -> float:
        """Of each step the median, that a long one weighs no more, and of these the median."""
        medians = [
            np.median(epipolar_distance_px(matches.first_px, matches.second_px, K, K, T)) for matches, T in known
        ]
        return float(np.median(medians)) / survey.grain_px

    return Lines(distance(given), {name: distance(K) for name, K in others.items()})
