"""A first height of each group of cameras, from silhouettes alone: what the depth of a training has to agree with from its first step.

Depth and motion have a valley: a road that tilts away from its camera, with the motion to go with it, explains pictures nearly as well as
a level one, and its height is wrong (docs/metric.md). What objects of known height say without any depth lies outside of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from stadia.core.errors import DataError, GeometryError
from stadia.core.recording import LEFT, Recording
from stadia.data.mask_boxes import mask_boxes
from stadia.data.road_config import RoadConfig
from stadia.data.road_samples import group_of, known_height
from stadia.geometry.height_survey import BoxedObjects, HeightSurvey, survey
from stadia.recipes.camera_height import box_to

MOST_FRAMES = 1000
"""Of a group, evenly spread: seconds, whatever the size of the data."""

LEAST_PX, LEAST_SHARE = 8, 0.05
"""Of an object that counts: rows, and share of the picture's. An edge is known to a pixel."""

WIDEST = math.log(1.3)
"""Between the ends of the interval of 95 %; one that is wider says too little."""


def first_heights(recordings: Sequence[Recording], groups: Mapping[str, int], config: RoadConfig) -> dict[int, HeightSurvey]:
    """What silhouettes say of the height of each group of cameras, by its number; without those of which they say too little.

    recordings: that train, with masks.  groups: their numbers, by name (`data.road_samples.camera_groups`).
    """
    found = {}
    for name, number in groups.items():
        mine = [recording for recording in recordings if group_of(recording, config) == name]
        try:
            said = _of_group(mine, config)
        except GeometryError:  # too few of them, or they agree on no horizon
            continue
        if math.log(said.high_m / said.low_m) < WIDEST:
            found[number] = said
    return found


def _of_group(recordings: Sequence[Recording], config: RoadConfig) -> HeightSurvey:
    every = [(recording, index) for recording in recordings for index in range(len(recording))]
    chosen = [every[at] for at in np.linspace(0, len(every) - 1, min(len(every), MOST_FRAMES)).round().astype(int)]
    K = chosen[0][0].K(chosen[0][1])
    rows = chosen[0][0].camera(chosen[0][1]).height
    parts = [_boxed(recording, index, frame, K, config) for frame, (recording, index) in enumerate(chosen)]
    objects = BoxedObjects(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return survey(objects, float(K[1, 1]), len(chosen), one_mount=False, least_px=max(LEAST_PX, LEAST_SHARE * rows))


def _boxed(recording: Recording, index: int, frame: int, K: np.ndarray, config: RoadConfig) -> tuple[Tensor, ...]:
    """The columns of `BoxedObjects`, of one frame; boxes in the pixels of a camera with K."""
    try:
        masks = recording.masks(index, LEFT)
    except DataError:  # the survey of masks tells it
        masks = None
    boxes = [] if masks is None or recording.mask_reader is None else mask_boxes(masks, recording.mask_reader.classes)
    known = [known_height(recording, index, LEFT, box.number, box.class_name, config) for box in boxes]
    kept = [(box, height) for box, height in zip(boxes, known, strict=True) if math.isfinite(height[0])]
    box_px = [box_to(torch.tensor(box.box_px, dtype=torch.float64), recording.K(index), K) for box, _ in kept]
    height_m, spread_m = torch.tensor([height for _, height in kept], dtype=torch.float64).reshape(-1, 2).unbind(-1)
    return (
        torch.full((len(kept),), frame),
        torch.stack(box_px) if box_px else torch.zeros(0, 4, dtype=torch.float64),
        height_m,
        spread_m,
        torch.tensor([box.hidden for box, _ in kept], dtype=torch.bool),
        torch.tensor([box.cut for box, _ in kept], dtype=torch.bool),
    )
