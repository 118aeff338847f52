"""Which images of objects are scored, and what of them the network was trained on: the images themselves, or others of
the scene.
"""

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
    """split: of the data set, as it names it.  notes: what a reader of a score on these images should know.

    trained_on: how many of them trained the network; of_trained_scenes: how many did not and are of a scene that did.
        None: nobody knows.
    """

    split: str
    images: ObjectImages
    trained_on: int | None
    of_trained_scenes: int | None
    notes: tuple[str, ...]


def facts_of_training(images: ObjectImages) -> dict[str, Any]:
    """What run.json remembers of the images that train, for `scored_images`: what their files hold, and of which scenes
    they are.
    """
    scenes = _scenes(images)
    return {
        "train_images": {name: joined([*contents_of(files).values()]) for name, files in scenes.items()},
        "train_sessions": sorted(scenes),
    }


def scored_images(classes: Sequence[str], data: ObjectDataConfig, asked: EvaluationAsked, run: Path) -> ScoredImages:
    """The split that was asked for; without those that trained where that is asked for.

    Where none is asked for: the test split, else what validated. Of those held out: what validated, or what else there
        is of the split
    that trained. Raises DataError where nothing is left or nobody knows what trained, ConfigError where the classes are
    others.
    """
    split, images = _split(data, asked)
    if images.classes != tuple(classes):
        found, expected = (", ".join(some[1:]) for some in (images.classes, classes))
        raise ConfigError(
            f"classes of {images.name}", found=found, expected=f"{expected}, as it was trained", fix="score other data"
        )
    images = PartOfImages(images, range(0, len(images), asked.every)) if asked.every > 1 else images
    scenes = _scenes(images)
    trained = Trained.on_files(run, scenes)
    indices: dict[str, list[int]] = {name: [*files] for name, files in scenes.items()}
    if asked.held_out:
        indices = trained.left_out(indices, run)
        kept = sorted(index for some in indices.values() for index in some)
        images = PartOfImages(images, kept) if len(kept) < len(images) else images
    return ScoredImages(
        split, images, trained.count(indices), trained.count_of_sessions(indices), tuple(trained.notes(indices))
    )


def _split(data: ObjectDataConfig, asked: EvaluationAsked) -> tuple[str, ObjectImages]:
    format, validated = asked.options.get("format", "auto"), data.val_split or data.train_split
    split = asked.options.get("split") or validated
    if not asked.options.get("split") and not asked.held_out and has_split(asked.data, "test", format):
        split = "test"
    return split, open_object_images(asked.data, split, format)


def _scenes(images: ObjectImages) -> dict[str, dict[int, Path]]:
    """The files of each scene, by index."""
    scenes: dict[str, dict[int, Path]] = {}
    for index in range(len(images)):
        scenes.setdefault(images.scene(index), {})[index] = images.file(index)
    return scenes
