"""Images of objects for a training: opened or rendered (TableWorld), split, surveyed, batched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from stadia.core.errors import ConfigError
from stadia.core.types import Batch
from stadia.data.cache import cache_folder, exclusively
from stadia.data.config import CacheConfig
from stadia.data.loader import Loader
from stadia.data.object_labels import KeptLabels, ObjectImages, no_masks
from stadia.data.object_samples import ObjectInputs, ObjectSamples, ObjectTargets, PackedObjects
from stadia.data.object_sources import BOXES_ALONE, format_of, held_out, open_object_images
from stadia.data.object_survey import survey
from stadia.data.tableworld.presets import TableWorldConfig, preset
from stadia.data.tableworld.write import VERSION, write_tableworld
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.objects import object_findings
from stadia.geometry.camera import resized
from stadia.recipes.loaders import loaders
from stadia.recipes.objectpose_config import ObjectDataConfig
from stadia.recipes.scored_images import facts_of_training
from stadia.training.config import TrainingConfig

SURVEYED = 100
"""Number of images of each split whose labels are checked before training."""

_PNG_END = 64
"""Bytes: the checksum of all pixels (zlib) is 20 bytes before the end, or 12 more if a chunk header splits it."""

ObjectBatch = Batch[ObjectInputs, ObjectTargets]


@dataclass(frozen=True)
class ObjectData:
    """Batches for training and validation, and their origin.

    config: with every "auto" resolved.
    images: by split, "train" and "val".
    """

    config: ObjectDataConfig
    images: dict[str, ObjectImages]
    train: Loader[PackedObjects, ObjectBatch]
    val: Loader[PackedObjects, ObjectBatch] | None

    @property
    def facts(self) -> dict[str, object]:
        """Return the identity of the data for run.json."""
        return {
            "path": self.config.path,
            "classes": list(self.images["train"].classes),
            "images": {split: len(images) for split, images in self.images.items()},
            "fingerprints": {split: fingerprint(images) for split, images in self.images.items()},
            **facts_of_training(self.images["train"]),
        }

    def findings(self) -> list[Finding]:
        """Check for unreadable images, missing classes, invisible objects, and boxes away from their masks.

        Drawing BOP masks and fitting NOCS poses takes a second for a few images, so progress is shown.
        """
        return object_findings(
            {split: survey(images, SURVEYED, _show_progress(split)) for split, images in self.images.items()}
        )


def _show_progress(split: str) -> Callable[[Sequence[int]], Iterable[int]]:
    """Return a function that shows progress on stderr while indices are checked."""
    console, what = Console(stderr=True), f"checking images and labels of '{split}'"

    def shown(indices: Sequence[int]) -> Iterable[int]:
        if not console.is_terminal:
            console.print(f"{what}: {len(indices)}", markup=False, highlight=False, soft_wrap=True)
        return track(indices, what, console=console, transient=True, disable=not console.is_terminal)

    return shown


def fingerprint(images: ObjectImages) -> str:
    """Return a hash of a set: names and sizes of its images, and its label files.

    A label image is identified by its size and its end, because a PNG ends with a checksum and there may be 10^6 files.
    A missing image has no size; the data checks report it.
    """
    digest, seen = hashlib.blake2b(digest_size=16), set[Path]()
    for index in range(len(images)):
        path = images.file(index)
        size = path.stat().st_size if path.is_file() else "missing"
        digest.update(f"{path.parent.name}/{path.name}:{size}\n".encode())
        new = [
            one for one in images.label_files(index) if one not in seen and one.is_file()
        ]  # the checks report missing files
        seen.update(new)
        for one in new:
            digest.update(f"{one.parent.name}/{one.name}:{one.stat().st_size}\n".encode() + _hash_label_file(one))
    return digest.hexdigest()


def _hash_label_file(path: Path) -> bytes:
    """Return a hash that distinguishes label files of equal size."""
    with path.open("rb") as stream:
        if path.suffix == ".png":
            stream.seek(max(0, path.stat().st_size - _PNG_END))
        return hashlib.blake2b(stream.read(), digest_size=16).digest()


def open_objects(config: ObjectDataConfig, training: TrainingConfig, *, seed: int, console: Console) -> ObjectData:
    """Open the data of a configuration; TableWorld is rendered by default. Raises DataError, ConfigError."""
    if config.path is None:
        path = rendered_tables(config.tableworld, config.cache, console)
        config = config.model_copy(update={"path": str(path), "format": "objects"})
    assert config.path is not None
    path = Path(config.path).expanduser()
    if config.format == "auto":
        config = config.model_copy(update={"format": format_of(path)})
    if config.format in BOXES_ALONE:
        raise no_masks(path)
    train = _cache_labels(open_object_images(path, config.train_split, config.format), config.format)
    if config.val_split is None:
        train, val = held_out(train, config.val_share)
    else:
        val = _cache_labels(open_object_images(path, config.val_split, config.format), config.format)
    if config.classes is not None and config.classes != train.classes:
        expected = ", ".join(train.classes)
        raise ConfigError(
            "data.classes", found=", ".join(config.classes), expected=expected, fix="leave it to the data set"
        )
    pixel_ratio = config.pixel_ratio or pixel_ratio_of(train, config.height, config.width)
    config = config.model_copy(update={"classes": train.classes, "pixel_ratio": pixel_ratio})
    samples = partial(ObjectSamples, height=config.height, width=config.width)
    training_samples, held = samples([train], color=config.color, seed=seed), samples([val])
    return ObjectData(config, {"train": train, "val": val}, *loaders(training_samples, held, training, seed=seed))


def pixel_ratio_of(images: ObjectImages, height: int, width: int, most: int = 16) -> float:
    """Return the median of fx / fy at height x width, over some of the images."""
    chosen = np.unique(np.linspace(0, len(images) - 1, most).round().astype(int)).tolist()
    K = torch.stack([resized(images.camera(index), height, width).K for index in chosen])
    return float((K[:, 0, 0] / K[:, 1, 1]).median())


def _cache_labels(images: ObjectImages, format: str) -> ObjectImages:
    return images if format == "objects" else KeptLabels(images)


def rendered_tables(name: str, cache: CacheConfig, console: Console) -> Path:
    """Return TableWorld of this preset, rendered into the cache if missing. Other processes wait for the first."""
    config = preset(name)
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]  # other settings are other tables
    folder = cache_folder(cache) / f"tableworld-{name}-{VERSION}-{settings}"
    if (folder / "dataset.json").exists():  # written last
        return folder
    with exclusively(folder):
        if not (folder / "dataset.json").exists():  # another process may have written it meanwhile
            _render(config, folder, console)
    return folder


def _render(config: TableWorldConfig, folder: Path, console: Console) -> None:
    columns = (
        TextColumn("rendering TableWorld"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images"),
        TimeRemainingColumn(),
    )
    total = sum(config.tables.values()) * config.views
    if not console.is_terminal:
        console.print(f"rendering TableWorld, {total} images")
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        write_tableworld(config, folder, advance=lambda images: progress.advance(bar, images))
