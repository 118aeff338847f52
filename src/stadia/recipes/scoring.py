"""After a training: predict recordings to disk, score them from disk, and keep both in the run's folder."""

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
"""Scored of a split."""
PROTOCOL_BY_CLAIM = {Claim.METRES: "metric", Claim.UP_TO_SCALE: "relative", Claim.AFFINE_INVERSE: "relative"}


def score_validation(predictor: Predictor, data: VideoData, run: Run, console: Console, *, name: str = "val") -> None:
    """Score what validated, frames held out and no other, with the run's best checkpoint; nothing where nothing did."""
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

    Writes predictions/NAME/ and scores/NAME.json, scores/NAME-RECORDING.json into the run's folder, and clouds/NAME/ of
    a checkpoint: the middle frame of the first recording as points. Notes of the scores say what of the frames, or of
        their drives, the run was trained on,
    and that a crop alone was scored.

    Args:
        predictor: trained, or a baseline.
        recordings: those without ground truth depth and poses are left out.
        run: whose folder is written to.
        name: of the split ("val", "test").
        provenance: what makes the predictions.
        console: for the progress.
        indices: of the frames to score, rising, by the recording's name; by default all. Of more than MOST_FRAMES
            `thinned` ones.

    Returns None where no recording has anything to score by.
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
    notes = (*_note_of_crop(predictor.crop), *Trained.on(run.folder, known, chosen).notes(chosen))
    evaluation = replace(evaluation, notes=(*notes, *evaluation.notes))
    evaluation.write(run.folder / "scores", name, {"checkpoint": provenance.checkpoint})
    if provenance.checkpoint and predictor.claim is not Claim.AFFINE_INVERSE:
        frames = chosen[known[0].name]
        _keep_cloud(predictor, known[0], frames[len(frames) // 2], folder, run.folder / "clouds" / name)
    return evaluation


def _keep_cloud(predictor: Predictor, recording: Recording, index: int, predicted: Path, folder: Path) -> None:
    """A frame of what was predicted, as points with the colors that the network saw."""
    name = frame_name(recording, index)
    shown = Shown.to(predictor, next(frames_of(recording, [index])))
    depth = Predictions.open(inside(predicted, recording.name)).read(name)
    write_cloud_sample(folder, f"{recording.name}/{name}", predictor.claim, to_uint8(shown.image), depth, shown.K)


def _note_of_crop(crop: str) -> list[str]:
    """That the data were cut: a score of theirs knows nothing of the rest of the images."""
    if crop == "none":
        return []
    return [
        f"only the crop '{crop}' of each image is scored, since the data were cut to it: `stadia evaluate` says what"
        " lies outside"
    ]


def thinned(indices: Mapping[str, Sequence[int]], most: int) -> dict[str, list[int]]:
    """At most so many of these frames, from all over them: of each block of consecutive ones the first, since motion is
    scored too.

    indices: rising, by the recording's name. Each block keeps its share, so that of single frames every n-th stays.
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
