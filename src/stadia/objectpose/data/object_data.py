"""Images of objects for training, prediction and evaluation."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError, DataError
from stadia.core.terminal import Terminal
from stadia.data.config import CacheConfig, SourceOptions, refuse_idle_options
from stadia.data.frame_preparation import Frame
from stadia.data.frame_selection import spread_indices
from stadia.data.frame_store import lock_beside
from stadia.differentiable.batch import Batch, Meta
from stadia.evaluation.plots.videos import DEFAULT_RATE_HZ
from stadia.geometry.cameras import resize_camera
from stadia.io.array_files import MAX_ARRAY_BYTES
from stadia.io.image_files import encode_name, hash_files, join_hashes
from stadia.io.input_files import expand_home, find_cache_folder, open_input
from stadia.judge.finding import Finding
from stadia.objectpose.config import TABLEWORLD_PRESETS, ObjectDataConfig
from stadia.objectpose.data.object_labels import CachedLabels, ObjectImages, ObjectSubset, make_no_masks_error
from stadia.objectpose.data.object_samples import ObjectInputs, ObjectSamples, ObjectTargets, PackedObjects
from stadia.objectpose.data.open_objects import (
    BOX_FORMATS,
    OBJECT_FORMATS,
    detect_object_format,
    detect_object_layout,
    has_split,
    list_object_splits,
    open_object_images,
    split_train_val,
)
from stadia.objectpose.label_checks import check_object_labels, survey_objects
from stadia.objectpose.scores import image_name
from stadia.objectpose.table_world import TABLEWORLD_VERSION, write_tableworld
from stadia.predict.inputs import PredictionInput, open_inputs
from stadia.predict.options import EvaluateOptions
from stadia.predict.training_overlap import TrainingOverlap
from stadia.synthetic.config import find_preset
from stadia.training.loading.loader import Loader
from stadia.training.loop.config import TrainingConfig
from stadia.training.recipes.base.video_data import make_loaders, report_progress

SURVEYED_IMAGES = 100  # images of each split whose labels are checked before training
_PNG_END = 64  # bytes: the checksum of all pixels (zlib) is 20 to 32 bytes before the end

ObjectBatch = Batch[ObjectInputs, ObjectTargets]


@dataclass(frozen=True)
class ObjectData:
    """The data of a training: batches, the images by split, and the configuration with every "auto" resolved."""

    config: ObjectDataConfig
    images: dict[str, ObjectImages]
    train: Loader[PackedObjects, ObjectBatch]
    val: Loader[PackedObjects, ObjectBatch] | None

    @property
    def facts(self) -> dict[str, object]:
        """Return the facts that identify the data, for run.json."""
        return {
            "path": self.config.path,
            "classes": list(self.images["train"].classes),
            "images": {split: len(images) for split, images in self.images.items()},
            "fingerprints": {split: fingerprint_images(images) for split, images in self.images.items()},
            **training_image_facts(self.images["train"]),
        }

    def findings(self) -> list[Finding]:
        """Return findings about unreadable images, missing classes, invisible objects, and boxes off their masks."""
        surveys = {
            split: survey_objects(images, SURVEYED_IMAGES, _show_progress(split))
            for split, images in self.images.items()
        }
        return check_object_labels(surveys)


def _show_progress(split: str) -> Callable[[Sequence[int]], Iterable[int]]:
    console, what = Terminal(stderr=True), f"checking images and labels of '{split}'"

    def shown(indices: Sequence[int]) -> Iterable[int]:
        if not console.is_terminal:
            console.print(f"{what}: {len(indices)}", markup=False, highlight=False, soft_wrap=True)
        return track(indices, escape(what), console=console, transient=True, disable=not console.is_terminal)

    return shown


def fingerprint_images(images: ObjectImages) -> str:
    """Return a hash of a set of images: names and sizes of the images, and the label files (for a PNG, its end)."""
    digest, hashed = hashlib.blake2b(digest_size=16), set[Path]()
    for index in range(len(images)):
        path = images.file(index)
        size = path.stat().st_size if path.is_file() else "missing"
        digest.update(encode_name(f"{path.parent.name}/{path.name}:{size}\n"))
        # the checks report missing files
        new = [one for one in images.label_files(index) if one not in hashed and one.is_file()]
        hashed.update(new)
        for one in new:
            digest.update(encode_name(f"{one.parent.name}/{one.name}:{one.stat().st_size}\n") + _hash_label_file(one))
    return digest.hexdigest()


def _hash_label_file(path: Path) -> bytes:
    with open_input(path, expected="labels of objects", max_bytes=MAX_ARRAY_BYTES) as stream:
        if path.suffix == ".png":
            stream.seek(max(0, path.stat().st_size - _PNG_END))
        return hashlib.blake2b(stream.read(), digest_size=16).digest()


def open_objects(config: ObjectDataConfig, training: TrainingConfig, *, seed: int, console: Console) -> ObjectData:
    """Open the data of a configuration. By default, TableWorld is rendered. Raises DataError or ConfigError."""
    if config.path is None:
        path = render_tables(config.tableworld, config.cache, console)
        config = config.model_copy(update={"path": str(path), "format": "objects"})
    assert config.path is not None
    path = expand_home(config.path)
    if config.format == "auto":
        config = config.model_copy(update={"format": detect_object_format(path)})
    if config.format in BOX_FORMATS:
        raise make_no_masks_error(path)
    train = _cache_labels(open_object_images(path, config.train_split, config.format), config.format)
    if config.val_split is None:
        train, val = split_train_val(train, config.val_share)
    else:
        val = _cache_labels(open_object_images(path, config.val_split, config.format), config.format)
    if config.classes is not None and config.classes != train.classes:
        expected = ", ".join(train.classes)
        raise ConfigError(
            "data.classes", found=", ".join(config.classes), expected=expected, fix="leave it to the dataset"
        )
    pixel_ratio = config.pixel_ratio or median_pixel_ratio(train, config.height, config.width)
    config = config.model_copy(update={"classes": train.classes, "pixel_ratio": pixel_ratio})
    samples = partial(ObjectSamples, height=config.height, width=config.width)
    training_samples, held = samples([train], color=config.color, seed=seed), samples([val])
    return ObjectData(config, {"train": train, "val": val}, *make_loaders(training_samples, held, training, seed=seed))


def median_pixel_ratio(images: ObjectImages, height: int, width: int, most: int = 16) -> float:
    """Return the median of fx / fy over some of the images, after they are resized to height x width."""
    chosen = spread_indices(len(images), most)
    K = np.stack([resize_camera(images.camera(index), height, width).K for index in chosen])
    return float(np.quantile(K[:, 0, 0] / K[:, 1, 1], 0.5, method="lower"))


def _cache_labels(images: ObjectImages, format: str) -> ObjectImages:
    return images if format == "objects" else CachedLabels(images)


def render_tables(name: str, cache: CacheConfig, console: Console) -> Path:
    """Render TableWorld with this preset into the cache, if it is missing, and return its folder.

    Other processes wait until it is rendered.
    """
    config = find_preset(TABLEWORLD_PRESETS, name)
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]  # other settings are other tables
    folder = find_cache_folder(cache.folder) / f"tableworld-{name}-{TABLEWORLD_VERSION}-{settings}"
    if (folder / "dataset.json").exists():  # written last
        return folder
    total = sum(config.counts.values()) * config.views
    with lock_beside(folder), report_progress(console, log=True) as progress:
        if not (folder / "dataset.json").exists():  # another process may have written it meanwhile
            done = 0

            def advance(images: int) -> None:
                nonlocal done
                done += images
                progress(f"rendering TableWorld, {total} images", done, total)

            write_tableworld(config, folder, advance=advance)
    return folder


@dataclass(frozen=True)
class ObjectInput(PredictionInput):
    """Frames to predict, and the dataset of objects that contains them, or None."""

    images: ObjectImages | None = None
    every: int = 1


def open_object_inputs(path: Path, *, every: int = 1, format: str = "auto", **options: Any) -> list[ObjectInput]:
    """Open one split of a dataset of objects (test, val, or the only one), or what `open_inputs` opens.

    Labels are not read. Raises ConfigError for a wrong option, and DataError without images or split.
    """
    path = expand_home(path)
    layout = detect_object_layout(path) if format == "auto" else format if format in OBJECT_FORMATS else None
    if layout is None:
        return [ObjectInput(**vars(given)) for given in open_inputs(path, every=every, format=format, **options)]
    chosen = resolve_config(SourceOptions, options)
    refuse_idle_options(
        chosen, SourceOptions.model_fields.keys() - {"split"}, "a dataset of objects, which contains its cameras,"
    )
    images = open_object_images(path, _choose_split(path, layout, chosen.split), layout)
    indices = range(0, len(images), every)
    frames = _frames(images, indices)
    return [ObjectInput(images.name, frames, len(indices), DEFAULT_RATE_HZ, images=images, every=every)]


def _choose_split(path: Path, layout: str, requested: str | None) -> str:
    splits = list_object_splits(path, layout)
    if requested is not None and requested not in splits:
        found, expected = f"splits {', '.join(splits)}", f"a split '{requested}'"
        raise DataError(path, found=found, expected=expected, fix="change data.split")
    if requested is not None or len(splits) == 1:
        return requested or splits[0]
    for name in ("test", "val"):
        if name in splits:
            return name
    found = f"splits {', '.join(splits)}" if splits else "no split with images"
    raise ConfigError(str(path), found=found, expected="one of them to predict", fix="choose a split: data.split=NAME")


def _frames(images: ObjectImages, indices: range) -> Iterator[Frame]:
    for index in indices:
        name = image_name(Meta(images.name, index, file=images.file(index))).replace("/", "-")
        yield Frame(name, images.image(index), images.camera(index).K)


@dataclass(frozen=True)
class ScoredImages:
    """Images to score.

    trained_on: number of images that trained the network; None if unknown.
    of_trained_scenes: number of images of scenes that trained the network; None if unknown.
    """

    split: str
    images: ObjectImages
    trained_on: int | None
    of_trained_scenes: int | None
    notes: tuple[str, ...]


def training_image_facts(images: ObjectImages) -> dict[str, Any]:
    """Return facts about training images for run.json: hashes of their contents, and their scenes."""
    scenes = _scenes(images)
    return {
        "train_images": {name: join_hashes([*hash_files(files).values()]) for name, files in scenes.items()},
        "train_sessions": sorted(scenes),
    }


def select_scored_images(
    classes: Sequence[str], data: ObjectDataConfig, scored: Path, options: EvaluateOptions, run: Path
) -> ScoredImages:
    """Return the requested split, or otherwise the test or val split.

    With the option `held_out`, images that trained the network are left out. Raises StadiaError if nothing is left.
    """
    split, images = _open_split(data, scored, options)
    if images.classes != tuple(classes):
        found, expected = (", ".join(some[1:]) for some in (images.classes, classes))
        expected = f"{expected}, as in the training"
        raise ConfigError(f"classes of {images.name}", found=found, expected=expected, fix="score other data")
    images = ObjectSubset(images, range(0, len(images), options.every)) if options.every > 1 else images
    scenes = _scenes(images)
    trained = TrainingOverlap.find_files(run, scenes)
    indices: dict[str, list[int]] = {name: [*files] for name, files in scenes.items()}
    if options.held_out:
        indices = trained.left_out(indices, run)
        kept = sorted(index for some in indices.values() for index in some)
        images = ObjectSubset(images, kept) if len(kept) < len(images) else images
    return ScoredImages(
        split, images, trained.count(indices), trained.count_same_session(indices), tuple(trained.notes(indices))
    )


def _open_split(data: ObjectDataConfig, scored: Path, options: EvaluateOptions) -> tuple[str, ObjectImages]:
    format, validated = options.data.get("format", "auto"), data.val_split or data.train_split
    split = options.data.get("split") or validated
    if not options.data.get("split") and not options.held_out and has_split(scored, "test", format):
        split = "test"
    return split, open_object_images(scored, split, format)


def _scenes(images: ObjectImages) -> dict[str, dict[int, Path]]:
    scenes: dict[str, dict[int, Path]] = {}
    for index in range(len(images)):
        scenes.setdefault(images.scene(index), {})[index] = images.file(index)
    return scenes
