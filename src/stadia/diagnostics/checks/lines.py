"""Compare candidates for K by the epipolar lines that they give with the poses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stadia.diagnostics.finding import Severity
from stadia.diagnostics.instruments.two_view import Array, epipolar_distance_px
from stadia.diagnostics.survey import Survey

MIN_STEPS = 2
SURE, RIGHT = 2.0, 0.9
"""Distance with the given K over that with the best other. 2.0 to 28 where cx and cy were swapped or K was doubled or
halved (RoadWorld, KITTI, 7-Scenes). Of crops, the correct K has at most 0.8 of that with a centered or rescaled K.
"""

MAX_PX = 3.0
"""Where both distances are larger, the poses are wrong and do not decide. In grains of the image."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Median distances of matches between frames to the epipolar lines of the poses, in grains of the image.

    given: through K as given.  others: through candidates, by name; empty where there are no poses or no motion.
    """

    given: float
    others: Mapping[str, float]

    @property
    def severity(self) -> Severity | None:
        """STOP where another K fits, None where the given one does, WARN where the poses do not decide."""
        least = min(self.others.values(), default=math.inf)
        if min(self.given, least) >= MAX_PX:
            return Severity.WARN
        if self.given >= SURE * least:
            return Severity.STOP
        return None if self.given <= RIGHT * least else Severity.WARN

    @property
    def evidence(self) -> dict[str, Any]:
        """All distances as a table; empty where the poses do not decide."""
        if not self.others:
            return {}
        return {
            "hypothesis": ["K as given", *self.others],
            "grains from the lines of the poses": [self.given, *self.others.values()],
        }


def lines(survey: Survey, given: Array, others: Mapping[str, Array]) -> Lines:
    """Compare K with candidates, on the steps between frames that have the given K."""
    steps = [s for s in survey.steps if all(np.array_equal(survey.K(i), given) for i in (s.first, s.second))]
    known = [
        (step.matches, T) for step in steps if (T := step.T_second_first) is not None and np.linalg.norm(T[:3, 3]) > 0
    ]
    if len(known) < MIN_STEPS:
        return Lines(math.inf, {})

    def distance(K: Array) -> float:
        """Return the median over steps of their medians, so that long steps have no more weight."""
        medians = [
            np.median(epipolar_distance_px(matches.first_px, matches.second_px, K, K, T)) for matches, T in known
        ]
        return float(np.median(medians)) / survey.grain_px

    return Lines(distance(given), {name: distance(K) for name, K in others.items()})
