"""Open images of objects in any format, and split them into training and validation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stadia.core.errors import ConfigError, DataError
from stadia.data.object_layout import LAYOUTS, OBJECT_FORMATS, object_layout

if TYPE_CHECKING:
    from stadia.data.bop import BopImages
    from stadia.data.object_labels import ObjectImages


BOXES_ALONE = frozenset({"kitti"})
"""Formats without masks: their boxes are drawn and scored, but not trained on."""


def format_of(path: Path) -> str:
    """Return the format of a folder. Raises DataError where it is none of OBJECT_FORMATS."""
    path = Path(path).expanduser()
    if (path / "dataset.json").is_file():
        return "objects"
    if (layout := object_layout(path)) is not None:
        return layout
    found = "no images of objects" if path.is_dir() else "no such folder"
    fix = "check the path; docs/objectpose.md describes each layout"
    raise DataError(path, found=found, expected=f"one of: {', '.join(LAYOUTS.values())}", fix=fix)


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
    if format not in OBJECT_FORMATS:
        expected = f"auto or one of {', '.join(OBJECT_FORMATS)}"
        raise ConfigError("format", found=f"'{format}'", expected=expected, fix="leave it out: the format is detected")
    reader = OBJECT_FORMATS.load(format)
    found: ObjectImages = reader.open(path / split) if format == "nocs" else reader.open(path, split)
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


def bop_of(images: ObjectImages) -> BopImages | None:
    """Return the same images as BOP's, without the subset or cache around them; None for another format."""
    from stadia.data.bop import BopImages
    from stadia.data.object_labels import KeptLabels, PartOfImages

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
    from stadia.data.object_labels import PartOfImages

    count = max(1, round(share * len(images)))
    if count >= len(images):
        expected = "some to train and some to hold out"
        raise DataError(images.name, found=f"{len(images)} images", expected=expected, fix="lower data.val_share")
    first = len(images) - count
    return PartOfImages(images, range(first)), PartOfImages(images, range(first, len(images)))
