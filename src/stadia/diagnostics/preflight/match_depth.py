"""Depth of the matches of stereo pairs: what a scene's depth is before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stadia.core.recording import Recording
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey
from stadia.diagnostics.preflight.two_view_geometry import Array

PAIRS = 6  # stereo pairs that are matched, spread over the recordings

MIN_MATCHES = 30
MIN_START_RATIO, MAX_START_RATIO = 1 / 3, 3.0
"""Start over the median depth of the matches from which trainings find depth (docs/results/initial-depth.md)."""

RANGE_PERCENTILES = 2.0, 75.0
"""Of the matches: what counts as nearest and farthest. Far matches are uncertain, and less than a pixel apart."""


@dataclass(frozen=True, slots=True)
class MatchDepth:
    """Depth of matches by the rig.

    depth_m: (M,) metres, of the points with a clear disparity.  pairs: stereo pairs that were matched.
    """

    depth_m: Array
    pairs: int

    @property
    def is_known(self) -> bool:
        """Whether there are enough matches for a median."""
        return len(self.depth_m) >= MIN_MATCHES

    @property
    def median_m(self) -> float:
        """Return the median depth of the matches in metres."""
        return float(np.median(self.depth_m))

    def is_in_reach(self, start_m: float) -> bool:
        """Return whether a training that starts at this depth finds the matches."""
        return MIN_START_RATIO <= start_m / self.median_m <= MAX_START_RATIO

    @property
    def range_m(self) -> tuple[float, float]:
        """Return nearest and farthest depth, the RANGE_PERCENTILES."""
        nearest, farthest = np.percentile(self.depth_m, RANGE_PERCENTILES)
        return float(nearest), float(farthest)


def measure_match_depth(recordings: Sequence[Recording], max_pairs: int = PAIRS) -> MatchDepth:
    """Match the stereo pairs of some recordings, and triangulate.

    Args:
        recordings: of one data set or several; those without a rig are left out.
        max_pairs: stereo pairs to match, spread over the recordings.

    Returns: the depth of all matches; empty without a stereo pair.
    """
    surveys = [survey for survey in map(RecordingSurvey, recordings) if survey.stereo]
    chosen = [surveys[i] for i in _spread(len(surveys), max_pairs)]
    depths, pairs = [np.zeros(0)], 0
    for survey in chosen:
        for i in _spread(len(survey.anchors), -(-max_pairs // len(chosen))):
            depth_m = survey.rig_depth(survey.match_pair(survey.anchors[i]))
            depths.append(depth_m[depth_m > 0])
            pairs += 1
    return MatchDepth(np.concatenate(depths), pairs)


def _spread(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` indices of `count`, each in the middle of its share."""
    wanted = min(wanted, count)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]
