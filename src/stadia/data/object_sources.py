"""Open images of objects in any format, and split them into training and validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.core.types import Camera
from stadia.data.object_labels import LeftOut, ObjectBox, ObjectImages, ObjectLabels
from stadia.data.object_layout import LAYOUTS, object_layout

if TYPE_CHECKING:
    from stadia.data.bop import BopImages


def _objects(path: Path, split: str) -> ObjectImages:
    from stadia.data.object_folder import ObjectFolder

    return ObjectFolder.open(path, split)


def _bop(path: Path, split: str) -> ObjectImages:
    from stadia.data.bop import BopImages

    return BopImages.open(path, split)


def _nocs(path: Path, split: str) -> ObjectImages:
    from stadia.data.nocs import NocsImages

    return NocsImages.open(path / split)


def _kitti(path: Path, split: str) -> ObjectImages:
    from stadia.data.kitti_object import KittiObjectImages

    return KittiObjectImages.open(path, split)


OPENERS: Mapping[str, Callable[[Path, str], ObjectImages]] = {
    "objects": _objects,
    "bop": _bop,
    "nocs": _nocs,
    "kitti": _kitti,
}
"""Openers by format, from a path and the name of a split. "objects" is stadia's own layout (docs/tableworld.md)."""

BOXES_ALONE = frozenset({"kitti"})
"""Formats without masks: their boxes are drawn and scored, but not trained on."""


def format_of(path: Path) -> str:
    """Return the format of a folder. Raises DataError where it is none of OPENERS."""
    path = Path(path).expanduser()
    if (path / "dataset.json").is_file():
        return "objects"
    if (layout := object_layout(path)) is not None:
        return layout
    raise DataError(
        path,
        found="no images of objects" if path.is_dir() else "no such folder",
        expected=f"one of: {', '.join(LAYOUTS.values())}",
        fix="check the path; docs/objectpose.md describes each layout",
    )


NO_SPLIT = "pass one of these; to train with one alone, data.val_split=null holds the last of its images out"


def _splits(path: Path) -> list[str]:
    """Return the splits of dataset.json that have images; none for other formats."""
    from stadia.data.object_folder import read_dataset

    return (
        [name for name, folders in read_dataset(path).splits.items() if folders]
        if (path / "dataset.json").is_file()
        else []
    )


def open_object_images(path: Path, split: str, format: str = "auto") -> ObjectImages:
    """Open one split of a dataset. Raises ConfigError for an unknown format, DataError for a split without images."""
    path = Path(path).expanduser()
    if format == "auto":
        format = format_of(path)
    if format not in OPENERS:
        raise ConfigError(
            "format",
            found=f"'{format}'",
            expected=f"auto or one of {', '.join(OPENERS)}",
            fix="leave it out: the format is detected",
        )
    found = OPENERS[format](path, split)
    if not len(found):
        there = ", ".join(_splits(path)) or "none"
        raise DataError(path, found=f"no image in '{split}'", expected=f"one of its splits: {there}", fix=NO_SPLIT)
    return found


def has_split(path: Path, split: str, format: str = "auto") -> bool:
    """Return whether a dataset has a split of this name. Raises DataError for other folders."""
    path = Path(path).expanduser()
    if (format_of(path) if format == "auto" else format) != "objects":
        return (path / split).is_dir()

    from stadia.data.object_folder import read_dataset

    return bool(read_dataset(path).splits.get(split))


class PartOfImages(ObjectImages):
    """Some of the images of a set, in the given order."""

    def __init__(self, whole: ObjectImages, indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, list(indices)
        self.name, self.classes = whole.name, whole.classes

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.whole.image(self.indices[index])

    def camera(self, index: int) -> Camera:
        return self.whole.camera(self.indices[index])

    def labels(self, index: int) -> ObjectLabels:
        return self.whole.labels(self.indices[index])

    def boxes(self, index: int) -> Sequence[ObjectBox]:
        return self.whole.boxes(self.indices[index])

    def left_out(self, index: int) -> Sequence[LeftOut]:
        return self.whole.left_out(self.indices[index])

    def label_files(self, index: int) -> Sequence[Path]:
        return self.whole.label_files(self.indices[index])

    def scene(self, index: int) -> str:
        return self.whole.scene(self.indices[index])

    def file(self, index: int) -> Path:
        return self.whole.file(self.indices[index])


class KeptLabels(ObjectImages):
    """The same images with a cache of up to `most` labels: BOP's are rendered from meshes, NOCS's are fitted."""

    def __init__(self, whole: ObjectImages, most: int = 500) -> None:
        self.whole, self.most = whole, most
        self.name, self.classes = whole.name, whole.classes
        self._kept: dict[int, ObjectLabels] = {}

    def __len__(self) -> int:
        return len(self.whole)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.whole.image(index)

    def camera(self, index: int) -> Camera:
        return self.whole.camera(index)

    def labels(self, index: int) -> ObjectLabels:
        if index in self._kept:
            return self._kept[index]
        labels = self.whole.labels(index)
        if len(self._kept) < self.most:
            self._kept[index] = labels
        return labels

    def left_out(self, index: int) -> Sequence[LeftOut]:
        return self.whole.left_out(index)

    def label_files(self, index: int) -> Sequence[Path]:
        return self.whole.label_files(index)

    def scene(self, index: int) -> str:
        return self.whole.scene(index)

    def file(self, index: int) -> Path:
        return self.whole.file(index)


def bop_of(images: ObjectImages) -> BopImages | None:
    """Return the same images as BOP's, without the subset or cache around them; None for another format."""
    from stadia.data.bop import BopImages

    if isinstance(images, KeptLabels):
        return bop_of(images.whole)
    if isinstance(images, PartOfImages):
        whole = bop_of(images.whole)
        return None if whole is None else whole.part(images.indices)
    return images if isinstance(images, BopImages) else None


def held_out(images: ObjectImages, share: float) -> tuple[ObjectImages, ObjectImages]:
    """Split off the last `share` of the images, at least one, to validate: neighbors in a video are similar.

    Raises DataError where nothing would be left to train.
    """
    count = max(1, round(share * len(images)))
    if count >= len(images):
        raise DataError(
            images.name,
            found=f"{len(images)} images",
            expected="some to train and some to hold out",
            fix="lower data.val_share",
        )
    first = len(images) - count
    return PartOfImages(images, range(first)), PartOfImages(images, range(first, len(images)))
