"""Composite images on disk, lossless: bit for bit those composed on demand.

OUT/dataset.json                    source and scale of the depth, splits, origin; written last
OUT/backgrounds/SPLIT/00000.png     each background once
OUT/SPLIT/00000/                    images 0 to 499; the folder is complete or absent
    image/000.png  mask/000.png     RGB; 0 or 255
    depth/000.npz                   float32 `depth_m` in metres, or `depth` up to scale; `source` of the label
    samples.json                    of each image its parts, K and the label

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stadia.core.errors import DataError
from stadia.core.files import atomic_folder, atomic_write, read_json, safe_join, write_json
from stadia.core.types import DepthScale
from stadia.datasets.image_files import read_label_png, read_rgb
from stadia.synthetic.composites.backgrounds import DEPTH_ARRAY_KEYS, DepthLabel, read_depth_array
from stadia.synthetic.composites.composer import CompositeComposer, CompositePair, CompositeSample, CompositeSource
from stadia.synthetic.composites.foregrounds import hash_visible_pixels
from stadia.synthetic.rendering.dataset_files import (
    Image,
    colorize_depth,
    count_cores,
    draw_caption,
    is_finished,
    run_jobs,
    write_png,
)

COMPOSITES_FORMAT = "stadia-overlay"
COMPOSITES_VERSION = 2  # 2: records list `images`, before `pictures`
"""Of composing: raised when a seed no longer gives the same images."""

SHARD_SIZE = 500
OWN_FILE = "a file of stadia data overlay"


def write_composites(
    composers: Mapping[str, CompositeComposer],
    counts: Mapping[str, int],
    out: Path,
    *,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> Path:
    """Write the first so many images of each split to `out`; what is there is kept. Returns the path of dataset.json.

    Raises DataError where a folder holds images that were made with other settings, StadiaError where it cannot be
    written.
    """
    out = Path(out)
    splits: dict[str, Any] = {}
    with ThreadPoolExecutor(workers or count_cores()) as pool:
        for split, composer in composers.items():
            facts, count = composer.facts(), counts[split]
            origin = _make_origin(composer, facts)
            shards = [range(start, min(start + SHARD_SIZE, count)) for start in range(0, count, SHARD_SIZE)]
            todo = [
                one
                for one in shards
                if not _is_written_shard(
                    _shard_folder(out, split, one) / "samples.json", _make_shard_origin(origin, one)
                )
            ]
            advance(count - sum(map(len, todo)))
            used = sorted({composer.chosen(number)[0] for one in todo for number in one})
            run_jobs(pool, partial(_write_background, composer, out), used, lambda _: None)
            run_jobs(pool, partial(_write_shard, composer, origin, out), todo, advance)
            numbers = {key: facts[key] for key in ("backgrounds", "worlds", "foregrounds", "objects")}
            hashes = dict(
                zip((one.name for one in composer.foregrounds), hash_visible_pixels(composer.foregrounds), strict=True)
            )
            splits[split] = {"images": count, **numbers, "looks": hashes}
    first = next(iter(composers.values()))
    path = out / "dataset.json"
    about = {
        "format": COMPOSITES_FORMAT,
        "version": COMPOSITES_VERSION,
        "label": first.label.to_dict(),
        "height": first.height,
        "width": first.width,
    }
    write_json(
        path,
        {
            **about,
            "splits": splits,
            "overlay": {split: _make_origin(one, one.facts()) for split, one in composers.items()},
        },
    )
    return path


def _make_origin(composer: CompositeComposer, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what images are made from: equal origins mean equal images."""
    return {
        "version": COMPOSITES_VERSION,
        "split": composer.split,
        "seed": composer.seed,
        "size": [composer.height, composer.width],
        "placement": composer.placement.model_dump(mode="json"),
        "fingerprints": facts["fingerprints"],
    }


def _make_shard_origin(origin: Mapping[str, Any], numbers: range) -> dict[str, Any]:
    return {**origin, "first": numbers.start, "images": len(numbers)}


def _is_written_shard(record: Path, origin: dict[str, Any]) -> bool:
    """Return whether these images exist. Raises DataError where the folder holds others, or another count."""
    found: Any = read_json(record) if record.parent.exists() else None
    there = found.get("overlay") if isinstance(found, dict) else None
    if isinstance(there, dict) and there != origin and {**there, "images": origin["images"]} == origin:
        raise DataError(
            record.parent,
            found=f"{there.get('images')} of these images",
            expected=f"{origin['images']}: another count",
            fix="delete this folder, and it is written again (those before it stay), or choose another --out",
        )
    return is_finished(record, "overlay", origin)


def _shard_folder(out: Path, split: str, numbers: range) -> Path:
    return out / split / f"{numbers.start // SHARD_SIZE:05d}"


def _write_background(composer: CompositeComposer, out: Path, index: int) -> None:
    path = out / "backgrounds" / composer.split / f"{index:05d}.png"
    image = composer.backgrounds[index].scenery(composer.height, composer.width).image
    with atomic_write(path) as temporary:
        write_png(temporary, image[..., ::-1])


def _write_shard(composer: CompositeComposer, origin: Mapping[str, Any], out: Path, numbers: range) -> int:
    samples = []
    key = DEPTH_ARRAY_KEYS[composer.label.depth_scale]
    with atomic_folder(_shard_folder(out, composer.split, numbers)) as folder:
        for kind in ("image", "mask", "depth"):
            (folder / kind).mkdir()
        for number in numbers:
            name, one = f"{number - numbers.start:03d}", composer.composed(number)
            write_png(folder / "image" / f"{name}.png", one.image[..., ::-1])
            write_png(folder / "mask" / f"{name}.png", np.where(one.mask, 255, 0).astype(np.uint8))
            arrays: Any = {key: one.depth, "source": np.array(composer.label.source)}
            np.savez(folder / "depth" / f"{name}.npz", **arrays)
            samples.append(
                {**_describe_sample(one), "background_file": f"{composer.split}/{composer.chosen(number)[0]:05d}.png"}
            )
        label = composer.label.to_dict()
        write_json(
            folder / "samples.json",
            {"label": label, "samples": samples, "overlay": _make_shard_origin(origin, numbers)},
        )
    return len(numbers)


def _describe_sample(one: CompositeSample) -> dict[str, Any]:
    pair = one.pair
    return {
        "background": pair.background,
        "world": pair.world,
        "foreground": pair.foreground,
        "object": pair.object,
        "position": pair.position,
        "K": one.K.tolist(),
    }


def is_composite_set(path: Path) -> bool:
    """Return whether a folder holds a set that `write_overlays` wrote."""
    about = path / "dataset.json"
    return about.is_file() and isinstance(read := read_json(about), dict) and read.get("format") == COMPOSITES_FORMAT


def open_composite_files(path: Path) -> dict[str, CompositeFiles]:
    """Open the splits that `write_overlays` wrote. Raises DataError with the file."""
    about = path / "dataset.json"
    record: Any = read_json(about)
    try:
        counts = {str(split): int(one["images"]) for split, one in record["splits"].items()}
        hashes = {str(split): dict(one.get("looks", {})) for split, one in record["splits"].items()}
        origins = dict(record["overlay"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            about, found=f"no composed images ({error})", expected=OWN_FILE, fix="write it again"
        ) from error
    label = DepthLabel.from_dict(record.get("label"), about)
    return {
        split: CompositeFiles(safe_join(path, split), count, label, origins.get(split), hashes[split])
        for split, count in counts.items()
    }


class CompositeFiles:
    """A split of a set on disk.

    visible_hashes: of each foreground by name, see `looks_of`; empty where the set has none.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        label: DepthLabel,
        origin: Any = None,
        visible_hashes: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self._count, self.label, self.origin, self.visible_hashes = (
            folder,
            count,
            label,
            origin,
            visible_hashes or {},
        )
        self._records: dict[int, list[dict[str, Any]]] = {}

    @property
    def count(self) -> int:
        return self._count

    def _read_shard(self, number: int) -> tuple[Path, dict[str, Any], str]:
        """Return folder, record and name of the n-th image."""
        if not 0 <= number < self._count:
            raise IndexError(number)
        shard, place = divmod(number, SHARD_SIZE)
        folder = self.folder / f"{shard:05d}"
        if shard not in self._records:
            path = folder / "samples.json"
            record: Any = read_json(path)
            if not isinstance(record, dict) or not isinstance(record.get("samples"), list):
                raise DataError(path, found="no samples", expected=OWN_FILE, fix="remove the folder; write it again")
            label = DepthLabel.from_dict(record.get("label"), path)
            if label != self.label:
                expected = f"{self.label.source}, {self.label.depth_scale}, as dataset.json"
                raise DataError(
                    path,
                    found=f"the label {label.source}, {label.depth_scale}",
                    expected=expected,
                    fix="write the set again",
                )
            self._records[shard] = record["samples"]
        samples = self._records[shard]
        if place >= len(samples):
            path = folder / "samples.json"
            raise DataError(path, found=f"{len(samples)} images", expected=f"number {place}", fix="write the set again")
        return folder, samples[place], f"{place:03d}"

    def pair(self, number: int) -> CompositePair:
        folder, about, _ = self._read_shard(number)
        try:
            background, world, foreground, shown = (
                str(about[key]) for key in ("background", "world", "foreground", "object")
            )
            return CompositePair(background, world, foreground, shown, int(about["position"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                folder / "samples.json", found=f"no {error}", expected="what it is of", fix="write the set again"
            ) from error

    def background_file(self, number: int) -> Path:
        """Return the file of the n-th image's background."""
        return safe_join(self.folder.parent / "backgrounds", str(self._read_shard(number)[1].get("background_file")))

    def composed(self, number: int) -> CompositeSample:
        folder, about, name = self._read_shard(number)
        image = read_rgb(folder / "image" / f"{name}.png")
        background_file = self.background_file(number)
        mask_file, depth_file = folder / "mask" / f"{name}.png", folder / "depth" / f"{name}.npz"
        mask = read_label_png(mask_file)
        if set(np.unique(mask).tolist()) - {0, 255}:
            raise DataError(
                mask_file, found=f"values as {int(mask.max())}", expected="0 and 255 alone", fix="write the set again"
            )
        depth, background = (
            read_depth_array(depth_file, DEPTH_ARRAY_KEYS[self.label.depth_scale]),
            read_rgb(background_file),
        )
        for path, one in ((mask_file, mask), (depth_file, depth), (background_file, background)):
            if one.shape[:2] != image.shape[:2]:
                found, expected = f"{one.shape[1]}x{one.shape[0]}", f"{image.shape[1]}x{image.shape[0]}, as its image"
                raise DataError(path, found=found, expected=expected, fix="write the set again")
        try:
            K = np.array(about["K"], np.float64).reshape(3, 3)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                folder / "samples.json", found=f"no K ({error})", expected="3x3 numbers", fix="write the set again"
            ) from error
        return CompositeSample(image, background, depth, mask == 255, K, self.pair(number))

    def facts(self) -> dict[str, Any]:
        return {"images": self._count, "fingerprints": [self.origin]}


# -- Draw a contact sheet of composite images: background, image, depth and mask of each split.


def write_composites_preview(
    path: Path, images: Mapping[str, CompositeSource], counts: Mapping[str, int], rows: int = 4, columns: int = 4
) -> Path:
    """Write up to rows x columns samples of each split, spread evenly, into one PNG. Returns its path."""
    bands = []
    for split, one in images.items():
        numbers = np.linspace(0, counts[split] - 1, min(rows * columns, counts[split])).round().astype(int).tolist()
        bands += _draw_split(split, [one.composed(number) for number in numbers], columns, one.label.depth_scale)
    width = max(band.shape[1] for band in bands)
    sheet = np.vstack(
        [np.pad(band, ((0, 6), (0, width - band.shape[1]), (0, 0)), constant_values=255) for band in bands]
    )
    with atomic_write(path) as temporary:
        cv2.imwrite(str(temporary), sheet[..., ::-1])
    return path


def _draw_split(split: str, samples: list[CompositeSample], columns: int, depth_scale: DepthScale) -> list[Image]:
    """Draw the samples of a split in rows under a caption, with one depth scale for all."""
    known = np.concatenate([one.depth[one.depth > 0] for one in samples])
    near, far = np.percentile(known, (2, 98)) if known.size else (1.0, 2.0)
    tiles = [_draw_sample(one, float(near), float(max(far, 1.01 * near))) for one in samples]
    size = max(tile.shape[0] for tile in tiles), max(tile.shape[1] for tile in tiles)
    tiles = [
        np.pad(tile, ((0, size[0] - tile.shape[0]), (0, size[1] - tile.shape[1] + 4), (0, 0)), constant_values=255)
        for tile in tiles
    ]
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    scale = f"{near:.3g} (bright) to {far:.3g}{' m' * (depth_scale is DepthScale.METRES)}"
    return [draw_caption(f"{split}: background, image, depth {scale}, mask", rows[0].shape[1]), *rows]


def _draw_sample(one: CompositeSample, near: float, far: float) -> Image:
    mask = np.where(one.mask[..., None], np.uint8(255), np.uint8(0)).repeat(3, -1)
    return np.hstack([one.background, one.image, colorize_depth(one.depth, near, far), mask])
