"""Choose the depth at which a training starts: the given one, or the median of the matches of some stereo pairs.

The photometric loss finds a match only near its start (docs/results/depth.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from stadia.core.recording import Recording
from stadia.diagnostics.loss_checks.init_checks import MAX_START_RATIO, MIN_START_RATIO
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey
from stadia.diagnostics.preflight.two_view_geometry import Array
from stadia.models.depth.config import DepthNetworkConfig

DIGITS = 3  # significant digits of depths in the configuration
PAIRS = 6  # matched stereo pairs, spread over the recordings
QUICK_PAIRS = 2  # stereo pairs that confirm most given starts; the others use all
MIN_MATCHES = 30  # matches that give a median

RANGE_PERCENTILES = 2.0, 75.0
"""Nearest and farthest matches are at these percentiles, because far ones are uncertain."""


def resolve_initial_depth(
    config: DepthNetworkConfig, stereo: Sequence[Recording], console: Console
) -> DepthNetworkConfig:
    """Return the configuration with a number for `init_depth_m`; print it unless it is the given one.

    stereo: recordings whose stereo pairs train.
    """
    given = config.init_depth_m
    if given != "auto" and (not stereo or not _is_out_of_reach(given, measure_match_depth(stereo, QUICK_PAIRS))):
        return config
    matches = measure_match_depth(stereo)
    if given != "auto" and not _is_out_of_reach(given, matches):
        return config
    if not matches.is_known:
        resolved = config.model_copy(update={"init_depth_m": config.start_m})
        why = f"{len(matches.depth_m)} matches in {matches.pairs} stereo pairs, and {MIN_MATCHES} are needed"
        why = why if stereo else "one camera has no scale"
        line = f"initial depth: {config.start_m:g}, the default ({why})"
    else:
        resolved = _fit_to_matches(config, matches)
        line = f"initial depth: {resolved.start_m:g} m, the median of {len(matches.depth_m)} matches"
        if resolved.depth_range_m is not None and resolved.depth_range_m != config.depth_range_m:
            line += "; depth range: {:g} to {:g} m".format(*resolved.depth_range_m)
        if given != "auto":
            line += f"; model.network.init_depth_m={given:g} is out of their reach"
    if resolved != config:  # equal for a resumed training whose range ends before the matches
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return resolved


def _is_out_of_reach(start_m: float, matches: MatchDepth) -> bool:
    return matches.is_known and not matches.is_in_reach(start_m)


def _fit_to_matches(config: DepthNetworkConfig, matches: MatchDepth) -> DepthNetworkConfig:
    """Return the configuration that starts at the median of the matches, with a range that includes them.

    Only the default range is replaced. A median outside of the given range is moved into it.
    """
    start_m = _round(matches.median_m)
    if config.depth_range_m is None or config.starts_in_metres:
        return config.model_copy(update={"init_depth_m": start_m})
    fields = type(config).model_fields
    default_m = fields["min_depth_m"].default, fields["max_depth_m"].default
    nearest_m, farthest_m = matches.range_m
    min_m, max_m = config.depth_range_m
    if (min_m, max_m) == default_m and not (min_m < nearest_m and farthest_m < max_m):
        unit = matches.median_m / type(config)(name=config.name).start_m
        min_m, max_m = _round(min(min_m * unit, nearest_m)), _round(max(max_m * unit, farthest_m))
    if not min_m < start_m < max_m:
        start_m = min(max(start_m, _round(1.2 * min_m)), _round(max_m / 1.2))
    return type(config).model_validate(
        config.model_dump() | {"init_depth_m": start_m, "min_depth_m": min_m, "max_depth_m": max_m}
    )


def _round(depth_m: float) -> float:
    return float(f"{depth_m:.{DIGITS}g}")


@dataclass(frozen=True, slots=True)
class MatchDepth:
    """Depth of matches by the rig. depth_m: (M,) metres.  pairs: number of matched stereo pairs."""

    depth_m: Array
    pairs: int

    @property
    def is_known(self) -> bool:
        """Return whether there are enough matches for a median."""
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
    """Match some stereo pairs, and triangulate. Empty without a stereo pair."""
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
    wanted = min(wanted, count)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]
