"""Survey images of objects before training: unreadable files, number of objects by class, missing labels."""

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
"""Smallest mask that is compared with its box."""

_THREADS = 16  # disks serve many small reads in parallel
_FAR_PX = 1e5  # beyond any image, and within OpenCV's 32-bit coordinates

Shown = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Fit:
    """Agreement of a labeled box, projected, with the mask of its object.

    file: of the image.  object: its place, from 1.  inside: share of the mask's pixels inside the projected box, with a
        margin of one pixel.  overlap: IoU of the axis-aligned rectangles about both, in the image.
    """

    file: str
    object: int
    inside: float
    overlap: float


@dataclass(frozen=True, slots=True)
class Survey:
    """Survey of a set of images.

    images: number of images read with their labels.  whole: number of all images; the ends of each file were read.
    objects: number of visible objects by class, in the images that were read.
    hidden: (file, object) of each object without visible pixel: its place from 1, or its number in the files without
        label.
    left_out: (file, number in the files, reason) of each visible object without label.
    unreadable: (file, fault) of each image that cannot be read.
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
    """Read up to `at_most` images and labels, spread evenly over the set, and the ends of every image file.

    shown: passes the images on, and may show progress. Raises DataError for invalid labels.
    """
    files = [images.file(index) for index in range(len(images))]
    with ThreadPoolExecutor(_THREADS) as threads:
        faults = {index: fault for index, fault in enumerate(threads.map(_find_ends_error, files)) if fault}
    sampled = np.unique(np.linspace(0, len(files) - 1, min(at_most, len(files))).round().astype(int)).tolist()
    objects = Counter[str]()
    hidden: list[tuple[str, int]] = []
    left_out: list[tuple[str, int, str]] = []
    fits: list[Fit] = []
    for index in shown(sampled):
        fault = faults.get(index) or _find_fault(partial(images.image, index))
        if fault:
            faults[index] = fault
            continue
        labels, unlabeled, name = images.labels(index), images.left_out(index), _short_name(files[index])
        objects.update(images.classes[one.class_id] for one in labels.objects if one.visible_px)
        hidden += [(name, place) for place, one in enumerate(labels.objects, start=1) if not one.visible_px]
        hidden += [(name, one.number) for one in unlabeled if not one.visible_px]
        left_out += [(name, one.number, one.reason) for one in unlabeled if one.visible_px]
        K: Points = images.camera(index).K.numpy()
        for place, one in enumerate(labels.objects, start=1):
            fit = fit_of(one, labels.instance == place, K) if one.visible_px >= FEWEST_PX else None
            fits += [Fit(name, place, *fit)] if fit is not None else []
    unreadable = tuple((_short_name(files[index]), faults[index]) for index in sorted(faults))
    return Survey(len(sampled), dict(objects), tuple(hidden), tuple(left_out), len(files), unreadable, tuple(fits))


def fit_of(box: ObjectBox, mask: NDArray[np.bool_], K: Points) -> tuple[float, float] | None:
    """Return (inside, overlap) as in `Fit` for a nonempty mask (H, W); None for a box partly behind the camera."""
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


def _find_ends_error(file: Path) -> str | None:
    return _find_fault(partial(check_ends, file))


def _find_fault(read: Callable[[], object]) -> str | None:
    try:
        read()
    except DataError as error:
        return f"{error.found}, expected {error.expected}"
    return None


def _short_name(file: Path) -> str:
    """Return the file name with its two parent folders."""
    return "/".join(file.parts[-3:])
