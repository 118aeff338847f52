"""Foregrounds: folders of PNG files with alpha, and their splits. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stadia.core.errors import DataError
from stadia.core.seeds import make_generator
from stadia.datasets.image_files import hash_file, list_images, natural_sort_key, read_rgba
from stadia.synthetic.composites.pasting import Cutout, premultiply_alpha, resize_cutout
from stadia.synthetic.rendering.dataset_files import SPLITS, count_cores


@dataclass(frozen=True, slots=True)
class Foreground:
    """An image of a cut-out object.

    name: "OBJECT/VIEW" or "NAME", without the folder and the split.  object: which it shows; views of one share it.
    """

    file: Path
    name: str
    object: str

    def cutout(self, most_px: int) -> Cutout:
        """Read the cut-out with premultiplied alpha, cropped, its longer side at most `most_px`.

        Raises DataError with the file.
        """
        cutout = premultiply_alpha(read_rgba(self.file))
        h, w = cutout.shape[:2]
        scale = most_px / max(h, w)
        return cutout if scale >= 1 else resize_cutout(cutout, max(1, round(scale * h)), max(1, round(scale * w)))


def open_foregrounds(path: Path, val_share: float) -> dict[str, list[Foreground]]:
    """Open the foregrounds of each split: by the folder's own splits, else `val_share` of the objects, drawn with a
    fixed seed.

    Raises DataError where there is no image, or a single object that cannot be on both sides.
    """
    named = [split for split in SPLITS if (path / split).is_dir()]
    if named:
        if "train" not in named:
            raise DataError(
                path, found=f"the splits {', '.join(named)}", expected="train among them", fix="add FOLDER/train"
            )
        return {split: _list_foregrounds(path / split) for split in named}
    every = _list_foregrounds(path)
    objects = list(dict.fromkeys(one.object for one in every))
    if len(objects) < 2:
        raise DataError(
            path, found="a single object", expected="at least 2, to train and validate", fix="add images of others"
        )
    held = max(1, min(round(val_share * len(objects)), len(objects) - 1))
    order = make_generator(0, "foregrounds").permutation(len(objects))[:held]
    val = {objects[int(number)] for number in order}
    return {
        "train": [one for one in every if one.object not in val],
        "val": [one for one in every if one.object in val],
    }


def _list_foregrounds(folder: Path) -> list[Foreground]:
    """List NAME.png as objects with one view, and OBJECT/VIEW.png as views of one object."""
    inner = (
        sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural_sort_key)
        if folder.is_dir()
        else []
    )
    views = [Foreground(file, f"{one.name}/{file.stem}", one.name) for one in inner for file in list_images(one)]
    alone = [] if inner and not any(p.is_file() for p in folder.iterdir()) else list_images(folder)
    return [*views, *(Foreground(file, file.stem, file.stem) for file in alone if file.name != "preview.png")]


def fingerprint_foregrounds(foregrounds: Sequence[Foreground]) -> str:
    """Return a hash of the names and contents of foregrounds."""
    digest = hashlib.blake2b(digest_size=16)
    for one in foregrounds:
        digest.update(f"{one.name}:{hash_file(one.file)}\n".encode())
    return digest.hexdigest()


def hash_visible_pixels(foregrounds: Sequence[Foreground]) -> list[str]:
    """Hash the visible pixels of each foreground: copies in another encoding, with another margin or mirrored have the
    same hash.

    What cannot be read as a cut-out goes by its file.
    """
    with ThreadPoolExecutor(count_cores()) as threads:
        return list(threads.map(_hash_visible, (one.file for one in foregrounds)))


def _hash_visible(file: Path) -> str:
    try:
        rgba = read_rgba(file)
    except DataError:
        return hash_file(file)
    shown = rgba[..., 3] > 0
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    seen = np.where(shown[window][..., None], rgba[window], 0).astype(np.uint8)  # what is transparent has any color
    both = (f"{seen.shape}".encode() + np.ascontiguousarray(one).tobytes() for one in (seen, seen[:, ::-1]))
    return min(hashlib.blake2b(one, digest_size=16).hexdigest() for one in both)


def check_foregrounds(foregrounds: Sequence[Foreground], at_most: int) -> tuple[list[tuple[str, str]], int]:
    """Check foregrounds spread evenly over a list.

    Returns (file, fault) of those that cannot be pasted, and the longest side in pixels.
    """
    faults, longest = [], 0
    for index in np.unique(np.linspace(0, len(foregrounds) - 1, min(at_most, len(foregrounds))).round().astype(int)):
        try:
            longest = max(longest, *read_rgba(foregrounds[index].file).shape[:2])
        except DataError as error:
            faults.append((error.what, f"{error.found}, expected {error.expected}"))
    return faults, longest
