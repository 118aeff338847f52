"""Check the labels of objects before training."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.data.frame_selection import spread_indices
from stadia.io.image_files import check_image_ends
from stadia.judge.catalog import SAMPLED, make_finding, sort_findings
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings.label_checks import MAX_LISTED_FILES, list_columns
from stadia.objectpose.boxes import CORNERS
from stadia.objectpose.data.object_labels import ObjectBox, ObjectImages, Points

MIN_MASK_PX = 20  # smallest mask that is compared with its box
ProgressWrapper = Callable[[Sequence[int]], Iterable[int]]
_THREADS = 16  # disks serve many small reads in parallel
_FAR_PX = 1e5  # Such a pixel is outside of any image, and within OpenCV's 32-bit coordinates.
MIN_INSIDE = 0.9  # smallest share of a mask inside its projected box
WARN_BEYOND = 0.02  # share of objects whose mask reaches beyond the box: 0 for those
STOP_BEYOND = 0.1  # the same share, for a stop: wrong conventions of rotations give .16 and more
MIN_OVERLAP = 0.15  # median IoU of the rectangles around mask and box; correct labels have .5


@dataclass(frozen=True, slots=True)
class BoxMaskFit:
    """Describe how well an object's projected 3D box fits its mask.

    file: image file, as shown in messages.
    object: number of the object in the image.
    inside: share of the mask's pixels that are inside the projected box.
    overlap: IoU of the upright rectangles that enclose the projected box and the mask.
    """

    file: str
    object: int
    inside: float
    overlap: float


@dataclass(slots=True)
class ObjectSurvey:
    """The survey of a set of images.

    images: number of images that were read with their labels.
    whole: number of all images.
    objects: number of visible objects by class.
    hidden: (file, object) of objects without a visible pixel.
    left_out: (file, number in the files, reason) of visible objects without a label.
    unreadable: (file, fault) of images that cannot be read.
    fits: fits of objects with `MIN_MASK_PX` or more pixels whose box is in front of the camera.
    """

    images: int
    objects: Counter[str]
    hidden: tuple[tuple[str, int], ...] = ()
    left_out: tuple[tuple[str, int, str], ...] = ()
    whole: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()
    fits: tuple[BoxMaskFit, ...] = ()


def survey_objects(images: ObjectImages, at_most: int = 200, shown: ProgressWrapper = iter) -> ObjectSurvey:
    """Read up to `at_most` images and their labels, spread evenly over the set.

    shown: shows the progress.

    Raises DataError for invalid labels.
    """
    files = [images.file(index) for index in range(len(images))]
    with ThreadPoolExecutor(_THREADS) as threads:
        ends = threads.map(lambda file: _find_fault(lambda: check_image_ends(file)), files)
        faults = {index: fault for index, fault in enumerate(ends) if fault}
    sampled = spread_indices(len(files), at_most)
    survey = ObjectSurvey(len(sampled), Counter(), whole=len(files))
    for index in shown(sampled):
        fault = faults.get(index) or _find_fault(partial(images.image, index))
        if fault:
            faults[index] = fault
            continue
        labels, unlabeled, name = images.labels(index), images.left_out(index), _short_name(files[index])
        K: Points = images.camera(index).K
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
    """Return (inside, overlap) of `BoxMaskFit`; None if the box is behind the camera.

    mask: (H, W) bool mask of the object.
    K: (3, 3) intrinsics.
    """
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
    return "/".join(file.parts[-3:])


def check_object_labels(surveys: Mapping[str, ObjectSurvey]) -> list[Finding]:
    """Return the findings (faults of the labels) of all splits, the most severe first; empty if nothing is wrong.

    surveys: survey of each split by name, with "train" among them.
    """
    return sort_findings(list(_check_objects(surveys)))


def _check_objects(surveys: Mapping[str, ObjectSurvey]) -> Iterator[Finding]:
    train = surveys["train"]
    if not train.objects and not train.unreadable:
        measured = f"no visible object in {train.images} training images"
        yield make_finding("O02", Severity.STOP, measured, "objects to learn from")
    for split, survey in surveys.items():
        yield from _check_object_files(split, survey)
        unknown = sorted(survey.objects.keys() - train.objects.keys())
        if unknown and train.objects:
            measured = f"'{split}' shows {', '.join(unknown)}; none in {train.images} training images"
            yield make_finding("O03", Severity.WARN, measured, "each class in training")
        yield from _check_boxes(split, survey)
    checked = sum(survey.images for survey in surveys.values())
    whole = sum(survey.whole for survey in surveys.values())
    if checked < whole:
        measured = f"checked {checked} of {whole} images, and only the first and last bytes of the others"
        yield make_finding(SAMPLED, Severity.NOTE, measured, "all", case="images")


def _check_object_files(split: str, survey: ObjectSurvey) -> Iterator[Finding]:
    if survey.unreadable:
        (file, error), *_ = survey.unreadable
        measured = f"{len(survey.unreadable)} of {survey.whole} images of '{split}' cannot be read, "
        measured += f"such as {file}: {error}"
        evidence = {"unreadable": list_columns(("file", "found"), survey.unreadable)}
        yield make_finding("D01", Severity.STOP, measured, "whole images", case="objects", evidence=evidence)
    if survey.hidden:
        files = {file for file, _ in survey.hidden}
        (file, number), *_ = survey.hidden
        measured = f"{len(survey.hidden)} labeled objects in {len(files)} of {survey.images} images of '{split}' have "
        measured += f"no pixel, such as number {number} of {file}"
        evidence = {"hidden": list_columns(("file", "object"), survey.hidden)}
        yield make_finding("O01", Severity.NOTE, measured, "objects that can be seen", evidence=evidence)
    if survey.left_out:
        files = {file for file, *_ in survey.left_out}
        (file, number, reason), *_ = survey.left_out
        measured = f"{len(survey.left_out)} visible objects in {len(files)} of {survey.images} images of '{split}' "
        measured += f"have no pose, such as number {number} of {file}: {reason}"
        evidence = {"left_out": list_columns(("file", "object", "reason"), survey.left_out)}
        yield make_finding("O04", Severity.WARN, measured, "a pose for each visible object", evidence=evidence)


def _check_boxes(split: str, survey: ObjectSurvey) -> Iterator[Finding]:
    if not survey.fits:
        return
    beyond = sorted((fit for fit in survey.fits if fit.inside < MIN_INSIDE), key=lambda fit: fit.inside)
    share, overlap = len(beyond) / len(survey.fits), median(fit.overlap for fit in survey.fits)
    if share >= WARN_BEYOND:
        worst = beyond[0]
        measured = f"{len(beyond)} of {len(survey.fits)} masks of '{split}' are not in their projected box, "
        measured += f"such as number {worst.object} of {worst.file} ({worst.inside:.0%} of it is)"
    elif overlap < MIN_OVERLAP:
        measured = f"projected boxes of '{split}' are much larger than their masks "
        measured += f"(median IoU of their rectangles: {overlap:.2g})"
    else:
        return
    worst_fits = (beyond or sorted(survey.fits, key=lambda fit: fit.overlap))[:MAX_LISTED_FILES]
    rows = [(fit.file, fit.object, round(fit.inside, 3), round(fit.overlap, 3)) for fit in worst_fits]
    evidence = {"worst": list_columns(("file", "object", "inside", "overlap"), rows)}
    severity = Severity.stop_if(share >= STOP_BEYOND or overlap < MIN_OVERLAP)
    expected = "each mask in its projected box, and about as large"
    yield make_finding("O05", severity, measured, expected, evidence=evidence)
