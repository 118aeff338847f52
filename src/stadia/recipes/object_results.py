"""`stadia evaluate --objects`: score the estimates of any program on a split, or on the held-out images of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stadia.core.errors import ConfigError
from stadia.data.object_labels import EstimatedBox, ObjectImages
from stadia.data.object_sources import bop_of, open_object_images
from stadia.recipes.asked import EvaluationAsked
from stadia.recipes.labeled_objects import found_by_others, score_found
from stadia.recipes.scored_images import ScoredImages, scored_images
from stadia.recipes.workflow import load_task
from stadia.training.checkpoints import Checkpoint


def score_results(results: Path, reference: Path, split: str | None, held_out_of: Path | None = None) -> dict[str, Any]:
    """Return the scores of results on a split (default "test"), or on the images that a run held out.

    The held-out images are those of `stadia evaluate RUN REFERENCE --held-out`; rows of other images are skipped with a
    note. Raises DataError, ConfigError, CheckpointError.
    """
    if held_out_of is None:
        split = split or "test"
        images = open_object_images(reference, split)
        return {"split": split, **score_found(images, found_by_others(images, results))}
    chosen = _held_out(reference, split, held_out_of)
    whole = open_object_images(reference, chosen.split)
    found = found_by_others(whole, results)
    files = [chosen.images.file(index) for index in range(len(chosen.images))]
    of_file = {whole.file(index): boxes for index, boxes in enumerate(found)}
    kept = [of_file[file] for file in files]
    notes = [
        *chosen.notes,
        f"{len(files)} of the {len(whole)} images of '{chosen.split}', those that {held_out_of} held out",
    ]
    if left := sum(map(len, found)) - sum(map(len, kept)):
        notes.append(f"{left} estimates of the other images are left out")
    return {"split": chosen.split, "notes": notes, **score_chosen(chosen.images, kept)}


def score_chosen(images: ObjectImages, found: list[list[EstimatedBox]]) -> dict[str, Any]:
    """Score estimates for selected images of a data set."""
    return score_found(bop_of(images) or images, found)


def _held_out(reference: Path, split: str | None, run: Path) -> ScoredImages:
    task = load_task(run)
    if task.recipe != "objectpose":
        raise ConfigError(
            "--held-out-of", found=f"a run of '{task.recipe}'", expected="one of objectpose", fix="name another run"
        )
    options = {} if split is None else {"split": split}
    folder = Checkpoint.open(run).path.parent.parent
    request = EvaluationAsked(run, reference, options, held_out=True)
    return scored_images(task.config.data.classes, task.config.data, request, folder)
