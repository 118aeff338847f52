"""After a training: predict recordings to disk, score them from disk, and keep both in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from stadia.core.recording import Recording
from stadia.core.types import Claim, Predictor
from stadia.data.sources import Excerpt
from stadia.evaluation.predictions import Provenance
from stadia.evaluation.protocols import PROTOCOLS
from stadia.evaluation.recordings import Evaluation, evaluate_recordings
from stadia.recipes.video import VideoData, excerpts, has_depth, has_poses
from stadia.training.run import Run

T = TypeVar("T")
MOST_FRAMES = 1000  # of a split; of a longer one the first frames of each recording, consecutive, since motion is scored too
PROTOCOL_BY_CLAIM = {Claim.METRES: "metric", Claim.UP_TO_SCALE: "relative", Claim.AFFINE_INVERSE: "relative"}


def score_validation(predictor: Predictor, data: VideoData, run: Run, console: Console) -> None:
    """Score what validated, frames held out and no other, with the run's best checkpoint; nothing where nothing did."""
    if data.split.val:
        score_recordings(predictor, excerpts(data.split.val), run, "val", Provenance.of(run.folder), console)


def score_recordings(
    predictor: Predictor, recordings: Sequence[Recording], run: Run, name: str, provenance: Provenance, console: Console
) -> Evaluation | None:
    """Score recordings by the protocol that fits the predictor's claim.

    Writes predictions/NAME/ and scores/NAME.json, scores/NAME-RECORDING.json into the run's folder.

    Args:
        predictor: trained, or a baseline.
        recordings: those without ground truth depth and poses are left out.
        run: whose folder is written to.
        name: of the split ("val", "test").
        provenance: what makes the predictions.
        console: for the progress.

    Returns None where no recording has anything to score by.
    """
    known = [r for r in recordings if has_depth(r) or has_poses(r)]
    if not known:
        return None
    if sum(map(len, known)) > MOST_FRAMES:
        known = [Excerpt(r, 0, min(len(r), max(MOST_FRAMES // len(known), 3))) for r in known]
    folder = run.folder / "predictions" / name
    if folder.exists():
        shutil.rmtree(folder)  # of this run before it was resumed, or half-written when it was killed

    def watch(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return track(items, what, total=count, console=console, transient=True)

    evaluation = evaluate_recordings(
        predictor,
        known,
        PROTOCOLS[PROTOCOL_BY_CLAIM[predictor.claim]],
        folder,
        provenance,
        watch=watch,
    )
    evaluation.write(run.folder / "scores", name, {"checkpoint": provenance.checkpoint})
    return evaluation
