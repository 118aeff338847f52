"""Survey road masks and object labels on sampled images, for findings before training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.datasets.image_files import check_image_ends
from stadia.datasets.masks.height_priors import RoadConfig, find_prior
from stadia.datasets.masks.mask_files import ROAD, clean_masks, find_edge_objects, has_road, select_classes
from stadia.datasets.masks.mask_objects import find_windows
from stadia.datasets.objects.object_labels import ObjectBox, ObjectImages, Points
from stadia.geometry.boxes import CORNERS

MIN_OUTLINE_PX = 20  # minimum pixels of a frame's vertical outlines for a comparison with the image
MAX_FRAMES, MAX_FRAMES_IN_ALL = 24, 400  # sampled frames of a recording, and in total
MIN_MASK_PX = 20  # smallest mask that is compared with its box
ProgressWrapper = Callable[[Sequence[int]], Iterable[int]]
_THREADS = 16  # disks serve many small reads in parallel
_FAR_PX = 1e5  # beyond any image, and within OpenCV's 32-bit coordinates


@dataclass(slots=True)
class MaskSurvey:
    """Survey of one recording.

    frames: number of sampled frames.  without_masks: numbers of frames without masks.
    unusable: frames with invalid masks, and the reason.  without_road: frames with too little road.
    road_in_lower_half: share of all road pixels.  upside_down: frames with less than half of their road there.
    without_object: frames with a road and without an object of known height.  objects: number with known height.
    no_prior: frames with objects of configured classes without a prior, by class.
    as_they_are: log ratio of image gradients along mask outlines and their mirror image, of frames with enough outline.
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
    """Return the log ratio of mean gradients along vertical mask outlines and the mirrored ones; None for too few."""
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


@dataclass(frozen=True, slots=True)
class BoxMaskFit:
    """Agreement of a labeled box, projected, with the mask of its object.

    object: its place in the image, from 1.
    inside: share of the mask's pixels inside the projected box, with a margin of one pixel.
    overlap: IoU of the axis-aligned rectangles about both, in the image.
    """

    file: str
    object: int
    inside: float
    overlap: float


@dataclass(slots=True)
class ObjectSurvey:
    """Survey of a set of images.

    images: number of images read with their labels.  whole: number of all images; the ends of each file were read.
    objects: number of visible objects by class, in the images that were read.
    hidden: (file, object) without visible pixel: the place from 1, or for one without label the number in the files.
    left_out: (file, number in the files, reason) of each visible object without label.
    unreadable: (file, fault) of each image that cannot be read.
    fits: of each object of `MIN_MASK_PX` and more whose box is in front of the camera.
    """

    images: int
    objects: Counter[str]
    hidden: tuple[tuple[str, int], ...] = ()
    left_out: tuple[tuple[str, int, str], ...] = ()
    whole: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()
    fits: tuple[BoxMaskFit, ...] = ()


def survey_objects(images: ObjectImages, at_most: int = 200, shown: ProgressWrapper = iter) -> ObjectSurvey:
    """Read up to `at_most` images and labels, spread evenly over the set, and the ends of every image file.

    shown: passes the images on, and may show progress. Raises DataError for invalid labels.
    """
    files = [images.file(index) for index in range(len(images))]
    with ThreadPoolExecutor(_THREADS) as threads:
        ends = threads.map(lambda file: _find_fault(lambda: check_image_ends(file)), files)
        faults = {index: fault for index, fault in enumerate(ends) if fault}
    sampled = np.unique(np.linspace(0, len(files) - 1, min(at_most, len(files))).round().astype(int)).tolist()
    survey = ObjectSurvey(len(sampled), Counter(), whole=len(files))
    for index in shown(sampled):
        fault = faults.get(index) or _find_fault(partial(images.image, index))
        if fault:
            faults[index] = fault
            continue
        labels, unlabeled, name = images.labels(index), images.left_out(index), _short_name(files[index])
        K: Points = images.camera(index).K.numpy()
        for place, label in enumerate(labels.objects, start=1):
            if not label.visible_px:
                survey.hidden += ((name, place),)
                continue
            survey.objects[images.classes[label.class_id]] += 1
            fit = compare_box_with_mask(label, labels.instance == place, K) if label.visible_px >= MIN_MASK_PX else None
            survey.fits += () if fit is None else (BoxMaskFit(name, place, *fit),)
        survey.hidden += tuple((name, item.number) for item in unlabeled if not item.visible_px)
        survey.left_out += tuple((name, item.number, item.reason) for item in unlabeled if item.visible_px)
    survey.unreadable = tuple((_short_name(files[index]), faults[index]) for index in sorted(faults))
    return survey


def compare_box_with_mask(box: ObjectBox, mask: NDArray[np.bool_], K: Points) -> tuple[float, float] | None:
    """Return (inside, overlap) of `BoxMaskFit` for a nonempty mask (H, W); None for a box partly behind the camera."""
    corners = (np.array(CORNERS) * box.size_m) @ box.T_camera_object[:3, :3].T + box.T_camera_object[:3, 3]
    if corners[:, 2].min() <= 0:
        return None
    projected = corners @ K.T
    uv = np.clip(projected[:, :2] / projected[:, 2:], -_FAR_PX, _FAR_PX)
    covered = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(covered, cv2.convexHull(uv.round().astype(np.int32)), 1)
    covered = cv2.dilate(covered, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero(mask)
    last = np.array(mask.shape[::-1]) - 1
    box_low, box_high = np.clip(uv.min(0), 0, last), np.clip(uv.max(0), 0, last)
    low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()])
    shared = float((np.minimum(box_high, high) - np.maximum(box_low, low) + 1).clip(min=0).prod())
    joint = float((box_high - box_low + 1).prod() + (high - low + 1).prod()) - shared
    return float(covered[rows, columns].mean()), shared / joint


def _find_fault(read: Callable[[], object]) -> str | None:
    try:
        read()
    except DataError as error:
        return f"{error.found}, expected {error.expected}"
    return None


def _short_name(file: Path) -> str:
    """Return the file name with its two parent folders."""
    return "/".join(file.parts[-3:])
