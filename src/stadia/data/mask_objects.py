"""Split masks of classes into single objects, compute their boxes, and crop them.

A queue of cars is one region of a class mask. A part of it with a level foot and top, about as wide as high, is the
front or rear of a car.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import RoadMasks

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Window = tuple[slice, slice]  # rows and columns of an image
GRAY = 124  # the background of a crop
_LONGEST = 3.2  # max width over height of a single object; a long car from its side has 2.9
_STEP, _STEP_SHARE = (0.42, 0.1)  # max step of the lower edge in heights, and max share of the width above it
_LEAST_PX, _LEAST_ROWS = 60, 20
_LEVEL, _GAP = 0.045, 0.22  # tolerance of a level foot, and of the gap between wheels, in heights
_SHAPE = 0.95, 1.5  # width over height of a front or rear
_LEVEL_TOP = 0.25  # tolerance of a level top, in heights
_WHEEL = 0.12  # wheels below the bumper, in heights
_BAND = 0.06  # height of the strips at the foot and the top of a box, as a share of the box's height
_MIN_TOUCHED = 0.25  # min share of their width that borders another object
_CROP_MARGIN = 0.06  # share of the longer side


def find_windows(instance: NDArray[np.integer]) -> dict[int, Window]:
    """Return the smallest window (rows, columns) around each object, by its number in ascending order.

    instance: (H, W) object numbers; 0 is background.
    """
    from scipy import ndimage

    windows = enumerate(ndimage.find_objects(instance), start=1)
    return {number: window for number, window in windows if window is not None}


def split_instances(mask: Mask, ground: Mask) -> Iterator[tuple[Window, Mask]]:
    """Split the pixels of a class, such as cars, into single objects; yield the window and the mask (h, w) in it of
    each.

    mask: (H, W) bool, pixels of the class.
    ground: (H, W) bool, pixels of road and other ground.
    """
    components = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    count, labels, stats, _ = components
    for number in range(1, count):
        left, top, width, height = (int(value) for value in stats[number, :4])
        window = np.s_[top : top + height, left : left + width]
        blob = labels[window] == number
        at_edge = top + height >= len(mask)
        under = ground[top : top + height + height // 8 + 2, left : left + width]
        if _is_group(blob):
            pieces = _find_faces(blob, under, at_edge=at_edge)
        else:
            whole = at_edge or height < _LEAST_ROWS or not ground.any() or _has_ground_contact(blob, under)
            pieces = [blob] if whole else []
        for piece in pieces:
            yield window, piece


def _is_group(blob: Mask) -> bool:
    height, width = blob.shape
    if blob.sum() < _LEAST_PX or height < _LEAST_ROWS:
        return False
    lowest = height - 1 - blob[::-1].argmax(0)
    return width > _LONGEST * height or bool((height - 1 - lowest > _STEP * height).mean() > _STEP_SHARE)


def _has_ground_contact(blob: Mask, ground: Mask) -> bool:
    height = len(blob)
    lowest = height - 1 - blob[::-1].argmax(0)
    feet = np.flatnonzero(lowest >= height - 1 - _WHEEL * height)
    return bool(ground[np.minimum(lowest[feet] + 2, len(ground) - 1), feet].mean() > 0.5)


def _find_faces(blob: Mask, ground: Mask, *, at_edge: bool) -> list[Mask]:
    """Return fronts and rears in a region (h, w), nearest first; `ground` extends a few rows below."""
    height, width = blob.shape
    lowest, highest = height - 1 - blob[::-1].argmax(0), blob.argmax(0)
    free, untried, faces = np.ones(width, bool), np.ones(width, bool), []
    for seed in np.argsort(-lowest, kind="stable"):
        if not (free[seed] and untried[seed]):
            continue
        first, last = _find_level_run(lowest, highest, free, int(seed))
        untried[first : last + 1] &= np.abs(lowest[first : last + 1] - lowest[seed]) > 1
        box = _measure_face(lowest, highest, ground, first, last)
        if box is not None and not (at_edge and box[1] >= height - 1):
            up, down = box
            piece = np.zeros_like(blob)
            piece[up : down + 1, first : last + 1] = blob[up : down + 1, first : last + 1]
            piece[down, first : last + 1] = True  # The box ends at the wheels.
            faces.append(piece)
            free[first : last + 1] = False
    return faces


def _find_level_run(lowest: NDArray[np.intp], highest: NDArray[np.intp], free: Mask, seed: int) -> tuple[int, int]:
    """Return first and last column around a seed with level lower edges; short steps are allowed."""
    tall = lowest[seed] - np.median(highest[max(0, seed - 2) : seed + 3])
    lower = lowest - lowest[seed]
    level = free & (lower >= -max(2.0, _LEVEL * tall)) & (lower <= _WHEEL * tall)
    level[seed] = True
    right = _count_level_columns(level[seed:], free[seed:], max(3.0, _GAP * tall))
    left = _count_level_columns(level[seed::-1], free[seed::-1], max(3.0, _GAP * tall))
    return seed - left, seed + right


def _count_level_columns(level: Mask, free: Mask, max_gap: float) -> int:
    """Return the last level column before a taken column or a wider gap."""
    end = int(np.argmin(free)) if not free.all() else len(free)
    places = np.flatnonzero(level[: max(end, 1)])
    wide = np.flatnonzero(np.diff(places) - 1 > max_gap)
    return int(places[wide[0]] if len(wide) else places[-1])


def _measure_face(
    lowest: NDArray[np.intp], highest: NDArray[np.intp], ground: Mask, first: int, last: int
) -> tuple[int, int] | None:
    """Return first and last row of a front or rear between two columns; None if it is neither.

    A farther car may show over the roof, so the top is a quantile; a shadow may extend one side of the foot.
    """
    width = last - first + 1
    side = max(1, round(0.28 * width))
    feet = lowest[first : first + side], lowest[last - side + 1 : last + 1]
    bumper = float(np.median(lowest[first : last + 1]))
    middle = highest[first + width // 5 : last - width // 5 + 1]
    up, low_top, high_top = float(np.quantile(middle, 0.8)), *np.quantile(middle, (0.1, 0.9))
    tall = bumper - up + 1
    down = min(bumper + _WHEEL * tall, float(min(np.quantile(foot, 0.95) for foot in feet)))
    down = max(down, bumper)
    level = high_top - low_top <= _LEVEL_TOP * tall
    if tall < _LEAST_ROWS or not level or not _SHAPE[0] <= width / (down - up + 1) <= _SHAPE[1]:
        return None
    under = ground[min(len(ground) - 1, round(bumper) + 1 + max(1, round(0.06 * tall))), first : last + 1]
    return (round(up), round(down)) if under.mean() > 0.5 else None


@dataclass(frozen=True, slots=True)
class MaskBox:
    """The bounding box of an object in a mask.

    number: number of the object in the mask.
    class_name: class of most of its pixels.
    box_px: left, top, right and bottom edge in pixels of its largest connected component, from the first row - 0.5 to
        the last row + 0.5.
    hidden: whether another object occludes its foot, or a nearer object its top.
    cut: whether the image border may truncate the box.
    """

    number: int
    class_name: str
    box_px: tuple[float, float, float, float]
    hidden: bool
    cut: bool


def find_mask_boxes(
    masks: RoadMasks, classes: Mapping[int, str], *, min_px: int = 60, margin_px: float = 5.0
) -> list[MaskBox]:
    """Return the bounding boxes of the objects of an image, in the order of their numbers.

    An object counts as hidden if another one touches a quarter of the edge of its foot, or a nearer one a quarter of
    the edge of its top.

    masks: class and object numbers of the image.
    classes: names of the classes by number.
    min_px: objects with fewer pixels in their largest component are left out.
    margin_px: a box within this distance of the image border counts as cut.
    """
    instance, found = masks.instance, []
    rows, columns = instance.shape
    parts = {number: _find_largest_part(instance, number, window) for number, window in find_windows(instance).items()}
    feet = np.zeros(int(instance.max(initial=0)) + 1)  # row below the last one, of each number
    for number, (part, _, top) in parts.items():
        feet[number] = top + part.shape[0]
    for number, (part, left, top) in parts.items():
        if part.sum() < min_px:
            continue
        height, width = part.shape
        classes_px = masks.semantic[top : top + height, left : left + width][part]
        name = classes.get(int(np.bincount(classes_px).argmax()), "")
        box = (left - 0.5, top - 0.5, left + width - 0.5, top + height - 0.5)
        hidden = _is_hidden(instance, part, left, top, number, feet)
        found.append(MaskBox(number, name, box, hidden, is_cut_by_edge(box, rows, columns, margin_px)))
    return found


def is_cut_by_edge(box_px: tuple[float, float, float, float], height: int, width: int, margin_px: float) -> bool:
    """Return whether a box is within a margin of the image border, and so may be truncated.

    box_px: left, top, right and bottom in pixels.
    height, width: size of the image in pixels.
    margin_px: the margin in pixels.
    """
    left, top, right, bottom = box_px
    return min(left + 0.5, top + 0.5, width - 0.5 - right, height - 0.5 - bottom) < margin_px


def _find_largest_part(instance: NDArray[np.uint16], number: int, window: Window) -> tuple[NDArray[np.bool_], int, int]:
    mask = (instance[window] == number).astype(np.uint8)
    top, left = window[0].start, window[1].start
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h = (int(value) for value in stats[largest, :4])
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


def crop_object(image: Image, mask: NDArray[np.bool_], side: int) -> Image:
    """Return an image (side, side, 3) RGB with an object, cut out by its mask, centered on gray.

    image: (H, W, 3) uint8 RGB.
    mask: (H, W) bool, pixels of the object.
    side: size of the result in pixels.

    Raises DataError for an empty mask.
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        raise DataError("a crop of an object", found="an empty mask", expected="pixels of the object")
    part, part_mask = image[top : top + height, left : left + width], mask[top : top + height, left : left + width]
    scale = side * (1 - 2 * _CROP_MARGIN) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(np.where(part_mask[..., None], part, GRAY).astype(np.uint8), size, interpolation=interpolation)
    crop = np.full((side, side, 3), GRAY, np.uint8)
    x, y = (side - size[0]) // 2, (side - size[1]) // 2
    crop[y : y + size[1], x : x + size[0]] = small
    return crop
