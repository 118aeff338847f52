"""Recordings with ground truth: predicted to files, and scored from there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from rich.console import Console

from stadia.core.recording import Recording
from stadia.core.types import DepthScale, Predictor, TrackProgress
from stadia.evaluation.frame_preparation import PreparedFrame, frame_name, read_frames
from stadia.evaluation.plots.colormaps import to_uint8
from stadia.evaluation.point_clouds import write_cloud_sample
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.evaluation.protocols import PROTOCOLS, Protocol
from stadia.evaluation.recording_scores import RecordingScores, evaluate_recordings, has_ground_truth
from stadia.geometry.sky import find_far_sky
from stadia.io.paths import safe_join
from stadia.predict.describe import describe_receipt
from stadia.predict.inputs import make_recording_input
from stadia.predict.scale.receipt import ScaledPredictor, ScaleReceipt, measure_scale
from stadia.predict.tasks import LabeledSet, ScoreOutput, score_split
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.training_overlap import TrainingOverlap

MAX_SCORED_FRAMES = 1000


@dataclass(frozen=True, kw_only=True)
class LabeledRecordings(LabeledSet):
    """Recordings to score.

    indices: frames, ascending, by recording name.
    reuse: score finished predictions in the folder again.
    trained_on: frames that trained, by recording, for the baseline of mean depth.
    scale_from: sources of metres, measured on each recording.
    """

    predictor: Predictor
    recordings: Sequence[Recording]
    indices: Mapping[str, Sequence[int]]
    protocol: Protocol
    reuse: bool = False
    trained_on: Sequence[tuple[Recording, Sequence[int]]] = ()
    scale_from: tuple[str, ...] = ()


def score_labeled_recordings(labeled: LabeledRecordings, out: ScoreOutput, track: TrackProgress) -> RecordingScores:
    """Predict recordings to disk and score them from there."""
    receipts: dict[str, ScaleReceipt] = {}

    def prepare(recording: Recording, indices: Sequence[int]) -> tuple[Predictor, Provenance]:
        given = partial(make_recording_input, recording, indices)
        receipts[recording.name] = receipt = measure_scale(labeled.predictor, given, labeled.scale_from)
        scaled = ScaledPredictor(labeled.predictor, receipt)
        return scaled, out.provenance.model_copy(update={"scale_from": receipt.to_json()})

    scores = evaluate_recordings(
        labeled.predictor,
        labeled.recordings,
        labeled.protocol,
        out.predictions,
        out.provenance,
        indices=labeled.indices,
        reuse=labeled.reuse,
        prepare=prepare if labeled.scale_from else None,
        track=track,
    )
    notes = list(labeled.notes)
    notes += [f"{name}: {line}" for name, receipt in receipts.items() for line in describe_receipt(receipt)]
    return replace(scores, notes=(*notes, *scores.notes))


def score_recordings(
    predictor: Predictor,
    recordings: Sequence[Recording],
    run: Run,
    name: str,
    provenance: Provenance,
    console: Console,
    *,
    indices: Mapping[str, Sequence[int]] | None = None,
) -> RecordingScores | None:
    """Score recordings by the protocol that fits the predictor's scale; None without ground truth.

    Writes predictions/NAME/, scores/NAME.json and scores/NAME-RECORDING.json into the run's folder; for a checkpoint
    also clouds/NAME/, the middle frame of the first recording.

    predictor: trained, or a baseline.
    name: of the split ("val", "test").
    indices: frames to score, ascending, by recording name; default: all, at most MAX_SCORED_FRAMES.
    """
    labeled = label_split(predictor, recordings, run, name, indices)
    if labeled is None:
        return None
    scores = score_split(score_labeled_recordings, labeled, run, provenance, console)
    if provenance.checkpoint:
        write_middle_cloud(labeled, run)
    return scores


def label_split(
    predictor: Predictor,
    recordings: Sequence[Recording],
    run: Run,
    name: str,
    indices: Mapping[str, Sequence[int]] | None,
) -> LabeledRecordings | None:
    """Return the recordings with ground truth, or None."""
    every = {recording.name: range(len(recording)) for recording in recordings}
    chosen = thin_frames(indices or every, MAX_SCORED_FRAMES)
    known = [recording for recording in recordings if has_ground_truth(recording, chosen[recording.name])]
    if not known:
        return None
    cut = f"only the crop '{predictor.crop}' of each image is scored; `stadia evaluate` scores whole images"
    cropped = () if predictor.crop == "none" else (cut,)
    return LabeledRecordings(
        name=name,
        notes=(*cropped, *TrainingOverlap.find(run.folder, known, chosen).notes(chosen)),
        predictor=predictor,
        recordings=known,
        indices=chosen,
        protocol=PROTOCOLS["metric" if predictor.depth_scale is DepthScale.METRES else "relative"],
    )


def write_middle_cloud(labeled: LabeledRecordings, run: Run) -> None:
    """Write the middle frame of the first recording as colored points, without its sky."""
    predictor, recording = labeled.predictor, labeled.recordings[0]
    if predictor.depth_scale.is_affine:
        return
    frames = labeled.indices[recording.name]
    middle = frames[len(frames) // 2]
    name = frame_name(recording, middle)
    shown = PreparedFrame.prepare(predictor, next(read_frames(recording, [middle])))
    predictions, folder = (run.folder / kind / labeled.name for kind in ("predictions", "clouds"))
    depth = Predictions.open(safe_join(predictions, recording.name)).read(name)
    image = to_uint8(shown.image)
    depth = np.where(find_far_sky(image, depth), 0, depth)  # the lowest rows are never sky
    write_cloud_sample(folder, f"{recording.name}/{name}", predictor.depth_scale, image, depth, shown.K)


def thin_frames(indices: Mapping[str, Sequence[int]], most: int) -> dict[str, list[int]]:
    """Return at most `most` frames: the first frames of each block, because motion is scored too.

    A block is a range of consecutive frames; each keeps its share. Of single frames every n-th stays.

    indices: ascending, by recording name.
    """
    total, before = max(sum(map(len, indices.values())), 1), 0
    kept: dict[str, list[int]] = {}
    for name, frames in indices.items():
        kept[name] = []
        for block in np.split(np.asarray(frames, dtype=np.intp), np.flatnonzero(np.diff(frames) != 1) + 1):
            after = before + len(block)
            kept[name] += block[: after * most // total - before * most // total].tolist()
            before = after
    return kept
