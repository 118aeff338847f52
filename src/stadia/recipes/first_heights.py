"""Estimate an initial height of each camera group from silhouettes alone, before training.

Self-supervised depth has a wrong minimum: a tilted road with matching motion explains images nearly as well as a level
road, and its height is wrong (docs/metric.md). Objects of known height avoid it, since they need no depth.
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
"""Maximum frames of a group, evenly spaced: takes seconds for data of any size."""

WIDEST = math.log(1.3)
"""Maximum log ratio between the ends of the 95 % interval; a wider one is not used."""


@dataclass(frozen=True, slots=True)
class FirstHeights:
    """By group number: estimates of the height, or reasons why there is none."""

    estimated: Mapping[int, DrivesHeight]
    reasons: Mapping[int, str]


def first_heights(
    recordings: Sequence[Recording], groups: Mapping[str, int], config: RoadConfig, *, height: int, width: int
) -> FirstHeights:
    """Estimate the height of each camera group from silhouettes.

    recordings: of the training, with masks.
    groups: their numbers by name (`data.road_samples.camera_groups`).
    height, width: network image size, the unit of `config.border_px`.
    """
    estimated, reasons = {}, {}
    for name, number in groups.items():
        mine = [recording for recording in recordings if group_of(recording, config) == name]
        sightings = _collect_sightings(mine, config, height, width)
        try:
            found = _fit_height(sightings, float(mine[0].K(0)[1, 1]))
        except GeometryError as error:
            reasons[number] = f"{error.found}, {error.expected} are needed{sightings.unread_note}"
            continue
        if math.log(found.high_m / found.low_m) < WIDEST:
            estimated[number] = found
        else:
            reasons[number] = f"the interval is {found.low_m:.2f} to {found.high_m:.2f} m{sightings.unread_note}"
    return FirstHeights(estimated, reasons)


@dataclass(frozen=True, slots=True)
class _Sightings:
    """Boxes of objects with known height.

    rows: drive, frame, box edges from the first camera's principal point (pixels), object height (metres).
    frames: number of frames that were read.
    unread: error of each frame without masks.
    """

    rows: Sequence[tuple[float, ...]]
    frames: int
    unread: Sequence[str]

    @property
    def unread_note(self) -> str:
        """Return a note about unreadable masks."""
        if not self.unread:
            return ""
        return f"; masks of {len(self.unread)} of {self.frames} frames cannot be read, such as: {self.unread[0]}"


def _collect_sightings(recordings: Sequence[Recording], config: RoadConfig, height: int, width: int) -> _Sightings:
    every = [(drive, index) for drive, recording in enumerate(recordings) for index in range(len(recording))]
    chosen = [every[at] for at in np.linspace(0, len(every) - 1, min(len(every), MOST_FRAMES)).round().astype(int)]
    rows: list[tuple[float, ...]] = []
    unread = []
    for drive, index in chosen:
        recording = recordings[drive]
        camera = recording.camera(index)
        margin_px = config.border_px * max(camera.height / height, camera.width / width)
        try:
            found = _read_frame(recording, index, recordings[0].K(0), config, margin_px)
        except DataError as error:
            unread.append(str(error))
            continue
        rows += [(drive, index, *sighting) for sighting in found]
    return _Sightings(rows, len(chosen), unread)


def _fit_height(sightings: _Sightings, focal_px: float) -> DrivesHeight:
    drive, frame, left, top, right, bottom, height_m = (
        torch.tensor(sightings.rows, dtype=torch.float64).reshape(-1, 7).unbind(-1)
    )
    box_px, drive, frame = torch.stack((left, top, right, bottom), -1), drive.long(), frame.long()
    track = torch.zeros_like(drive)
    for number in torch.unique(drive):  # instance numbers differ between images, so boxes are tracked
        mine = drive == number
        track[mine] = box_tracks(frame[mine], box_px[mine])
    return height_of_drives(drive, track, bottom, bottom - top, height_m, focal_px=focal_px)


def _read_frame(
    recording: Recording, index: int, K: NDArray[np.float64], config: RoadConfig, margin_px: float
) -> list[tuple[float, ...]]:
    """Return box edges and known height (metres) of each whole object.

    Edges are in pixels of a camera with matrix K, from its principal point. Raises DataError without readable masks.
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
