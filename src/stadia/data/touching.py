"""Split masks of classes, without instances, into single objects: single ones are kept, groups are split.

A queue of cars is one connected region. It is too wide, or its lower edge has steps: nearer cars are lower in the
image. In such a region, a part with level foot and level top, as wide as high, is the front or rear of
one car. The rest has no measurable height.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
_LONGEST = 3.2  # max width over height of a single object; a long car from its side has 2.9
_STEP, _STEP_SHARE = (0.42, 0.1)  # max step of the lower edge in heights, and max share of the width above it
_LEAST_PX, _LEAST_ROWS = 60, 20
_LEVEL, _GAP = 0.045, 0.22  # tolerance of a level foot, and of the gap between wheels, in heights
_SHAPE = 0.95, 1.5  # width over height of a front or rear; trucks are narrower
_LEVEL_TOP = 0.25  # tolerance of a level top, in heights
_WHEEL = 0.12  # wheels below the bumper, in heights


def single_objects(mask: Mask, ground: Mask) -> list[Mask]:
    """Return one mask (H, W) for each object, from all pixels of its class and of the ground, (H, W) both.

    A 4-connected region is one object unless it is a group, or has no foot on the ground (in images with ground): then
    it is a part of an object.
    """
    found = []
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    for number in range(1, count):
        left, top, width, height = (int(value) for value in stats[number, :4])
        window = np.s_[top : top + height, left : left + width]
        blob = labels[window] == number
        at_edge, under = top + height >= len(mask), _cut_ground(ground, left, top, height, width)
        if _is_group(blob):
            pieces = _find_faces(blob, under, at_edge=at_edge)
        else:
            pieces = (
                [blob]
                if at_edge or height < _LEAST_ROWS or not ground.any() or _has_ground_contact(blob, under)
                else []
            )
        for piece in pieces:
            whole = np.zeros(mask.shape, bool)
            whole[window] = piece
            found.append(whole)
    return found


def _is_group(blob: Mask) -> bool:
    height, width = blob.shape
    if blob.sum() < _LEAST_PX or height < _LEAST_ROWS:
        return False
    lowest = height - 1 - blob[::-1].argmax(0)
    return width > _LONGEST * height or bool((height - 1 - lowest > _STEP * height).mean() > _STEP_SHARE)


def _has_ground_contact(blob: Mask, ground: Mask) -> bool:
    """Return whether most of the lowest edge has ground below it."""
    height = len(blob)
    lowest = height - 1 - blob[::-1].argmax(0)
    feet = np.flatnonzero(lowest >= height - 1 - _WHEEL * height)
    return bool(ground[np.minimum(lowest[feet] + 2, len(ground) - 1), feet].mean() > 0.5)


def _cut_ground(ground: Mask, left: int, top: int, height: int, width: int) -> Mask:
    """Return the ground in a window, with up to an eighth of its height below it."""
    return ground[top : top + height + height // 8 + 2, left : left + width]


def _find_faces(blob: Mask, ground: Mask, *, at_edge: bool) -> list[Mask]:
    """Return fronts and rears in a region (h, w), nearest first; `ground` has a few more rows below."""
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
            piece[down, first : last + 1] = True  # so that the box ends at the wheels
            faces.append(piece)
            free[first : last + 1] = False
    return faces


def _find_level_run(lowest: NDArray[np.intp], highest: NDArray[np.intp], free: Mask, seed: int) -> tuple[int, int]:
    """Return first and last column around a seed with level lower edges (within a wheel); short steps are allowed."""
    tall = lowest[seed] - np.median(highest[max(0, seed - 2) : seed + 3])
    lower = lowest - lowest[seed]
    level = (lower >= -max(2.0, _LEVEL * tall)) & (lower <= _WHEEL * tall)
    ends = [seed, seed]
    for side, step in ((0, -1), (1, 1)):
        gap, column = 0, seed + step
        while 0 <= column < len(lowest) and free[column] and gap <= max(3.0, _GAP * tall):
            gap = 0 if level[column] else gap + 1
            ends[side] = column if level[column] else ends[side]
            column += step
    return ends[0], ends[1]


def _measure_face(
    lowest: NDArray[np.intp], highest: NDArray[np.intp], ground: Mask, first: int, last: int
) -> tuple[int, int] | None:
    """Return the first and last row of a front or rear between two columns; None where it is none.

    A farther and narrower car may be visible over its roof: the top is the 80 % quantile of the middle's upper edge. A
        bumper is visible between the wheels, and perhaps a shadow on one side: the foot is the higher one of the lowest
        at both sides.
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
    if (
        tall < _LEAST_ROWS
        or high_top - low_top > _LEVEL_TOP * tall
        or not _SHAPE[0] <= width / (down - up + 1) <= _SHAPE[1]
    ):
        return None
    under = ground[min(len(ground) - 1, round(bumper) + 1 + max(1, round(0.06 * tall))), first : last + 1]
    return (round(up), round(down)) if under.mean() > 0.5 else None
