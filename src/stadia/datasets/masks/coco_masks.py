"""Read masks from a COCO file: polygons or run lengths, for images matched by file name.

{"images": [{"id", "file_name", "height", "width"}], "categories": [{"id", "name"}], "annotations": [{"image_id",
"category_id", "segmentation"}]} (https://cocodataset.org/#format-data). Without a category "road" only objects are
labeled.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.recording import RoadMasks
from stadia.datasets.masks.mask_files import SHAPE_TOLERANCE, remove_stuff, resize_masks
from stadia.datasets.text_files import FileEntry, parse_json

_MAX_BYTES = 1 << 30
_MAX_PX = 1 << 26
_EXPECTED = "COCO's instances: images, categories, annotations"


class _CocoImage(FileEntry):
    id: int
    file_name: str
    height: int = Field(ge=1, le=1 << 15)
    width: int = Field(ge=1, le=1 << 15)


class _Category(FileEntry):
    id: int
    name: str


class _Runs(FileEntry):
    counts: list[int] | str
    size: tuple[int, int]


class _Annotation(FileEntry):
    image_id: int
    category_id: int
    segmentation: list[list[float]] | _Runs


class _File(FileEntry):
    images: list[_CocoImage]
    categories: list[_Category]
    annotations: list[_Annotation]


class CocoMasks:
    """Masks of left images, a `core.recording.MaskReader`. Raises DataError that names the wrong entry."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path).expanduser()
        file: _File = parse_json(self.path, _File, expected=_EXPECTED, fix="export it again", max_bytes=_MAX_BYTES)
        self._number = {category.id: number for number, category in enumerate(file.categories, start=1)}
        self.classes: Mapping[int, str] = {self._number[one.id]: one.name.strip().lower() for one in file.categories}
        if len(file.categories) > 255:
            found = f"{len(file.categories)} categories"
            raise DataError(self.path, found=found, expected="at most 255", fix="leave some out")
        self._images = {Path(image.file_name).stem: image for image in file.images}
        self._of_image: dict[int, list[_Annotation]] = defaultdict(list)
        for annotation in file.annotations:
            self._of_image[annotation.image_id].append(annotation)

    def read(self, stem: str, side: str, *, height: int, width: int) -> RoadMasks | None:
        """Return the masks of one image, see `core.recording.MaskReader`. Smaller masks are drawn over larger ones."""
        image = self._images.get(stem)
        if image is None or side != "left":
            return None
        what = f"{self.path}: {image.file_name}"
        off = abs(image.width * height / (image.height * width) - 1)
        if off > SHAPE_TOLERANCE or image.height * image.width > _MAX_PX:
            found, expected = f"{image.width}x{image.height}", f"the shape of the image's {width}x{height}"
            raise DataError(what, found=found, expected=expected, fix="annotate the images as they are")
        semantic, instance = (np.zeros((image.height, image.width), kind) for kind in (np.uint8, np.uint16))
        drawn = [(self._find_class(one, what), _decode_mask(one, image, what)) for one in self._of_image[image.id]]
        for number, (kind, mask) in enumerate(sorted(drawn, key=lambda one: -int(one[1].sum())), start=1):
            semantic[mask], instance[mask] = kind, number
        return resize_masks(remove_stuff(RoadMasks(semantic, instance), self.classes), height, width)

    def heights_m(self, stem: str, side: str) -> Mapping[int, tuple[float, float]]:
        """Return nothing: COCO has no object heights."""
        return {}

    def fingerprint(self, side: str) -> str:
        """Return a hash of the whole file."""
        return hashlib.blake2b(self.path.read_bytes(), digest_size=16).hexdigest()

    def _find_class(self, annotation: _Annotation, what: str) -> int:
        if annotation.category_id not in self._number:
            found = f"category_id {annotation.category_id}"
            raise DataError(what, found=found, expected="one of its categories", fix="export it again")
        return self._number[annotation.category_id]


def _decode_mask(annotation: _Annotation, image: _CocoImage, what: str) -> NDArray[np.bool_]:
    segmentation = annotation.segmentation
    if isinstance(segmentation, _Runs):
        runs = decode_run_lengths(segmentation.counts) if isinstance(segmentation.counts, str) else segmentation.counts
        size = image.height, image.width
        if segmentation.size != size or min(runs, default=0) < 0 or sum(runs) != image.height * image.width:
            found = f"runs of {sum(runs)} pixels, size {segmentation.size}"
            raise DataError(what, found=found, expected=f"those of {size[1]}x{size[0]}", fix="export it again")
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(image.width, image.height).T
    mask = np.zeros((image.height, image.width), np.uint8)
    for polygon in segmentation:
        points = np.asarray(polygon, np.float64)
        if len(points) < 6 or len(points) % 2 or not np.isfinite(points).all() or np.abs(points).max() > 1 << 16:
            expected = "x, y of 3 points or more"
            raise DataError(what, found=f"a polygon of {len(points)} numbers", expected=expected, fix="export it again")
        corners = ((points.reshape(-1, 2) - 0.5) * 16).round().astype(np.int32)  # COCO counts from a pixel's corner
        cv2.fillPoly(mask, [corners], 1, shift=4)
    return mask > 0


def decode_run_lengths(text: str) -> list[int]:
    """Decode COCO's compressed run lengths, starting with background.

    Each letter has 6 bits, 5 of them digits. From the third run on, a value is a difference to the run before the last.
    Invalid text gives lengths that do not fit the image.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        digit = ord(letter) - 48
        value |= (digit & 0x1F) << shift
        shift += 5
        if not digit & 0x20:
            if digit & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
