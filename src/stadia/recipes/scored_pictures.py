"""Which pictures of objects are scored, and what of them the network was trained on: the pictures themselves, or others of the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stadia.core.errors import ConfigError
from stadia.data.contents import contents_of, joined
from stadia.data.object_labels import ObjectPictures
from stadia.data.object_sources import PartOfPictures, has_split, open_object_pictures
from stadia.recipes.asked import EvaluationAsked
from stadia.recipes.objectpose_config import ObjectDataConfig
from stadia.recipes.scored_frames import Trained


@dataclass(frozen=True)
class ScoredPictures:
    """split: of the data set, as it names it.  notes: what a reader of a score on these pictures should know.

    trained_on: how many of them trained the network; of_trained_scenes: how many did not and are of a scene that did. None: nobody knows.
    """

    split: str
    pictures: ObjectPictures
    trained_on: int | None
    of_trained_scenes: int | None
    notes: tuple[str, ...]


def facts_of_training(pictures: ObjectPictures) -> dict[str, Any]:
    """What run.json remembers of the pictures that train, for `scored_pictures`: what their files hold, and of which scenes they are."""
    scenes = _scenes(pictures)
    return {
        "train_pictures": {name: joined([*contents_of(files).values()]) for name, files in scenes.items()},
        "train_sessions": sorted(scenes),
    }


def scored_pictures(classes: Sequence[str], data: ObjectDataConfig, asked: EvaluationAsked, run: Path) -> ScoredPictures:
    """The split that was asked for; without those that trained where that is asked for.

    Where none is asked for: the test split, else what validated. Of those held out: what validated, or what else there is of the split
    that trained. Raises DataError where nothing is left or nobody knows what trained, ConfigError where the classes are others.
    """
    split, pictures = _split(data, asked)
    if pictures.classes != tuple(classes):
        found, expected = (", ".join(some[1:]) for some in (pictures.classes, classes))
        raise ConfigError(f"classes of {pictures.name}", found=found, expected=f"{expected}, as it was trained", cure="score other data")
    pictures = PartOfPictures(pictures, range(0, len(pictures), asked.every)) if asked.every > 1 else pictures
    scenes = _scenes(pictures)
    trained = Trained.on_files(run, scenes)
    indices: dict[str, list[int]] = {name: [*files] for name, files in scenes.items()}
    if asked.held_out:
        indices = trained.left_out(indices, run)
        kept = sorted(index for some in indices.values() for index in some)
        pictures = PartOfPictures(pictures, kept) if len(kept) < len(pictures) else pictures
    return ScoredPictures(split, pictures, trained.count(indices), trained.count_of_sessions(indices), tuple(trained.notes(indices)))


def _split(data: ObjectDataConfig, asked: EvaluationAsked) -> tuple[str, ObjectPictures]:
    format, validated = asked.options.get("format", "auto"), data.val_split or data.train_split
    split = asked.options.get("split") or validated
    if not asked.options.get("split") and not asked.held_out and has_split(asked.data, "test", format):
        split = "test"
    return split, open_object_pictures(asked.data, split, format)


def _scenes(pictures: ObjectPictures) -> dict[str, dict[int, Path]]:
    """The files of each scene, by index."""
    scenes: dict[str, dict[int, Path]] = {}
    for index in range(len(pictures)):
        scenes.setdefault(pictures.scene(index), {})[index] = pictures.file(index)
    return scenes
