"""Crop and measure single objects with known heights: of RoadWorld, KITTI's boxes or DVM-CAR."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT
from stadia.data.formats.kitti_objects import KittiBoxImages, list_box_splits
from stadia.data.formats.stadia_folder import FolderRecording
from stadia.data.height_priors import normalize_class
from stadia.data.mask_files import MaskFiles
from stadia.data.mask_objects import GRAY, crop_object, find_mask_boxes
from stadia.io.image_files import IMAGE_SUFFIXES, read_rgb
from stadia.io.input_files import expand_home, iterate_csv, read_json, safe_join

Image = NDArray[np.uint8]
DVM_TABLE = "Ad_table (extra).csv"

MIN_MASK_PX = 12
"""Smallest height in the image of a car with a mask."""

MIN_BOX_PX = 25
"""Smallest height in the image of a car with only a box: a crop has background in it."""


@dataclass(frozen=True)
class HeightCrop:
    """An image crop of an object of known height.

    image: (side, side, 3) RGB.
    height_m: height of the object, metres.
    instance: identity, in one split only.
    """

    image: Image
    height_m: float
    instance: str


def crop_recording_cars(recording: FolderRecording, side: int, *, every: int = 1) -> list[HeightCrop]:
    """Return crops of unoccluded cars, from a recording with instances.json (RoadWorld)."""
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
            whole = not (box.hidden or box.cut) and box.box_px[3] - box.box_px[1] >= MIN_MASK_PX
            if whole and box.class_name == "car" and box.number in height:
                crop = crop_object(image, masks.instance == box.number, side)
                crops.append(HeightCrop(crop, height[box.number], f"{recording.name}/{box.number}"))
    return crops


def crop_labeled_cars(data: Path, side: int, *, every: int = 1) -> Iterator[HeightCrop]:
    """Yield crops of whole cars of KITTI's boxes, which have no masks."""
    for images, index in _iterate_labeled_images(data, every):
        image = images.image(index)
        for number, label in enumerate(images.written(index)):
            left, top, right, bottom = (round(edge) for edge in label.box_px)
            is_whole = label.occluded == 0 and label.truncated == 0 and bottom - top >= MIN_BOX_PX
            if normalize_class(label.kind) != "car" or not is_whole:
                continue
            mask = np.zeros(image.shape[:2], bool)
            mask[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
            name = f"{images.file(index).stem}/{number}"
            yield HeightCrop(crop_object(image, mask, side), float(label.size_hwl_m[0]), name)


def _iterate_labeled_images(data: Path, every: int) -> Iterator[tuple[KittiBoxImages, int]]:
    for split in list_box_splits(data):
        images = KittiBoxImages.open(data, split)
        yield from ((images, index) for index in range(0, len(images), every))


def read_dvm_car_crops(folder: Path, side: int) -> Iterator[HeightCrop]:
    """Yield crops of the DVM-CAR layout (Huang et al., IEEE Big Data 2022).

    Images are named MAKER$$MODEL$$YEAR$$COLOR$$ID$$..., on white. Heights are the median of a model's rows in
    "Ad_table (extra).csv" (mm). Heights outside 1.1 to 2.6 m and images without white borders are left out.

    Raises DataError if the table or a column is missing.
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
    expected = "Genmodel_ID and Height"
    rows = [  # column names start with spaces; rows of another length are left out
        {name.strip(): word.strip() for name, word in row.items()} for row in iterate_csv(table, expected=expected)
    ]
    if not rows or not {"Genmodel_ID", "Height"} <= set(rows[0]):
        found = f"columns {', '.join(rows[0])}" if rows else "no rows with Genmodel_ID and Height"
        raise DataError(table, found=found, expected=expected, fix="take the table as published")
    heights: dict[str, list[float]] = {}
    for row in rows:
        if row["Height"].replace(".", "", 1).isdigit():
            heights.setdefault(row["Genmodel_ID"], []).append(float(row["Height"]) / 1000)
    return {name: float(np.median(own)) for name, own in heights.items()}


def _segment_on_white(image: Image) -> NDArray[np.bool_] | None:
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if np.median(edge.min(-1)) < 235:
        return None
    count, labels, stats, _ = cv2.connectedComponentsWithStats((image.min(-1) < 235).astype(np.uint8), connectivity=8)
    return None if count < 2 else labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())


def augment_crop(crop: Image, rng: np.random.Generator) -> Image:
    """Mirror, shrink, relight, blur and partly cover a crop. The height label stays the same."""
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


# -- heights of a class, by labels


MIN_IOU = 0.5
"""Smallest overlap of a segment's box with a labeled one."""


def match_boxes(labeled: NDArray[np.float64], found: NDArray[np.float64]) -> list[int]:
    """Return for each labeled box (N, 4) the found box (M, 4) that overlaps it most, or -1; each one once.

    Boxes are left, top, right, bottom. Pairs are joined by falling IoU.
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
        if iou[row, column] < MIN_IOU:
            break
        if matched[row] < 0 and column not in matched:
            matched[row] = int(column)
    return matched


def measure_heights(data: Path, masks: Path | None, every: int = 1) -> Mapping[str, NDArray[np.float64]]:
    """Return the labeled heights in metres of each class.

    data: KITTI's object data.
    masks: masks of its images; then only boxes that a mask of their class finds again count.

    Raises DataError without any object.
    """
    data = expand_home(data)
    if not list_box_splits(data):
        found, expected = "no boxes of KITTI", "its folder with training/label_2"
        raise DataError(data, found=found, expected=expected, fix="pass that folder")
    reader = None if masks is None else MaskFiles(expand_home(masks))
    heights: dict[str, list[float]] = {}
    for images, index in _iterate_labeled_images(data, every):
        labels = images.written(index)
        if reader is not None:
            camera = images.camera(index)
            read = reader.read(images.file(index).stem, LEFT, height=camera.height, width=camera.width)
            boxes = [] if read is None else find_mask_boxes(read, reader.classes)
            pairs = match_boxes(
                np.array([label.box_px for label in labels]).reshape(-1, 4),
                np.array([box.box_px for box in boxes]).reshape(-1, 4),
            )
            labels = [
                label
                for label, column in zip(labels, pairs, strict=True)
                if column >= 0 and normalize_class(boxes[column].class_name) == normalize_class(label.kind)
            ]
        for label in labels:
            heights.setdefault(normalize_class(label.kind), []).append(float(label.size_hwl_m[0]))
    if not heights:
        fix = "look at the masks: are they of these images?"
        raise DataError(data, found="no object", expected="boxes that masks find again", fix=fix)
    return {name: np.array(values) for name, values in heights.items()}


def describe_heights(heights: Mapping[str, NDArray[np.float64]], source: str) -> list[str]:
    """Return a line for each class, and the setting that uses the largest one.

    source: name of the data.
    """
    lines = []
    ordered = sorted(heights.items(), key=lambda item: -len(item[1]))
    for name, values in ordered:
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        lines.append(f"{name}: {len(values)} boxes, mean {values.mean():.3f} m, deviation {spread:.3f} m")
    name, values = ordered[0]
    spread = max(float(values.std(ddof=1)) if len(values) > 1 else 0.0, 0.01)
    own = f'"mean_m": {values.mean():.3f}, "spread_m": {spread:.3f}, "source": "boxes of {source}"'
    return [*lines, f'  use it: priors={{"{name}": {{{own}}}}}, but not to score the same data']
