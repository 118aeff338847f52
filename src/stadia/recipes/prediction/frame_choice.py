"""Choose the frames that are scored or checked, where all would take too long."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

import numpy as np


def choose_window(indices: Sequence[int], middle: Sequence[int], most: int) -> Sequence[int]:
    """Return at most `most` neighboring ones of ascending indices, around the first that are in `middle`.

    middle: ascending, each one of `indices`; empty for the first ones.
    """
    if not middle:
        return indices[:most]
    first = bisect.bisect_left(indices, middle[0])
    before = max(0, (most - len(middle)) // 2)
    start = max(0, min(first - before, len(indices) - most))
    return indices[start : start + most]


def thin_frames(indices: Mapping[str, Sequence[int]], most: int) -> dict[str, list[int]]:
    """Return at most `most` frames spread over all: the first frames of each block, since motion is scored too.

    A block is a range of consecutive frames; each keeps its share. Of single frames every n-th stays.

    indices: ascending, by recording name.
    """
    total, before = max(sum(map(len, indices.values())), 1), 0
    kept: dict[str, list[int]] = {}
    for name, frames in indices.items():
        kept[name] = []
        for block in np.split(np.asarray(frames, dtype=np.intp), np.flatnonzero(np.diff(frames) != 1) + 1):
            after = before + len(block)
            kept[name] += block[: after * most // total - before * most // total].tolist()
            before = after
    return kept
