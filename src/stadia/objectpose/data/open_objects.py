"""Detect the format of object images, and open a split. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stadia.core.errors import ConfigError, DataError
from stadia.core.registry import Registry
from stadia.io.input_files import expand_home, read_json, read_lines

if TYPE_CHECKING:
    from stadia.objectpose.data.bop import BopImages
    from stadia.objectpose.data.object_labels import ObjectImages


OBJECT_FORMATS = Registry(
    "format of object data",
    {
        "objects": "stadia.objectpose.data.object_folder:ObjectFolder",
        "bop": "stadia.objectpose.data.bop:BopImages",
        "nocs": "stadia.objectpose.data.nocs:NocsImages",
        "kitti": "stadia.objectpose.data.object_folder:KittiObjectImages",
    },
    entry_points="stadia.object_datasets",
)
"""Formats of object images: stadia's own layout (TableWorld, docs/reference/tableworld.md), BOP, NOCS, KITTI."""

LAYOUTS: Mapping[str, str] = {
    "objects": "dataset.json of stadia's own layout",
    "bop": "SPLIT/000001/scene_gt.json of BOP",
    "nocs": "*_coord.png of NOCS",
    "kitti": "SPLIT/label_2 of KITTI",
}


def detect_object_layout(path: Path) -> str | None:
    """Return the name in OBJECT_FORMATS of the layout that a folder has, or None."""
    described = path / "dataset.json"
    if described.is_file():
        return "objects" if _is_object_dataset(described) else None
    others = ("bop", "nocs", "kitti") if path.is_dir() else ()
    return next((name for name in others if list_object_splits(path, name)), None)


def _is_object_dataset(described: Path) -> bool:
    try:
        content = read_json(described)
    except DataError:
        return False
    return isinstance(content, dict) and content.get("format") == "stadia-objects"


def list_object_splits(path: Path, layout: str) -> list[str]:
    """Return the names of a dataset's splits, sorted, or in the order of dataset.json."""
    if layout == "objects":
        splits = read_json(path / "dataset.json").get("splits", {})
        return [name for name, folders in splits.items() if folders]
    if layout == "bop":
        return sorted({scene.parent.parent.name for scene in path.glob("*/[0-9]*/scene_gt.json")})
    if layout == "nocs":
        below = sorted(folder.name for folder in path.glob("*/") if next(folder.rglob("*_coord.png"), None) is not None)
        return below or ["."] * any(path.glob("*_coord.png"))

    from stadia.data.formats.kitti_objects import list_box_splits

    return list_box_splits(path)


def describe_layout(path: Path) -> str | None:
    """Return a text about what a path contains, for messages; None if it contains no images of objects."""
    layout = detect_object_layout(path)
    return None if layout is None else f"images of objects ({LAYOUTS[layout]})"


BOX_FORMATS = frozenset({"kitti"})  # formats without masks: their boxes are drawn and scored, but not trained on


def detect_object_format(path: Path) -> str:
    """Return the format of a folder. Raises DataError for an unknown layout."""
    path = expand_home(path)
    if (path / "dataset.json").is_file():
        return "objects"
    if (layout := detect_object_layout(path)) is not None:
        return layout
    found = "no images of objects" if path.is_dir() else "no such folder"
    fix = "see docs/how-to/objectpose.md for each layout"
    if (text := next(path.glob("*.txt"), None)) is not None:
        words = next(iter(read_lines(text, expected="labels")), "").split()
        found = f"labels without images ({text.name})"
        if len(words) in (17, 18) and words[2].isalpha():
            found = f"labels of KITTI's tracking ({text.name}), with a frame and a track in front"
            fix = "write a file for each frame, label_2/FRAME.txt, without these two columns, next to image_2"
    raise DataError(path, found=found, expected=f"one of: {', '.join(LAYOUTS.values())}", fix=fix)


def open_object_images(path: Path, split: str, format: str = "auto") -> ObjectImages:
    """Open one split of a dataset.

    format: a name of `OBJECT_FORMATS` or of an entry point, a `module:Class` with `open(path, split)`, or "auto".

    Raises ConfigError for an unknown format, and DataError without images.
    """
    path = expand_home(path)
    if format == "auto":
        format = detect_object_format(path)
    reader = OBJECT_FORMATS.load(format)
    if not hasattr(reader, "open"):
        expected = "a class with `open(path, split)` that returns stadia.objectpose.data.object_labels.ObjectImages"
        raise ConfigError(OBJECT_FORMATS.kind, found=f"'{format}', which is none", expected=expected, fix="define one")
    images: ObjectImages = reader.open(path, split)
    if not len(images):
        splits = ", ".join(list_object_splits(path, "objects") if format == "objects" else ()) or "none"
        fix = "pass one of these, or data.val_split=null to hold out the last training images"
        raise DataError(path, found=f"no image in '{split}'", expected=f"one of its splits: {splits}", fix=fix)
    return images


def has_split(path: Path, split: str, format: str = "auto") -> bool:
    """Return whether a dataset has a split of this name. Raises DataError for a folder without a dataset of objects."""
    path = expand_home(path)
    if (detect_object_format(path) if format == "auto" else format) != "objects":
        return (path / split).is_dir()

    from stadia.objectpose.data.object_folder import read_object_dataset

    return bool(read_object_dataset(path).splits.get(split))


def unwrap_bop(images: ObjectImages) -> BopImages | None:
    """Return the same images as BopImages, without a subset or cache around them; None if they are not BOP's."""
    from stadia.objectpose.data.bop import BopImages
    from stadia.objectpose.data.object_labels import CachedLabels, ObjectSubset

    if isinstance(images, CachedLabels):
        return unwrap_bop(images.whole)
    if isinstance(images, ObjectSubset):
        whole = unwrap_bop(images.whole)
        return None if whole is None else whole.part(images.indices)
    return images if isinstance(images, BopImages) else None


def split_train_val(images: ObjectImages, share: float) -> tuple[ObjectImages, ObjectImages]:
    """Split off the last `share` of the images, at least one. The last ones are taken because neighbors are similar.

    Raises DataError for too few images.
    """
    from stadia.objectpose.data.object_labels import ObjectSubset

    count = max(1, round(share * len(images)))
    if count >= len(images):
        expected = "some to train and some to hold out"
        raise DataError(images.name, found=f"{len(images)} images", expected=expected, fix="lower data.val_share")
    first = len(images) - count
    return ObjectSubset(images, range(first)), ObjectSubset(images, range(first, len(images)))
