"""A first height of each group of cameras, from silhouettes alone: what the depth of a training has to agree with from its first step.

Depth and motion have a valley: a road that tilts away from its camera, with the motion to go with it, explains pictures nearly as well as
a level one, and its height is wrong (docs/metric.md). What objects of known height say without any depth lies outside of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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


def first_heights(recordings: Sequence[Recording], groups: Mapping[str, int], config: RoadConfig) -> dict[int, DrivesHeight]:
    """What silhouettes say of the height of each group of cameras, by its number; without those of which they say too little.

    recordings: that train, with masks.  groups: their numbers, by name (`data.road_samples.camera_groups`).
    """
    found = {}
    for name, number in groups.items():
        mine = [recording for recording in recordings if group_of(recording, config) == name]
        try:
            said = _of_group(mine, config)
        except GeometryError:  # too few of them
            continue
        if math.log(said.high_m / said.low_m) < WIDEST:
            found[number] = said
    return found


def _of_group(recordings: Sequence[Recording], config: RoadConfig) -> DrivesHeight:
    every = [(drive, index) for drive, recording in enumerate(recordings) for index in range(len(recording))]
    chosen = [every[at] for at in np.linspace(0, len(every) - 1, min(len(every), MOST_FRAMES)).round().astype(int)]
    K = recordings[0].K(0)
    rows = [(drive, index, *sighting) for drive, index in chosen for sighting in _sightings(recordings[drive], index, K, config)]
    drive, frame, left, top, right, bottom, height_m = torch.tensor(rows, dtype=torch.float64).reshape(-1, 7).unbind(-1)
    box_px, drive, frame = torch.stack((left, top, right, bottom), -1), drive.long(), frame.long()
    track = torch.zeros_like(drive)
    for number in torch.unique(drive):  # numbers of masks are of their picture; an object that is seen again is the same one
        mine = drive == number
        track[mine] = box_tracks(frame[mine], box_px[mine])
    return height_of_drives(drive, track, bottom - K[1, 2], bottom - top, height_m, focal_px=float(K[1, 1]))


def _sightings(recording: Recording, index: int, K: NDArray[np.float64], config: RoadConfig) -> list[tuple[float, ...]]:
    """The box, edges in pixels of a camera with K, and the height in metres of each whole object of a frame whose height is known."""
    try:
        masks = recording.masks(index, LEFT)
    except DataError:  # the survey of masks tells it
        return []
    if masks is None or recording.mask_reader is None:
        return []
    found = []
    for box in mask_boxes(masks, recording.mask_reader.classes):
        metres, _ = known_height(recording, index, LEFT, box.number, box.class_name, config)
        if math.isfinite(metres) and not box.hidden and not box.cut:
            edges = box_to(torch.tensor(box.box_px, dtype=torch.float64), recording.K(index), K)
            found.append((*edges.tolist(), metres))
    return found
