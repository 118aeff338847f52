"""`stadia evaluate --objects`: what any program found, scored on a split, or on those pictures of it that a run held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stadia.core.errors import ConfigError
from stadia.data.object_labels import EstimatedBox, ObjectPictures
from stadia.data.object_sources import bop_of, open_object_pictures
from stadia.recipes.asked import EvaluationAsked
from stadia.recipes.labelled_objects import found_by_others, score_found
from stadia.recipes.scored_pictures import ScoredPictures, scored_pictures
from stadia.recipes.workflow import load_task
from stadia.training.checkpoints import Checkpoint


def score_results(results: Path, reference: Path, split: str | None, held_out_of: Path | None = None) -> dict[str, Any]:
    """The scores of results on a split, "test" where none is named; or on the pictures that a run held out.

    These are what `stadia evaluate RUN REFERENCE --held-out` takes; a row of another picture of their split is left out, and counted in
    a note. Raises DataError, ConfigError, CheckpointError.
    """
    if held_out_of is None:
        split = split or "test"
        pictures = open_object_pictures(reference, split)
        return {"split": split, **score_found(pictures, found_by_others(pictures, results))}
    chosen = _held_out(reference, split, held_out_of)
    whole = open_object_pictures(reference, chosen.split)
    found = found_by_others(whole, results)
    files = [chosen.pictures.file(index) for index in range(len(chosen.pictures))]
    of_file = {whole.file(index): boxes for index, boxes in enumerate(found)}
    kept = [of_file[file] for file in files]
    notes = [*chosen.notes, f"{len(files)} of the {len(whole)} pictures of '{chosen.split}', those that {held_out_of} held out"]
    if left := sum(map(len, found)) - sum(map(len, kept)):
        notes.append(f"{left} estimates of the other pictures are left out")
    return {"split": chosen.split, "notes": notes, **score_chosen(chosen.pictures, kept)}


def score_chosen(pictures: ObjectPictures, found: list[list[EstimatedBox]]) -> dict[str, Any]:
    """`score_found`, whatever chose the pictures out of their data set."""
    return score_found(bop_of(pictures) or pictures, found)


def _held_out(reference: Path, split: str | None, run: Path) -> ScoredPictures:
    task = load_task(run)
    if task.recipe != "objectpose":
        raise ConfigError("--held-out-of", found=f"a run of '{task.recipe}'", expected="one of objectpose", cure="name another run")
    options = {} if split is None else {"split": split}
    folder = Checkpoint.open(run).path.parent.parent
    asked = EvaluationAsked(run, reference, options, held_out=True)
    return scored_pictures(task.config.data.classes, task.config.data, asked, folder)
