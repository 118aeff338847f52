"""Compute boxes of objects in masks: without stray fragments, with flags for occlusion and truncation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import RoadMasks

_BAND = 0.06  # height of its foot and top, as a share of its height
_MIN_TOUCHED = 0.25  # min share of their width that borders another object


@dataclass(frozen=True, slots=True)
class MaskBox:
    """An object of a mask.

    number: in the mask.  class_name: of most of its pixels.
    box_px: left, top, right, bottom edges, first row - 0.5 to last row + 0.5, of its largest connected component.
    hidden: another object occludes its foot, or a nearer one its top.
    cut: the box is so near the image border that it may be truncated.
    """

    number: int
    class_name: str
    box_px: tuple[float, float, float, float]
    hidden: bool
    cut: bool


def mask_boxes(
    masks: RoadMasks, classes: Mapping[int, str], *, least_px: int = 60, margin_px: float = 5.0
) -> list[MaskBox]:
    """Return the objects of an image in the order of their numbers, without those of fewer pixels in one component.

    Masks often stop short of the image border: a box within `margin_px` of it counts as cut.

    An object is hidden where more than a quarter of its lowest edge borders another object below. It is also hidden
    where its top edge borders an object above with a lower foot, which is nearer. Occluders without a number (a pole, a
    fence) are not detected.
    """
    instance, found = masks.instance, []
    rows, columns = instance.shape
    numbers = [int(number) for number in np.unique(instance) if number]
    part_of = {number: _find_largest_part(instance, number) for number in numbers}
    foot = {number: top + part.shape[0] for number, (part, _, top) in part_of.items()}
    feet = np.zeros(int(instance.max(initial=0)) + 1)  # row below the last one, of each number
    for number, row in foot.items():
        feet[number] = row
    for number in numbers:
        part, left, top = part_of[number]
        if part.sum() < least_px:
            continue
        height, width = part.shape
        classes_px = masks.semantic[top : top + height, left : left + width][part]
        name = classes.get(int(np.bincount(classes_px).argmax()), "")
        box = (left - 0.5, top - 0.5, left + width - 0.5, top + height - 0.5)
        hidden = _is_hidden(instance, part, left, top, number, feet)
        found.append(MaskBox(number, name, box, hidden, cut_by_edge(box, rows, columns, margin_px)))
    return found


def cut_by_edge(box_px: tuple[float, float, float, float], height: int, width: int, margin_px: float) -> bool:
    """Return whether a box, edges in pixels, is within a margin of the image border."""
    left, top, right, bottom = box_px
    return min(left + 0.5, top + 0.5, width - 0.5 - right, height - 0.5 - bottom) < margin_px


def _find_largest_part(instance: NDArray[np.uint16], number: int) -> tuple[NDArray[np.bool_], int, int]:
    """Return the largest 4-connected component, cropped, and its first column and row."""
    mask = (instance == number).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask[top : top + height, left : left + width], connectivity=4
    )
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h = (
        int(stats[largest, column])
        for column in (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT)
    )
    return labels[y : y + h, x : x + w] == largest, left + x, top + y


def _is_hidden(
    instance: NDArray[np.uint16], part: NDArray[np.bool_], left: int, top: int, number: int, feet: NDArray[np.float64]
) -> bool:
    height, width = part.shape
    band = max(1, round(_BAND * height))
    columns = left + np.arange(width)
    lowest, highest = height - 1 - part[::-1].argmax(0), part.argmax(0)
    filled = part.any(0)

    def find_neighbors(rows: NDArray[np.intp], step: int) -> NDArray[np.uint16]:
        beyond = top + rows + step
        neighbor = instance[np.clip(beyond, 0, len(instance) - 1), columns]
        return np.where((beyond >= 0) & (beyond < len(instance)) & (neighbor != number), neighbor, 0)

    at_foot, at_top = filled & (lowest >= height - band), filled & (highest < band)
    below, above = find_neighbors(lowest, 1), find_neighbors(highest, -1)
    hidden_foot = (below[at_foot] > 0).mean() > _MIN_TOUCHED
    hidden_top = (feet[above[at_top]] > feet[number]).mean() > _MIN_TOUCHED
    return bool(hidden_foot or hidden_top)
