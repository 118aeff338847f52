"""Measure heights of a class by labels: mean and deviation of KITTI's boxes that masks find again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.datasets.formats.kitti_objects import KittiBoxImages, list_box_splits
from stadia.datasets.masks.height_priors import normalize_class
from stadia.datasets.masks.mask_files import MaskFiles
from stadia.datasets.masks.mask_objects import find_mask_boxes
from stadia.files.paths import expand_home

MIN_IOU = 0.5
"""Least overlap of a segment's box with a labeled one: below, it may be another object."""


def match_boxes(labeled: NDArray[np.float64], found: NDArray[np.float64], min_iou: float = MIN_IOU) -> list[int]:
    """Return for each labeled box (N, 4) the found box (M, 4) that overlaps it most, -1 for none; each one once.

    Boxes are left, top, right, bottom. Pairs are joined by falling IoU.

    Examples:
        >>> box = np.array([[0.0, 0, 10, 10]])
        >>> match_boxes(box, box + 1), match_boxes(box, box + 8)
        ([0], [-1])
    """
    matched = [-1] * len(labeled)
    if not len(labeled) or not len(found):
        return matched
    low = np.maximum(labeled[:, None, :2], found[None, :, :2])
    high = np.minimum(labeled[:, None, 2:], found[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (labeled, found)]
    iou = both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-9)
    for place in np.argsort(-iou, axis=None):
        row, column = np.unravel_index(place, iou.shape)
        if iou[row, column] < min_iou:
            break
        if matched[row] < 0 and column not in matched:
            matched[row] = int(column)
    return matched


def measure_heights(data: Path, masks: Path | None, every: int = 1) -> Mapping[str, NDArray[np.float64]]:
    """Return the labeled heights in metres of each class, of boxes that a mask of this class finds again.

    Args:
        data: KITTI's object data.
        masks: a folder of masks of its images, as of `stadia prepare`; None: every labeled box counts.
        every: each n-th image.
    """
    data = expand_home(data)
    if not list_box_splits(data):
        found, expected = "no boxes of KITTI", "its folder with training/label_2"
        raise DataError(data, found=found, expected=expected, fix="pass that folder")
    reader = None if masks is None else MaskFiles(expand_home(masks))
    heights: dict[str, list[float]] = {}
    for split in list_box_splits(data):
        images = KittiBoxImages.open(data, split)
        for index in range(0, len(images), every):
            labels = images.written(index)
            kept = range(len(labels))
            if reader is not None:
                camera = images.camera(index)
                read = reader.read(images.file(index).stem, "left", height=camera.height, width=camera.width)
                boxes = [] if read is None else find_mask_boxes(read, reader.classes)
                pairs = match_boxes(
                    np.array([label.box_px for label in labels]).reshape(-1, 4),
                    np.array([box.box_px for box in boxes]).reshape(-1, 4),
                )
                kept = [  # type: ignore[assignment]
                    row
                    for row, column in enumerate(pairs)
                    if column >= 0 and normalize_class(boxes[column].class_name) == normalize_class(labels[row].kind)
                ]
            for row in kept:
                label = labels[row]
                heights.setdefault(normalize_class(label.kind), []).append(float(label.size_hwl_m[0]))
    return {name: np.array(values) for name, values in heights.items()}


def run_measure(data: Path, masks: Path | None, every: int) -> Iterator[str]:
    """Yield a line for each class, and the setting that uses it."""
    heights = measure_heights(data, masks, every)
    if not heights:
        raise DataError(data, found="no object that a mask finds again", expected="some", fix="check --masks")
    for name, values in sorted(heights.items(), key=lambda item: -len(item[1])):
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        yield f"{name}: {len(values)} boxes, mean {values.mean():.3f} m, deviation {spread:.3f} m"
    name, values = max(heights.items(), key=lambda item: len(item[1]))
    spread = max(float(values.std(ddof=1)) if len(values) > 1 else 0.0, 0.01)
    own = f'"mean_m": {values.mean():.3f}, "spread_m": {spread:.3f}, "source": "boxes of {data.name}"'
    yield f'  as a prior: priors={{"{name}": {{{own}}}}} (its data may not be scored with it)'
