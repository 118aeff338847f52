"""The published layout of 400,000 composite images: 100 backgrounds x 100 foregrounds x 40 places.

The files are ROOT/bg/bgI.jpg and ROOT/bgI/fg_J/{overlay,depth,mask}/K.jpg. Other names are tolerated and reported.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.seeds import make_generator
from stadia.core.types import DepthScale
from stadia.geometry.cameras import ASSUMED_HORIZONTAL_FOV_DEG, centered_K, focal_px_from_fov
from stadia.io.image_files import read_rgb
from stadia.overlay.world.backgrounds import DepthLabel
from stadia.overlay.world.composer import MASK_MIN_ALPHA, CompositePair, CompositeSample

LAYOUT_SHAPE = BACKGROUND_COUNT, FOREGROUND_COUNT, PLACEMENT_COUNT = 100, 100, 40
"""Shape of the array that has the index of an image at (I - 1, J - 1, K - 1)."""

PUBLISHED_LABEL = DepthLabel("teacher: DenseDepth (NYU weights), 8-bit JPEG", DepthScale.UP_TO_SCALE)

FILE_KINDS = {"overlay": ("overlay",), "depth": ("depth",), "mask": ("mask", "mask_")}
_IMAGE = re.compile(r"([1-9]\d*)\.(jpg|jpeg|png)", re.I)


@dataclass(frozen=True)
class LayoutScan:
    """The files of the layout that exist.

    backgrounds: numbers of the folders bgI.
    whole: (N,) indices of the images that have all their files.
    missing: missing paths, relative to the root; for a missing folder only the folder.
    masks: number of mask folders by their name.
    beyond: number of folders fg_J with J above 100.
    """

    backgrounds: tuple[int, ...]
    whole: NDArray[np.int64]
    missing: tuple[str, ...]
    masks: dict[str, int]
    beyond: int


def scan_published_layout(root: Path) -> LayoutScan:
    """Check from folder listings that every file exists. Raises DataError without background folders."""
    numbers = sorted(int(p.name[2:]) for p in root.glob("bg[0-9]*") if p.is_dir() and p.name[2:].isdecimal())
    numbers = [n for n in numbers if 1 <= n <= BACKGROUND_COUNT]
    if not numbers:
        expected = "ROOT/bgI/fg_J/overlay/K.jpg"
        raise DataError(root, found="no folder bg1 to bg100", expected=expected, fix="check the path")
    missing: list[str] = []
    whole: list[int] = []
    masks: dict[str, int] = {}
    beyond = 0
    for background in numbers:
        folder = root / f"bg{background}"
        inner = {p.name for p in os.scandir(folder) if p.is_dir()}
        beyond += sum(n.startswith("fg_") and n[3:].isdecimal() and int(n[3:]) > FOREGROUND_COUNT for n in inner)
        if not _background_file(root, background).is_file():
            missing.append(f"bg/bg{background}.jpg")
            continue
        for foreground in range(1, FOREGROUND_COUNT + 1):
            if f"fg_{foreground}" not in inner:
                missing.append(f"bg{background}/fg_{foreground}")
                continue
            complete, absent = _find_complete(folder / f"fg_{foreground}", masks)
            missing += (f"bg{background}/fg_{foreground}/{path}" for path in absent)
            places = (background - 1, foreground - 1, np.array(complete, np.int64) - 1)
            whole += np.ravel_multi_index(places, LAYOUT_SHAPE).tolist()
    return LayoutScan(tuple(numbers), np.array(whole, np.int64), tuple(missing), masks, beyond)


def _find_complete(folder: Path, masks: dict[str, int]) -> tuple[list[int], Iterator[str]]:
    found: dict[str, set[int]] = {}
    names = {}
    for kind, choices in FILE_KINDS.items():
        name = next((name for name in choices if (folder / name).is_dir()), None)
        names[kind] = name or choices[0]
        if kind == "mask" and name is not None:
            masks[name] = masks.get(name, 0) + 1
        listed = [entry.name for entry in os.scandir(folder / name)] if name else []
        found[kind] = {int(match[1]) for name in listed if (match := _IMAGE.fullmatch(name))}
    wanted = range(1, PLACEMENT_COUNT + 1)
    absent = (f"{names[kind]}/{file}.jpg" for kind in FILE_KINDS for file in wanted if file not in found[kind])
    return [file for file in wanted if all(file in numbers for numbers in found.values())], absent


def _background_file(root: Path, number: int) -> Path:
    return _find_image_file([root / "bg"], f"bg{number}") or root / "bg" / f"bg{number}.jpg"


def _find_image_file(folders: Sequence[Path], stem: str) -> Path | None:
    paths = (folder / f"{stem}{suffix}" for folder in folders for suffix in (".jpg", ".jpeg", ".png", ".JPG"))
    return next((path for path in paths if path.is_file()), None)


PUBLISHED_TRAIN_BACKGROUNDS = 75  # backgrounds of the published split that train: images 1 to 300000

PUBLISHED_RANGE = (1 / 510, 1.0 + 1 / 510)
"""Open interval of the published depth labels, which are gray values over 255: all of them except 0."""


def split_published_layout(
    found: LayoutScan, val_share: float, val_rule: str = "disjoint"
) -> dict[str, NDArray[np.int64]]:
    """Return the indices (N,) of the images of "train" and of "val".

    val_rule: with "disjoint" the splits share no background and no foreground. With "published" they have backgrounds 1
        to 75 and 76 to 100.

    Raises DataError if one of the two has no image.
    """
    if val_rule == "published":
        first = np.ravel_multi_index((PUBLISHED_TRAIN_BACKGROUNDS, 0, 0), LAYOUT_SHAPE)
        parts = {"train": found.whole[found.whole < first], "val": found.whole[found.whole >= first]}
        if empty := next((name for name, indices in parts.items() if not len(indices)), None):
            expected = f"backgrounds up to bg{PUBLISHED_TRAIN_BACKGROUNDS} and beyond"
            fix = "fetch the rest, or pass data.val_rule=disjoint"
            raise DataError("data.val_rule=published", found=f"no image to '{empty}'", expected=expected, fix=fix)
        return parts
    background, foreground, _ = np.unravel_index(found.whole, LAYOUT_SHAPE)
    b = np.isin(background, _draw_held_out(np.unique(background), val_share, "backgrounds"))
    f = np.isin(foreground, _draw_held_out(np.unique(foreground), val_share, "foregrounds"))
    return {"train": found.whole[~b & ~f], "val": found.whole[b & f]}


def _draw_held_out(numbers: NDArray[np.int64], share: float, what: str) -> NDArray[np.int64]:
    if len(numbers) < 2:
        found, expected = f"{len(numbers)} complete", "at least 2, to hold one out"
        raise DataError(what, found=found, expected=expected, fix="fetch the rest")
    count = max(1, min(round(share * len(numbers)), len(numbers) - 1))
    return make_generator(0, "published", what).permutation(numbers)[:count]


class PublishedComposites:
    """Images of the published layout in random order, by their index in the layout (`indices`)."""

    label = PUBLISHED_LABEL

    def __init__(self, root: Path, indices: Sequence[int] | NDArray[np.int64], split: str) -> None:
        self.root, self.split = root, split
        self.indices = make_generator(0, "published", "order", split).permutation(np.asarray(indices, np.int64))

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def pair(self, number: int) -> CompositePair:
        """Return the parts of a sample by its number."""
        background, folder, file = self._location(number)
        return CompositePair(f"bg{background}", f"bg{background}", folder.name, folder.name, file - 1)

    def _location(self, number: int) -> tuple[int, Path, int]:
        background, foreground, file = (int(i) + 1 for i in np.unravel_index(self.indices[number], LAYOUT_SHAPE))
        return background, self.root / f"bg{background}" / f"fg_{foreground}", file

    def composed(self, number: int) -> CompositeSample:
        """Read the n-th sample."""
        background, folder, file = self._location(number)
        image = read_rgb(self._image(folder, "overlay", file))
        height, width = image.shape[:2]
        gray = {kind: read_rgb(self._image(folder, kind, file))[..., 0] for kind in ("depth", "mask")}
        background_file = _background_file(self.root, background)
        clean = read_rgb(background_file)
        for path, layer in ((background_file, clean), *((folder / kind / f"{file}.jpg", gray[kind]) for kind in gray)):
            if layer.shape[:2] != (height, width):
                found, expected = f"{layer.shape[1]}x{layer.shape[0]}", f"{width}x{height}, as its composed image"
                raise DataError(path, found=found, expected=expected, fix="use the images of one size of the dataset")
        depth = gray["depth"].astype(np.float32) / np.float32(255)
        K = centered_K(focal_px_from_fov(ASSUMED_HORIZONTAL_FOV_DEG, width), height, width)
        return CompositeSample(image, clean, depth, gray["mask"] >= MASK_MIN_ALPHA * 255, K, self.pair(number))

    def _image(self, folder: Path, kind: str, number: int) -> Path:
        found = _find_image_file([folder / name for name in FILE_KINDS[kind]], str(number))
        return found or folder / kind / f"{number}.jpg"

    def raw_mask(self, number: int) -> NDArray[np.uint8]:
        """Return the mask (H, W) of a sample as stored. A JPEG also has values between 0 and 255."""
        return read_rgb(self.label_files(number)[1])[..., 0]

    def label_files(self, number: int) -> tuple[Path, Path]:
        """Return the files with the depth and the mask of a sample."""
        _, folder, file = self._location(number)
        return self._image(folder, "depth", file), self._image(folder, "mask", file)

    @cached_property
    def _parts_used(self) -> tuple[int, int]:
        background, foreground, _ = np.unravel_index(self.indices, LAYOUT_SHAPE)
        return len(np.unique(background)), len(np.unique(foreground))

    def facts(self) -> dict[str, Any]:
        """Return facts for the record of the run: splits, sources and labels."""
        backgrounds, foregrounds = self._parts_used
        first = self._image(self.root / "bg1" / "fg_1", "overlay", 1)
        size = first.stat().st_size if first.is_file() else 0
        return {
            "backgrounds": backgrounds,
            "worlds": backgrounds,
            "foregrounds": foregrounds,
            "objects": foregrounds,
            "images": self.count,
            "fingerprints": [f"{len(self.indices)} of {self.root.name}, {size} bytes"],
        }
