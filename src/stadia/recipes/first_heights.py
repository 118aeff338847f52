"""A first height of each group of cameras, from silhouettes alone: what the depth of a training has to agree with from
its first step.

Depth and motion have a valley: a road that tilts away from its camera, with the motion to go with it, explains images
nearly as well as
a level one, and its height is wrong (docs/metric.md). What objects of known height say without any depth lies outside
of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.core.recording import LEFT, Recording
from stadia.data.mask_boxes import mask_boxes
from stadia.data.road_config import RoadConfig
from stadia.data.road_samples import group_of, known_height
from stadia.geometry.box_tracks import box_tracks
from stadia.geometry.height_of_drives import DrivesHeight, height_of_drives
from stadia.recipes.camera_height import box_to

MOST_FRAMES = 1000
"""Of a group, evenly spread: seconds, whatever the size of the data."""

WIDEST = math.log(1.3)
"""Between the ends of the interval of 95 %; one that is wider says too little."""


@dataclass(frozen=True, slots=True)
class FirstHeights:
    """By the number of the group: what silhouettes say of a height, or in words why they say too little."""

    said: Mapping[int, DrivesHeight]
    silent: Mapping[int, str]


def first_heights(
    recordings: Sequence[Recording], groups: Mapping[str, int], config: RoadConfig, *, height: int, width: int
) -> FirstHeights:
    """What silhouettes say of the height of each group of cameras.

    recordings: that train, with masks.  groups: their numbers, by name (`data.road_samples.camera_groups`).
    height, width: of the network's images, which `config.border_px` is of.
    """
    said, silent = {}, {}
    for name, number in groups.items():
        mine = [recording for recording in recordings if group_of(recording, config) == name]
        seen = _seen(mine, config, height, width)
        try:
            found = _fitted(seen, float(mine[0].K(0)[1, 1]))
        except GeometryError as error:
            silent[number] = f"{error.found}, {error.expected} are needed{seen.lacking}"
            continue
        if math.log(found.high_m / found.low_m) < WIDEST:
            said[number] = found
        else:
            silent[number] = f"they leave {found.low_m:.2f} to {found.high_m:.2f} m open{seen.lacking}"
    return FirstHeights(said, silent)


@dataclass(frozen=True, slots=True)
class _Sightings:
    """rows: drive, frame, edges of the box from the first camera's middle, metres.  frames: looked at.

    unread: why, of each frame without masks.
    """

    rows: Sequence[tuple[float, ...]]
    frames: int
    unread: Sequence[str]

    @property
    def lacking(self) -> str:
        """In words."""
        if not self.unread:
            return ""
        return f"; masks of {len(self.unread)} of {self.frames} frames cannot be read, such as: {self.unread[0]}"


def _seen(recordings: Sequence[Recording], config: RoadConfig, height: int, width: int) -> _Sightings:
    every = [(drive, index) for drive, recording in enumerate(recordings) for index in range(len(recording))]
    chosen = [every[at] for at in np.linspace(0, len(every) - 1, min(len(every), MOST_FRAMES)).round().astype(int)]
    rows: list[tuple[float, ...]] = []
    unread = []
    for drive, index in chosen:
        recording = recordings[drive]
        camera = recording.camera(index)
        margin_px = config.border_px * max(camera.height / height, camera.width / width)
        try:
            found = _of_frame(recording, index, recordings[0].K(0), config, margin_px)
        except DataError as error:
            unread.append(str(error))
            continue
        rows += [(drive, index, *sighting) for sighting in found]
    return _Sightings(rows, len(chosen), unread)


def _fitted(seen: _Sightings, focal_px: float) -> DrivesHeight:
    drive, frame, left, top, right, bottom, height_m = (
        torch.tensor(seen.rows, dtype=torch.float64).reshape(-1, 7).unbind(-1)
    )
    box_px, drive, frame = torch.stack((left, top, right, bottom), -1), drive.long(), frame.long()
    track = torch.zeros_like(drive)
    for number in torch.unique(
        drive
    ):  # numbers of masks are of their image; an object that is seen again is the same one
        mine = drive == number
        track[mine] = box_tracks(frame[mine], box_px[mine])
    return height_of_drives(drive, track, bottom, bottom - top, height_m, focal_px=focal_px)


def _of_frame(
    recording: Recording, index: int, K: NDArray[np.float64], config: RoadConfig, margin_px: float
) -> list[tuple[float, ...]]:
    """The box, edges in pixels from the middle of a camera with K, and the height in metres of each whole object whose
    height is known.

    Raises DataError where there are no masks, or none that can be read.
    """
    masks = recording.masks(index, LEFT)
    if masks is None or recording.mask_reader is None:
        raise DataError(
            f"masks of {recording.name}, frame {index}", found="none", expected="a file", fix="stadia prepare --masks"
        )
    found = []
    for box in mask_boxes(masks, recording.mask_reader.classes, margin_px=margin_px):
        metres = known_height(recording, index, LEFT, box.number, box.class_name, config)
        if math.isfinite(metres) and not box.hidden and not box.cut:
            edges = box_to(torch.tensor(box.box_px, dtype=torch.float64), recording.K(index), K)
            found.append((*(edges - torch.tensor([K[0, 2], K[1, 2]] * 2)).tolist(), metres))
    return found
