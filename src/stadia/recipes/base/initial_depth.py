"""Choose the depth at which a training starts: the given one, or the median of the matches of some stereo pairs.

The photometric loss finds a match only near its start. A start that is much too near is never left, one that is much
too far is left late (docs/results/initial-depth.md). So a start out of reach of the matches is moved to them, in one
line.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from stadia.core.recording import Recording
from stadia.diagnostics.preflight.match_depth import MIN_MATCHES, MatchDepth, measure_match_depth
from stadia.models.depth.config import DepthNetworkConfig

DIGITS = 3
"""Significant digits of the depths that are written into the configuration."""

QUICK_PAIRS = 2
"""Stereo pairs that clear most given starts; all are matched only for the others."""


def resolve_initial_depth(
    config: DepthNetworkConfig, stereo: Sequence[Recording], console: Console
) -> DepthNetworkConfig:
    """Return the configuration with a number for `init_depth_m`; print it in one line unless it is the given one.

    Args:
        config: a number is kept within reach of the matches, or where these are too few to judge.
        stereo: recordings whose stereo pairs train; none for one camera, which has no scale.
    """
    given = config.init_depth_m
    if given != "auto" and (not stereo or not _is_out_of_reach(given, measure_match_depth(stereo, QUICK_PAIRS))):
        return config
    found = measure_match_depth(stereo)
    if given != "auto" and not _is_out_of_reach(given, found):
        return config
    if not found.is_known:
        resolved = config.model_copy(update={"init_depth_m": config.start_m})
        why = f"{len(found.depth_m)} matches in {found.pairs} stereo pairs, and {MIN_MATCHES} are needed"
        why = why if stereo else "one camera has no scale"
        line = f"initial depth: {config.start_m:g}, the default ({why})"
    else:
        resolved = _fit_to_matches(config, found)
        line = f"initial depth: {resolved.start_m:g} m, the median of {len(found.depth_m)} matches"
        if resolved.depth_range_m is not None and resolved.depth_range_m != config.depth_range_m:
            line += "; depth range: {:g} to {:g} m".format(*resolved.depth_range_m)
        if given != "auto":
            line += f"; model.network.init_depth_m={given:g} is out of their reach"
    if resolved != config:  # equal for a resumed training whose range ends before the matches
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return resolved


def _is_out_of_reach(start_m: float, found: MatchDepth) -> bool:
    return found.is_known and not found.is_in_reach(start_m)


def _fit_to_matches(config: DepthNetworkConfig, found: MatchDepth) -> DepthNetworkConfig:
    """Return the configuration that starts at the median of the matches, with a range that holds them.

    The default range is replaced where it does not hold them, by the same range in units of the initial depth. A range
    that was given is kept; a median outside of it starts at its nearer end (finding M03 reports the range).
    """
    start_m = _round(found.median_m)
    if config.depth_range_m is None:
        return config.model_copy(update={"init_depth_m": start_m})
    fields = type(config).model_fields
    default_m = fields["min_depth_m"].default, fields["max_depth_m"].default
    nearest_m, farthest_m = found.range_m
    min_m, max_m = config.depth_range_m
    if (min_m, max_m) == default_m and not (min_m < nearest_m and farthest_m < max_m):
        unit = found.median_m / type(config)(name=config.name).start_m
        min_m, max_m = _round(min(min_m * unit, nearest_m)), _round(max(max_m * unit, farthest_m))
    if not min_m < start_m < max_m:
        start_m = min(max(start_m, _round(1.2 * min_m)), _round(max_m / 1.2))
    return type(config).model_validate(
        config.model_dump() | {"init_depth_m": start_m, "min_depth_m": min_m, "max_depth_m": max_m}
    )


def _round(depth_m: float) -> float:
    return float(f"{depth_m:.{DIGITS}g}")
