"""Predict and score depth, and motion if the network predicts it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.core.recording import Recording, name_ground_truth
from stadia.core.types import DepthScale, Predictor, TrackProgress
from stadia.data.frame_store import ReportProgress
from stadia.data.height_priors import RoadConfig
from stadia.data.open_dataset import (
    detect_format,
    find_held_out_split,
    frame_indices,
    open_recordings,
    read_frame_list,
    unique_recordings,
)
from stadia.evaluation.depth_score import score_mean_depth
from stadia.evaluation.frame_preparation import PreparedFrame, frame_name, read_frames
from stadia.evaluation.plots.colormaps import to_uint8
from stadia.evaluation.point_clouds import write_cloud_sample
from stadia.evaluation.predict_frames import DepthPredictor
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.evaluation.protocols import PROTOCOLS, Protocol, find_protocol
from stadia.evaluation.recording_scores import RecordingScores, evaluate_recordings, has_ground_truth, write_score
from stadia.geometry.sky import find_far_sky
from stadia.io.input_files import safe_join
from stadia.predict.describe import describe_receipt, summarize_verdict
from stadia.predict.inputs import choose_recording_camera, describe_recording_camera, make_recording_input
from stadia.predict.options import EvaluateOptions, as_predict_options, network_size_notes, requested_size, size_text
from stadia.predict.scale.receipt import ScaledPredictor, ScaleReceipt, measure_scale
from stadia.predict.tasks import LabeledSet, ScoreOutput, Task, score_split
from stadia.predict.verdict import MIN_CHECKED_FRAMES, observe_training_data, read_training_record, replace_verdict
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.training_overlap import TrainingOverlap
from stadia.training.recipes.base.video_data import VideoData

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


class DepthTask(Task):
    """Depth, and motion if the network predicts it."""

    reuse_predictions = True

    def open_labeled(self, data: Path, options: EvaluateOptions, progress: ReportProgress | None) -> LabeledRecordings:
        """Open recordings, by default the held-out split of a data set.

        Raises ConfigError if the object heights that gave the scale were measured on this data set.
        """
        protocol = find_protocol(options.protocol, options.by)
        if any(text.partition("=")[0] == "map" for text in options.scale_from):
            fix = "use lidar, baseline, gps or height"
            raise ConfigError("--scale-from map", found="a data set", expected="a video with its map", fix=fix)
        network, opened = self.network, dict(options.data)
        trained_with, size = network.trained_with, requested_size(options.size, network.trained_with)
        if "road" in trained_with:
            formats = [detect_format(data, opened.get("format", "auto"))]
            RoadConfig.model_validate(trained_with["road"]).check_scored_on(formats)
        notes = network_size_notes(size, trained_with)
        if options.frames is None:
            notes += _choose_split(data, opened)
        predictor = network.make_predictor(as_predict_options(options))
        opened_with, camera = choose_recording_camera(data, network.complete_data_options(data, opened))
        recordings = open_recordings(data, progress=progress, **opened_with)
        notes += describe_recording_camera(recordings[0], 0, camera)
        listed = None if options.frames is None else read_frame_list(options.frames, recordings)
        indices: Mapping[str, Sequence[int]] = (
            {recording.name: range(0, len(recording), options.every) for recording in recordings}
            if listed is None
            else listed.indices
        )
        run = network.checkpoint.run_folder
        overlap = TrainingOverlap.find(run, recordings, indices)
        indices = overlap.left_out(indices, run) if options.held_out else indices
        summary = {
            "split": opened.get("split"),
            "trained_on": overlap.count(indices),
            "of_trained_drives": overlap.count_same_session(indices),
        }
        truth = name_ground_truth(recordings, indices)
        about = {
            "options": opened,
            "every": options.every,
            "motion": options.motion,
            "size": size and size_text(size),
            **({"flip": True} if options.flip else {}),
            **({"steady": True} if options.steady else {}),
            **({"scale_from": list(options.scale_from)} if options.scale_from else {}),
            **({} if listed is None else {"frames": listed.to_json()}),
            **summary,
        }
        return LabeledRecordings(
            name="-".join(filter(None, (data.resolve().name, options.protocol, truth, opened.get("split")))),
            about=about,
            summary=summary,
            notes=(*notes, *overlap.notes(indices)),
            predictor=predictor,
            recordings=recordings,
            indices=indices,
            protocol=protocol,
            reuse=True,
            scale_from=options.scale_from,
        )

    def open_validation(self, data: VideoData, run: Run) -> list[LabeledRecordings]:
        """Return the validation frames of each data set, at its own size and crop."""
        labeled = []
        for name, dataset in data.data_sets.items():
            config, split = dataset.config, dataset.split
            if name:
                predictor = DepthPredictor(self.recipe, (config.height, config.width), config.crop)
            else:
                predictor = DepthPredictor(self.recipe)
            recordings, indices = unique_recordings(split.val), frame_indices(split.val)
            scored = label_split(predictor, recordings, run, f"val-{name}" if name else "val", indices)
            if scored is not None:
                trained_on = [(part.recording, part.indices) for part in split.train]
                labeled.append(replace(scored, trained_on=trained_on))
        return labeled

    def score(self, labeled: LabeledRecordings, out: ScoreOutput, track: TrackProgress) -> RecordingScores:
        return score_labeled_recordings(labeled, out, track)

    def check_predictions(self, data: VideoData, run: Run, console: Console) -> None:
        """Judge predictions of validation frames, and of training frames if these are few."""
        training = read_training_record(self.network.checkpoint)
        count = sum(map(len, frame_indices(next(iter(data.data_sets.values())).split.val).values()))
        has_few = count < MIN_CHECKED_FRAMES
        judged = observe_training_data(self.recipe.predictor(), data, training).judge()
        replace_verdict(run, judged, training, has_trained_frames=has_few)
        few = f"note: only {count} validation frames, so training frames are judged too"
        for line in [*summarize_verdict(judged.to_json(), "the report"), *([few] if has_few else [])]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def finish_validation(self, labeled: LabeledRecordings, score: RecordingScores, run: Run, console: Console) -> None:
        """Write a point cloud and the score of the mean depth; print the notes."""
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


def _choose_split(data: Path, options: dict[str, Any]) -> list[str]:
    split = None
    if not options.keys() & {"split", "recordings"}:
        split = find_held_out_split(data, options.get("format", "auto"))
    if split is None:
        return []
    options["split"] = split
    return [f"scores the split '{split}'; choose another with data.split=NAME or data.recordings=[NAMES]"]
