"""What there is to learn in a set of images of objects, before training: which can be read, how many of each class,
what has no label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.data.images import check_ends
from stadia.data.object_labels import ObjectBox, ObjectImages, Points
from stadia.geometry.boxes import CORNERS

FEWEST_PX = 20
"""Of a mask that is compared with its box."""

_THREADS = 16  # a disk answers many small questions at once
_FAR_PX = 1e5  # beyond any image: what OpenCV draws is in 32 bits

Shown = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Fit:
    """How a labeled box, projected, lies on the mask of its object.

    file: of the image.  object: its place, from 1.  inside: share of the mask's pixels that are in the projection of
        the box, a pixel's
    edge included.  overlap: IoU of the upright rectangles about both, in the image.
    """

    file: str
    object: int
    inside: float
    overlap: float


@dataclass(frozen=True, slots=True)
class Survey:
    """Of a set of images.

    images: how many were looked at: read, with their labels.  whole: how many there are; of each the file's ends were
        read.
    objects: how many of each class are visible, in what was looked at.
    hidden: (file, object) of each that no pixel shows: its place from 1, or its number in the files where it has no
        label.
    left_out: (file, object by its number in the files, reason) of each that pixels show, and that has no label.
    unreadable: (file, what is wrong) of each image that cannot be read.
    fits: of each object of FEWEST_PX and more whose box is in front of the camera.
    """

    images: int
    objects: dict[str, int]
    hidden: tuple[tuple[str, int], ...]
    left_out: tuple[tuple[str, int, str], ...]
    whole: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()
    fits: tuple[Fit, ...] = ()


def survey(images: ObjectImages, at_most: int = 200, shown: Shown = iter) -> Survey:
    """Look at up to `at_most` images and their labels, spread evenly over the set, and at the ends of every image's
    file.

    shown: passes the images on, and may tell how far it is. Raises DataError for labels that cannot be.
    """
    files = [images.file(index) for index in range(len(images))]
    with ThreadPoolExecutor(_THREADS) as threads:
        faults = {index: fault for index, fault in enumerate(threads.map(_ends_fault, files)) if fault}
    looked_at = np.unique(np.linspace(0, len(files) - 1, min(at_most, len(files))).round().astype(int)).tolist()
    objects = Counter[str]()
    hidden: list[tuple[str, int]] = []
    left_out: list[tuple[str, int, str]] = []
    fits: list[Fit] = []
    for index in shown(looked_at):
        fault = faults.get(index) or _fault(partial(images.image, index))
        if fault:
            faults[index] = fault
            continue
        labels, unlabeled, name = images.labels(index), images.left_out(index), _name(files[index])
        objects.update(images.classes[one.class_id] for one in labels.objects if one.visible_px)
        hidden += [(name, place) for place, one in enumerate(labels.objects, start=1) if not one.visible_px]
        hidden += [(name, one.number) for one in unlabeled if not one.visible_px]
        left_out += [(name, one.number, one.reason) for one in unlabeled if one.visible_px]
        K: Points = images.camera(index).K.numpy()
        for place, one in enumerate(labels.objects, start=1):
            fit = fit_of(one, labels.instance == place, K) if one.visible_px >= FEWEST_PX else None
            fits += [Fit(name, place, *fit)] if fit is not None else []
    unreadable = tuple((_name(files[index]), faults[index]) for index in sorted(faults))
    return Survey(len(looked_at), dict(objects), tuple(hidden), tuple(left_out), len(files), unreadable, tuple(fits))


def fit_of(box: ObjectBox, mask: NDArray[np.bool_], K: Points) -> tuple[float, float] | None:
    """(inside, overlap) as `Fit` has them, of a mask (H, W) that shows something; None where the box is not wholly
    before the camera.
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


def _ends_fault(file: Path) -> str | None:
    return _fault(partial(check_ends, file))


def _fault(read: Callable[[], object]) -> str | None:
    try:
        read()
    except DataError as error:
        return f"{error.found}, expected {error.expected}"
    return None


def _name(file: Path) -> str:
    """With the two folders that it is in."""
    return "/".join(file.parts[-3:])
