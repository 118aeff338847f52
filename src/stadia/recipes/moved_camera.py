"""A camera that was moved between drives, or in the middle of one: told by what objects of known height say there."""

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

PARTS, FEWEST_OF_PART = 8, 25
"""A drive is looked at in so many stretches, of at least so many frames."""

_NAMED = 6


def moved_camera(frames: Sequence[SeenFrame], objects: BoxedObjects, found: HeightSurvey) -> MountsApart | None:
    """The two heights of a camera that was moved, and where it had them; None where one explains all.

    Objects that disagree with the others count too, each once however often it is seen: of a camera that was moved they
    are the half.
    """
    places = np.array(_places(frames), dtype=np.str_)
    says = torch.tensor([one in (Verdict.BELIEVED, Verdict.ODD) for one in found.verdict], dtype=torch.bool)
    seen = objects.of(says)
    if len(seen) == 0:
        return None
    of_object = np.stack(
        (np.unique(places, return_inverse=True)[1][seen.frame.numpy()], box_tracks(seen.frame, seen.box_px).numpy())
    )
    _, first, number = np.unique(of_object, axis=1, return_index=True, return_inverse=True)
    logs = found.implied_m[says].log().numpy()
    each = np.array([np.median(logs[number.ravel() == one]) for one in range(len(first))])
    return mounts_apart(places[seen.frame.numpy()][first], each)


def _places(frames: Sequence[SeenFrame]) -> list[str]:
    """Of each frame, in words: its drive, or the stretch of it."""
    places = []
    for drive, group in groupby(frames, lambda frame: frame.drive):
        stems = [Path(frame.name).name for frame in group]
        length = max(math.ceil(len(stems) / PARTS), FEWEST_OF_PART)
        for start in range(0, len(stems), length):
            part = stems[start : start + length]
            places += [drive if len(part) == len(stems) else f"{drive}, frames {part[0]} to {part[-1]}"] * len(part)
    return places


def said_of_moved(apart: MountsApart) -> str:
    """A note for people."""
    low, high = _listed(apart.low), _listed(apart.high)
    return (
        f"note: no one height: about {apart.low_m:.2f} m in {low}, {apart.high_m:.2f} m in {high}. "
        "If the camera was moved, ask for the recordings of each mount alone (data.recordings), or cut the video there"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in sorted(names)[:_NAMED])
    return shown + f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
