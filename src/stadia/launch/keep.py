"""Decide which of two networks is kept, by errors of their depth on the same frames. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Literal

MEASURES: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "abs_rel": ("AbsRel to ground truth", fmean),
    "stereo_difference": ("median relative difference from stereo matches", fmean),
    "point_error": ("median relative error at the points of the map", median),
    "match_error": ("distance of matches, over that of constant depth", median),
}
"""Errors of depth by name, with their title and their average over frames. The first that both networks have decides:
the later ones follow from fewer known facts.
"""


@dataclass(frozen=True)
class DepthErrors:
    """Errors of a network's depth, a value for each frame: NaN for a frame where it cannot be measured.

    abs_rel: mean relative error to the recording's depth.
    stereo_difference: median relative difference from semi-global matching.
    point_error: median relative error at the points of the map beside the video, aligned.
    match_error: distance of matches from where depth and motion put them (S30), over the same for constant depth.
    """

    abs_rel: tuple[float, ...] = ()
    stereo_difference: tuple[float, ...] = ()
    point_error: tuple[float, ...] = ()
    match_error: tuple[float, ...] = ()

    def averages(self) -> dict[str, float | None]:
        """Return the average of each error over its frames; None for one that no frame has."""
        known = {name: [value for value in getattr(self, name) if math.isfinite(value)] for name in MEASURES}
        return {name: average(known[name]) if known[name] else None for name, (_, average) in MEASURES.items()}


@dataclass(frozen=True)
class ErrorChange:
    """How an error changes from one network to another, on the frames that both have.

    name: of MEASURES.
    before, after: its averages over the frames.
    change: mean over the frames of the logarithm of after over before; negative is better.
    scatter: standard error of that mean; infinite with a single frame.
    """

    name: str
    before: float
    after: float
    change: float
    scatter: float

    @property
    def is_better(self) -> bool:
        """Return whether it falls by more than its scatter."""
        return self.change < -self.scatter

    @property
    def is_worse(self) -> bool:
        """Return whether it rises by more than its scatter."""
        return self.change > self.scatter


@dataclass(frozen=True)
class Decision:
    """Which network is kept.

    changes: of each error that both networks have, the deciding one first.
    """

    kept: Literal["before", "after"]
    changes: tuple[ErrorChange, ...] = field(default_factory=tuple)


def choose_network(before: DepthErrors, after: DepthErrors) -> Decision:
    """Keep the new network only if the deciding error falls, and no other error rises, by more than its scatter.

    before, after: of the same frames, in the same order.

    Examples:
        >>> old = DepthErrors(point_error=(0.2, 0.3, 0.2), match_error=(0.5, 0.6, 0.5))
        >>> choose_network(old, DepthErrors(point_error=(0.1, 0.2, 0.1), match_error=(0.5, 0.6, 0.5))).kept
        'after'
        >>> choose_network(old, DepthErrors(point_error=(0.1, 0.2, 0.1), match_error=(0.6, 0.7, 0.6))).kept
        'before'
        >>> choose_network(old, old).kept
        'before'
    """
    compared = (compare_error(name, getattr(before, name), getattr(after, name)) for name in MEASURES)
    changes = tuple(change for change in compared if change is not None)
    improves = bool(changes) and changes[0].is_better and not any(change.is_worse for change in changes)
    return Decision("after" if improves else "before", changes)


def compare_error(name: str, before: Sequence[float], after: Sequence[float]) -> ErrorChange | None:
    """Return the change of an error over the frames that both networks have; None without such a frame."""
    pairs = [(max(old, 1e-9), max(new, 1e-9)) for old, new in zip(before, after, strict=False)]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if not pairs:
        return None
    changes = [math.log(new / old) for old, new in pairs]
    scatter = stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else math.inf
    average = MEASURES[name][1]
    return ErrorChange(
        name, average([old for old, _ in pairs]), average([new for _, new in pairs]), fmean(changes), scatter
    )
