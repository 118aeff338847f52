"""Crop single objects with known heights, from RoadWorld and the DVM-CAR layout, and augment the crops.

The background is gray, so that only the object is used. Crops have a fixed size, so that distance does not reveal
height.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.files import inside, read_json
from stadia.core.recording import LEFT
from stadia.data.images import IMAGE_SUFFIXES, read_rgb
from stadia.data.mask_boxes import mask_boxes

if TYPE_CHECKING:
    from stadia.data.folder import FolderRecording

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


def masked_crop(image: Image, mask: NDArray[np.bool_], side: int) -> Image:
    """Return (side, side, 3) RGB: the object (H, W) centered undistorted on gray. Raises DataError for empty masks."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        raise DataError(
            "a crop of an object", found="an empty mask", expected="pixels of the object", fix="leave it out"
        )
    part, inside_it = image[top : top + height, left : left + width], mask[top : top + height, left : left + width]
    scale = side * (1 - 2 * _MARGIN) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(np.where(inside_it[..., None], part, GRAY).astype(np.uint8), size, interpolation=how)
    crop = np.full((side, side, 3), GRAY, np.uint8)
    x, y = (side - size[0]) // 2, (side - size[1]) // 2
    crop[y : y + size[1], x : x + size[0]] = small
    return crop


def recording_crops(
    recording: FolderRecording, side: int, *, class_name: str = "car", every: int = 1, least_px: int = 12
) -> list[HeightCrop]:
    """Return crops of unoccluded objects of a class, from a recording with sizes in instances.json (RoadWorld)."""
    path = recording.folder / "instances.json"
    described = read_json(path)
    try:
        height = {int(one["id"]): float(one["size_hwl_m"][0]) for one in described["instances"]}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            path, found=f"{error!r}", expected="id and size_hwl_m of each instance", fix="write it as RoadWorld does"
        ) from error
    crops = []
    for index in range(0, len(recording), every):
        masks = recording.masks(index, LEFT)
        if masks is None or recording.mask_reader is None:
            continue
        image = recording.image(index)
        for box in mask_boxes(masks, recording.mask_reader.classes):
            whole = not (box.hidden or box.cut) and box.box_px[3] - box.box_px[1] >= least_px
            if whole and box.class_name == class_name and box.number in height:
                crop = masked_crop(image, masks.instance == box.number, side)
                crops.append(HeightCrop(crop, height[box.number], f"{recording.name}/{box.number}"))
    return crops


def dvm_car_crops(folder: Path, side: int) -> Iterator[HeightCrop]:
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
        image = read_rgb(inside(Path(folder), str(path.relative_to(folder))))
        mask = _segment_on_white(image)
        if mask is not None:
            yield HeightCrop(masked_crop(image, mask, side), height_m, words[4])


def _read_dvm_heights(folder: Path) -> dict[str, float]:
    """Return metres by model."""
    table = next(iter(sorted(folder.rglob(DVM_TABLE))), None)
    if table is None:
        raise DataError(
            folder, found=f"no {DVM_TABLE}", expected="the table of DVM-CAR with heights", fix="unpack its tables there"
        )
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


def augmented(crop: Image, rng: np.random.Generator) -> Image:
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
