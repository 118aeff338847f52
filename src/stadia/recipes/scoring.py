"""Score recordings after a training: predict to disk, score from disk, into the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from stadia.core.files import inside
from stadia.core.recording import Recording
from stadia.core.types import Claim, Predictor
from stadia.evaluation.cloud_sample import write_cloud_sample
from stadia.evaluation.colors import to_uint8
from stadia.evaluation.frames import Shown, frame_name, frames_of
from stadia.evaluation.predictions import Predictions, Provenance
from stadia.evaluation.protocols import PROTOCOLS
from stadia.evaluation.recordings import Evaluation, can_be_scored, evaluate_recordings
from stadia.recipes.scored_frames import Trained
from stadia.recipes.video import VideoData, indices_of, unique_recordings
from stadia.training.run import Run

T = TypeVar("T")
MOST_FRAMES = 1000
"""Maximum number of scored frames of a split."""
PROTOCOL_BY_CLAIM = {Claim.METRES: "metric", Claim.UP_TO_SCALE: "relative", Claim.AFFINE_INVERSE: "relative"}


def score_validation(predictor: Predictor, data: VideoData, run: Run, console: Console, *, name: str = "val") -> None:
    """Score the validation frames with the run's best checkpoint; nothing without validation frames."""
    recordings = unique_recordings(data.split.val)
    scored = score_recordings(
        predictor, recordings, run, name, Provenance.of(run.folder), console, indices=indices_of(data.split.val)
    )
    for note in scored.notes if scored else ():
        console.print(
            f"note: {name.replace('val', 'validation', 1)}: {note}", markup=False, highlight=False, soft_wrap=True
        )


def score_recordings(
    predictor: Predictor,
    recordings: Sequence[Recording],
    run: Run,
    name: str,
    provenance: Provenance,
    console: Console,
    *,
    indices: Mapping[str, Sequence[int]] | None = None,
) -> Evaluation | None:
    """Score recordings by the protocol that fits the predictor's claim.

    Writes predictions/NAME/, scores/NAME.json and scores/NAME-RECORDING.json into the run's folder; of a checkpoint
    also clouds/NAME/, the middle frame of the first recording as points. Notes list frames or drives that trained the
    network, and a crop.

    Args:
        predictor: trained, or a baseline.
        recordings: those without ground-truth depth and poses are skipped.
        run: run whose folder is written.
        name: of the split ("val", "test").
        provenance: of the predictions.
        console: shows progress.
        indices: frames to score, ascending, by recording name; default: all. At most MOST_FRAMES, see `thinned`.

    Returns None if no recording can be scored.
    """
    chosen = thinned(indices or {recording.name: range(len(recording)) for recording in recordings}, MOST_FRAMES)
    known = [recording for recording in recordings if can_be_scored(recording, chosen[recording.name])]
    if not known:
        return None
    folder = run.folder / "predictions" / name
    if folder.exists():
        shutil.rmtree(folder)  # of this run before it was resumed, or half-written when it was killed

    def watch(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return track(items, what, total=count, console=console, transient=True, disable=not console.is_terminal)

    protocol = PROTOCOLS[PROTOCOL_BY_CLAIM[predictor.claim]]
    evaluation = evaluate_recordings(predictor, known, protocol, folder, provenance, indices=chosen, watch=watch)
    notes = (*_crop_notes(predictor.crop), *Trained.on(run.folder, known, chosen).notes(chosen))
    evaluation = replace(evaluation, notes=(*notes, *evaluation.notes))
    evaluation.write(run.folder / "scores", name, {"checkpoint": provenance.checkpoint})
    if provenance.checkpoint and predictor.claim is not Claim.AFFINE_INVERSE:
        frames = chosen[known[0].name]
        _write_cloud(predictor, known[0], frames[len(frames) // 2], folder, run.folder / "clouds" / name)
    return evaluation


def _write_cloud(predictor: Predictor, recording: Recording, index: int, predicted: Path, folder: Path) -> None:
    """Write one predicted frame as points with the colors of the network input."""
    name = frame_name(recording, index)
    shown = Shown.to(predictor, next(frames_of(recording, [index])))
    depth = Predictions.open(inside(predicted, recording.name)).read(name)
    write_cloud_sample(folder, f"{recording.name}/{name}", predictor.claim, to_uint8(shown.image), depth, shown.K)


def _crop_notes(crop: str) -> list[str]:
    """Return a note if only a crop of each image is scored."""
    if crop == "none":
        return []
    return [
        f"only the crop '{crop}' of each image is scored, since the data were cut to it: `stadia evaluate` scores"
        " what lies outside"
    ]


def thinned(indices: Mapping[str, Sequence[int]], most: int) -> dict[str, list[int]]:
    """Return at most `most` frames spread over all: the first frames of each block, since motion is scored too.

    A block is a range of consecutive frames; each keeps its share. Of single frames every n-th stays.

    indices: ascending, by recording name.
    """
    total, seen = max(sum(map(len, indices.values())), 1), 0
    kept: dict[str, list[int]] = {}
    for name, frames in indices.items():
        kept[name] = []
        for block in np.split(np.asarray(frames, dtype=np.intp), np.flatnonzero(np.diff(frames) != 1) + 1):
            after = seen + len(block)
            kept[name] += block[: after * most // total - seen * most // total].tolist()
            seen = after
    return kept
