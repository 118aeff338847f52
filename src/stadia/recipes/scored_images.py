"""Select the images of objects to score, and find those that trained the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stadia.core.errors import ConfigError
from stadia.data.contents import contents_of, joined
from stadia.data.object_labels import ObjectImages, PartOfImages
from stadia.data.object_sources import has_split, open_object_images
from stadia.recipes.asked import EvaluationAsked
from stadia.recipes.objectpose_config import ObjectDataConfig
from stadia.recipes.scored_frames import Trained


@dataclass(frozen=True)
class ScoredImages:
    """Images to score.

    split: name in the data set.
    notes: for a reader of the score.
    trained_on: number of images that trained the network.
    of_trained_scenes: number of other images of a scene that trained it. None: unknown.
    """

    split: str
    images: ObjectImages
    trained_on: int | None
    of_trained_scenes: int | None
    notes: tuple[str, ...]


def facts_of_training(images: ObjectImages) -> dict[str, Any]:
    """Return the facts of training images for run.json: content hashes, and scenes."""
    scenes = _scenes(images)
    return {
        "train_images": {name: joined([*contents_of(files).values()]) for name, files in scenes.items()},
        "train_sessions": sorted(scenes),
    }


def scored_images(classes: Sequence[str], data: ObjectDataConfig, request: EvaluationAsked, run: Path) -> ScoredImages:
    """Return the requested split, with `held_out` without the images that trained.

    Default: the test split, else the validation split. Default with `held_out`: the validation images, or the rest of
        the training split. Raises DataError if nothing is left or the training is unknown, ConfigError for other
        classes.
    """
    split, images = _open_split(data, request)
    if images.classes != tuple(classes):
        found, expected = (", ".join(some[1:]) for some in (images.classes, classes))
        raise ConfigError(
            f"classes of {images.name}",
            found=found,
            expected=f"{expected}, those of the training",
            fix="score other data",
        )
    images = PartOfImages(images, range(0, len(images), request.every)) if request.every > 1 else images
    scenes = _scenes(images)
    trained = Trained.on_files(run, scenes)
    indices: dict[str, list[int]] = {name: [*files] for name, files in scenes.items()}
    if request.held_out:
        indices = trained.left_out(indices, run)
        kept = sorted(index for some in indices.values() for index in some)
        images = PartOfImages(images, kept) if len(kept) < len(images) else images
    return ScoredImages(
        split, images, trained.count(indices), trained.count_of_sessions(indices), tuple(trained.notes(indices))
    )


def _open_split(data: ObjectDataConfig, request: EvaluationAsked) -> tuple[str, ObjectImages]:
    format, validated = request.options.get("format", "auto"), data.val_split or data.train_split
    split = request.options.get("split") or validated
    if not request.options.get("split") and not request.held_out and has_split(request.data, "test", format):
        split = "test"
    return split, open_object_images(request.data, split, format)


def _scenes(images: ObjectImages) -> dict[str, dict[int, Path]]:
    """Return the files of each scene, by index."""
    scenes: dict[str, dict[int, Path]] = {}
    for index in range(len(images)):
        scenes.setdefault(images.scene(index), {})[index] = images.file(index)
    return scenes
