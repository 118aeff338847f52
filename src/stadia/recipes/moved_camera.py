"""Detect a camera that was moved between drives or during one, from the camera heights that objects imply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from stadia.geometry.box_tracks import box_tracks
from stadia.geometry.height_survey import BoxedObjects, HeightSurvey, Verdict
from stadia.geometry.mounts import MountsApart, mounts_apart
from stadia.recipes.seen_objects import SeenFrame

PARTS = 8
"""Number of parts of a drive: a camera may be moved during it."""

FEWEST_OF_PART = 25
"""Minimum frames of a part."""

_NAMED = 6


def moved_camera(frames: Sequence[SeenFrame], objects: BoxedObjects, found: HeightSurvey) -> MountsApart | None:
    """Return the two heights of a moved camera, and their places; None if one height explains all objects.

    Rejected objects count too, each once however often it occurs: if the camera was moved, half of them are rejected.
    """
    places = np.array(_drive_parts(frames), dtype=np.str_)
    has_height = torch.tensor([one in (Verdict.BELIEVED, Verdict.ODD) for one in found.verdict], dtype=torch.bool)
    used = objects.of(has_height)
    if len(used) == 0:
        return None
    of_object = np.stack(
        (np.unique(places, return_inverse=True)[1][used.frame.numpy()], box_tracks(used.frame, used.box_px).numpy())
    )
    _, first, number = np.unique(of_object, axis=1, return_index=True, return_inverse=True)
    logs = found.implied_m[has_height].log().numpy()
    each = np.array([np.median(logs[number.ravel() == one]) for one in range(len(first))])
    return mounts_apart(places[used.frame.numpy()][first], each)


def _drive_parts(frames: Sequence[SeenFrame]) -> list[str]:
    """Return for each frame its drive, or the part of the drive."""
    places = []
    for drive, group in groupby(frames, lambda frame: frame.drive):
        stems = [Path(frame.name).name for frame in group]
        length = max(math.ceil(len(stems) / PARTS), FEWEST_OF_PART)
        for start in range(0, len(stems), length):
            part = stems[start : start + length]
            places += [drive if len(part) == len(stems) else f"{drive}, frames {part[0]} to {part[-1]}"] * len(part)
    return places


def said_of_moved(apart: MountsApart) -> str:
    """Return a note for people."""
    low, high = _join_names(apart.low), _join_names(apart.high)
    return (
        f"note: no one height: about {apart.low_m:.2f} m in {low}, {apart.high_m:.2f} m in {high}. "
        "If the camera was moved, select the recordings of each mount alone (data.recordings), or cut the video there"
    )


def _join_names(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in sorted(names)[:_NAMED])
    return shown + f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
