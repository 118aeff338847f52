"""Split masks of classes into single objects, compute their boxes, and crop objects with known heights."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.files import read_json, safe_join
from stadia.core.recording import LEFT, RoadMasks
from stadia.datasets.image_files import IMAGE_SUFFIXES, read_rgb

if TYPE_CHECKING:
    from stadia.datasets.stadia_folder import FolderRecording


# -- Split masks of classes, without instances, into single objects: single ones are kept, groups are split.
#
# A queue of cars is one connected region. It is too wide, or its lower edge has steps: nearer cars are lower in the
# image. In such a region, a part with level foot and level top, as wide as high, is the front or rear of
# one car. The rest has no measurable height.

Mask = NDArray[np.bool_]
_LONGEST = 3.2  # max width over height of a single object; a long car from its side has 2.9
_STEP, _STEP_SHARE = (0.42, 0.1)  # max step of the lower edge in heights, and max share of the width above it
_LEAST_PX, _LEAST_ROWS = 60, 20
_LEVEL, _GAP = 0.045, 0.22  # tolerance of a level foot, and of the gap between wheels, in heights
_SHAPE = 0.95, 1.5  # width over height of a front or rear; trucks are narrower
_LEVEL_TOP = 0.25  # tolerance of a level top, in heights
_WHEEL = 0.12  # wheels below the bumper, in heights


def split_instances(mask: Mask, ground: Mask) -> list[Mask]:
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


# -- Compute boxes of objects in masks: without stray fragments, with flags for occlusion and truncation.

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


def find_mask_boxes(
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
        found.append(MaskBox(number, name, box, hidden, is_cut_by_edge(box, rows, columns, margin_px)))
    return found


def is_cut_by_edge(box_px: tuple[float, float, float, float], height: int, width: int, margin_px: float) -> bool:
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


# -- Crop single objects with known heights, from RoadWorld and the DVM-CAR layout, and augment the crops.
#
# The background is gray, so that only the object is used. Crops have a fixed size, so that distance does not reveal
# height.

Image = NDArray[np.uint8]
GRAY = 124
DVM_TABLE = "Ad_table (extra).csv"
_MARGIN = 0.06  # share of the longer side


@dataclass(frozen=True)
class HeightCrop:
    """image: (side, side, 3) RGB.  height_m: of the object.  instance: identity, which must be in one split only."""

    image: Image
    height_m: float
    instance: str


def crop_object(image: Image, mask: NDArray[np.bool_], side: int) -> Image:
    """Return (side, side, 3) RGB: the object (H, W) centered undistorted on gray. Raises DataError for empty masks."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        found = "an empty mask"
        raise DataError("a crop of an object", found=found, expected="pixels of the object", fix="leave it out")
    part, inside_it = image[top : top + height, left : left + width], mask[top : top + height, left : left + width]
    scale = side * (1 - 2 * _MARGIN) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(np.where(inside_it[..., None], part, GRAY).astype(np.uint8), size, interpolation=how)
    crop = np.full((side, side, 3), GRAY, np.uint8)
    x, y = (side - size[0]) // 2, (side - size[1]) // 2
    crop[y : y + size[1], x : x + size[0]] = small
    return crop


def crop_recording_objects(
    recording: FolderRecording, side: int, *, class_name: str = "car", every: int = 1, least_px: int = 12
) -> list[HeightCrop]:
    """Return crops of unoccluded objects of a class, from a recording with sizes in instances.json (RoadWorld)."""
    path = recording.folder / "instances.json"
    described = read_json(path)
    try:
        height = {int(one["id"]): float(one["size_hwl_m"][0]) for one in described["instances"]}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        expected = "id and size_hwl_m of each instance"
        raise DataError(path, found=f"{error!r}", expected=expected, fix="write it as RoadWorld does") from error
    crops = []
    for index in range(0, len(recording), every):
        masks = recording.masks(index, LEFT)
        if masks is None or recording.mask_reader is None:
            continue
        image = recording.image(index)
        for box in find_mask_boxes(masks, recording.mask_reader.classes):
            whole = not (box.hidden or box.cut) and box.box_px[3] - box.box_px[1] >= least_px
            if whole and box.class_name == class_name and box.number in height:
                crop = crop_object(image, masks.instance == box.number, side)
                crops.append(HeightCrop(crop, height[box.number], f"{recording.name}/{box.number}"))
    return crops


def read_dvm_car_crops(folder: Path, side: int) -> Iterator[HeightCrop]:
    """Yield crops of the DVM-CAR layout (Huang et al., IEEE Big Data 2022).

    Images lie anywhere below the folder, named MAKER$$MODEL$$YEAR$$COLOR$$GENMODEL_ID$$..., on white. Heights are the
    median of a model's rows in "Ad_table (extra).csv", columns Genmodel_ID and Height (mm). Heights outside 1.1 to 2.6
    m are errors of the table and are left out, as are images that are not on white (interiors).

    Raises DataError where the table is missing or lacks its columns.
    """
    height = _read_dvm_heights(Path(folder))
    for path in sorted(one for one in Path(folder).rglob("*$$*") if one.suffix.lower() in IMAGE_SUFFIXES):
        words = path.stem.split("$$")
        height_m = height.get(words[4]) if len(words) > 4 else None
        if height_m is None or not 1.1 <= height_m <= 2.6:
            continue
        image = read_rgb(safe_join(Path(folder), str(path.relative_to(folder))))
        mask = _segment_on_white(image)
        if mask is not None:
            yield HeightCrop(crop_object(image, mask, side), height_m, words[4])


def _read_dvm_heights(folder: Path) -> dict[str, float]:
    """Return metres by model."""
    table = next(iter(sorted(folder.rglob(DVM_TABLE))), None)
    if table is None:
        expected = "the table of DVM-CAR with heights"
        raise DataError(folder, found=f"no {DVM_TABLE}", expected=expected, fix="unpack its tables there")
    rows: dict[str, list[float]] = {}
    with table.open(encoding="utf-8", newline="") as stream:
        names, *lines = [[word.strip() for word in row] for row in csv.reader(stream)] or [
            []
        ]  # column names start with spaces
    if not {"Genmodel_ID", "Height"} <= set(names):
        found = f"columns {', '.join(names)}"
        raise DataError(table, found=found, expected="Genmodel_ID and Height", fix="take the table as published")
    model, height = names.index("Genmodel_ID"), names.index("Height")
    for words in lines:
        if len(words) == len(names) and words[height].replace(".", "", 1).isdigit():
            rows.setdefault(words[model], []).append(float(words[height]) / 1000)
    return {name: float(np.median(own)) for name, own in rows.items()}


def _segment_on_white(image: Image) -> NDArray[np.bool_] | None:
    """Return the largest component on a white background; None where the image borders are not white."""
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if np.median(edge.min(-1)) < 235:
        return None
    count, labels, stats, _ = cv2.connectedComponentsWithStats((image.min(-1) < 235).astype(np.uint8), connectivity=8)
    return None if count < 2 else labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())


def augment_crop(crop: Image, rng: np.random.Generator) -> Image:
    """Mirror, shrink, relight, blur and partly cover a crop, as in real drives. The height label stays the same."""
    side = len(crop)
    image = crop[:, ::-1] if rng.random() < 0.5 else crop
    zoom = rng.uniform(0.6, 1.0)
    shift = rng.uniform(-0.5, 0.5, 2) * side * (1 - zoom)
    middle = (side - 1) / 2 * (1 - zoom)
    moved = np.array([[zoom, 0, middle + shift[0]], [0, zoom, middle + shift[1]]])
    image = cv2.warpAffine(image, moved, (side, side), flags=cv2.INTER_LINEAR, borderValue=(GRAY, GRAY, GRAY))
    lit = image.astype(np.float32) * rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
    known = (image != GRAY).any(-1, keepdims=True)
    image = np.where(known, lit, GRAY).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.4:  # low resolution, upsampled
        small = max(8, round(side * rng.uniform(0.25, 0.7)))
        image = cv2.resize(
            cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA),
            (side, side),
            interpolation=cv2.INTER_LINEAR,
        )
    if rng.random() < 0.5:
        width, height = (round(side * rng.uniform(0.1, 0.4)) for _ in range(2))
        x, y = (
            round(rng.uniform(0, side - width)),
            round(rng.uniform(side * 0.35, side - height)),
        )  # tops stay visible: they show the height
        image = image.copy()
        image[y : y + height, x : x + width] = GRAY
    return np.ascontiguousarray(image)
