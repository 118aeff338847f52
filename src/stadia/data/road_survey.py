"""What masks of road and objects hold, by a look at some of them: for findings before anything is trained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.data.height_priors import prior_of
from stadia.data.road_config import RoadConfig
from stadia.data.road_masks import ROAD, cleaned, of_classes, shows_road, touching_edge

LEAST_OUTLINE = 20
"""Pixels of a frame's upright outlines, for a comparison with the image."""

FRAMES, MOST = 24, 400
"""Looked at of a recording, and in all."""


@dataclass(frozen=True, slots=True)
class RoadSurvey:
    """What was seen of a recording.

    frames: of how many frames.  without_masks: numbers of frames that have none.
    unusable: of frames whose masks cannot be used, and why.  without_road: of frames with too little road.
    road_in_lower_half: share of all road pixels.  upside_down: numbers of frames with less than half of their road
        there.
    without_object: of frames with a road and without an object whose height is known.
    as_they_are: of each frame with enough outline, the logarithm of how much stronger the image's edges are along its
        masks than along the same masks mirrored.
    objects: whose height is known.  no_prior: of objects of classes that were asked for and have none, by class: the
        frame of each.
    others: how many objects of classes that were not asked for, by class.
    """

    recording: str
    frames: int
    without_masks: tuple[int, ...]
    unusable: Mapping[int, str]
    without_road: tuple[int, ...]
    road_in_lower_half: float
    upside_down: tuple[int, ...]
    without_object: tuple[int, ...]
    objects: int
    no_prior: Mapping[str, tuple[int, ...]]
    as_they_are: tuple[float, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)


def survey_road(recordings: Sequence[Recording], config: RoadConfig) -> list[RoadSurvey]:
    """A look at some frames of each recording."""
    frames = max(min(FRAMES, MOST // max(len(recordings), 1)), 2)
    return [_survey(recording, config, frames) for recording in recordings]


def _survey(recording: Recording, config: RoadConfig, frames: int) -> RoadSurvey:
    names = {} if recording.mask_reader is None else recording.mask_reader.classes
    without_masks, without_road, without_object, upside_down = [], [], [], []
    unusable: dict[int, str] = {}
    no_prior: dict[str, list[int]] = {}
    others: Counter[str] = Counter()
    as_they_are: list[float] = []
    road_px, lower_px, objects = 0, 0, 0
    looked_at = np.unique(np.linspace(0, len(recording) - 1, frames).astype(int)).tolist()
    for index in looked_at:
        try:
            masks = recording.masks(index)
        except DataError as error:
            unusable[recording.number(index)] = str(error)
            continue
        if masks is None:
            without_masks.append(recording.number(index))
            continue
        road = of_classes(masks.semantic, names, {ROAD})
        of_road, lower = int(road.sum()), int(road[road.shape[0] // 2 :].sum())
        road_px, lower_px = road_px + of_road, lower_px + lower
        if not shows_road(masks.semantic, names):
            without_road.append(recording.number(index))
            continue
        if 2 * lower < of_road:
            upside_down.append(recording.number(index))
        clean = cleaned(masks, config)
        if not math.isnan(
            fits := _fits_as_it_is(recording.image(index), np.where(road | (clean.instance > 0), masks.semantic, 0))
        ):
            as_they_are.append(fits)
        edge = touching_edge(clean.instance, config.border_px)
        known = 0
        for number in set(np.unique(clean.instance).tolist()) - {0, *edge.tolist()}:
            name = names.get(int(clean.semantic[clean.instance == number][0]), "")
            if name not in config.objects:
                others[name] += 1
            elif prior_of(name, config.height_priors) is None:
                no_prior.setdefault(name, []).append(recording.number(index))
            else:
                known += 1
        objects += known
        if not known:
            without_object.append(recording.number(index))
    return RoadSurvey(
        recording.name,
        len(looked_at),
        tuple(without_masks),
        unusable,
        tuple(without_road),
        lower_px / max(road_px, 1),
        tuple(upside_down),
        tuple(without_object),
        objects,
        {name: tuple(frames) for name, frames in no_prior.items()},
        tuple(as_they_are),
        others,
    )


def _fits_as_it_is(image: NDArray[np.uint8], semantic: NDArray[np.integer]) -> float:
    """Ln of the mean edge of the image along upright outlines of the masks, over that along them mirrored; NaN of too
    few.
    """
    size = (semantic.shape[1], semantic.shape[0])
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    strength = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0))
    outline = np.zeros(semantic.shape, bool)
    outline[:, 1:] = semantic[:, 1:] != semantic[:, :-1]
    if outline.sum() < LEAST_OUTLINE:
        return math.nan
    along, mirrored = (
        1 + float(strength[one].mean()) for one in (outline, outline[:, ::-1])
    )  # a gray level: a blank image fits neither
    return math.log(along / mirrored)
