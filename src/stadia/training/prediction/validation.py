"""Score and judge the validation frames of a training run, and write the scores into the run."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track as show_bar

from stadia.core.progress import TrackProgress
from stadia.core.types import DepthScale, Predictor, Recording
from stadia.data.frame_preparation import PreparedFrame, frame_name, read_frames
from stadia.data.splits import frame_indices, unique_recordings
from stadia.data.video.video_map import find_map_geometry
from stadia.evaluation import protocols
from stadia.evaluation.depth_score import score_mean_depth
from stadia.evaluation.plots.colormaps import to_uint8
from stadia.evaluation.point_clouds import write_cloud_sample
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.evaluation.recording_scores import RecordingScores, write_score
from stadia.geometry.sky import find_far_sky
from stadia.io.input_files import expand_home, safe_join
from stadia.judge.catalog import VERDICT_CODES
from stadia.judge.depth import PredictionVerdict, TrainingRecord
from stadia.judge.finding import append_finding, write_findings
from stadia.predict.describe import summarize_verdict
from stadia.predict.evaluate_recordings import has_ground_truth
from stadia.predict.network import Network
from stadia.predict.tasks import (
    LabeledRecordings,
    LabeledT,
    ScoreOutput,
    ScoreT,
    find_task,
    score_labeled_recordings,
    take_back,
)
from stadia.predict.training_overlap import TrainingOverlap
from stadia.predict.verdict import (
    FINDINGS,
    PredictionGate,
    observe_frames,
    read_recorded_findings,
    read_training_record,
)
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.depth_predictor import DepthPredictor, adapt_predictor
from stadia.training.recipes.base.video_data import VideoData

if TYPE_CHECKING:
    from stadia.training.loop.recipe import AnyRecipe

T = TypeVar("T")

MAX_SCORED_FRAMES = 1000
"""Most frames of a split that are scored."""


def score_validation(recipe: AnyRecipe, checkpoint: Checkpoint, data: Any, run: Run, console: Console) -> None:
    """Score the validation data of a training, if it has any, and write the scores into its run.

    recipe: the recipe with the weights of the checkpoint, in evaluation mode and without gradients.
    checkpoint: the checkpoint.
    data: the data of the training.
    run: the run.
    console: prints the scores.
    """
    recipe.finish_training(run, console)
    task = find_task(Network.of_recipe(recipe, checkpoint))
    for labeled in task.open_validation(data, run):
        score = score_split(task.score, labeled, run, Provenance.from_checkpoint(checkpoint), console)
        task.finish_validation(labeled, score, run, console)
    task.check_predictions(data, run, console)


def score_split(
    score: Callable[[LabeledT, ScoreOutput, TrackProgress], ScoreT],
    labeled: LabeledT,
    run: Run,
    provenance: Provenance,
    console: Console,
) -> ScoreT:
    """Score a labeled set into a run's folder: predictions/NAME and scores/NAME.json.

    score: predicts and scores the set.
    labeled: the set.
    run: the run.
    provenance: the network and options.
    console: shows progress.
    """
    folder = safe_join(run.folder / "predictions", labeled.name)
    take_back(folder, run.folder)  # An earlier attempt of this run, or a killed one, may have left files.
    scored = score(labeled, ScoreOutput(folder, provenance), _console_track(console))
    about = {"checkpoint": provenance.checkpoint, "motion": provenance.motion, **labeled.about}
    about |= {name: True for name in ("flip", "steady") if getattr(provenance, name)}
    scored.write(run.folder / "scores", labeled.name, about)
    return scored


def _console_track(console: Console) -> TrackProgress:
    def track(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return show_bar(
            items, escape(what), total=count, console=console, transient=True, disable=not console.is_terminal
        )

    return track


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
    """Score recordings by the protocol that fits the scale of the predicted depth.

    Writes predictions/NAME/, scores/NAME.json and scores/NAME-RECORDING.json into the run's folder; for a checkpoint
    also clouds/NAME/, the middle frame of the first recording as points.

    predictor: a trained network, or a baseline.
    recordings: the recordings.
    run: the training's run.
    name: name of the split ("val", "test").
    provenance: what made the predictions.
    console: prints the scores.
    indices: for each recording by its name, the frames to score, ascending; None takes all, at most MAX_SCORED_FRAMES.

    Returns None if no recording has ground truth.
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
    """Collect those recordings of a split that have ground truth, with the frames to score.

    predictor: the network or a baseline.
    recordings: the recordings.
    run: the training's run.
    name: name of the split.
    indices: for each recording by its name, the frames to score, ascending; None takes all.

    Returns None if no recording has ground truth.
    """
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
        protocol=protocols.PROTOCOLS["metric" if predictor.depth_scale is DepthScale.METRES else "relative"],
    )


def write_middle_cloud(labeled: LabeledRecordings, run: Run) -> None:
    """Write the middle frame of the first recording as a colored point cloud, without its sky."""
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
    """Reduce frames to at most `most`: of each block of consecutive frames the first ones, because motion is scored
    too.

    Each block keeps its share of the frames; of single frames every n-th stays.

    indices: for each recording by its name, frame indices, ascending.
    most: largest number of frames in total.
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


def open_validation(recipe: AnyRecipe, data: VideoData, run: Run) -> list[LabeledRecordings]:
    """Return the validation frames of each dataset of a training, each to be scored at its own image size and
    crop.

    data: the data of the training.
    run: the training's run.
    """
    labeled = []
    for name, dataset in data.data_sets.items():
        config, split = dataset.config, dataset.split
        if name:
            predictor = DepthPredictor(recipe, (config.height, config.width), config.crop)
        else:
            predictor = DepthPredictor(recipe)
        recordings, indices = unique_recordings(split.val), frame_indices(split.val)
        scored = label_split(predictor, recordings, run, f"val-{name}" if name else "val", indices)
        if scored is not None:
            trained_on = [(part.recording, part.indices) for part in split.train]
            labeled.append(replace(scored, trained_on=trained_on))
    return labeled


def finish_validation(labeled: LabeledRecordings, score: RecordingScores, run: Run, console: Console) -> None:
    """Write a point cloud of one frame, and the score that a constant mean depth would reach; print the notes of
    the score.

    labeled: the scored recordings.
    score: their score.
    run: the training's run.
    console: prints the notes.
    """
    write_middle_cloud(labeled, run)
    if score.depth is not None:
        baseline = score_mean_depth(
            labeled.trained_on, labeled.recordings, labeled.indices, labeled.predictor, labeled.protocol
        )
        if baseline is not None:
            write_score(run.folder / "scores" / f"{labeled.name}-mean-depth.json", baseline)
    split = labeled.name.replace("val", "validation", 1)
    for note in score.notes:
        console.print(f"note: {split}: {note}", markup=False, highlight=False, soft_wrap=True)


# -- the verdict at the end of a training run

MIN_CHECKED_FRAMES = 30
"""Fewest validation frames that are judged alone; with fewer, training frames are judged too, because pairs of frames
with motion between them must follow each other.
"""

MAX_CHECKED_RECORDINGS = 4
"""Number of recordings that are judged at the end of a training; each takes seconds."""

MAX_CHECKED_FRAMES = 60
"""Most frames that are judged in each recording."""


def check_predictions(network: Network, data: VideoData, run: Run, console: Console) -> None:
    """Judge the predictions of validation frames, and of training frames if there are few; record the verdict in
    the run.

    data: the data of the training.
    run: the training's run.
    console: prints the verdict.
    """
    training = read_training_record(network.checkpoint)
    count = sum(map(len, frame_indices(next(iter(data.data_sets.values())).split.val).values()))
    has_few = count < MIN_CHECKED_FRAMES
    judged = observe_training_data(adapt_predictor(network.recipe.predictor()), data, training).judge()
    replace_verdict(run, judged, training, has_trained_frames=has_few)
    few = f"note: only {count} validation frames, so training frames are judged too"
    for line in [*summarize_verdict(judged.to_json(), "the report"), *([few] if has_few else [])]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def replace_verdict(
    run: Run, judged: PredictionVerdict, training: TrainingRecord, *, has_trained_frames: bool = False
) -> None:
    """Record the verdict at the end of a training in its run, in place of the verdict at an earlier end of the same
    run.

    run.json gets it as `predictions`, and what was judged as `judged`.

    run: the run.
    judged: the verdict.
    training: record of the training.
    has_trained_frames: whether training frames were judged, too.
    """
    if not run.writes:
        return
    known = read_recorded_findings(run.folder)
    if any(finding.code in VERDICT_CODES for finding in known):
        write_findings(run.folder / FINDINGS, [finding for finding in known if finding.code not in VERDICT_CODES])
    for finding in judged.findings:
        if finding.code in VERDICT_CODES:  # another camera (K30) is about an input only
            append_finding(run.folder / FINDINGS, finding)
    about = training.judged(has_trained_frames=has_trained_frames)
    run.update_facts(lambda facts: replace(facts, predictions=str(judged.verdict), judged=about))


def observe_training_data(predictor: Predictor, data: VideoData, training: TrainingRecord) -> PredictionGate:
    """Judge the predictions of a training's validation frames, and of training frames if there are few.

    predictor: the trained network.
    data: the data of the training.
    training: record of the training.

    Returns the judge, which has taken the frames and gives the verdict.
    """
    split = next(iter(data.data_sets.values())).split
    validated = frame_indices(split.val)
    has_few = sum(map(len, validated.values())) < MIN_CHECKED_FRAMES
    frames = [*split.val, *split.train] if has_few else split.val
    indices = frame_indices(frames)
    named = {recording.name: recording for recording in unique_recordings(frames)}
    named = dict([*named.items()][:MAX_CHECKED_RECORDINGS])
    trained = {part.recording.session for dataset in data.data_sets.values() for part in dataset.split.train}
    is_of_training = any(recording.session in trained for recording in named.values())
    is_single = len(data.data_sets) == 1
    mapped = find_map_geometry(expand_home(data.config.path), skip_damaged=True) if is_single else None
    gate = PredictionGate(predictor.depth_scale, training, is_of_training=is_of_training, mapped=mapped)
    for name, recording in named.items():
        chosen = choose_window(indices[name], validated.get(name, ()), MAX_CHECKED_FRAMES)
        deque(observe_frames(gate, predictor, read_frames(recording, chosen)), maxlen=0)
    return gate


def choose_window(indices: Sequence[int], middle: Sequence[int], most: int) -> Sequence[int]:
    """Return at most `most` successive entries of `indices`, around the first entries of `middle`.

    indices: ascending frame indices.
    middle: a part of `indices`, ascending; if it is empty, the first indices are returned.
    most: largest number of indices.
    """
    if not middle:
        return indices[:most]
    first = bisect.bisect_left(indices, middle[0])
    before = max(0, (most - len(middle)) // 2)
    start = max(0, min(first - before, len(indices) - most))
    return indices[start : start + most]
