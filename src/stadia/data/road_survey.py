"""Survey masks of road and objects on sampled frames, for findings before training."""

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
"""Minimum pixels of a frame's vertical outlines for a comparison with the image."""

FRAMES, MOST = 24, 400
"""Sampled frames of a recording, and in total."""


@dataclass(frozen=True, slots=True)
class RoadSurvey:
    """Survey of one recording.

    frames: number of sampled frames.  without_masks: numbers of frames without masks.
    unusable: frames with invalid masks, and the reason.  without_road: frames with too little road.
    road_in_lower_half: share of all road pixels.  upside_down: frames with less than half of their road there.
    without_object: frames with a road and without an object of known height.
    as_they_are: log ratio of image gradients along the mask outlines and along the mirrored outlines, for each frame
        with enough outline.
    objects: number with known height.  no_prior: frames with objects of configured classes without a prior, by class.
    others: number of objects of other classes, by class.
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
    """Survey some frames of each recording."""
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
    sampled = np.unique(np.linspace(0, len(recording) - 1, frames).astype(int)).tolist()
    for index in sampled:
        try:
            masks = recording.masks(index)
        except DataError as error:
            unusable[recording.number(index)] = str(error)
            continue
        if masks is None:
            without_masks.append(recording.number(index))
            continue
        road = of_classes(masks.semantic, names, {ROAD})
        road_count, lower = int(road.sum()), int(road[road.shape[0] // 2 :].sum())
        road_px, lower_px = road_px + road_count, lower_px + lower
        if not shows_road(masks.semantic, names):
            without_road.append(recording.number(index))
            continue
        if 2 * lower < road_count:
            upside_down.append(recording.number(index))
        clean = cleaned(masks, config)
        if not math.isnan(
            fits := _compare_with_mirrored(
                recording.image(index), np.where(road | (clean.instance > 0), masks.semantic, 0)
            )
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
        len(sampled),
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


def _compare_with_mirrored(image: NDArray[np.uint8], semantic: NDArray[np.integer]) -> float:
    """Return the log ratio of mean gradients along vertical mask outlines and the mirrored ones; NaN for too few."""
    size = (semantic.shape[1], semantic.shape[0])
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    strength = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0))
    outline = np.zeros(semantic.shape, bool)
    outline[:, 1:] = semantic[:, 1:] != semantic[:, :-1]
    if outline.sum() < LEAST_OUTLINE:
        return math.nan
    along, mirrored = (
        1 + float(strength[one].mean()) for one in (outline, outline[:, ::-1])
    )  # 1 gray level added: a blank image gives a ratio of 1
    return math.log(along / mirrored)
