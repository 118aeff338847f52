"""Survey the masks of roads and objects on sampled frames, for findings before training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.datasets.masks.height_priors import RoadConfig, find_prior
from stadia.datasets.masks.mask_files import ROAD, clean_masks, find_edge_objects, has_road, select_classes
from stadia.datasets.masks.mask_objects import find_windows

MIN_OUTLINE_PX = 20  # vertical outlines of a frame, to compare them with the image
MAX_FRAMES, MAX_FRAMES_IN_ALL = 24, 400  # sampled frames of a recording, and in total


@dataclass(slots=True)
class MaskSurvey:
    """Survey of one recording.

    frames: number of sampled frames.  without_masks: numbers of frames without masks.
    unusable: frames with invalid masks, and the reason.  without_road: frames with too little road.
    road_in_lower_half: share of all road pixels.  upside_down: frames with less than half of their road there.
    without_object: frames with a road but no object of known height.  objects: number with known height.
    no_prior: frames with objects of configured classes without a prior, by class.
    as_they_are: log ratios of image gradients along mask outlines and along mirrored outlines, one per frame.
    others: number of objects of other classes, by class.
    """

    recording: str
    frames: int
    without_masks: tuple[int, ...] = ()
    unusable: dict[int, str] = field(default_factory=dict)
    without_road: tuple[int, ...] = ()
    road_in_lower_half: float = 0.0
    upside_down: tuple[int, ...] = ()
    without_object: tuple[int, ...] = ()
    objects: int = 0
    no_prior: dict[str, tuple[int, ...]] = field(default_factory=dict)
    as_they_are: tuple[float, ...] = ()
    others: Counter[str] = field(default_factory=Counter)


def survey_masks(recordings: Sequence[Recording], config: RoadConfig) -> list[MaskSurvey]:
    """Survey some frames of each recording."""
    frames = max(min(MAX_FRAMES, MAX_FRAMES_IN_ALL // max(len(recordings), 1)), 2)
    return [_survey_recording(recording, config, frames) for recording in recordings]


def _survey_recording(recording: Recording, config: RoadConfig, frames: int) -> MaskSurvey:
    names = {} if recording.mask_reader is None else recording.mask_reader.classes
    sampled = np.unique(np.linspace(0, len(recording) - 1, frames).astype(int)).tolist()
    survey = MaskSurvey(recording.name, len(sampled))
    road_px, lower_px = 0, 0
    for index in sampled:
        frame = recording.number(index)
        try:
            masks = recording.masks(index)
        except DataError as error:
            survey.unusable[frame] = str(error)
            continue
        if masks is None:
            survey.without_masks += (frame,)
            continue
        road = select_classes(masks.semantic, names, {ROAD})
        road_count, lower = int(road.sum()), int(road[road.shape[0] // 2 :].sum())
        road_px, lower_px = road_px + road_count, lower_px + lower
        if not has_road(masks.semantic, names):
            survey.without_road += (frame,)
            continue
        if 2 * lower < road_count:
            survey.upside_down += (frame,)
        clean = clean_masks(masks, config)
        outlined = np.where(road | (clean.instance > 0), masks.semantic, 0)
        if (ratio := _compare_with_mirrored(recording.image(index), outlined)) is not None:
            survey.as_they_are += (ratio,)
        edge, known = find_edge_objects(clean.instance, config.border_px), 0
        for number, window in find_windows(clean.instance).items():
            if number in edge:
                continue
            name = names.get(int(clean.semantic[window][clean.instance[window] == number][0]), "")
            if name not in config.objects:
                survey.others[name] += 1
            elif find_prior(name, config.height_priors) is None:
                survey.no_prior[name] = (*survey.no_prior.get(name, ()), frame)
            else:
                known += 1
        survey.objects += known
        if not known:
            survey.without_object += (frame,)
    survey.road_in_lower_half = lower_px / max(road_px, 1)
    return survey


def _compare_with_mirrored(image: NDArray[np.uint8], semantic: NDArray[np.integer]) -> float | None:
    """Return the log ratio of mean gradients along vertical mask outlines and mirrored ones; None for few outlines."""
    size = (semantic.shape[1], semantic.shape[0])
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    strength = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0))
    outline = np.zeros(semantic.shape, bool)
    outline[:, 1:] = semantic[:, 1:] != semantic[:, :-1]
    if outline.sum() < MIN_OUTLINE_PX:
        return None
    # One gray level is added: a blank image gives a ratio of 1.
    along, mirrored = (1 + float(strength[edge].mean()) for edge in (outline, outline[:, ::-1]))
    return math.log(along / mirrored)
