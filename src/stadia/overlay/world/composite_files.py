"""Composite images on disk: lossless, equal to images composed on demand. Imports no torch.

OUT/dataset.json                    source and scale of the depth, splits, origin; written last
OUT/backgrounds/SPLIT/00000.png     each background once
OUT/SPLIT/00000/                    images 0 to 499; the folder is complete or absent
    image/000.png  mask/000.png     RGB; 0 or 255
    depth/000.npz                   float32 `depth_m` in metres, or `depth` up to scale; `source` of the label
    samples.json                    of each image its parts, K and the label
"""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stadia.core.errors import DataError
from stadia.core.types import DepthScale
from stadia.data.config import Matrix
from stadia.data.frame_selection import spread_indices
from stadia.io.atomic_files import atomic_folder, atomic_write, write_json
from stadia.io.image_files import check_image_size, read_label_png, read_rgb
from stadia.io.input_files import read_json, safe_join
from stadia.io.output_files import ANOTHER_OUT_OR_REMOVE, check_foreign_folder
from stadia.io.typed_json import FileEntry, read_typed_json
from stadia.overlay.layout import COMPOSITES_FORMAT, LISTING
from stadia.overlay.world.backgrounds import DEPTH_ARRAY_KEYS, DepthLabel, read_depth_array
from stadia.overlay.world.composer import CompositeComposer, CompositePair, CompositeSample, CompositeSource
from stadia.overlay.world.foregrounds import hash_visible_pixels
from stadia.synthetic.rendering import dataset_files

COMPOSITES_VERSION = 2  # raised when a seed no longer gives the same files

SHARD_SIZE = 500  # images in a file
OWN_FILE, REWRITE = "a file of stadia data overlay", "write the set again"


def write_composites(
    composers: Mapping[str, CompositeComposer],
    counts: Mapping[str, int],
    out: Path,
    *,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> Path:
    """Write the first `counts` images of each split that are missing, and return dataset.json.

    composers: composer of each split.
    counts: number of images of each split.
    workers: number of threads; None takes all cores.
    advance: called with the number of written images.

    Raises StadiaError if the folder cannot be used.
    """
    out = Path(out)
    check_foreign_folder(out, LISTING)
    listing = _make_listing(composers, counts)
    origins = listing["overlay"]
    todo = {split: list(_find_unwritten(out, split, origins[split], counts[split])) for split in composers}
    _check_listing(out / LISTING, listing)
    with ThreadPoolExecutor(workers or dataset_files.count_cores()) as pool:
        for split, composer in composers.items():
            advance(counts[split] - sum(map(len, todo[split])))
            used = sorted({composer.choose_parts(number)[0] for shard in todo[split] for number in shard})
            dataset_files.run_jobs(pool, partial(_write_background, composer, out), used, lambda _: None)
            dataset_files.run_jobs(pool, partial(_write_shard, composer, origins[split], out), todo[split], advance)
    write_json(out / LISTING, listing)
    return out / LISTING


def _make_listing(composers: Mapping[str, CompositeComposer], counts: Mapping[str, int]) -> dict[str, Any]:
    splits: dict[str, Any] = {}
    origins: dict[str, Any] = {}
    for split, composer in composers.items():
        facts = composer.facts()
        origins[split] = {
            "version": COMPOSITES_VERSION,
            "split": composer.split,
            "seed": composer.seed,
            "size": [composer.height, composer.width],
            "placement": composer.placement.model_dump(mode="json"),
            "fingerprints": facts["fingerprints"],
        }
        numbers = {key: facts[key] for key in ("backgrounds", "worlds", "foregrounds", "objects")}
        names = [foreground.name for foreground in composer.foregrounds]
        hashes = hash_visible_pixels(composer.foregrounds)
        splits[split] = {"images": counts[split], **numbers, "looks": dict(zip(names, hashes, strict=True))}
    first = next(iter(composers.values()))
    about = {"format": COMPOSITES_FORMAT, "version": COMPOSITES_VERSION, "label": first.label.to_dict()}
    return {**about, "height": first.height, "width": first.width, "splits": splits, "overlay": origins}


def _check_listing(path: Path, listing: Mapping[str, Any]) -> None:
    if not path.exists():
        return
    old = read_json(path)
    try:
        splits = {
            split: listing["splits"][split] | {"images": values["images"]} for split, values in old["splits"].items()
        }
        new = {**listing, "splits": splits, "overlay": {split: listing["overlay"][split] for split in splits}}
        is_own = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    except (AttributeError, KeyError, TypeError):
        is_own = False
    if not is_own:
        found, expected = "a changed list of images", "the list that stadia wrote"
        raise DataError(path, found=found, expected=expected, fix=ANOTHER_OUT_OR_REMOVE)


def _make_shard_origin(origin: Mapping[str, Any], numbers: range) -> dict[str, Any]:
    return {**origin, "first": numbers.start, "images": len(numbers)}


def _find_unwritten(out: Path, split: str, origin: Mapping[str, Any], count: int) -> Iterator[range]:
    for start in range(0, count, SHARD_SIZE):
        shard = range(start, min(start + SHARD_SIZE, count))
        if not _is_written_shard(_shard_folder(out, split, shard), origin, shard):
            yield shard


def _is_written_shard(folder: Path, origin: Mapping[str, Any], numbers: range) -> bool:
    record, wanted = folder / "samples.json", _make_shard_origin(origin, numbers)
    found: Any = read_json(record) if folder.exists() else None
    existing = found.get("overlay") if isinstance(found, dict) else None
    if isinstance(existing, dict) and existing != wanted and {**existing, "images": len(numbers)} == wanted:
        state, expected = f"{existing.get('images')} images of this set", f"{len(numbers)} images, as --count asks"
        raise DataError(folder, found=state, expected=expected, fix=ANOTHER_OUT_OR_REMOVE)
    return dataset_files.is_finished(record, "overlay", wanted)


def _shard_folder(out: Path, split: str, numbers: range) -> Path:
    return out / split / f"{numbers.start // SHARD_SIZE:05d}"


def _write_background(composer: CompositeComposer, out: Path, index: int) -> None:
    path = out / "backgrounds" / composer.split / f"{index:05d}.png"
    image = composer.backgrounds[index].scenery(composer.height, composer.width).image
    with atomic_write(path) as temporary:
        dataset_files.write_png(temporary, image[..., ::-1])


def _write_shard(composer: CompositeComposer, origin: Mapping[str, Any], out: Path, numbers: range) -> int:
    samples = []
    key = DEPTH_ARRAY_KEYS[composer.label.depth_scale]
    with atomic_folder(_shard_folder(out, composer.split, numbers)) as folder:
        for kind in ("image", "mask", "depth"):
            (folder / kind).mkdir()
        for number in numbers:
            name, one = f"{number - numbers.start:03d}", composer.composed(number)
            dataset_files.write_png(folder / "image" / f"{name}.png", one.image[..., ::-1])
            dataset_files.write_png(folder / "mask" / f"{name}.png", np.where(one.mask, 255, 0).astype(np.uint8))
            arrays: Any = {key: one.depth, "source": np.array(composer.label.source)}
            np.savez(folder / "depth" / f"{name}.npz", **arrays)
            file = f"{composer.split}/{composer.choose_parts(number)[0]:05d}.png"
            samples.append({**asdict(one.pair), "K": one.K.tolist(), "background_file": file})
        about = {"label": composer.label.to_dict(), "samples": samples}
        write_json(folder / "samples.json", {**about, "overlay": _make_shard_origin(origin, numbers)})
    return len(numbers)


class _SplitEntry(FileEntry):
    images: int
    looks: dict[str, str]


class _SetFile(FileEntry):
    version: Literal[2]
    label: DepthLabel
    splits: dict[str, _SplitEntry]
    overlay: dict[str, Any]


class _SampleEntry(FileEntry):
    background: str
    world: str
    foreground: str
    object: str
    position: int
    K: Matrix
    background_file: str


class _ShardFile(FileEntry):
    label: DepthLabel
    samples: list[_SampleEntry]


def open_composite_files(path: Path) -> "dict[str, CompositeFiles]":
    """Open the splits that `write_composites` wrote. Raises DataError for damaged files."""
    record: _SetFile = read_typed_json(path / LISTING, _SetFile, expected=OWN_FILE, fix=REWRITE)
    return {
        name: CompositeFiles(safe_join(path, name), split.images, record.label, record.overlay.get(name), split.looks)
        for name, split in record.splits.items()
    }


class CompositeFiles:
    """A split of a set on disk.

    visible_hashes: hash of each foreground's visible pixels, by name.
    """

    def __init__(
        self, folder: Path, count: int, label: DepthLabel, origin: Any, visible_hashes: Mapping[str, str]
    ) -> None:
        self.folder, self.count, self.label = folder, count, label
        self.origin, self.visible_hashes = origin, visible_hashes
        self._shards: dict[int, _ShardFile] = {}

    def _read_entry(self, number: int) -> tuple[Path, str, _SampleEntry]:
        if not 0 <= number < self.count:
            raise IndexError(number)
        shard, place = divmod(number, SHARD_SIZE)
        folder = self.folder / f"{shard:05d}"
        path = folder / "samples.json"
        if shard not in self._shards:
            record: _ShardFile = read_typed_json(path, _ShardFile, expected=OWN_FILE, fix=REWRITE)
            if record.label != self.label:
                expected = f"{self.label}, as dataset.json"
                raise DataError(path, found=f"{record.label}", expected=expected, fix=REWRITE)
            self._shards[shard] = record
        samples = self._shards[shard].samples
        if place >= len(samples):
            raise DataError(path, found=f"{len(samples)} images", expected=f"number {place}", fix=REWRITE)
        return folder, f"{place:03d}", samples[place]

    def pair(self, number: int) -> CompositePair:
        """Return the parts of a sample by its number."""
        entry = self._read_entry(number)[2]
        return CompositePair(entry.background, entry.world, entry.foreground, entry.object, entry.position)

    def background_file(self, number: int) -> Path:
        """Return the file with the background of the n-th image."""
        return safe_join(self.folder.parent / "backgrounds", self._read_entry(number)[2].background_file)

    def composed(self, number: int) -> CompositeSample:
        """Read the n-th sample."""
        folder, name, entry = self._read_entry(number)
        image = read_rgb(folder / "image" / f"{name}.png")
        background_file = self.background_file(number)
        mask_file, depth_file = folder / "mask" / f"{name}.png", folder / "depth" / f"{name}.npz"
        mask = read_label_png(mask_file)
        if set(np.unique(mask).tolist()) - {0, 255}:
            raise DataError(mask_file, found=f"values as {int(mask.max())}", expected="0 and 255 alone", fix=REWRITE)
        depth = read_depth_array(depth_file, DEPTH_ARRAY_KEYS[self.label.depth_scale])
        background = read_rgb(background_file)
        for path, layer in ((mask_file, mask), (depth_file, depth), (background_file, background)):
            check_image_size(path, layer, *image.shape[:2], like=", as its image", fix=REWRITE)
        return CompositeSample(image, background, depth, mask == 255, np.array(entry.K), self.pair(number))

    def facts(self) -> dict[str, Any]:
        """Return facts for the record of the run: splits, sources and labels."""
        return {"images": self.count, "fingerprints": [self.origin]}


def write_composites_preview(
    path: Path, images: Mapping[str, CompositeSource], counts: Mapping[str, int], rows: int = 4, columns: int = 4
) -> Path:
    """Write up to rows x columns samples of each split, spread evenly, into one PNG. Returns its path."""
    bands = []
    for split, source in images.items():
        numbers = spread_indices(counts[split], rows * columns)
        bands += _draw_split(split, [source.composed(number) for number in numbers], columns, source.label.depth_scale)
    width = max(band.shape[1] for band in bands)
    sheet = np.vstack([_pad_white(band, band.shape[0] + 6, width) for band in bands])
    return dataset_files.write_contact_sheet(path, sheet, "stadia-overview")


def _draw_split(
    split: str, samples: list[CompositeSample], columns: int, depth_scale: DepthScale
) -> list[dataset_files.Image]:
    valid = np.concatenate([sample.depth[sample.depth > 0] for sample in samples])
    near, far = np.percentile(valid, (2, 98)) if valid.size else (1.0, 2.0)
    tiles = [_draw_sample(sample, float(near), float(max(far, 1.01 * near))) for sample in samples]
    height, width = max(tile.shape[0] for tile in tiles), max(tile.shape[1] for tile in tiles)
    tiles = [_pad_white(tile, height, width + 4) for tile in tiles]
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    scale = f"{near:.3g} (bright) to {far:.3g}{' m' * (depth_scale is DepthScale.METRES)}"
    return [dataset_files.draw_caption(f"{split}: background, image, depth {scale}, mask", rows[0].shape[1]), *rows]


def _draw_sample(one: CompositeSample, near: float, far: float) -> dataset_files.Image:
    mask = np.where(one.mask[..., None], np.uint8(255), np.uint8(0)).repeat(3, -1)
    return np.hstack([one.background, one.image, dataset_files.colorize_depth(one.depth, near, far), mask])


def _pad_white(image: dataset_files.Image, height: int, width: int) -> dataset_files.Image:
    return np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), constant_values=255)
