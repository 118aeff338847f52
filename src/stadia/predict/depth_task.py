"""Predict and score depth, and motion if the network predicts it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.core.recording import name_ground_truth
from stadia.core.types import TrackProgress
from stadia.data.frame_store import ReportProgress
from stadia.data.height_priors import RoadConfig
from stadia.data.open_dataset import detect_format, find_held_out_split, open_recordings
from stadia.data.splits import frame_indices, read_frame_list, unique_recordings
from stadia.evaluation.depth_score import score_mean_depth
from stadia.evaluation.predict_frames import DepthPredictor
from stadia.evaluation.protocols import find_protocol
from stadia.evaluation.recording_scores import RecordingScores, write_score
from stadia.predict.describe import summarize_verdict
from stadia.predict.inputs import choose_recording_camera, describe_recording_camera
from stadia.predict.judged_frames import MIN_CHECKED_FRAMES, observe_training_data
from stadia.predict.labeled_recordings import (
    LabeledRecordings,
    label_split,
    score_labeled_recordings,
    write_middle_cloud,
)
from stadia.predict.options import EvaluateOptions, as_predict_options, network_size_notes, requested_size, size_text
from stadia.predict.tasks import ScoreOutput, Task
from stadia.predict.verdict import read_training_record, replace_verdict
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.training_overlap import TrainingOverlap
from stadia.training.recipes.base.video_data import VideoData


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
