"""Track boxes of objects from frame to frame by their overlap, to count objects instead of detections."""

from __future__ import annotations

import torch
from torch import Tensor


def box_tracks(frame: Tensor, box: Tensor, *, min_overlap: float = 0.3, memory: int = 3) -> Tensor:
    """Return a number (N,) int64 for each box: boxes of one object share it, from 0 without gaps, by first frame.

    Args:
        frame: (N,) int64, in order of time.
        box: (N, 4) left, top, right, bottom.
        min_overlap: smallest intersection over union with the object's last box.
        memory: frames for which an object may be missing.

    Pairs are joined by falling overlap, each object and box once.
    """
    track = torch.full((len(frame),), -1, dtype=torch.int64)
    last: dict[int, int] = {}  # of each object that may go on, its last box
    count = 0
    for now in torch.unique(frame).tolist():
        rows = (frame == now).nonzero()[:, 0]
        last = {one: row for one, row in last.items() if int(frame[row]) >= now - memory}
        if last:
            tracks = list(last)
            overlap = _overlaps(box[list(last.values())].double(), box[rows].double())
            for pair in overlap.flatten().argsort(descending=True, stable=True).tolist():
                one_track, row = tracks[pair // len(rows)], int(rows[pair % len(rows)])
                if overlap.flatten()[pair] < min_overlap:
                    break
                if track[row] < 0 and not bool((track[rows] == one_track).any()):
                    track[row] = one_track
        for row in rows.tolist():
            if track[row] < 0:
                track[row], count = count, count + 1
            last[int(track[row])] = row
    return track


def _overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Return (N, M) intersection over union of boxes (N, 4) and (M, 4)."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return both / (area_a[:, None] + area_b[None] - both).clamp(min=1e-9)
