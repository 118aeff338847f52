"""`stadia evaluate --objects`: score boxes of objects of any program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.cli.evaluate.score_output import write_score_file

if TYPE_CHECKING:
    pass

OBJECTS = "--objects RESULTS --reference DATA"


def score_object_files(
    objects: Path, truth: Path, split: str | None, held_out_of: Path | None, *, scores: Path | None
) -> dict[str, Any]:
    """Score boxes on a split of the ground truth, write the requested file, and return what is printed."""
    from stadia.objectpose.task import score_results

    summary: dict[str, Any] = score_results(objects, truth, split, held_out_of)
    if scores is not None:
        write_score_file(scores, summary)
    return summary
